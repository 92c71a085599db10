//! The protocol on real servers: what is promised must hold whatever is away, late, doubled or broken.

mod apply;
mod consume;
mod degraded;
mod journal;
mod racing;
mod relay;
mod rig;
mod startup;
mod wire;
