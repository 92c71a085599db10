//! Writes around the cache that it will be told: they are on their way, like the entries of a journal.

use crate::error::CheckError;
use crate::inspect::Inspector;
use chrono::{DateTime, Utc};
use domain::Resource;
use std::collections::BTreeSet;

/// Most entries of the list that are looked at.
const ENTRIES: u32 = 1_000;

/// Resources that the cache has not heard the newest of, and will.
#[derive(Debug, Default)]
pub(crate) struct PendingRefreshes {
    resources: BTreeSet<Resource>,
    /// The list was too long to be read: every resource may be on it.
    all: bool,
}

impl PendingRefreshes {
    pub(crate) fn has(&self, resource: Resource) -> bool {
        self.all || self.resources.contains(&resource)
    }
}

impl Inspector {
    /// To be asked between two looks: an entry leaves the list only after the cache was told, so what was stale before,
    /// and is not on the list, and is stale afterwards, is told by nobody. A list that nobody shortens excuses nothing.
    pub(crate) async fn pending_refreshes(&self) -> Result<PendingRefreshes, CheckError> {
        let list = self.stores.database.take_refreshes(ENTRIES).await?;
        let now = self.wall_clock();
        let young = |listed_at: DateTime<Utc>| (now - listed_at).to_std().map_or(true, |age| age <= self.stuck_after);
        if !list.first().is_some_and(|oldest| young(oldest.listed_at)) {
            return Ok(PendingRefreshes::default());
        }
        let all = list.len() >= ENTRIES as usize;
        Ok(PendingRefreshes { resources: list.into_iter().map(|entry| entry.pair.resource).collect(), all })
    }
}
