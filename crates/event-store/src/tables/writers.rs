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
use crate::sql::lanes::{Expected, Turn, lane_is};
use crate::sql::pool::Tx;
use crate::sql::script::{Script, time_of, utc};
use crate::sql::store::{EventStore, get};
use crate::sql::verdict::WentBack;
use chrono::{DateTime, NaiveDateTime, Utc};
use domain::Version;
use domain::cache::CommitNumber;
use sea_orm::QueryResult;
use std::time::Duration;
use uuid::Uuid;

pub(crate) const TABLE: &str = "sync_writers";

/// Rows of lanes that nobody has used for so long may be deleted: longer than any copy of the events is kept that could be
/// applied again.
pub const WRITERS_KEPT: Duration = Duration::from_secs(7 * 86_400);

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
        while turn.is_known() {
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
pub(crate) fn found(results: &[Vec<QueryResult>]) -> Result<Vec<(CommitNumber, DateTime<Utc>)>, StoreError> {
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
