//! A link that is late, loses requests and loses answers; and the cache behind one.

use super::chance::Chance;
use domain::cache::{
    AcceptOutcome, AcceptRequest, CacheError, CacheResult, CachedCount, FirstAnswer, LikeCache, SettleReport,
    Settlement, ShardStatus,
};
use domain::codec::EncodedEvent;
use domain::{Pair, PairState, Resource, ShardId, StoredCount, Version};
use embedded_cache::EmbeddedCache;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Who asks waits for so long.
pub(super) const PATIENCE: Duration = Duration::from_millis(250);

/// A call of the cache that arrives later than that takes no effect, like one that reaches Redis after its deadline.
const FRESH: Duration = Duration::from_millis(200);

/// The other end of a call.
pub(super) struct Caller(Weak<()>);

impl Caller {
    pub(super) fn waits(&self) -> bool {
        self.0.strong_count() > 0
    }
}

/// How the calls of one server travel to one store.
pub(super) struct Link {
    chance: Chance,
    /// In percent of calls.
    lost: u64,
    slow: u64,
    /// Nothing gets through meanwhile.
    outages: Vec<(Instant, Instant)>,
    calm: Arc<AtomicBool>,
}

impl Link {
    /// `calm` ends all faults.
    pub(super) fn new(chance: Chance, calm: Arc<AtomicBool>) -> Self {
        if calm.load(Ordering::Relaxed) {
            return Self { chance, lost: 0, slow: 0, outages: Vec::new(), calm };
        }
        let (lost, slow) = (chance.one_of(&[0, 2, 10]), chance.one_of(&[0, 5, 30]));
        let outages = (0..chance.below(3))
            .map(|_| {
                let begin = Instant::now() + chance.millis(0, 4_000);
                (begin, begin + chance.log_millis(11))
            })
            .collect();
        Self { chance, lost, slow, outages, calm }
    }

    /// Does `work` on the other side; none if no answer came in time, whether it was done or not. A call that has left is
    /// on its way even if its caller is dropped; `work` may ask whether the caller still waits.
    pub(super) async fn call<T, F>(&self, work: impl FnOnce(Caller) -> F) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let until = Instant::now() + PATIENCE;
        let waits = Arc::new(());
        let work = work(Caller(Arc::downgrade(&waits)));
        let (there, back) = (self.trip(), self.trip());
        let (answer, answered) = oneshot::channel();
        if let Some(there) = there {
            tokio::spawn(async move {
                there.await;
                let result = work.await;
                if let Some(back) = back {
                    back.await;
                    let _ = answer.send(result);
                }
            });
        }
        match timeout(PATIENCE, answered).await {
            Ok(Ok(result)) => Some(result),
            _ => {
                sleep_until(until).await;
                None
            }
        }
    }

    /// Whether the other side can be reached.
    pub(super) fn is_up(&self) -> bool {
        let now = Instant::now();
        self.calm.load(Ordering::Relaxed) || !self.outages.iter().any(|(begin, end)| (*begin..*end).contains(&now))
    }

    /// One way; none if what travels is lost.
    fn trip(&self) -> Option<impl Future<Output = ()> + Send + 'static> {
        let calm = self.calm.load(Ordering::Relaxed);
        let lost = !self.is_up() || (self.chance.percent(self.lost) && !calm);
        let yields = self.chance.below(4);
        let delay = match self.chance.below(100) {
            slow if slow < self.slow && !calm => self.chance.log_millis(11),
            quick if quick < 60 => Duration::ZERO,
            _ => self.chance.millis(1, 8),
        };
        (!lost).then_some(async move {
            for _ in 0..yields {
                tokio::task::yield_now().await;
            }
            if !delay.is_zero() {
                sleep(delay).await;
            }
        })
    }
}

/// The one cache, as one server reaches it.
pub(super) struct LinkedCache {
    cache: Arc<EmbeddedCache>,
    link: Link,
    /// How far the server's idea of the cache's clock is ahead, and how far it may be.
    ahead: Duration,
    uncertain: Duration,
}

impl LinkedCache {
    pub(super) fn new(cache: Arc<EmbeddedCache>, link: Link, chance: &Chance, place: u64) -> Self {
        let uncertain = chance.millis(1, 20);
        // Never a whole millisecond: all else happens at whole ones, and versions must not meet.
        let ahead = chance.millis(0, uncertain.as_millis() as u64 - 1) + Duration::from_micros(300 + 200 * place);
        Self { cache, link, ahead, uncertain }
    }

    async fn ask<T, F>(&self, work: impl FnOnce(Arc<EmbeddedCache>) -> F + Send + 'static) -> CacheResult<T>
    where
        T: Send + 'static,
        F: Future<Output = CacheResult<T>>,
    {
        let cache = Arc::clone(&self.cache);
        self.link.call(|_| async move { at_once(work(cache)) }).await.unwrap_or_else(|| Err(no_answer()))
    }
}

fn no_answer() -> CacheError {
    CacheError::Unavailable(Arc::from(Box::<dyn std::error::Error + Send + Sync>::from("no answer")))
}

/// The cache answers when its own thread has written. Simulated time stands still meanwhile, and nothing else happens.
pub(super) fn at_once<T>(call: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut call = pin!(tokio::task::unconstrained(call));
    loop {
        match call.as_mut().poll(&mut context) {
            Poll::Ready(result) => return result,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[async_trait::async_trait]
impl LikeCache for LinkedCache {
    async fn prepare(&self) -> CacheResult<()> {
        self.ask(|cache| async move { cache.prepare().await }).await
    }

    async fn ping(&self) -> CacheResult<()> {
        self.ask(|cache| async move { cache.ping().await }).await
    }

    fn clock(&self) -> Option<Version> {
        self.cache.clock().map(|clock| Version(clock.0 + self.ahead.as_micros() as i64))
    }

    fn clock_uncertainty(&self) -> Duration {
        self.uncertain
    }

    async fn accept(&self, requests: &[AcceptRequest]) -> Vec<CacheResult<AcceptOutcome>> {
        let (asked, latest) = (requests.to_vec(), Instant::now() + FRESH);
        let outcomes = self.ask(move |cache| async move {
            if Instant::now() > latest {
                return Err(no_answer());
            }
            Ok(cache.accept(&asked).await)
        });
        outcomes.await.unwrap_or_else(|error| vec![Err(error); requests.len()])
    }

    async fn remember(&self, answers: &[FirstAnswer]) -> CacheResult<()> {
        let answers = answers.to_vec();
        self.ask(|cache| async move { cache.remember(&answers).await }).await
    }

    async fn settle(&self, settlement: &Settlement) -> CacheResult<SettleReport> {
        let settlement = settlement.clone();
        self.ask(|cache| async move { cache.settle(&settlement).await }).await
    }

    async fn counts(&self, resources: &[Resource]) -> CacheResult<Vec<Option<CachedCount>>> {
        let resources = resources.to_vec();
        self.ask(|cache| async move { cache.counts(&resources).await }).await
    }

    async fn fill_counts(&self, counts: &[(Resource, StoredCount)]) -> CacheResult<()> {
        let counts = counts.to_vec();
        self.ask(|cache| async move { cache.fill_counts(&counts).await }).await
    }

    async fn states(&self, pairs: &[Pair]) -> CacheResult<Vec<Option<PairState>>> {
        let pairs = pairs.to_vec();
        self.ask(|cache| async move { cache.states(&pairs).await }).await
    }

    async fn fill_states(&self, states: &[(Pair, PairState)]) -> CacheResult<()> {
        let states = states.to_vec();
        self.ask(|cache| async move { cache.fill_states(&states).await }).await
    }

    async fn forget_states(&self, states: &[(Pair, Version)]) -> CacheResult<()> {
        let states = states.to_vec();
        self.ask(|cache| async move { cache.forget_states(&states).await }).await
    }

    async fn shard_status(&self) -> CacheResult<Vec<ShardStatus>> {
        self.ask(|cache| async move { cache.shard_status().await }).await
    }

    async fn journal_page(&self, shard: ShardId, after: Version, limit: usize) -> CacheResult<Vec<EncodedEvent>> {
        self.ask(move |cache| async move { cache.journal_page(shard, after, limit).await }).await
    }

    async fn acquire_lease(&self, name: &str, owner: &str, ttl: Duration) -> CacheResult<Option<u64>> {
        let (name, owner) = (name.to_owned(), owner.to_owned());
        self.ask(move |cache| async move { cache.acquire_lease(&name, &owner, ttl).await }).await
    }

    async fn release_lease(&self, name: &str, owner: &str) -> CacheResult<()> {
        let (name, owner) = (name.to_owned(), owner.to_owned());
        self.ask(move |cache| async move { cache.release_lease(&name, &owner).await }).await
    }
}
