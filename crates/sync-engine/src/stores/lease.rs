//! Work that one process at a time does, by a lease of the cache.
//!
//! Whoever has the lease renews it with every round. Whoever was refused asks again after half of its lifetime, at most
//! [`ASKS_AGAIN`]: so what is asked while nothing happens does not grow with every process that waits, and a holder that died is
//! followed that much later than its lease ends.

use domain::cache::{CacheError, LikeCache};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Nobody who waits waits longer for a lease that was given back.
const ASKS_AGAIN: Duration = Duration::from_secs(5);

/// One kind of work, and who wants to do it here.
pub(crate) struct Lease {
    cache: Arc<dyn LikeCache>,
    name: &'static str,
    owner: String,
    ttl: Duration,
    standing: Mutex<Standing>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Unknown,
    Ours,
    GivenBack,
    Refused(Instant),
}

impl Lease {
    /// `owner` must differ between processes.
    pub(crate) fn new(cache: Arc<dyn LikeCache>, name: &'static str, owner: String, ttl: Duration) -> Self {
        Self { cache, name, owner, ttl, standing: Mutex::new(Standing::Unknown) }
    }

    /// The same with another lifetime.
    pub(crate) fn lasting(self, ttl: Duration) -> Self {
        Self { ttl, ..self }
    }

    /// Whether to ask now.
    pub(crate) fn is_due(&self) -> bool {
        match *self.standing() {
            Standing::Refused(at) => at.elapsed() >= (self.ttl / 2).min(ASKS_AGAIN),
            Standing::Unknown | Standing::Ours | Standing::GivenBack => true,
        }
    }

    /// Takes or keeps the lease; who was refused lately is not asked for it.
    pub(crate) async fn is_ours(&self) -> Result<bool, CacheError> {
        if !self.is_due() {
            return Ok(false);
        }
        // What was sent may be answered unheard.
        *self.standing() = Standing::Unknown;
        let ours = self.cache.acquire_lease(self.name, &self.owner, self.ttl).await?.is_some();
        *self.standing() = if ours { Standing::Ours } else { Standing::Refused(Instant::now()) };
        Ok(ours)
    }

    /// Gives back what may be ours.
    pub(crate) async fn give_back(&self) -> Result<(), CacheError> {
        if matches!(*self.standing(), Standing::Refused(_) | Standing::GivenBack) {
            return Ok(());
        }
        self.cache.release_lease(self.name, &self.owner).await?;
        *self.standing() = Standing::GivenBack;
        Ok(())
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cache_manager::RedisConfig;
    use test_support::cache_contract::roomy_rules;
    use test_support::{shared, unique_name};

    async fn cache() -> Arc<dyn LikeCache> {
        let url = shared::redis().await.unwrap().url().to_owned().into();
        let config = RedisConfig { url, key_prefix: format!("{}:", unique_name("lease")), ..RedisConfig::default() };
        Arc::new(config.build(roomy_rules()).unwrap())
    }

    #[tokio::test]
    async fn who_was_refused_asks_again_after_half_of_its_lifetime() {
        let (cache, ttl) = (cache().await, Duration::from_millis(2_000));
        let lease = |owner: &str| Lease::new(Arc::clone(&cache), "work", owner.to_owned(), ttl);
        let (one, other) = (lease("one"), lease("other"));
        assert!(one.is_ours().await.unwrap() && !other.is_ours().await.unwrap());
        one.give_back().await.unwrap();
        assert!(!other.is_due() && !other.is_ours().await.unwrap(), "asked again at once");
        // Whoever gave it back may have it again.
        assert!(one.is_ours().await.unwrap());
        one.give_back().await.unwrap();
        tokio::time::sleep(ttl / 2).await;
        assert!(other.is_ours().await.unwrap() && !one.is_ours().await.unwrap());
        // What is not ours is not given back.
        one.give_back().await.unwrap();
        assert!(other.is_ours().await.unwrap());
    }

    #[tokio::test]
    async fn who_waits_for_a_long_one_asks_every_few_seconds() {
        let cache = cache().await;
        let lease = |owner: &str| Lease::new(Arc::clone(&cache), "work", owner.to_owned(), Duration::from_secs(60));
        let (one, other) = (lease("one"), lease("other"));
        assert!(one.is_ours().await.unwrap() && !other.is_ours().await.unwrap());
        tokio::time::sleep(ASKS_AGAIN).await;
        assert!(other.is_due() && !other.is_ours().await.unwrap() && !other.is_due());
    }
}
