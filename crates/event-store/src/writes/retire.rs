//! Whole partitions of what is old leave at once.
//!
//! A partition goes when everything in it was made before the bound of retention. What must stay is looked for while the table is
//! locked against everybody, and stands in its partition again before the lock ends: every event of the ledger that is not completed
//! (pending, processing, failed, dead, discarded), and every completed one that waits for the redo log since the bound. Of the
//! history nothing stays.
//!
//! Under the lock only names change places, and at most [`COPIED_MOST`] rows are copied: the partition is exchanged for a table that
//! has what stays, and that table, with what is old, is dropped afterwards, when nobody waits. Whoever dies between two of these
//! steps leaves either all or what stays, never less: an exchange happens or it does not. What stays is gathered in partitions of
//! their own (their names begin with `k`), in which retention deletes rows one by one, as in tables without partitions.

use crate::sql::alone::Alone;
use crate::sql::error::StoreError;
use crate::sql::script::Script;
use crate::sql::store::{EventStore, rows};
use crate::tables::event_status::EventStatus;
use crate::tables::partitions::{COPIED_MOST, Layout, count, counted, millis, time_of_bound};
use chrono::{DateTime, Utc};
use migrations::partitions::{self, Cut, Holds, Partition};

/// One step of [`EventStore::retire_partitions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retired {
    /// About how many rows went with a partition; none if no partition went.
    pub dropped: Option<u64>,
    /// What stayed of it.
    pub kept: u64,
    /// Partitions that are old and stay, because too much of each must: rows in them are deleted one by one.
    pub full: usize,
    /// Rows that were made before this are deleted one by one; what is between this and the bound goes with its partition.
    pub by_rows: DateTime<Utc>,
}

/// What is done with a partition.
enum Fate {
    Leaves { kept: i64 },
    Full,
    IsLeft,
}

impl EventStore {
    /// Drops the oldest partition of a table that was wholly made before `before`, but for what must stay. Nothing is dropped where
    /// the table is not cut, and on SQLite: there all that is older goes row by row. Call again while something was dropped.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the table is in use by something long (a dump), or another process is at it, or has been: later.
    pub async fn retire_partitions(&self, cut: Cut, before: DateTime<Utc>) -> Result<Retired, StoreError> {
        let mut step = Retired { dropped: None, kept: 0, full: 0, by_rows: before };
        let Some(layout) = self.layout(cut).await? else { return Ok(step) };
        step.by_rows = DateTime::UNIX_EPOCH;
        for (n, (partition, about)) in layout.partitions.iter().enumerate() {
            if partition.bound > millis(before) {
                self.drop_left_over(cut).await?;
                return Ok(step);
            }
            match self.fate(cut, *partition, before).await? {
                Fate::IsLeft => {}
                Fate::Full => step.full += 1,
                Fate::Leaves { kept } => {
                    self.retire(cut, &layout, n, before).await?;
                    return Ok(Retired {
                        dropped: Some(about.saturating_sub(kept.unsigned_abs())),
                        kept: kept.unsigned_abs(),
                        ..step
                    });
                }
            }
            step.by_rows = time_of_bound(partition.bound);
        }
        self.drop_left_over(cut).await?;
        // What is behind all bounds has no partition to go with.
        Ok(Retired { by_rows: before, ..step })
    }

    /// What somebody who died behind the exchange has not dropped: all of a partition, and it takes as much of the disk.
    async fn drop_left_over(&self, cut: Cut) -> Result<(), StoreError> {
        let mut script = self.script();
        script.begin("SELECT 1 FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = '");
        script.words(cut.leaving()).words("'");
        if rows(&self.read(&script).await?, 0).is_empty() {
            return Ok(());
        }
        let mut alone = Alone::of(&self.pool).await?;
        // Or it is another's who is at it.
        alone.one_at_a_time(self.script()).await?;
        let mut script = self.script();
        script.begin("DROP TABLE IF EXISTS ").words(cut.leaving());
        alone.run(&script).await.map(drop)
    }

    async fn fate(&self, cut: Cut, partition: Partition, before: DateTime<Utc>) -> Result<Fate, StoreError> {
        // Of one that holds what is left there is usually not more than may be copied.
        if partition.holds == Holds::Kept {
            let mut script = self.script();
            count(&mut script, cut, &partition.name(), 2 * COPIED_MOST);
            if counted(&self.read(&script).await?)? < 2 * COPIED_MOST {
                return Ok(Fate::IsLeft);
            }
        }
        if cut == Cut::History {
            return Ok(Fate::Leaves { kept: 0 });
        }
        let mut script = self.script();
        script.begin("SELECT COUNT(*) FROM (");
        stays(&mut script, 0, "1", &partition.name(), before);
        script.words(" UNION ALL ");
        stays(&mut script, 1, "1", &partition.name(), before);
        script.words(" LIMIT ").int(COPIED_MOST + 1).words(") AS counted");
        let kept = counted(&self.read(&script).await?)?;
        Ok(if kept > COPIED_MOST { Fate::Full } else { Fate::Leaves { kept } })
    }

    async fn retire(&self, cut: Cut, layout: &Layout, n: usize, before: DateTime<Utc>) -> Result<(), StoreError> {
        let (table, old) = (cut.table(), cut.leaving());
        let (partition, _) = layout.partitions[n];
        let left = Partition { holds: Holds::Kept, ..partition };
        let mut alone = Alone::of(&self.pool).await?;
        alone.one_at_a_time(self.script()).await?;
        if !self.layout_by(&mut alone, cut).await?.is_some_and(|now| now.is_cut_as(layout)) {
            return Err(StoreError::Conflict("another process has changed the partitions".into()));
        }
        // What is left of the one before is gathered with this, while both are small.
        let mut former = n.checked_sub(1).map(|n| layout.partitions[n].0).filter(|former| former.holds == Holds::Kept);
        if let Some(small) = former {
            let mut script = self.script();
            count(&mut script, cut, &small.name(), COPIED_MOST);
            if counted(&alone.run(&script).await?)? >= COPIED_MOST {
                former = None;
            }
        }
        let mut script = self.script();
        script.begin("DROP TABLE IF EXISTS ").words(old);
        script.begin("CREATE TABLE ").words(old).words(" LIKE ").words(table);
        script.begin("ALTER TABLE ").words(old).words(" REMOVE PARTITIONING");
        alone.run(&script).await?;

        let mut script = self.script();
        script.begin("LOCK TABLES ").words(table).words(" WRITE, ").words(old).words(" WRITE");
        if cut == Cut::Ledger {
            for half in [0, 1] {
                script.begin("INSERT INTO ").words(old).words(" ");
                stays(&mut script, half, "*", &partition.name(), before);
            }
        }
        alone.run(&script).await?;
        let mut script = self.script();
        script.begin("ALTER TABLE ").words(table).words(" EXCHANGE PARTITION ").words(&partition.name());
        script.words(" WITH TABLE ").words(old);
        alone.run(&script).await?;
        if former.is_some() || left != partition {
            let mut script = self.script();
            script.begin("ALTER TABLE ").words(table).words(" REORGANIZE PARTITION ");
            if let Some(former) = former {
                script.words(&former.name()).words(", ");
            }
            script.words(&partition.name()).words(" INTO ").words(&partitions::list(&[left], false));
            alone.run(&script).await?;
        }
        let mut script = self.script();
        script.begin("UNLOCK TABLES");
        script.begin("DROP TABLE ").words(old);
        alone.run(&script).await.map(drop)
    }
}

/// Begins the selection of rows of a partition of the ledger that must stay, by its index of what is due. Each is in one of both
/// halves; a statement names a locked table once.
fn stays(script: &mut Script, half: usize, columns: &str, partition: &str, before: DateTime<Utc>) {
    script.words("SELECT ").words(columns).words(" FROM ").words(Cut::Ledger.table());
    script.words(" PARTITION (").words(partition).words(") WHERE status ");
    if half == 0 {
        let unfinished = EventStatus::ALL.into_iter().filter(|status| *status != EventStatus::Completed);
        script.words("IN (").list(unfinished, |script, status| {
            script.name(status.name());
        });
        script.words(")");
    } else {
        script.words("= 'completed' AND next_retry_at >= ").time(before);
    }
}
