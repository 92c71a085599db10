//! The history of a run: one record per attempt and item, and the faults that were injected meanwhile.
//!
//! All times are microseconds on one monotonic clock of the recorder. Two operations are ordered only if the first one's
//! `end` is *less than* the second one's `begin`: within one microsecond nobody can say. A simulation whose clock stands
//! still must therefore count its steps instead.
//!
//! A retry is a record of its own, with the same `logical` number. A refused attempt had no effect; one that is unknown,
//! abandoned or cancelled may have had one, at any moment between `begin` and `begin + limit`.

mod clock;
mod file;
mod line;

pub use clock::now_micros;
pub use file::HistoryWriter;

use domain::{Action, Pair, Resource, UserId, Version};
use std::fmt;

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A user's word about a resource.
    Word(Action),
    /// Whether a user likes a resource.
    State,
    /// How many likes a resource has.
    Count,
    /// One message of a stream of counts. It begins when the reader began to wait for it; if nobody waited, because the
    /// reader was slow, when the stream was opened.
    Stream,
}

impl Kind {
    /// As written in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Word(_) => "like",
            Self::State => "read",
            Self::Count => "count",
            Self::Stream => "stream",
        }
    }
}

/// What a server answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Answer {
    /// State of the pair; false where only a count was asked for.
    pub liked: bool,
    /// Version of that state; zero where only a count was asked for.
    pub version: Version,
    /// Whether a word changed the state.
    pub changed: bool,
    /// Whether a part of the system was away.
    pub degraded: bool,
    /// Count of the resource, if anybody could say.
    pub count: Option<i64>,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The server answered.
    Answered(Answer),
    /// The server said that it did nothing.
    Refused,
    /// An error that leaves open whether it took effect, or the run ended first.
    Unknown,
    /// The caller's deadline passed.
    Abandoned,
    /// The caller went away.
    Cancelled,
}

impl Outcome {
    /// As written in files.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Answered(_) => "ok",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
            Self::Abandoned => "abandoned",
            Self::Cancelled => "cancelled",
        }
    }
}

/// One attempt at one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Number of the call; all items of a batch have the same.
    pub call: u64,
    /// Place in the call, from 0.
    pub item: u32,
    /// Number of what the user wanted; all attempts at it have the same.
    pub logical: u64,
    /// Who called: one device of a user.
    pub device: u32,
    /// Which server was called.
    pub server: u32,
    /// What was asked.
    pub kind: Kind,
    /// Whose word or state; none for counts.
    pub user: Option<UserId>,
    /// What about.
    pub resource: Resource,
    /// Idempotency key.
    pub key: Option<Box<str>>,
    /// Not after the request left.
    pub begin: u64,
    /// Not before the answer came, or the caller gave up.
    pub end: u64,
    /// Microseconds from `begin` after which an unanswered attempt cannot take effect any more, as the server promises.
    pub limit: u64,
    /// How it ended.
    pub outcome: Outcome,
}

impl Record {
    /// The pair, if it is about one.
    pub fn pair(&self) -> Option<Pair> {
        self.user.map(|user| Pair { resource: self.resource, user })
    }

    /// The answer, if there was one.
    pub const fn answer(&self) -> Option<&Answer> {
        match &self.outcome {
            Outcome::Answered(answer) => Some(answer),
            _ => None,
        }
    }

    /// Whether it may have taken effect without an answer.
    pub const fn is_unanswered(&self) -> bool {
        matches!(self.outcome, Outcome::Unknown | Outcome::Abandoned | Outcome::Cancelled)
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "call {}.{} device {} server {} [{}, {}] ",
            self.call, self.item, self.device, self.server, self.begin, self.end
        )?;
        match self.kind {
            Kind::Word(action) => f.write_str(action.name())?,
            other => f.write_str(other.name())?,
        }
        match self.pair() {
            Some(pair) => write!(f, " {pair}")?,
            None => write!(f, " {}", self.resource)?,
        }
        if let Some(key) = &self.key {
            write!(f, " key {key:?}")?;
        }
        let Outcome::Answered(answer) = &self.outcome else {
            return write!(f, ": {}, limit {} us", self.outcome.name(), self.limit);
        };
        let degraded = if answer.degraded { ", degraded" } else { "" };
        match (self.kind, answer.count) {
            (Kind::Count | Kind::Stream, count) => write!(f, ": {}{degraded}", count.unwrap_or(-1)),
            (kind, _) => {
                let changed = match (kind, answer.changed) {
                    (Kind::Word(_), true) => ", changed",
                    (Kind::Word(_), false) => ", unchanged",
                    _ => "",
                };
                let state = if answer.liked { "liked" } else { "not liked" };
                write!(f, ": {state} at {}{changed}{degraded}", answer.version)
            }
        }
    }
}

/// A fault that was injected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What was done, for people.
    pub name: Box<str>,
    /// Not after it began.
    pub begin: u64,
    /// Not before it was over.
    pub end: u64,
}

/// What happened in a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    records: Vec<Record>,
    faults: Vec<Fault>,
}

impl History {
    /// Nothing happened yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a record; the order does not matter.
    pub fn push(&mut self, record: Record) {
        self.records.push(record);
    }

    /// Adds a fault.
    pub fn push_fault(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// Adds what another recorder wrote by the same clock. Its calls, devices and servers are others than those that are
    /// here, whatever their numbers.
    pub fn absorb(&mut self, other: Self) {
        let next = |number: fn(&Record) -> u64| self.records.iter().map(number).max().map_or(0, |most| most + 1);
        let (call, logical) = (next(|record| record.call), next(|record| record.logical));
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let device = small(next(|record| record.device.into()));
        let server = small(next(|record| record.server.into()));
        self.records.extend(other.records.into_iter().map(|record| Record {
            call: record.call.saturating_add(call),
            logical: record.logical.saturating_add(logical),
            device: record.device.saturating_add(device),
            server: record.server.saturating_add(server),
            ..record
        }));
        self.faults.extend(other.faults);
    }

    /// All records.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// All faults.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }
}
