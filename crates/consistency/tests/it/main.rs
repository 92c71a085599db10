//! The checker on real stores: everything that can be broken is broken, and found, while likes flow.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod broken;
mod deleted_row;
mod flow;
mod leader;
mod lives;
mod replicas;
mod rig;
mod sweep;
mod web;
mod went_back;
