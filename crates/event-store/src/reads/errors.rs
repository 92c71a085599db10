//! What the events of a filter failed with: groups of errors that differ in their numbers only, with how many events each has.

use crate::reads::standing::made_at;
use crate::sql::error::StoreError;
use crate::sql::store::{EventStore, get, rows};
use crate::tables::errors::group_of;
use crate::tables::ledger::{EventFilter, PAGE_SCAN, row_conditions, scan_conditions, scanned_ids, uuid_of};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;

const TABLE: &str = "sync_events";

/// Different texts that are read.
const TEXTS: i64 = 2_000;

/// Events whose errors differ in their numbers only.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ErrorGroup {
    /// The error with `#` in place of numbers and ids: its name in filters.
    pub group: String,
    /// One of its errors.
    pub example: String,
    /// How many events.
    pub events: u64,
    /// When the oldest of them was made.
    pub first: Option<DateTime<Utc>>,
    /// When the newest was.
    pub last: Option<DateTime<Utc>>,
}

impl ErrorGroup {
    /// The group of an error.
    pub fn of(error: &str) -> String {
        group_of(error)
    }
}

/// All groups of a filter.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct ErrorGroups {
    /// Those with most events first.
    pub groups: Vec<ErrorGroup>,
    /// Whether older events were left out, because there are too many.
    pub capped: bool,
}

impl EventStore {
    /// Groups the newest events of a filter by their errors, at most 20,000 of them; those without an error are left out.
    pub async fn error_groups(&self, filter: &EventFilter) -> Result<ErrorGroups, StoreError> {
        let mut script = self.script();
        scanned_ids(&mut script, filter, None);
        let results = self.read(&script).await?;
        let Some(window) = rows(&results, 0).first() else { return Ok(ErrorGroups::default()) };
        let scanned: i64 = get(window, 0, TABLE)?;
        let Some(last) = get::<Option<Vec<u8>>>(window, 1, TABLE)? else { return Ok(ErrorGroups::default()) };

        let mut script = self.script();
        script.begin("SELECT error_message, COUNT(*), MIN(id), MAX(id) FROM sync_events");
        scan_conditions(&mut script, filter, None);
        script.words(" AND id >= ").uuid(uuid_of(&last)?).words(" AND error_message IS NOT NULL");
        row_conditions(&mut script, filter);
        script.words(" GROUP BY error_message ORDER BY COUNT(*) DESC LIMIT ").int(TEXTS);
        let results = self.read(&script).await?;
        let texts = rows(&results, 0);
        let mut groups: BTreeMap<String, ErrorGroup> = BTreeMap::new();
        for row in texts {
            let example: String = get(row, 0, TABLE)?;
            let group = group_of(&example);
            if filter.error_group.as_ref().is_some_and(|wanted| *wanted != group) {
                continue;
            }
            let events = u64::try_from(get::<i64>(row, 1, TABLE)?).unwrap_or(0);
            let made = |column| Ok::<_, StoreError>(made_at(uuid_of(&get::<Vec<u8>>(row, column, TABLE)?)?));
            let (first, last) = (made(2)?, made(3)?);
            let one = groups.entry(group).or_insert_with_key(|group| ErrorGroup {
                group: group.clone(),
                example,
                events: 0,
                first,
                last,
            });
            one.events += events;
            one.first = one.first.min(first);
            one.last = one.last.max(last);
        }
        let mut groups: Vec<ErrorGroup> = groups.into_values().collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.events));
        Ok(ErrorGroups { groups, capped: scanned >= PAGE_SCAN || texts.len() as i64 >= TEXTS })
    }
}
