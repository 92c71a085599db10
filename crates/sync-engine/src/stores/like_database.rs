//! What callers of likes and counts ask of the database: the port between them and its two implementations, the store and the
//! simulation's in memory.
//!
//! Nothing here is on the way of a like that the cache accepts: the call through the port costs as little as a like costs the
//! database.
//!
//! Deliberately absent: everything else of the store. What applies, retries and operates works on the store itself.

use chrono::{DateTime, Utc};
use domain::cache::FirstAnswer;
use domain::{LikeIntent, Pair, PairState, Resource, StoredCount};
use event_store::{DirectResult, EventStore, FreeState, Interrupted, Refresh, Reserved, StoreError};
use std::time::Instant;
use uuid::Uuid;

/// Result of a call.
pub type StoreResult<T> = Result<T, StoreError>;

/// Rows, counters, and writes around the cache; each call as [`EventStore`] describes it.
#[async_trait::async_trait]
pub trait LikeDatabase: Send + Sync + 'static {
    /// See [`EventStore::load_counts`].
    async fn load_counts(&self, resources: &[Resource]) -> StoreResult<Vec<StoredCount>>;

    /// See [`EventStore::load_states`].
    async fn load_states(&self, pairs: &[Pair]) -> StoreResult<Vec<PairState>>;

    /// See [`EventStore::load_free_states`].
    async fn load_free_states(&self, pairs: &[Pair]) -> StoreResult<Vec<FreeState>>;

    /// See [`EventStore::in_ledger`].
    async fn in_ledger(&self, events: &[Uuid]) -> StoreResult<Vec<bool>>;

    /// See [`EventStore::apply_direct`]; the cache is to be told of what changed.
    async fn apply_direct(
        &self,
        intents: &[LikeIntent],
        now: DateTime<Utc>,
        until: Instant,
    ) -> Result<Vec<DirectResult>, Interrupted>;

    /// See [`EventStore::apply_synchronous`].
    async fn apply_synchronous(
        &self,
        intents: &[LikeIntent],
        reserved: &[Reserved],
        now: DateTime<Utc>,
        until: Instant,
    ) -> Result<Vec<DirectResult>, Interrupted>;

    /// See [`EventStore::refreshes_after`].
    async fn refreshes_after(&self, after: i64, limit: u32) -> StoreResult<Vec<Refresh>>;

    /// See [`EventStore::delete_refreshes`].
    async fn delete_refreshes(&self, ids: &[i64]) -> StoreResult<()>;

    /// See [`EventStore::load_keys`].
    async fn load_keys(&self, pairs: &[Pair], after: i64, limit: u32) -> StoreResult<(Vec<FirstAnswer>, Option<i64>)>;
}

#[async_trait::async_trait]
impl LikeDatabase for EventStore {
    async fn load_counts(&self, resources: &[Resource]) -> StoreResult<Vec<StoredCount>> {
        Self::load_counts(self, resources).await
    }

    async fn load_states(&self, pairs: &[Pair]) -> StoreResult<Vec<PairState>> {
        Self::load_states(self, pairs).await
    }

    async fn load_free_states(&self, pairs: &[Pair]) -> StoreResult<Vec<FreeState>> {
        Self::load_free_states(self, pairs).await
    }

    async fn in_ledger(&self, events: &[Uuid]) -> StoreResult<Vec<bool>> {
        Self::in_ledger(self, events).await
    }

    async fn apply_direct(
        &self,
        intents: &[LikeIntent],
        now: DateTime<Utc>,
        until: Instant,
    ) -> Result<Vec<DirectResult>, Interrupted> {
        Self::apply_direct(self, intents, now, until, true).await
    }

    async fn apply_synchronous(
        &self,
        intents: &[LikeIntent],
        reserved: &[Reserved],
        now: DateTime<Utc>,
        until: Instant,
    ) -> Result<Vec<DirectResult>, Interrupted> {
        Self::apply_synchronous(self, intents, reserved, now, until).await
    }

    async fn refreshes_after(&self, after: i64, limit: u32) -> StoreResult<Vec<Refresh>> {
        Self::refreshes_after(self, after, limit).await
    }

    async fn delete_refreshes(&self, ids: &[i64]) -> StoreResult<()> {
        Self::delete_refreshes(self, ids).await
    }

    async fn load_keys(&self, pairs: &[Pair], after: i64, limit: u32) -> StoreResult<(Vec<FirstAnswer>, Option<i64>)> {
        Self::load_keys(self, pairs, after, limit).await
    }
}
