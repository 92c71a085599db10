//! One reshard at a time.

use anyhow::{Context, ensure};
use cache_manager::RedisCache;
use domain::cache::LikeCache;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const LEASE: &str = "reshard";
const LEASE_TTL: Duration = Duration::from_secs(5);
/// From one attempt to the next.
const PAUSE: Duration = Duration::from_millis(200);

/// One at a time.
pub(super) struct Lease {
    cache: Arc<RedisCache>,
    owner: String,
    held: Arc<AtomicBool>,
    renewing: tokio::task::JoinHandle<()>,
}

impl Lease {
    pub(super) async fn take(cache: Arc<RedisCache>) -> anyhow::Result<Self> {
        let owner = uuid::Uuid::new_v4().to_string();
        let began = Instant::now();
        // One that was killed gives it back by not renewing it.
        let token = loop {
            let token = cache.acquire_lease(LEASE, &owner, LEASE_TTL).await.context("cache")?;
            if token.is_some() || began.elapsed() > LEASE_TTL * 2 {
                break token;
            }
            sleep(PAUSE).await;
        };
        ensure!(token.is_some(), "another syncctl reshard runs");
        let held = Arc::new(AtomicBool::new(true));
        let (renewed, name, still) = (Arc::clone(&cache), owner.clone(), Arc::clone(&held));
        let renewing = tokio::spawn(async move {
            let mut last = Instant::now();
            while last.elapsed() < LEASE_TTL {
                sleep(LEASE_TTL / 5).await;
                match renewed.acquire_lease(LEASE, &name, LEASE_TTL).await {
                    // Another token: it was somebody else's meanwhile.
                    Ok(again) if again == token => last = Instant::now(),
                    Ok(_) => break,
                    Err(_) => {}
                }
            }
            still.store(false, Ordering::Release);
        });
        Ok(Self { cache, owner, held, renewing })
    }

    pub(super) fn held(&self) -> anyhow::Result<()> {
        ensure!(self.held.load(Ordering::Acquire), "this was stopped for too long, another one may run: run it again");
        Ok(())
    }

    pub(super) async fn give_back(self) {
        self.renewing.abort();
        // It ends by itself, too.
        let _ = self.cache.release_lease(LEASE, &self.owner).await;
    }
}
