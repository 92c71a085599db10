//! Operate: what operators ask for and what is kept for them: replay and discard, one pair's story, retention, what is liked most, what is wrong.

pub mod conclusion;
pub mod events;
pub mod explain;
pub mod most_liked;
pub mod retention;
pub mod standings;
