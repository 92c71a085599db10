//! Partitions of ledger and history, as they are, and those that are to come.

use crate::sql::alone::Alone;
use crate::sql::error::StoreError;
use crate::sql::script::Script;
use crate::sql::store::{EventStore, get, row, rows};
use chrono::{DateTime, Utc};
use migrations::partitions::{self, Cut, Holds, Partition};
use std::time::Duration;

const SCHEMA: &str = "information_schema.partitions";

/// Most rows that a step may copy while the table is locked.
pub(crate) const COPIED_MOST: i64 = 50_000;

/// How a table is cut.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Those with a bound, in order, and about how many rows each has.
    pub(crate) partitions: Vec<(Partition, u64)>,
}

impl Layout {
    /// The last bound.
    pub(crate) fn end(&self) -> u64 {
        self.partitions.last().map_or(0, |(partition, _)| partition.bound)
    }
}

/// What [`EventStore::extend_partitions`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extended {
    /// The table has no partitions, or not ours.
    Whole,
    /// There are so many more now; usually none are needed.
    By(usize),
    /// Rows are behind all bounds, too many to copy them while others wait: nobody made partitions in time. What is old of them is
    /// deleted row by row, until `syncctl migrate --partition` copies them all the same.
    Behind,
}

impl EventStore {
    /// How a table is cut; none if it is not, or not by us.
    pub(crate) async fn layout(&self, cut: Cut) -> Result<Option<Layout>, StoreError> {
        let mut script = self.script();
        if script.dialect().is_sqlite() {
            return Ok(None);
        }
        ask_layout(&mut script, cut.table());
        let results = self.read(&script).await?;
        let mut layout = Layout::default();
        let mut has_last = false;
        for row in rows(&results, 0) {
            let Some(name) = get::<Option<String>>(row, 0, SCHEMA)? else { return Ok(None) };
            let about: i64 = get(row, 1, SCHEMA)?;
            match Partition::of_name(&name) {
                Some(partition) => layout.partitions.push((partition, about.unsigned_abs())),
                None if name == partitions::LAST => has_last = true,
                None => return Ok(None),
            }
        }
        Ok(has_last.then_some(layout))
    }

    /// Makes partitions for what comes, so that there always are some ahead; of rows that are kept for so long. One process at a time
    /// is enough.
    pub async fn extend_partitions(
        &self,
        cut: Cut,
        now: DateTime<Utc>,
        kept: Duration,
    ) -> Result<Extended, StoreError> {
        self.extend(cut, now, u64::try_from(kept.as_millis()).unwrap_or(u64::MAX), COPIED_MOST).await
    }

    /// The same, and rows behind all bounds are copied if they are fewer than `copied`.
    pub(crate) async fn extend(
        &self,
        cut: Cut,
        now: DateTime<Utc>,
        kept: u64,
        copied: i64,
    ) -> Result<Extended, StoreError> {
        let Some(layout) = self.layout(cut).await? else { return Ok(Extended::Whole) };
        let (now, period) = (millis(now), partitions::period(kept));
        if layout.end() >= now.saturating_add(partitions::ahead(period) / 2) {
            return Ok(Extended::By(0));
        }
        let new: Vec<Partition> = partitions::bounds_after(layout.end(), now, period)
            .into_iter()
            .map(|bound| Partition { holds: Holds::Period, bound })
            .collect();
        if copied < i64::MAX && self.rows_in(cut, partitions::LAST, copied).await? >= copied {
            return Ok(Extended::Behind);
        }
        let mut script = self.script();
        script.begin("ALTER TABLE ").words(cut.table()).words(" REORGANIZE PARTITION ").words(partitions::LAST);
        script.words(" INTO ").words(&partitions::list(&new, true));
        Alone::of(&self.pool).await?.run(&script).await?;
        Ok(Extended::By(new.len()))
    }

    /// Rows of a partition, counted up to `limit`.
    pub(crate) async fn rows_in(&self, cut: Cut, partition: &str, limit: i64) -> Result<i64, StoreError> {
        let mut script = self.script();
        script.begin("SELECT COUNT(*) FROM (SELECT 1 FROM ").words(cut.table()).words(" PARTITION (").words(partition);
        script.words(") LIMIT ").int(limit).words(") AS counted");
        let results = self.read(&script).await?;
        get(row(&results, 0, cut.table())?, 0, cut.table())
    }
}

/// The partitions of a table of this database, in order; one row without a name if there are none.
pub(crate) fn ask_layout(script: &mut Script, table: &str) {
    script.begin("SELECT partition_name, CAST(COALESCE(table_rows, 0) AS SIGNED) FROM ").words(SCHEMA);
    script.words(" WHERE table_schema = DATABASE() AND table_name = '").words(table);
    script.words("' ORDER BY partition_ordinal_position");
}

/// Milliseconds since 1970.
pub(crate) fn millis(time: DateTime<Utc>) -> u64 {
    u64::try_from(time.timestamp_millis()).unwrap_or(0)
}

/// The time of a bound.
pub(crate) fn time_of_bound(bound: u64) -> DateTime<Utc> {
    i64::try_from(bound).ok().and_then(DateTime::from_timestamp_millis).unwrap_or_default()
}
