//! Lanes of a writer in memory: see the table of writers.

use crate::sql::script::Script;
use chrono::{DateTime, Utc};
use domain::cache::CommitNumber;
use planted_bugs::is_planted;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// A lane that rested for so long begins anew, under another number.
const RESTED: Duration = Duration::from_secs(1800);

/// One lane, as its writer knows it.
#[derive(Debug, Clone, Copy)]
struct Lane {
    /// Committed, and answered; 0 if nothing was.
    known: i64,
    /// Perhaps committed.
    tried: i64,
    used: Instant,
    /// When `known` was answered.
    at: DateTime<Utc>,
}

/// What a lane must be found at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    pub(crate) commit: CommitNumber,
    pub(crate) at: DateTime<Utc>,
}

#[derive(Debug, Default)]
struct Lanes {
    lanes: BTreeMap<u32, Lane>,
    /// Taken from the end; those come first whose last answer was lost, because a server may still hold their row.
    free: VecDeque<u32>,
    next: u32,
}

/// The lanes of one store, shared by its clones.
#[derive(Debug)]
pub(crate) struct Writer {
    id: Uuid,
    lanes: Mutex<Lanes>,
}

impl Writer {
    pub(crate) fn new() -> Self {
        Self { id: Uuid::now_v7(), lanes: Mutex::default() }
    }

    /// By which its rows are known.
    pub(crate) const fn id(&self) -> Uuid {
        self.id
    }

    /// A lane for one transaction.
    pub(crate) fn turn(self: &Arc<Self>) -> Turn {
        let mut lanes = self.lock();
        while let Some(number) = lanes.free.pop_back() {
            match lanes.lanes.get(&number).copied() {
                Some(lane) if lane.used.elapsed() < RESTED => {
                    return Turn { writer: Arc::clone(self), number, lane, sent: false };
                }
                _ => drop(lanes.lanes.remove(&number)),
            }
        }
        let number = lanes.next;
        lanes.next += 1;
        let lane = Lane { known: 0, tried: 0, used: Instant::now(), at: DateTime::UNIX_EPOCH };
        lanes.lanes.insert(number, lane);
        Turn { writer: Arc::clone(self), number, lane, sent: false }
    }

    /// What was committed in lanes that are in use.
    pub(crate) fn expected(&self) -> Vec<Expected> {
        let lanes = self.lock();
        let in_use = lanes.lanes.iter().filter(|(_, lane)| lane.known > 0 && lane.used.elapsed() < RESTED);
        in_use.map(|(number, lane)| Expected { commit: self.commit(*number, lane.known), at: lane.at }).collect()
    }

    /// The numbers of this lane are gone: it is not used again.
    pub(crate) fn give_up(&self, commit: &CommitNumber) {
        if commit.writer == self.id {
            let mut lanes = self.lock();
            lanes.lanes.remove(&commit.lane);
            lanes.free.retain(|number| *number != commit.lane);
        }
    }

    fn commit(&self, lane: u32, number: i64) -> CommitNumber {
        CommitNumber { writer: self.id, lane, number }
    }

    fn lock(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lane while a transaction has it. Dropped without an answer, it is used again last.
pub(crate) struct Turn {
    writer: Arc<Writer>,
    number: u32,
    lane: Lane,
    sent: bool,
}

impl Turn {
    /// Adds the statement that writes the next number; gives its index.
    pub(crate) fn write(&mut self, script: &mut Script) -> usize {
        let statement = script.statements();
        let now = script.dialect().now();
        let found = self.lane;
        self.lane.tried += 1;
        self.sent = true;
        if found.known == 0 || is_planted("went_back_ignored") {
            let overwrite = script.dialect().overwrite("writer, lane", &["seq", "at"], None);
            script.begin("INSERT INTO sync_writers (writer, lane, seq, at) VALUES (").uuid(self.writer.id).words(",");
            script.int(i64::from(self.number)).words(",").int(self.lane.tried).words(",").words(now).words(")");
            script.words(&overwrite);
        } else {
            script.begin("UPDATE sync_writers SET seq = ").int(self.lane.tried).words(", at = ").words(now);
            script.words(" WHERE ");
            lane_is(script, &self.writer.commit(self.number, 0));
            script.words(" AND seq BETWEEN ").int(found.known).words(" AND ").int(found.tried);
        }
        statement
    }

    pub(crate) fn expected(&self) -> Expected {
        Expected { commit: self.writer.commit(self.number, self.lane.known), at: self.lane.at }
    }

    /// Whether the lane has committed something.
    pub(crate) const fn is_known(&self) -> bool {
        self.lane.known > 0
    }

    /// The transaction is committed; gives its number.
    pub(crate) fn committed(mut self, at: DateTime<Utc>) -> CommitNumber {
        self.sent = false;
        self.lane = Lane { known: self.lane.tried, used: Instant::now(), at, ..self.lane };
        self.writer.commit(self.number, self.lane.known)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut lanes = self.writer.lock();
        // Unless it was given up meanwhile.
        if let Some(lane) = lanes.lanes.get_mut(&self.number) {
            *lane = self.lane;
            if self.sent {
                lanes.free.push_front(self.number);
            } else {
                lanes.free.push_back(self.number);
            }
        }
    }
}

/// Adds the condition that a row is that of this lane.
pub(crate) fn lane_is(script: &mut Script, commit: &CommitNumber) {
    script.words("writer = ").uuid(commit.writer).words(" AND lane = ").int(i64::from(commit.lane));
}
