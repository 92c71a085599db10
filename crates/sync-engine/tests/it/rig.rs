//! One deployment per test, processes of it in this one, and looks at its stores that go around them.

use cache_manager::RedisConfig;
use domain::cache::{CacheRules, CachedCount, LikeCache};
use domain::fence::Fences;
use domain::{Action, DeletedMark, LikeEvent, LikeIntent, Resource, ShardCount};
use event_bus::{BusConfig, Consumer, Delivery, LogReader, LogStart, Publisher};
use event_store::{DatabaseConfig, EventStore};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use sync_engine::accept::Acceptor;
use sync_engine::apply::Applier;
use sync_engine::apply::retry::Retrier;
use sync_engine::deliver::consumer::ConsumerLoop;
use sync_engine::deliver::dead_letters::DeadLetters;
use sync_engine::deliver::kept::{Keeper, Kept};
use sync_engine::deliver::redo_log::RedoLog;
use sync_engine::deliver::relay::{Relay, RelayHandle};
use sync_engine::operate::erase::Eraser;
use sync_engine::recover::probe;
use sync_engine::recover::recheck::Recheck;
use sync_engine::recover::redeliver::Rescuer;
use sync_engine::{CircuitConfig, RetryConfig, Stores, SyncConfig, WritePath};
use test_support::build::{event_of, intent, video_pair};
use test_support::{Deployment, DeploymentBuilder, Wire, eventually, expect_eq, unique_name};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How a deployment is configured; what a test changes holds for the processes started afterwards.
#[derive(Clone)]
pub(crate) struct Rig {
    pub(crate) sync: SyncConfig,
    pub(crate) redis: RedisConfig,
    pub(crate) database: DatabaseConfig,
    pub(crate) bus: BusConfig,
    pub(crate) deployment: Deployment,
}

impl Rig {
    /// On the shared servers.
    pub(crate) async fn new() -> Self {
        Self::on(Deployment::build("engine")).await
    }

    /// With a database server of the test's own, which it may kill; one that is unreachable is noticed soon.
    pub(crate) async fn with_own_database() -> Self {
        let mut rig = Self::on(Deployment::build("engine").own_mariadb()).await;
        rig.database.connect_timeout = Duration::from_millis(300);
        rig
    }

    pub(crate) async fn on(deployment: DeploymentBuilder) -> Self {
        let deployment = deployment.start().await.unwrap();
        let (prefix, database_url) = (deployment.prefix(), deployment.database_url());
        Self {
            sync: SyncConfig {
                shards: ShardCount::new(4).unwrap(),
                republish_after: Duration::from_millis(300),
                rescue_interval: Duration::from_millis(40),
                retry: RetryConfig {
                    max_retries: 2,
                    base_delay: Duration::from_millis(100),
                    max_delay: Duration::from_secs(1),
                    backoff_factor: 2.0,
                    ..RetryConfig::default()
                },
                circuit: CircuitConfig { failures: 2, probe_interval: Duration::from_millis(40) },
                ..SyncConfig::default()
            },
            redis: RedisConfig { key_prefix: prefix.to_owned(), ..at_redis(deployment.redis().url()) },
            database: DatabaseConfig { url: database_url.to_owned().into(), ..DatabaseConfig::default() },
            bus: BusConfig { prefix: prefix.to_owned(), ..at_broker(deployment.rabbitmq().url()) },
            deployment,
        }
    }

    pub(crate) fn rules(&self) -> CacheRules {
        CacheRules {
            shards: self.sync.shards,
            pair_ttl: Duration::from_secs(3600),
            counter_ttl: Duration::from_secs(3600),
            unknown_ttl: Duration::from_secs(3600),
            idempotency_ttl: self.sync.idempotency_ttl,
            journal_limit: self.sync.journal_limit,
            user_limit: None,
        }
    }

    pub(crate) fn cache(&self) -> Arc<dyn LikeCache> {
        Arc::new(self.redis.build(self.rules()).unwrap())
    }

    /// Stores of one more process.
    pub(crate) async fn stores(&self) -> Stores {
        let database = EventStore::connect(&self.database).await.unwrap();
        let database = database.with_idempotency_ttl(self.sync.idempotency_ttl);
        let database = database.with_change_notes(self.bus.changes.enabled);
        Stores::new(self.cache(), database, self.sync.shards, self.sync.circuit)
    }

    /// One more process: nothing runs in it yet.
    pub(crate) async fn process(&self) -> Process {
        let stores = self.stores().await;
        stores.prepare().await.unwrap();
        self.process_with(stores)
    }

    pub(crate) fn process_with(&self, stores: Stores) -> Process {
        let applier = Applier::new(stores.clone(), self.sync.retry.into());
        Process {
            rig: Arc::new(self.clone()),
            stores,
            applier,
            soft: CancellationToken::new(),
            tasks: Mutex::new(JoinSet::new()),
        }
    }

    pub(crate) fn publisher(&self) -> Publisher {
        Publisher::new(self.bus.clone())
    }

    /// Looks into the likes queue.
    pub(crate) fn queue_gauge(&self) -> QueueGauge {
        QueueGauge(tokio::sync::Mutex::new(self.publisher()))
    }

    /// Connected to the broker itself, whatever link the processes use.
    pub(crate) async fn wire(&self) -> Wire {
        self.deployment.wire().await.unwrap()
    }

    /// The next dead letter, which stays unacknowledged.
    pub(crate) async fn dead_letter(&self) -> Delivery {
        let mut consumer = Consumer::connect_dead(&self.bus).await.unwrap();
        tokio::time::timeout(PATIENCE, consumer.next()).await.expect("no dead letter").unwrap()
    }

    /// Every event in the redo log, in order; some may be there twice.
    pub(crate) async fn logged(&self) -> Vec<LikeEvent> {
        let mut reader = LogReader::open(&self.bus, LogStart::First).await.unwrap();
        let mut events = Vec::new();
        while let Some(message) = reader.next().await.unwrap() {
            if domain::fence::decode_fences(&message.body).unwrap().is_none() {
                events.extend(domain::codec::decode_batch(&message.body).unwrap());
            }
        }
        reader.close().await;
        events
    }

    /// How many fences the redo log has; some may be there twice.
    pub(crate) async fn logged_fences(&self) -> usize {
        let mut reader = LogReader::open(&self.bus, LogStart::First).await.unwrap();
        let mut fences = 0;
        while let Some(message) = reader.next().await.unwrap() {
            fences += match domain::fence::decode_fences(&message.body).unwrap() {
                Some(Fences::Users(fences)) => fences.len(),
                Some(Fences::Resources(marks)) => marks.len(),
                None => 0,
            };
        }
        reader.close().await;
        fences
    }

    /// What the redo log says of deleted resources.
    pub(crate) async fn logged_marks(&self) -> Vec<(Resource, DeletedMark)> {
        let mut reader = LogReader::open(&self.bus, LogStart::First).await.unwrap();
        let mut all = Vec::new();
        while let Some(message) = reader.next().await.unwrap() {
            if let Some(Fences::Resources(marks)) = domain::fence::decode_fences(&message.body).unwrap() {
                all.extend(marks);
            }
        }
        reader.close().await;
        all
    }

    /// Runs statements in the test's schema, around the store.
    pub(crate) async fn sql(&self, statements: &str) -> String {
        self.deployment.sql(statements).await.unwrap()
    }

    pub(crate) async fn number(&self, query: &str) -> i64 {
        self.deployment.number(query).await.unwrap()
    }

    /// Every row of both tables of likes, as text.
    pub(crate) async fn rows(&self) -> String {
        self.sql(
            "SELECT user_id, video_id, deleted_at IS NULL, version FROM video_likes ORDER BY 1, 2;\n\
             SELECT user_id, comment_id, deleted_at IS NULL, version FROM comment_likes ORDER BY 1, 2",
        )
        .await
    }

    /// Every row costs this long.
    pub(crate) async fn slow_down(&self, seconds: f64) {
        self.sql(&format!(
            "CREATE TRIGGER slow BEFORE INSERT ON video_likes FOR EACH ROW SET @slept = SLEEP({seconds})"
        ))
        .await;
    }

    /// Stored counts are live rows, for every resource.
    pub(crate) async fn assert_counts_are_live_rows(&self) {
        let wrong = self
            .sql(
                "SELECT c.* FROM like_counts c WHERE c.like_count <> IF(c.resource_type = 'video', \
                 (SELECT COUNT(*) FROM video_likes l WHERE l.video_id = c.resource_id AND l.deleted_at IS NULL), \
                 (SELECT COUNT(*) FROM comment_likes l WHERE l.comment_id = c.resource_id AND l.deleted_at IS NULL));\n\
                 SELECT l.* FROM video_likes l LEFT JOIN like_counts c \
                 ON c.resource_type = 'video' AND c.resource_id = l.video_id WHERE c.resource_id IS NULL",
            )
            .await;
        assert_eq!(wrong, "", "counters that are not their live rows");
    }

    /// Removes what was declared: a shared broker outlives the test.
    pub(crate) async fn end(self) {
        self.deployment.delete_topology().await.unwrap();
    }
}

pub(crate) fn at_redis(url: &str) -> RedisConfig {
    RedisConfig {
        url: url.to_owned().into(),
        connect_timeout: Duration::from_millis(300),
        response_timeout: Duration::from_secs(1),
        ..RedisConfig::default()
    }
}

pub(crate) fn at_broker(url: &str) -> BusConfig {
    let timeout = Duration::from_secs(1);
    BusConfig {
        url: url.to_owned().into(),
        confirm_timeout: timeout,
        connect_timeout: 3 * timeout,
        ..BusConfig::default()
    }
}

/// How much waits in the likes queue.
pub(crate) struct QueueGauge(tokio::sync::Mutex<Publisher>);

impl QueueGauge {
    pub(crate) async fn ready(&self) -> u32 {
        self.0.lock().await.queue_depth().await.unwrap().ready
    }
}

/// A process of the deployment; dropping it is `kill -9`.
pub(crate) struct Process {
    rig: Arc<Rig>,
    pub(crate) stores: Stores,
    pub(crate) applier: Applier,
    pub(crate) soft: CancellationToken,
    tasks: Mutex<JoinSet<()>>,
}

impl Process {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).spawn(task);
    }

    fn relayed_acceptor(&self) -> (Acceptor, Relay) {
        self.relayed_acceptor_on(WritePath::EventDriven)
    }

    fn relayed_acceptor_on(&self, path: WritePath) -> (Acceptor, Relay) {
        let (acceptor, relay, _) = self.acceptor_that_keeps(path, None);
        (acceptor, relay)
    }

    fn acceptor_that_keeps(&self, path: WritePath, kept: Option<Kept>) -> (Acceptor, Relay, RelayHandle) {
        let sync = &self.rig.sync;
        let publisher = Some(self.rig.publisher());
        let (handle, relay) = Relay::new(
            self.stores.clone(),
            self.applier.clone(),
            publisher,
            kept,
            sync.relay_capacity,
            sync.batch_size,
        );
        let recheck = self.recheck();
        let acceptor = Acceptor::new(self.stores.clone(), handle.clone(), recheck, sync.direct_writes, path);
        (acceptor, relay, handle)
    }

    /// A server that remembers what is not delivered, and offers again what the cache has forgotten.
    pub(crate) fn server_that_keeps(&self, path: WritePath) -> Acceptor {
        let kept = Kept::new(self.rig.sync.shards, 1 << 20);
        let (acceptor, relay, handle) = self.acceptor_that_keeps(path, Some(kept.clone()));
        self.spawn(relay.run(self.soft.clone()));
        self.spawn(Keeper::new(self.stores.clone(), kept, handle).run(self.soft.clone()));
        acceptor
    }

    /// A server.
    pub(crate) fn server(&self) -> Acceptor {
        let (acceptor, relay) = self.relayed_acceptor();
        self.spawn(relay.run(self.soft.clone()));
        acceptor
    }

    /// A server whose likes go this way.
    pub(crate) fn server_on(&self, path: WritePath) -> Acceptor {
        let (acceptor, relay) = self.relayed_acceptor_on(path);
        self.spawn(relay.run(self.soft.clone()));
        acceptor
    }

    /// A server that dies right after each answer: nothing is relayed.
    pub(crate) fn dying_server(&self) -> Acceptor {
        self.relayed_acceptor().0
    }

    pub(crate) fn recheck(&self) -> Recheck {
        let (recheck, task) = Recheck::new(self.stores.clone());
        self.spawn(task.run(self.soft.clone()));
        recheck
    }

    pub(crate) fn consume(&self) {
        let consumer = ConsumerLoop::new(
            self.stores.clone(),
            self.applier.clone(),
            self.rig.bus.clone(),
            self.rig.sync.batch_size,
        );
        self.spawn(consumer.run(self.soft.clone()));
    }

    /// Goes through the dead letters all the time.
    pub(crate) fn drain_dead_letters(&self) {
        let drain = DeadLetters::new(self.stores.clone(), self.applier.clone(), self.rig.bus.clone());
        self.spawn(drain.with_interval(Duration::from_millis(100)).run(self.soft.clone()));
    }

    pub(crate) fn rescue(&self) {
        let owner = unique_name("owner");
        let publisher = Some(self.rig.publisher());
        let rescuer = Rescuer::new(self.stores.clone(), self.applier.clone(), publisher, owner, &self.rig.sync);
        self.spawn(rescuer.run(self.soft.clone()));
    }

    /// Erases users who are to be, without much waiting.
    pub(crate) fn erase(&self) {
        // As in a consumer: it waits while a circuit is open, and on a busy machine somebody must see that the store is back.
        self.watch();
        let eraser = Eraser::new(self.stores.clone(), unique_name("owner"), &self.rig.sync);
        let eraser = eraser.with_interval(Duration::from_millis(40), Duration::from_millis(200));
        // Killed ones are followed soon; one that only hangs for as long loses nothing by it.
        let eraser = eraser.with_lease(Duration::from_secs(3));
        self.spawn(eraser.run(self.soft.clone()));
    }

    /// Looks after the redo log, and tells it what went around it.
    pub(crate) fn keep_log(&self) {
        let log = RedoLog::new(self.stores.clone(), self.rig.bus.clone(), unique_name("owner"));
        self.spawn(log.with_interval(Duration::from_millis(40)).run(self.soft.clone()));
    }

    pub(crate) fn retry(&self) {
        let publisher = Some(self.rig.publisher());
        let retry = self.rig.sync.retry;
        let retrier = Retrier::new(self.stores.clone(), self.applier.clone(), publisher, retry.into());
        let retrier = retrier.with_claim_lease(retry.claim_lease);
        self.spawn(retrier.run(self.soft.clone()));
    }

    pub(crate) fn watch(&self) {
        let (interval, stop) = (self.rig.sync.circuit.probe_interval, &self.soft);
        self.spawn(probe::watch_cache(self.stores.clone(), interval, stop.clone()));
        self.spawn(probe::watch_database(self.stores.clone(), interval, stop.clone()));
        self.spawn(probe::watch_broker(self.stores.clone(), self.rig.publisher(), interval, stop.clone()));
    }

    /// SIGTERM: waits until everything has ended by itself.
    pub(crate) async fn stop(self) {
        self.soft.cancel();
        let mut tasks = self.tasks.into_inner().unwrap_or_else(PoisonError::into_inner);
        tokio::time::timeout(PATIENCE, async { while tasks.join_next().await.is_some() {} }).await.expect("hangs");
    }

    pub(crate) async fn journal_len(&self) -> u64 {
        self.stores.cache.shard_status().await.unwrap().iter().map(|shard| shard.journal_len).sum()
    }

    /// Waits until everything accepted is settled.
    pub(crate) async fn settled(&self) {
        eventually(PATIENCE, "an empty journal", async || expect_eq(self.journal_len().await, 0)).await;
    }

    pub(crate) async fn cached(&self, resource: Resource) -> Option<CachedCount> {
        self.stores.cache.counts(&[resource]).await.unwrap()[0]
    }

    /// Nothing pending, and what is served is what is stored, for those that are cached.
    pub(crate) async fn assert_cache_agrees(&self, resources: &[Resource]) {
        let cached = self.stores.cache.counts(resources).await.unwrap();
        let stored = self.stores.database.load_counts(resources).await.unwrap();
        for ((resource, cached), stored) in resources.iter().zip(cached).zip(stored) {
            let Some(cached) = cached else { continue };
            assert_eq!((cached.pending, cached.served), (0, stored.count), "{resource}: {cached:?}, {stored:?}");
        }
    }
}

pub(crate) fn video(id: i64) -> Resource {
    video_pair(1, id).resource
}

pub(crate) fn like(user: i64, video: i64) -> LikeIntent {
    intent(video_pair(user, video), Action::Like)
}

pub(crate) fn unlike(user: i64, video: i64) -> LikeIntent {
    intent(video_pair(user, video), Action::Unlike)
}

/// An event as the journal would have carried it.
pub(crate) fn event(user: i64, video: i64, action: Action, version: i64) -> LikeEvent {
    event_of(video_pair(user, video), action, version)
}

/// Versions that could be from now.
pub(crate) fn now_version() -> i64 {
    let since = test_support::wall_clock().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_micros()).unwrap()
}
