//! What a cache is told of the database's commits, so that others find out what a database has lost whose writer died with it.

use crate::Version;
use uuid::Uuid;

/// One commit: the how-manieth of its lane. Each writer has as many lanes as it commits at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommitNumber {
    /// Which process, since its start.
    pub writer: Uuid,
    /// Which lane of it.
    pub lane: u32,
    /// Grows by every commit of the lane.
    pub number: i64,
}

/// The last commit of a lane that a cache was told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToldCommit {
    /// Which one.
    pub commit: CommitNumber,
    /// When, by the cache's clock, in the unit of versions.
    pub at: Version,
}
