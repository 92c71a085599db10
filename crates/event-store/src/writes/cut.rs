//! A table that has rows already is cut into partitions, without copying them.
//!
//! All its rows become the first partition of a new table: an exchange of names. While that happens nobody may write, or he would
//! write into the wrong one of both; so the table's own name is not there meanwhile. Whoever needs it is told that there is no such
//! table, and waits as for a database that is unreachable: likes are accepted, and stay in journal and queue. Where this ends half
//! way the name stays away and nobody writes anything, until it is begun again and goes on. Each step is one statement that happens
//! or does not, and what comes next is read from the schema:
//!
//! | the table | `_whole` | `_parts` | next |
//! |---|---|---|---|
//! | one piece | – | – | make `_parts`, empty and cut |
//! | one piece | – | cut, empty | rename the table to `_whole` |
//! | – | rows | cut, empty | exchange the first partition of `_parts` for `_whole` |
//! | – | empty | cut, rows | rename `_parts` to the table |
//! | cut | empty | – | drop `_whole` |
//!
//! The bound of the first partition is later than every id. MariaDB looks through all rows whether that is so; of MySQL, which need not,
//! the last one is looked at.

use crate::sql::alone::Alone;
use crate::sql::error::StoreError;
use crate::sql::script::{Script, first_id_of};
use crate::sql::store::{EventStore, get, row, rows};
use crate::tables::ledger::uuid_of;
use crate::tables::partitions::{Extended, ask_layout, millis, time_of_bound};
use chrono::{DateTime, Utc};
use migrations::partitions::{self, Cut, Partition};
use uuid::Uuid;

/// Ids that are so much later than now, in milliseconds, are no times.
const AHEAD: u64 = 400 * 86_400_000;

/// What one call of [`EventStore::cut_step`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutStep {
    /// The table is cut; nothing is left to do.
    Done,
    /// An empty table with partitions is there.
    Made,
    /// The table has another name: nobody writes.
    Away,
    /// Its rows are in the first partition.
    Exchanged,
    /// It has its name again: others write.
    Back,
    /// Partitions for what comes were missing, and are there; rows behind the last one were copied.
    Extended,
    /// What was left over is dropped.
    Dropped,
    /// It cannot be cut now (a row is later than the first bound) and has its name again.
    TakenBack,
}

/// What there is of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum There {
    Nothing,
    Whole,
    Cut,
}

impl EventStore {
    /// The next step of cutting a table; call until it is [`Done`](CutStep::Done). Who stops in between leaves a table that is whole, or
    /// cut, or away until the next call: between [`Away`](CutStep::Away) and [`Back`](CutStep::Back) do not rest.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the table is in use by something long, or another process is at it: later.
    /// [`StoreError::Corrupt`] if somebody else has made tables of these names.
    pub async fn cut_step(&self, cut: Cut) -> Result<CutStep, StoreError> {
        if self.script().dialect().is_sqlite() {
            return Ok(CutStep::Done);
        }
        let (table, whole, parts) = (cut.table(), format!("{}_whole", cut.table()), format!("{}_parts", cut.table()));
        // Before there is one connection less: where a pool has but one, it is the one that is alone.
        let now = self.now().await?;
        let mut alone = Alone::of(&self.pool).await?;
        alone.one_at_a_time(self.script()).await?;
        let mut script = self.script();
        for name in [table, &whole, &parts] {
            ask_layout(&mut script, name);
        }
        let results = alone.run(&script).await?;
        let mut there = [There::Nothing; 3];
        for (n, there) in there.iter_mut().enumerate() {
            *there = match rows(&results, n).first() {
                None => There::Nothing,
                Some(row) if get::<Option<String>>(row, 0, "partitions")?.is_none() => There::Whole,
                Some(_) => There::Cut,
            };
        }
        use There::{Cut as IsCut, Nothing, Whole};
        match there {
            [Whole, Nothing, Nothing] => self.make_parts(&mut alone, cut, &parts, now).await,
            [Whole, Nothing, IsCut] => self.send_away(&mut alone, cut, (&whole, &parts), now).await,
            [Nothing, Whole, IsCut] => {
                let (has_rows, has_parts) =
                    (self.has_rows(&mut alone, &whole).await?, self.has_rows(&mut alone, &parts).await?);
                match (has_rows, has_parts) {
                    (true, true) => Err(StoreError::corrupt(table, format!("both {whole} and {parts} have rows"))),
                    (true, false) => self.exchange(&mut alone, cut, &whole, &parts).await,
                    (false, _) => self.run(&mut alone, &rename(&parts, table), CutStep::Back).await,
                }
            }
            [IsCut, Whole, Nothing] => self.drop_empty(&mut alone, &whole).await,
            [IsCut, Nothing, Nothing] => {
                let period = partitions::period(cut.usually_kept());
                Ok(match self.extend(&mut alone, cut, millis(now), period).await? {
                    Extended::By(1..) => CutStep::Extended,
                    _ => CutStep::Done,
                })
            }
            // The table became cut by itself: it was empty.
            [IsCut, Nothing, IsCut] => self.drop_empty(&mut alone, &parts).await,
            [Nothing, Nothing, Nothing] => Err(StoreError::lacks_schema(&[table.to_owned()])),
            // Somebody has dropped the other one.
            [Nothing, Nothing, IsCut] => self.run(&mut alone, &rename(&parts, table), CutStep::Back).await,
            [Nothing, Whole, Nothing] => self.run(&mut alone, &rename(&whole, table), CutStep::TakenBack).await,
            _ => Err(StoreError::corrupt(table, format!("{whole} or {parts} is not ours: rename or drop it"))),
        }
    }

    async fn make_parts(
        &self,
        alone: &mut Alone,
        cut: Cut,
        parts: &str,
        now: DateTime<Utc>,
    ) -> Result<CutStep, StoreError> {
        let last = self.last_id(alone, cut, cut.table()).await?.map_or(0, |id| (id.as_u128() >> 80) as u64);
        if last > millis(now).saturating_add(AHEAD) {
            let reason =
                format!("its last id is of {}: ids must be UUID v7, or the table stays whole", time_of_bound(last));
            return Err(StoreError::corrupt(cut.table(), reason));
        }
        let clause = partitions::clause(cut, millis(now).max(last));
        let mut script = self.script();
        // Made whole, it would be taken for another's.
        let making = format!("{}_making", cut.table());
        script.begin("DROP TABLE IF EXISTS ").words(&making);
        script.begin("CREATE TABLE ").words(&making).words(" LIKE ").words(cut.table());
        script.begin("ALTER TABLE ").words(&making).words(" ").words(&clause);
        script.begin(&rename(&making, parts));
        alone.run(&script).await?;
        Ok(CutStep::Made)
    }

    async fn send_away(
        &self,
        alone: &mut Alone,
        cut: Cut,
        (whole, parts): (&str, &str),
        now: DateTime<Utc>,
    ) -> Result<CutStep, StoreError> {
        let bound = self.first_bound(alone, parts).await?;
        // Ids of the next minutes must not reach it.
        if time_of_bound(bound) <= now + chrono::TimeDelta::minutes(10)
            || !self.is_below(alone, cut, cut.table(), bound).await?
        {
            return self.drop_empty(alone, parts).await;
        }
        self.run(alone, &rename(cut.table(), whole), CutStep::Away).await
    }

    async fn exchange(&self, alone: &mut Alone, cut: Cut, whole: &str, parts: &str) -> Result<CutStep, StoreError> {
        let bound = self.first_bound(alone, parts).await?;
        if self.is_below(alone, cut, whole, bound).await? {
            let mut script = self.script();
            let first = Partition { holds: partitions::Holds::Period, bound }.name();
            script.begin("ALTER TABLE ").words(parts).words(" EXCHANGE PARTITION ").words(&first).words(" WITH TABLE ");
            // MariaDB skips the comment.
            script.words(whole).words(" /*!50708 WITHOUT VALIDATION */");
            match alone.run(&script).await {
                Ok(_) => return Ok(CutStep::Exchanged),
                // Somebody looks at it, and will not for long.
                Err(error) if error.is_conflict() => return Err(error),
                Err(error) => {
                    tracing::warn!(table = cut.table(), %error, "the table cannot be cut and gets its name back");
                }
            }
        }
        self.run(alone, &rename(whole, cut.table()), CutStep::TakenBack).await
    }

    async fn first_bound(&self, alone: &mut Alone, parts: &str) -> Result<u64, StoreError> {
        let mut script = self.script();
        ask_layout(&mut script, parts);
        let results = alone.run(&script).await?;
        let name: String = get(row(&results, 0, "partitions")?, 0, "partitions")?;
        let first = Partition::of_name(&name)
            .ok_or_else(|| StoreError::corrupt("partitions", format!("{name} is not ours")))?;
        Ok(first.bound)
    }

    async fn is_below(&self, alone: &mut Alone, cut: Cut, table: &str, bound: u64) -> Result<bool, StoreError> {
        Ok(self.last_id(alone, cut, table).await?.is_none_or(|last| last < first_id_of(time_of_bound(bound))))
    }

    async fn last_id(&self, alone: &mut Alone, cut: Cut, table: &str) -> Result<Option<Uuid>, StoreError> {
        let mut script = self.script();
        script.begin("SELECT MAX(").words(cut.key()).words(") FROM ").words(table);
        let results = alone.run(&script).await?;
        get::<Option<Vec<u8>>>(row(&results, 0, cut.table())?, 0, cut.table())?.map(|id| uuid_of(&id)).transpose()
    }

    async fn has_rows(&self, alone: &mut Alone, table: &str) -> Result<bool, StoreError> {
        let mut script = self.script();
        script.begin("SELECT 1 FROM ").words(table).words(" LIMIT 1");
        Ok(!rows(&alone.run(&script).await?, 0).is_empty())
    }

    async fn drop_empty(&self, alone: &mut Alone, table: &str) -> Result<CutStep, StoreError> {
        if self.has_rows(alone, table).await? {
            return Err(StoreError::corrupt("partitions", format!("{table} has rows: whose are they?")));
        }
        self.run(alone, &format!("DROP TABLE {table}"), CutStep::Dropped).await
    }

    async fn run(&self, alone: &mut Alone, statement: &str, step: CutStep) -> Result<CutStep, StoreError> {
        let mut script: Script = self.script();
        script.begin(statement);
        alone.run(&script).await?;
        Ok(step)
    }
}

fn rename(from: &str, to: &str) -> String {
    format!("RENAME TABLE {from} TO {to}")
}
