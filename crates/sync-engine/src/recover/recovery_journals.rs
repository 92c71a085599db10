//! The end of a recovery: what was committed under the latch is settled, and what the journals alone have is committed.
//!
//! Other processes hear with their next look at the database that the latch is gone; what they commit until then is not settled
//! either. So the journals are gone through once more when all have looked. Meanwhile no rescuer publishes them: they would be
//! the whole of what was accepted during the recovery.

use super::pace::Pace;
use super::recovery_report::{Brought, Source};
use super::recovery_work::Failed;
use crate::apply::Applier;
use crate::stores::Stores;
use domain::cache::JournalPages;
use domain::{LikeEvent, ShardId, Version};
use futures::stream::{self, StreamExt, TryStreamExt};
use std::time::Duration;
use tokio::sync::Mutex;
use uuid::Uuid;

/// So often, and with such pauses, it is looked whether this process knows that the latch is gone.
const UNLATCH_LOOKS: u32 = 50;
const UNLATCH_PAUSE: Duration = Duration::from_millis(100);

/// After so long the others know it, too.
const ALL_KNOW: Duration = Duration::from_millis(1_500);

/// What is younger is on its way.
const ON_ITS_WAY: i64 = 500_000;

pub(super) struct Journals<'a> {
    pub(super) stores: &'a Stores,
    pub(super) applier: &'a Applier,
    pub(super) brought: &'a Brought,
    pub(super) batch_size: usize,
    pub(super) at_once: usize,
    pub(super) pace: Mutex<Pace>,
    /// What is younger was not there when the recovery began.
    pub(super) began: Version,
}

impl Journals<'_> {
    /// Gives how many entries there were. Whoever finds that the database has gone back once more leaves them alone.
    pub(super) async fn settle(&self) -> Result<u64, Failed> {
        // A look at the database that was under way may have read what is gone now; the next one reads better.
        for _ in 0..UNLATCH_LOOKS {
            if !self.stores.is_latched() || self.stores.history.went_back().is_some() {
                break;
            }
            tokio::time::sleep(UNLATCH_PAUSE).await;
        }
        let first = self.all(self.stores.now()).await?;
        tokio::time::sleep(ALL_KNOW).await;
        Ok(first + self.all(Version(self.stores.now().0 - ON_ITS_WAY)).await?)
    }

    async fn all(&self, upto: Version) -> Result<u64, Failed> {
        let shards: Vec<_> = self.stores.shards().all().map(|shard| self.shard(shard, upto)).collect();
        let seen: Vec<u64> = stream::iter(shards).buffer_unordered(self.at_once).try_collect().await?;
        Ok(seen.iter().sum())
    }

    async fn shard(&self, shard: ShardId, upto: Version) -> Result<u64, Failed> {
        let mut seen = 0;
        let mut pages = JournalPages::new(self.stores.cache.as_ref(), shard, self.batch_size, usize::MAX);
        while self.stores.history.went_back().is_none()
            && let Some(mut page) = pages.next().await?
        {
            let entries = page.len();
            page.retain(|entry| entry.version <= upto);
            let events: Vec<LikeEvent> = page.iter().filter_map(|entry| entry.decode().ok()).collect();
            if !events.is_empty() {
                let ids: Vec<Uuid> = events.iter().map(|event| event.intent.id).collect();
                let known = self.stores.database.known_events(&ids).await?;
                self.applier.apply(&events).await?;
                seen += events.len() as u64;
                let lacked = |event: &LikeEvent| event.version <= self.began && !known.contains(&event.intent.id);
                self.brought.add(Source::Journal, &events.into_iter().filter(lacked).collect::<Vec<_>>());
                self.pace.lock().await.passed(page.len()).await;
            }
            if page.len() < entries {
                break;
            }
        }
        Ok(seen)
    }
}
