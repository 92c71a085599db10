//! The checker on real stores: everything that can be broken is broken, and found, while likes flow.

mod broken;
mod flow;
mod office;
mod rig;
mod sweep;
mod web;
