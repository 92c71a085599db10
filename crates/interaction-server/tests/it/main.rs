//! The real server and consumer on real stores, as callers and operators see them.

mod calls;
mod house;
mod lists;
mod operations;
mod process;
mod violations;
