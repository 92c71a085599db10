//! Operate: what operators ask for and what is kept for them: replay and discard, one pair's story, the erasure of users and
//! resources, retention, what is liked most, what is wrong.

pub mod conclusion;
pub mod erase;
pub mod events;
pub mod explain;
mod fence;
pub mod leftovers;
pub mod most_liked;
pub mod retention;
pub mod standings;
