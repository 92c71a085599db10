//! Processes that die at every point, and wrong versions of the protocol that must be found.

mod kill;
mod live;
mod oracle;
mod planted;
mod rig;
mod system;
