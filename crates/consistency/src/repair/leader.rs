//! Leader election of the repairing checker: one at a time, by a lease in the cache, fenced by a token of the database.
//!
//! The lease decides who *tries*; the token decides whose repairs are *taken*. Only a checker that reaches the database tries,
//! and a leader that does not reach it any more gives the lease back: another one may. Whoever becomes leader gets a larger token than
//! anybody before and tells it to every shard, before its first repair: from then on the leader before it can
//! write nothing, also if it was stopped between looking at its lease and writing. The token comes from the database, so
//! it goes on growing when the cache loses everything.

use crate::error::CheckError;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use sync_engine::Stores;
use tokio_util::sync::CancellationToken;

const LEASE: &str = "consistency";

#[derive(Debug, Clone, Copy)]
struct Term {
    token: u64,
    lease: u64,
    until: Instant,
}

/// Leadership, as one process sees it. Clones are the same process.
#[derive(Clone)]
pub struct Leader {
    stores: Stores,
    owner: Arc<str>,
    ttl: Duration,
    term: Arc<Mutex<Option<Term>>>,
}

impl Leader {
    /// Not the leader yet. `owner` must differ between processes.
    pub fn new(stores: Stores, owner: impl Into<Arc<str>>, ttl: Duration) -> Self {
        Self { stores, owner: owner.into(), ttl, term: Arc::new(Mutex::new(None)) }
    }

    /// The token to repair with, while the lease has not run out.
    pub fn token(&self) -> Option<u64> {
        let term = *self.term.lock().unwrap_or_else(PoisonError::into_inner);
        term.filter(|term| Instant::now() < term.until).map(|term| term.token)
    }

    /// Repairs for an operator, whoever has the leader: takes a newer token for as long as a lease lasts. The
    /// leader learns that when its next repair is refused, and takes a newer one in turn; nobody writes with an old one.
    pub async fn take_over(&self) -> Result<u64, CheckError> {
        let token = self.stores.database.take_repair_token().await?;
        self.stores.cache.fence_repairs(token).await?;
        let term = Term { token, lease: 0, until: Instant::now() + self.ttl };
        *self.term.lock().unwrap_or_else(PoisonError::into_inner) = Some(term);
        Ok(token)
    }

    /// Takes or keeps the leadership; false if another process has it.
    ///
    /// # Errors
    /// A store is unreachable from here. If it is the database, the lease was given back.
    pub async fn hold(&self) -> Result<bool, CheckError> {
        let held = self.compete().await;
        if matches!(held, Err(CheckError::Store(_))) {
            self.resign().await;
        }
        held
    }

    async fn compete(&self) -> Result<bool, CheckError> {
        self.stores.database.ping().await?;
        let asked = Instant::now();
        let lease = self.stores.cache.acquire_lease(LEASE, &self.owner, self.ttl).await?;
        let held = *self.term.lock().unwrap_or_else(PoisonError::into_inner);
        let term = match (lease, held) {
            (None, _) => None,
            (Some(lease), Some(term)) if term.lease == lease => Some(Term { until: asked + self.ttl, ..term }),
            (Some(lease), _) => self.take(lease).await?,
        };
        if term.is_none() && held.is_some() {
            tracing::info!("another checker is the leader now");
        }
        *self.term.lock().unwrap_or_else(PoisonError::into_inner) = term;
        Ok(term.is_some())
    }

    async fn take(&self, lease: u64) -> Result<Option<Term>, CheckError> {
        let token = self.stores.database.take_repair_token().await?;
        self.stores.cache.fence_repairs(token).await?;
        // All of that took time, in which the lease may have run out.
        let asked = Instant::now();
        if self.stores.cache.acquire_lease(LEASE, &self.owner, self.ttl).await? != Some(lease) {
            return Ok(None);
        }
        tracing::info!(token, "this checker is the leader now");
        Ok(Some(Term { token, lease, until: asked + self.ttl }))
    }

    async fn resign(&self) {
        self.lost();
        let _ = self.stores.cache.release_lease(LEASE, &self.owner).await;
    }

    /// A repair was refused: another process is the leader.
    pub(crate) fn lost(&self) {
        *self.term.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Stays the leader as far as possible until `stop`, then gives the lease back.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            if let Err(error) = self.hold().await {
                tracing::debug!(%error, "this checker cannot be the leader");
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(self.ttl / 3) => {}
            }
        }
        self.resign().await;
    }
}
