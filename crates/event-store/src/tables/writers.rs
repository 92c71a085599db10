//! Numbers of commits, by which a database is noticed that has become what it once was: a replica that was behind when it was
//! promoted, a backup, an emptied one.
//!
//! Each store that writes has lanes, one for each transaction that is under way, and each lane has a row. A transaction writes
//! the next number of its lane, on the condition that the row holds the one before, in the round trip of its other writes.
//! Where it does not, what was committed is gone: nobody else writes that row. Whether the transaction before was committed is
//! open if its answer was lost, so all numbers since the last that was answered are right.
//!
//! A lane that rested is not used again: rows are deleted by age, and a missing one must mean one thing only.

use crate::sql::error::StoreError;
use crate::sql::pool::{Results, Tx};
use crate::sql::script::{Script, time_of, utc};
use crate::sql::store::{EventStore, get};
use crate::tables::went_back::WentBack;
use chrono::{DateTime, NaiveDateTime, Utc};
use domain::Version;
use domain::cache::CommitNumber;
use planted_bugs::is_planted;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use uuid::Uuid;

pub(crate) const TABLE: &str = "sync_writers";

/// A lane that rested for so long begins anew, under another number.
const RESTED: Duration = Duration::from_secs(1800);

/// Rows of lanes that nobody has used for so long may be deleted: longer than any copy of the events is kept that could be
/// applied again.
pub const WRITERS_KEPT: Duration = Duration::from_secs(7 * 86_400);

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

    /// A lane for one transaction.
    fn turn(self: &Arc<Self>) -> Turn {
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
    fn write(&mut self, script: &mut Script) -> usize {
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

    fn expected(&self) -> Expected {
        Expected { commit: self.writer.commit(self.number, self.lane.known), at: self.lane.at }
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

impl EventStore {
    /// Runs the last statements of a transaction, with the next number among them.
    pub(crate) async fn numbered(&self, tx: &mut Tx, mut script: Script) -> Result<Turn, StoreError> {
        let mut turn = self.writer.turn();
        let statement = turn.write(&mut script);
        let results = tx.run(&script).await?;
        if results.changed(statement) > 0 {
            return Ok(turn);
        }
        // What is committed now is right in any database. But what it has lost must be found elsewhere.
        let expected = turn.expected();
        let mut script = self.script();
        select(&mut script, &[expected]);
        let found = found(&tx.run(&script).await?)?;
        let found = found.first().map(|(commit, at)| (commit.number, *at));
        self.note_went_back(WentBack::new(&expected, found, self.latest_clock()));
        self.writer.give_up(&expected.commit);
        drop(turn);
        let mut turn = self.writer.turn();
        // Another one of before may be gone, too; the look at all lanes tells.
        while turn.lane.known > 0 {
            self.writer.give_up(&turn.expected().commit);
            drop(turn);
            turn = self.writer.turn();
        }
        let mut script = self.script();
        turn.write(&mut script);
        tx.run(&script).await?;
        Ok(turn)
    }

    /// Now, by the later one of the known clocks.
    pub(crate) fn latest_clock(&self) -> DateTime<Utc> {
        time_of(Version(self.horizon.latest()))
    }

    /// Deletes up to `limit` rows of lanes that nobody has used since `before`, at least [`WRITERS_KEPT`] ago; gives how many.
    pub async fn purge_writers(&self, before: DateTime<Utc>, limit: u32) -> Result<u64, StoreError> {
        let mut script = self.script();
        script.begin("SELECT writer, lane, seq, at FROM sync_writers WHERE at < ").time(before);
        script.words(" LIMIT ").int(i64::from(limit));
        let old = found(&self.read(&script).await?)?;
        let mut script = self.script();
        for (commit, _) in &old {
            // By its key, and only if it is still old: no row of a commit that is under way is waited for.
            script.begin("DELETE FROM sync_writers WHERE ");
            lane_is(&mut script, commit);
            script.words(" AND at < ").time(before);
        }
        self.write("purge_writers", &script).await?;
        Ok(old.len() as u64)
    }
}

fn lane_is(script: &mut Script, commit: &CommitNumber) {
    script.words("writer = ").uuid(commit.writer).words(" AND lane = ").int(i64::from(commit.lane));
}

/// Adds the statement that reads the rows of these lanes.
pub(crate) fn select(script: &mut Script, expected: &[Expected]) {
    let row_list = script.dialect().row_list();
    script.begin("SELECT writer, lane, seq, at FROM sync_writers WHERE (writer, lane) IN (").words(row_list);
    script.list(expected, |script, expected| {
        script.words("(").uuid(expected.commit.writer).words(",").int(i64::from(expected.commit.lane)).words(")");
    });
    script.words(")");
}

/// All rows of a script that reads nothing else.
pub(crate) fn found(results: &Results) -> Result<Vec<(CommitNumber, DateTime<Utc>)>, StoreError> {
    let mut found = Vec::new();
    for row in results.iter().flatten() {
        let writer: Vec<u8> = get(row, 0, TABLE)?;
        let writer = Uuid::from_slice(&writer).map_err(|error| StoreError::corrupt(TABLE, error))?;
        let lane: i64 = get(row, 1, TABLE)?;
        let lane = u32::try_from(lane).map_err(|error| StoreError::corrupt(TABLE, error))?;
        let commit = CommitNumber { writer, lane, number: get(row, 2, TABLE)? };
        found.push((commit, utc(get::<NaiveDateTime>(row, 3, TABLE)?)));
    }
    Ok(found)
}
