//! A cache before whose first fill somebody else commits.

use domain::cache::{
    AcceptOutcome, AcceptRequest, CacheResult, CachedCount, LikeCache, SettleReport, Settlement, ShardStatus,
};
use domain::codec::EncodedEvent;
use domain::{LikeEvent, Pair, PairState, Resource, ShardId, StoredCount, Version};
use std::sync::Arc;
use std::time::Duration;
use sync_engine::apply::Applier;
use tokio::sync::Mutex;

pub(crate) struct Racing {
    cache: Arc<dyn LikeCache>,
    other: Applier,
    late: Mutex<Option<LikeEvent>>,
}

impl Racing {
    /// `other` applies `late` just before the first fill.
    pub(crate) fn new(cache: Arc<dyn LikeCache>, other: Applier, late: LikeEvent) -> Self {
        Self { cache, other, late: Mutex::new(Some(late)) }
    }

    async fn overtake(&self) {
        if let Some(event) = self.late.lock().await.take() {
            self.other.apply(&[event]).await.unwrap();
        }
    }
}

#[async_trait::async_trait]
impl LikeCache for Racing {
    async fn fill_counts(&self, counts: &[(Resource, StoredCount)]) -> CacheResult<()> {
        self.overtake().await;
        self.cache.fill_counts(counts).await
    }

    async fn fill_states(&self, states: &[(Pair, PairState)]) -> CacheResult<()> {
        self.overtake().await;
        self.cache.fill_states(states).await
    }

    async fn prepare(&self) -> CacheResult<()> {
        self.cache.prepare().await
    }

    async fn ping(&self) -> CacheResult<()> {
        self.cache.ping().await
    }

    fn clock(&self) -> Option<Version> {
        self.cache.clock()
    }

    async fn accept(&self, requests: &[AcceptRequest]) -> Vec<CacheResult<AcceptOutcome>> {
        self.cache.accept(requests).await
    }

    async fn settle(&self, settlement: &Settlement) -> CacheResult<SettleReport> {
        self.cache.settle(settlement).await
    }

    async fn counts(&self, resources: &[Resource]) -> CacheResult<Vec<Option<CachedCount>>> {
        self.cache.counts(resources).await
    }

    async fn states(&self, pairs: &[Pair]) -> CacheResult<Vec<Option<PairState>>> {
        self.cache.states(pairs).await
    }

    async fn forget_states(&self, states: &[(Pair, Version)]) -> CacheResult<()> {
        self.cache.forget_states(states).await
    }

    async fn shard_status(&self) -> CacheResult<Vec<ShardStatus>> {
        self.cache.shard_status().await
    }

    async fn journal_page(&self, shard: ShardId, after: Version, limit: usize) -> CacheResult<Vec<EncodedEvent>> {
        self.cache.journal_page(shard, after, limit).await
    }

    async fn acquire_lease(&self, name: &str, owner: &str, ttl: Duration) -> CacheResult<Option<u64>> {
        self.cache.acquire_lease(name, owner, ttl).await
    }

    async fn release_lease(&self, name: &str, owner: &str) -> CacheResult<()> {
        self.cache.release_lease(name, owner).await
    }
}
