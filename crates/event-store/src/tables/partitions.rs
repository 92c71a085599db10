//! Partitions of ledger and history, as they are, and those that are to come.

use crate::sql::alone::Alone;
use crate::sql::error::StoreError;
use crate::sql::pool::Results;
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
    /// The same cut, whatever is in it.
    pub(crate) fn is_cut_as(&self, other: &Self) -> bool {
        let bounds = |layout: &Self| layout.partitions.iter().map(|(partition, _)| *partition).collect::<Vec<_>>();
        bounds(self) == bounds(other)
    }

    /// Whether there is room ahead for at least half of what is made at once.
    fn reaches(&self, now: u64, period: u64) -> bool {
        self.end() >= now.saturating_add(partitions::ahead(period) / 2)
    }

    /// The last bound.
    pub(crate) fn end(&self) -> u64 {
        self.partitions.last().map_or(0, |(partition, _)| partition.bound)
    }
}

/// What [`EventStore::extend_partitions`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extended {
    /// SQLite has no partitions.
    Nowhere,
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
        layout_of(&self.read(&script).await?)
    }

    /// The same as that connection sees it, which keeps others from changing it.
    pub(crate) async fn layout_by(&self, alone: &mut Alone, cut: Cut) -> Result<Option<Layout>, StoreError> {
        let mut script = self.script();
        ask_layout(&mut script, cut.table());
        layout_of(&alone.run(&script).await?)
    }

    /// Makes partitions for what comes, so that there always are some ahead; of rows that are kept for so long. One process at a time
    /// is enough.
    pub async fn extend_partitions(
        &self,
        cut: Cut,
        now: DateTime<Utc>,
        kept: Duration,
    ) -> Result<Extended, StoreError> {
        if self.script().dialect().is_sqlite() {
            return Ok(Extended::Nowhere);
        }
        let (now, period) = (millis(now), partitions::period(u64::try_from(kept.as_millis()).unwrap_or(u64::MAX)));
        let Some(layout) = self.layout(cut).await? else { return Ok(Extended::Whole) };
        if layout.reaches(now, period) {
            return Ok(Extended::By(0));
        }
        let mut script = self.script();
        count(&mut script, cut, partitions::LAST, COPIED_MOST);
        if counted(&self.read(&script).await?)? >= COPIED_MOST {
            return Ok(Extended::Behind);
        }
        let mut alone = Alone::of(&self.pool).await?;
        alone.one_at_a_time(self.script()).await?;
        self.extend(&mut alone, cut, now, period).await
    }

    /// The same whatever must be copied, by a connection that keeps others from doing it too.
    pub(crate) async fn extend(
        &self,
        alone: &mut Alone,
        cut: Cut,
        now: u64,
        period: u64,
    ) -> Result<Extended, StoreError> {
        let Some(layout) = self.layout_by(alone, cut).await? else { return Ok(Extended::Whole) };
        if layout.reaches(now, period) {
            return Ok(Extended::By(0));
        }
        let new: Vec<Partition> = partitions::bounds_after(layout.end(), now, period)
            .into_iter()
            .map(|bound| Partition { holds: Holds::Period, bound })
            .collect();
        let mut script = self.script();
        script.begin("ALTER TABLE ").words(cut.table()).words(" REORGANIZE PARTITION ").words(partitions::LAST);
        script.words(" INTO ").words(&partitions::list(&new, true));
        alone.run(&script).await?;
        Ok(Extended::By(new.len()))
    }
}

fn layout_of(results: &Results) -> Result<Option<Layout>, StoreError> {
    let mut layout = Layout::default();
    let mut has_last = false;
    for row in rows(results, 0) {
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

/// Begins the count of a partition's rows, up to `limit`.
pub(crate) fn count(script: &mut Script, cut: Cut, partition: &str, limit: i64) {
    script.begin("SELECT COUNT(*) FROM (SELECT 1 FROM ").words(cut.table()).words(" PARTITION (").words(partition);
    script.words(") LIMIT ").int(limit).words(") AS counted");
}

/// What a count gave.
pub(crate) fn counted(results: &Results) -> Result<i64, StoreError> {
    get(row(results, 0, SCHEMA)?, 0, SCHEMA)
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
