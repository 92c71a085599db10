//! The office of the repairer: one at a time, elected by a lease in the cache, fenced by a token of the database.
//!
//! The lease decides who *tries*; the token decides whose repairs are *taken*. Who takes office gets a larger token than
//! anybody before and tells it to every shard, before its first repair: from then on whoever held the office before can
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

/// The office, as one process sees it. Clones are the same process.
#[derive(Clone)]
pub struct Office {
    stores: Stores,
    owner: Arc<str>,
    ttl: Duration,
    term: Arc<Mutex<Option<Term>>>,
}

impl Office {
    /// Not in office yet. `owner` must differ between processes.
    pub fn new(stores: Stores, owner: impl Into<Arc<str>>, ttl: Duration) -> Self {
        Self { stores, owner: owner.into(), ttl, term: Arc::new(Mutex::new(None)) }
    }

    /// The token to repair with, while the lease has not run out.
    pub fn token(&self) -> Option<u64> {
        let term = *self.term.lock().unwrap_or_else(PoisonError::into_inner);
        term.filter(|term| Instant::now() < term.until).map(|term| term.token)
    }

    /// Repairs for an operator, whoever has the office: takes a newer token for as long as a lease lasts. Whoever is in
    /// office learns that when its next repair is refused, and takes a newer one in turn; nobody writes with an old one.
    pub async fn insist(&self) -> Result<u64, CheckError> {
        let token = self.stores.database.take_repair_token().await?;
        self.stores.cache.fence_repairs(token).await?;
        let term = Term { token, lease: 0, until: Instant::now() + self.ttl };
        *self.term.lock().unwrap_or_else(PoisonError::into_inner) = Some(term);
        Ok(token)
    }

    /// Takes or keeps the office; false if somebody else has it.
    pub async fn hold(&self) -> Result<bool, CheckError> {
        let asked = Instant::now();
        let lease = self.stores.cache.acquire_lease(LEASE, &self.owner, self.ttl).await?;
        let held = *self.term.lock().unwrap_or_else(PoisonError::into_inner);
        let term = match (lease, held) {
            (None, _) => None,
            (Some(lease), Some(term)) if term.lease == lease => Some(Term { until: asked + self.ttl, ..term }),
            (Some(lease), _) => self.take(lease).await?,
        };
        if term.is_none() && held.is_some() {
            tracing::info!("another checker has the office now");
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
        tracing::info!(token, "in office as the repairing checker");
        Ok(Some(Term { token, lease, until: asked + self.ttl }))
    }

    /// A repair was refused: somebody else is in office.
    pub(crate) fn lost(&self) {
        *self.term.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Holds the office as far as possible until `stop`, then gives it back.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            if let Err(error) = self.hold().await {
                tracing::debug!(%error, "the office cannot be held");
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(self.ttl / 3) => {}
            }
        }
        self.lost();
        let _ = self.stores.cache.release_lease(LEASE, &self.owner).await;
    }
}
