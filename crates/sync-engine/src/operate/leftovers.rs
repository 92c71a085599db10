//! What is left of a user or a resource up to a version, in every store: what an erasure would remove, or proof that it has.
//!
//! Not looked at: the broker, whose messages nobody can search. What comes from there is behind the fence, and messages go with their
//! queue's limits.

use crate::operate::erase::SCAN;
use crate::recover::catch_up::RefreshError;
use crate::recover::pace::Pace;
use crate::stores::Stores;
use domain::cache::{JournalPages, Sweep, Swept};
use domain::{Fence, Version};
use event_store::{Erasure, IndexedRows, Walked};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::collections::BTreeMap;

/// Entries of a journal asked for at once.
const PAGE: usize = 500;

/// Most pages of one journal.
const PAGES: usize = 100_000;

/// What is left.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Leftovers {
    /// Likes, tombstones, keys.
    pub rows: IndexedRows,
    /// Rows of the other tables, by table.
    pub tables: BTreeMap<&'static str, u64>,
    /// In the cache.
    pub cached: Swept,
    /// Journal entries that are not settled.
    pub journal: u64,
    /// Likes above the fence of a resource that is deleted: a cache that had lost its mark accepted them. They go when it is
    /// deleted once more.
    pub liked_since: u64,
}

impl Leftovers {
    /// Of all kinds that an erasure removes.
    pub fn total(&self) -> u64 {
        self.rows.total() + self.tables.values().sum::<u64>() + self.cached.pairs + self.cached.keys + self.journal
    }
}

/// Looks for it everywhere, at no more than `rate` rows and keys per second; changes nothing.
pub fn look_for<'a>(
    stores: &'a Stores,
    erasure: &'a Erasure,
    rate: u32,
) -> BoxFuture<'a, Result<Leftovers, RefreshError>> {
    look_for_inner(stores, erasure, rate).boxed()
}

async fn look_for_inner(stores: &Stores, erasure: &Erasure, rate: u32) -> Result<Leftovers, RefreshError> {
    let of = erasure.fence.of;
    let mut pace = Pace::new(rate);
    let mut left = Leftovers { rows: stores.database.indexed_rows(erasure.fence).await?, ..Leftovers::default() };
    for table in Walked::ALL.into_iter().filter(|table| table.has(of)) {
        let (mut found, mut after) = (0, None);
        loop {
            let one = std::slice::from_ref(erasure);
            let step = stores.database.walk_step(table, one, after.as_deref(), SCAN, false).await?;
            found += step.found;
            after = step.next;
            pace.passed(SCAN as usize).await;
            if after.is_none() {
                break;
            }
        }
        left.tables.insert(table.name(), found);
    }
    if erasure.mark().is_some_and(|(_, mark)| mark.deleted) {
        let all = stores.database.indexed_rows(Fence { of, up_to: Version::MAX }).await?;
        left.liked_since = all.likes.saturating_sub(left.rows.likes);
    }
    let sweep = Sweep { fences: std::slice::from_ref(&erasure.fence), remove: false };
    let mut cursor = 0;
    loop {
        let (swept, next) = stores.cache.sweep(&sweep, cursor, SCAN).await?;
        swept.into_iter().for_each(|swept| left.cached += swept);
        cursor = next;
        if cursor == 0 {
            break;
        }
        pace.passed(SCAN as usize).await;
    }
    for shard in stores.shards().all() {
        let mut pages = JournalPages::new(&*stores.cache, shard, PAGE, PAGES);
        while let Some(page) = pages.next().await? {
            let events = page.iter().filter_map(|entry| entry.decode().ok());
            left.journal += events.filter(|event| erasure.fence.covers(event.pair(), event.version)).count() as u64;
            pace.passed(page.len()).await;
        }
    }
    Ok(left)
}
