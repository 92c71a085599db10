//! One reshard at a time.

use anyhow::{Context, ensure};
use cache_manager::RedisCache;
use domain::cache::LikeCache;
use std::sync::{Arc, Mutex, PoisonError};
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
    /// When it was last renewed; none if it was lost.
    renewed: Arc<Mutex<Option<Instant>>>,
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
        let renewed = Arc::new(Mutex::new(Some(Instant::now())));
        let (renewer, name, last) = (Arc::clone(&cache), owner.clone(), Arc::clone(&renewed));
        let renewing = tokio::spawn(async move {
            loop {
                sleep(LEASE_TTL / 5).await;
                let asked = Instant::now();
                match renewer.acquire_lease(LEASE, &name, LEASE_TTL).await {
                    // Another token: it was somebody else's meanwhile.
                    Ok(again) if again == token => *lock(&last) = Some(asked),
                    Ok(_) => {
                        *lock(&last) = None;
                        return;
                    }
                    Err(_) => {}
                }
            }
        });
        Ok(Self { cache, owner, renewed, renewing })
    }

    /// By the clock, not by what the task that renews it has noticed: this process may just have been woken.
    pub(super) fn held(&self) -> anyhow::Result<()> {
        let held = lock(&self.renewed).is_some_and(|renewed| renewed.elapsed() < LEASE_TTL);
        ensure!(held, "this was stopped for too long, another one may run: run it again");
        Ok(())
    }

    pub(super) async fn give_back(self) {
        self.renewing.abort();
        // It ends by itself, too.
        let _ = self.cache.release_lease(LEASE, &self.owner).await;
    }
}

fn lock(renewed: &Mutex<Option<Instant>>) -> std::sync::MutexGuard<'_, Option<Instant>> {
    renewed.lock().unwrap_or_else(PoisonError::into_inner)
}
