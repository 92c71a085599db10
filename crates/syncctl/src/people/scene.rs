//! What people do: a scene is what one person does about one thing, with all of their devices.

use domain::{Action, Pair, Resource};
use std::time::Duration;

/// Acts of several devices at the same time.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scene {
    pub(super) acts: Vec<Act>,
}

/// One device calls one server.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Act {
    /// Since the scene began, or since what led to this.
    pub(super) after: Duration,
    pub(super) device: u32,
    pub(super) server: usize,
    pub(super) deed: Deed,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Deed {
    Words(Words),
    States(Vec<Pair>),
    Counts(Vec<Resource>),
}

/// A call with words, and what may come of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Words {
    pub(super) words: Vec<Word>,
    pub(super) leaves: Leaves,
    pub(super) retry: Retry,
    /// Pause before a retry, which grows.
    pub(super) pause: Duration,
    /// After an answer.
    pub(super) answered: Vec<Act>,
    /// After the caller has left without one.
    pub(super) left: Vec<Act>,
    /// Name of what this is, for the report.
    pub(super) what: &'static str,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Word {
    pub(super) pair: Pair,
    pub(super) action: Action,
    pub(super) key: Option<String>,
    /// Number of what the user wants; a repetition has the same.
    pub(super) logical: u64,
}

/// Whether the caller waits for the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaves {
    /// As long as everybody does.
    Never,
    /// So long, and says so.
    Deadline(Duration),
    /// So long, without a word.
    Drops(Duration),
}

/// What a caller does about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    Never,
    SameKey,
    WithoutKey,
    /// With the same key.
    Elsewhere,
}
