//! What the stores and the processes hold.

use super::world::How;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub(super) const PAIRS: usize = 4;
pub(super) const RESOURCES: usize = 2;
pub(super) const SERVERS: usize = 2;
pub(super) const CONSUMERS: usize = 2;

pub(super) type Version = i64;

pub(super) const fn resource_of(pair: usize) -> usize {
    pair % RESOURCES
}

/// A state of a pair: what somebody said, what a row says, what an event carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct State {
    pub(super) version: Version,
    pub(super) liked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) pair: usize,
    pub(super) state: State,
}

/// A cached counter, as in `accept.lua`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counter {
    pub(super) served: i64,
    pub(super) pending: i64,
    pub(super) stored: i64,
    pub(super) revision: i64,
}

/// The cache. Everything in it goes back together.
#[derive(Debug, Clone, Default)]
pub(super) struct Redis {
    pub(super) pairs: [Option<State>; PAIRS],
    pub(super) counters: [Option<Counter>; RESOURCES],
    pub(super) journal: BTreeMap<Version, Event>,
    pub(super) last: Version,
    /// The last version that each server was answered.
    pub(super) marks: [Version; SERVERS],
    /// The primary that the servers have met, and the shard's clock when they met it.
    pub(super) met: u32,
    pub(super) since: Version,
    /// The words that keys stand for.
    pub(super) keys: [Option<State>; PAIRS],
    /// The highest number of each lane that was settled.
    pub(super) lanes: BTreeMap<usize, u32>,
}

/// One writer's numbers, in the database.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lane {
    pub(super) number: u32,
    /// The oldest message that the writer had in its hands: everything before it is in the database.
    pub(super) oldest: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Count {
    pub(super) live: i64,
    pub(super) revision: i64,
}

/// The database. Everything in it goes back together.
#[derive(Debug, Clone, Default)]
pub(super) struct Mysql {
    pub(super) rows: [State; PAIRS],
    pub(super) counts: [Count; RESOURCES],
    pub(super) lanes: BTreeMap<usize, Lane>,
    /// Pairs that the cache must hear of.
    pub(super) dirty: [bool; PAIRS],
    /// The primary that all writers found their numbers in.
    pub(super) met: u32,
    /// Where the log ended at the last commit.
    pub(super) log_end: usize,
}

/// What a transaction read before it committed.
#[derive(Debug, Clone)]
pub(super) struct Settlement {
    pub(super) entries: Vec<Event>,
    pub(super) pairs: Vec<(usize, State)>,
    pub(super) counts: Vec<(usize, Count)>,
    pub(super) lane: Option<(usize, u32)>,
    /// Read from a database that lacked what it once had.
    pub(super) lacking: bool,
}

/// A published batch; its offset is its place in the log.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) offset: usize,
    pub(super) events: Vec<Event>,
}

/// A process that writes to the database.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writer {
    pub(super) lane: usize,
    pub(super) number: u32,
    /// Saw that the database went back; neither settles nor acknowledges until it is recovered.
    pub(super) latched: bool,
}

/// A word that was accepted, or found, and waits for the replicas.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    pub(super) event: Event,
    /// Where it was accepted: what another primary's replicas have says nothing.
    pub(super) primary: u32,
    pub(super) how: How,
}

#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) writer: Writer,
    /// Cannot reach the cache.
    pub(super) cut: bool,
    /// Highest version it was answered.
    pub(super) floor: Version,
    /// The primary whose clock it measured last, and how far that one was off.
    pub(super) primary: u32,
    pub(super) offset: i64,
    /// The relay's queue.
    pub(super) memory: VecDeque<Event>,
    /// Accepted and not known to be published or applied: offered again when the cache went back.
    pub(super) kept: Vec<Event>,
    /// What it had been answered at its last look at the journal, and what was there.
    pub(super) looked: Option<(Version, BTreeSet<Version>)>,
    pub(super) waiting: Vec<Waiting>,
    /// Written to the database and not in the log yet.
    pub(super) unlogged: Vec<Event>,
}

/// A message in a consumer's hands.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    pub(super) message: Message,
    pub(super) committed: Option<Settlement>,
}

#[derive(Debug, Clone)]
pub(super) struct Consumer {
    pub(super) writer: Writer,
    pub(super) hand: Vec<Delivery>,
}

/// A direct write that holds its lock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Direct {
    pub(super) server: usize,
    pub(super) event: Event,
    /// Highest version that anybody was answered when it was asked for.
    pub(super) answered_before: Version,
    pub(super) gave_up: Option<Version>,
    pub(super) checked: bool,
}

/// How far a recovery has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recovery {
    Memory,
    /// Next place in the log.
    Log(usize),
    Scan,
    Recount,
}
