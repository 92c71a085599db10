//! Processes of a deployment inside the test, with an operation log, so that a bug can be switched on in them.

use crate::system;
use cache_manager::RedisConfig;
use deadpool_redis::redis;
use domain::cache::{CacheRules, SettledResource, Settlement};
use domain::{Action, LikeEvent, Origin, ShardCount, Version};
use event_bus::{BusConfig, LogConfig, LogReader, LogStart, Publisher, QueueDepth};
use event_store::{Applied, DatabaseConfig, EventStore};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use sync_engine::accept::{Acceptor, LikeAnswer};
use sync_engine::apply::Applier;
use sync_engine::apply::retry::Retrier;
use sync_engine::deliver::consumer::ConsumerLoop;
use sync_engine::deliver::kept::{Keeper, Kept};
use sync_engine::deliver::relay::{Relay, RelayHandle};
use sync_engine::recover::automatic::Recovery;
use sync_engine::recover::probe;
use sync_engine::recover::recheck::Recheck;
use sync_engine::recover::redeliver::Rescuer;
use sync_engine::{CircuitConfig, RecoveryConfig, RetryConfig, Stores, SyncConfig, WritePath};
use test_support::build::{intent, video_pair};
use test_support::{Deployment, eventually, expect_eq, unique_name};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The video that all scenarios are about.
pub(crate) const VIDEO: i64 = 10;

pub(crate) struct Rig {
    sync: SyncConfig,
    redis: RedisConfig,
    database: DatabaseConfig,
    bus: BusConfig,
    deployment: Deployment,
    oplog: Mutex<String>,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        let deployment = Deployment::build("planted").start().await.unwrap();
        Self {
            sync: SyncConfig {
                shards: ShardCount::new(4).unwrap(),
                republish_after: Duration::from_millis(300),
                rescue_interval: Duration::from_millis(40),
                retry: RetryConfig { base_delay: Duration::from_millis(100), ..RetryConfig::default() },
                circuit: CircuitConfig { failures: 2, probe_interval: Duration::from_millis(40) },
                recovery: RecoveryConfig { automatic: false, ..RecoveryConfig::default() },
                ..SyncConfig::default()
            },
            redis: RedisConfig {
                url: deployment.redis().url().to_owned().into(),
                key_prefix: deployment.prefix().to_owned(),
                ..RedisConfig::default()
            },
            database: DatabaseConfig { url: deployment.database_url().to_owned().into(), ..DatabaseConfig::default() },
            bus: BusConfig {
                url: deployment.rabbitmq().url().to_owned().into(),
                prefix: deployment.prefix().to_owned(),
                ..BusConfig::default()
            },
            deployment,
            oplog: Mutex::new("#syncctl-oplog 1\n".to_owned()),
        }
    }

    /// One whose processes wait for a recovery to begin, with a redo log or without.
    pub(crate) async fn recovering(log: bool) -> Self {
        let mut rig = Self::new().await;
        rig.sync.recovery.automatic = true;
        rig.bus.log.enabled = log;
        rig
    }

    /// One more process: nothing runs in it yet.
    pub(crate) async fn process(&self) -> Process<'_> {
        self.process_on(&self.redis).await
    }

    /// One more, with another Redis.
    pub(crate) async fn process_at(&self, url: &str) -> Process<'_> {
        self.process_on(&RedisConfig { url: url.to_owned().into(), ..self.redis.clone() }).await
    }

    async fn process_on(&self, redis: &RedisConfig) -> Process<'_> {
        let rules = CacheRules {
            shards: self.sync.shards,
            pair_ttl: Duration::from_secs(3600),
            counter_ttl: Duration::from_secs(3600),
            unknown_ttl: Duration::from_secs(3600),
            idempotency_ttl: Duration::from_secs(3600),
            journal_limit: 1000,
            user_limit: None,
        };
        let cache = Arc::new(redis.build(rules).unwrap());
        let database = EventStore::connect(&self.database).await.unwrap();
        let stores = Stores::new(cache, database, self.sync.shards, self.sync.circuit)
            .with_recovery(&self.sync.recovery, self.sync.journal_limit);
        stores.prepare().await.unwrap();
        let applier = Applier::new(stores.clone(), self.sync.retry.into());
        Process { rig: self, stores, applier, soft: CancellationToken::new(), tasks: Mutex::new(JoinSet::new()) }
    }

    pub(crate) fn publisher(&self) -> Publisher {
        Publisher::new(self.bus.clone())
    }

    pub(crate) fn publisher_without_log(&self) -> Publisher {
        let log = LogConfig { enabled: false, ..self.bus.log };
        Publisher::new(BusConfig { log, ..self.bus.clone() })
    }

    /// Events in the redo log.
    pub(crate) async fn logged(&self) -> usize {
        let mut reader = LogReader::open(&self.bus, LogStart::First).await.unwrap();
        let mut events = 0;
        while let Some(message) = reader.next().await.unwrap() {
            events += domain::codec::decode_batch(&message.body).unwrap().len();
        }
        reader.close().await;
        events
    }

    pub(crate) async fn queue(&self) -> QueueDepth {
        let mut publisher = self.publisher();
        let depth = publisher.queue_depth().await.unwrap();
        publisher.close().await;
        depth
    }

    /// All that RabbitMQ has is gone.
    pub(crate) async fn wipe_broker(&self) {
        self.deployment.delete_topology().await.unwrap();
    }

    /// The queue is gone, the exchange is not.
    pub(crate) async fn wipe_queue(&self) {
        self.deployment.wire().await.unwrap().delete_queue(&self.deployment.queue()).await.unwrap();
    }

    /// All that Redis has is gone, or what begins like this.
    pub(crate) async fn wipe_cache(&self, begin: &str) {
        let client = redis::Client::open(self.deployment.redis().url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let pattern = format!("{}*{begin}*", self.redis.key_prefix);
        let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query_async(&mut connection).await.unwrap();
        if !keys.is_empty() {
            redis::cmd("DEL").arg(keys).query_async::<()>(&mut connection).await.unwrap();
        }
    }

    /// All that Redis has.
    pub(crate) async fn copy_cache(&self) -> Vec<(String, Vec<u8>)> {
        let client = redis::Client::open(self.deployment.redis().url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let pattern = format!("{}*", self.redis.key_prefix);
        let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query_async(&mut connection).await.unwrap();
        let mut copy = Vec::new();
        for key in keys {
            let dump = redis::cmd("DUMP").arg(&key).query_async(&mut connection).await.unwrap();
            copy.push((key, dump));
        }
        copy
    }

    /// Redis has what it once had.
    pub(crate) async fn restore_cache(&self, copy: &[(String, Vec<u8>)]) {
        let client = redis::Client::open(self.deployment.redis().url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut commands = redis::pipe();
        commands.atomic();
        let pattern = format!("{}*", self.redis.key_prefix);
        let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query_async(&mut connection).await.unwrap();
        commands.cmd("DEL").arg(keys).ignore();
        for (key, dump) in copy {
            commands.cmd("RESTORE").arg(key).arg(0).arg(dump).ignore();
        }
        commands.query_async::<()>(&mut connection).await.unwrap();
    }

    /// MariaDB will have this again.
    pub(crate) async fn copy_database(&self) {
        self.deployment.copy_database().await.unwrap();
    }

    /// MariaDB has what it once had.
    pub(crate) async fn restore_database(&self) {
        self.deployment.restore_database().await.unwrap();
    }

    /// Redis answers nobody for so long.
    pub(crate) async fn pause_cache(&self, pause: Duration) {
        self.redis_command(&["CLIENT", "PAUSE", &pause.as_millis().to_string()]).await;
    }

    /// Somebody writes nonsense into the cached counter of [`VIDEO`].
    pub(crate) async fn set_cached_count(&self, served: i64) {
        let resource = test_support::build::video_pair(1, VIDEO).resource;
        let key = cache_manager::Keys::new(self.redis.key_prefix.clone(), self.sync.shards).counter(resource);
        self.redis_command(&["HSET", &key, "n", &served.to_string()]).await;
    }

    async fn redis_command(&self, words: &[&str]) {
        let client = redis::Client::open(self.deployment.redis().url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async::<()>(&mut connection).await.unwrap();
    }

    /// Runs consumers until nothing is left in the queue, acknowledged or not.
    pub(crate) async fn empty_queue(&self) {
        loop {
            let what = "the queue without a dead consumer";
            eventually(PATIENCE, what, async || expect_eq(self.queue().await.consumers, 0)).await;
            if self.queue().await.ready == 0 {
                return;
            }
            let consumer = self.process().await;
            consumer.consume();
            eventually(PATIENCE, "an empty queue", async || expect_eq(self.queue().await.ready, 0)).await;
            consumer.stop().await;
        }
    }

    pub(crate) async fn sql(&self, statements: &str) -> String {
        self.deployment.sql(statements).await.unwrap()
    }

    fn note(&self, user: i64, action: Action, answer: &LikeAnswer) {
        let sign = if action.liked() { '+' } else { '-' };
        let (changed, degraded) = (u8::from(answer.changed), u8::from(answer.degraded));
        let mut oplog = self.oplog.lock().unwrap();
        writeln!(oplog, "a,{user},v,{VIDEO},{sign},{},{changed},{degraded},0", answer.version).unwrap();
    }

    /// What `syncctl verify` finds.
    pub(crate) async fn verify(&self) -> Result<(), String> {
        let oplog = self.deployment.dir().join("oplog");
        std::fs::write(&oplog, self.oplog.lock().unwrap().as_bytes()).unwrap();
        system::verify(&self.deployment, &[oplog], PATIENCE).await
    }

    pub(crate) async fn end(self) {
        self.wipe_broker().await;
    }
}

/// A process of the deployment; dropping it is `kill -9`.
pub(crate) struct Process<'a> {
    rig: &'a Rig,
    pub(crate) stores: Stores,
    pub(crate) applier: Applier,
    soft: CancellationToken,
    tasks: Mutex<JoinSet<()>>,
}

impl Process<'_> {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.lock().unwrap().spawn(task);
    }

    /// A server that relays what it accepts.
    pub(crate) fn server(&self) -> Acceptor {
        let (acceptor, relay, _) = self.acceptor(None);
        self.spawn(relay.run(CancellationToken::new()));
        acceptor
    }

    /// A server that keeps what it cannot deliver.
    pub(crate) fn keeping_server(&self) -> (Acceptor, Kept) {
        let kept = Kept::new(self.rig.sync.shards, 1 << 20);
        let (acceptor, relay, handle) = self.acceptor(Some(kept.clone()));
        self.spawn(relay.run(CancellationToken::new()));
        self.spawn(Keeper::new(self.stores.clone(), kept.clone(), handle).run(self.soft.clone()));
        (acceptor, kept)
    }

    /// A server that dies right after each answer: nothing is relayed.
    pub(crate) fn dying_server(&self) -> Acceptor {
        self.acceptor(None).0
    }

    fn acceptor(&self, kept: Option<Kept>) -> (Acceptor, Relay, RelayHandle) {
        let sync = &self.rig.sync;
        let publisher = Some(self.rig.publisher());
        let (handle, relay) =
            Relay::new(self.stores.clone(), self.applier.clone(), publisher, kept, 1000, sync.batch_size);
        let acceptor = Acceptor::new(self.stores.clone(), handle.clone(), self.recheck(), 8, WritePath::EventDriven);
        (acceptor, relay, handle)
    }

    pub(crate) fn recheck(&self) -> Recheck {
        let (recheck, task) = Recheck::new(self.stores.clone());
        self.spawn(task.run(self.soft.clone()));
        recheck
    }

    pub(crate) fn consume(&self) {
        let (bus, batch_size) = (self.rig.bus.clone(), self.rig.sync.batch_size);
        let consumer = ConsumerLoop::new(self.stores.clone(), self.applier.clone(), bus, batch_size);
        self.spawn(consumer.run(self.soft.clone()));
    }

    pub(crate) fn rescue(&self) {
        let (owner, publisher) = (unique_name("owner"), Some(self.rig.publisher()));
        let rescuer = Rescuer::new(self.stores.clone(), self.applier.clone(), publisher, owner, &self.rig.sync);
        self.spawn(rescuer.run(self.soft.clone()));
    }

    /// Looks at the database now and then, as every program does.
    pub(crate) fn watch_database(&self) {
        let interval = self.rig.sync.circuit.probe_interval;
        self.spawn(probe::watch_database(self.stores.clone(), interval, self.soft.clone()));
    }

    /// Looks at the cache now and then, as every program does.
    pub(crate) fn watch_cache(&self) {
        let interval = self.rig.sync.circuit.probe_interval;
        self.spawn(probe::watch_cache(self.stores.clone(), interval, self.soft.clone()));
    }

    /// Brings back what the database has lost, once it is known.
    pub(crate) fn recover(&self) {
        self.watch_database();
        let (bus, owner, sync) = (self.rig.bus.clone(), unique_name("owner"), &self.rig.sync);
        let applier = self.applier.clone();
        let recovery = Recovery::new(self.stores.clone(), applier, bus, owner, sync.recovery, sync.batch_size);
        self.spawn(recovery.run(self.soft.clone()));
    }

    pub(crate) fn retry(&self) {
        let policy = self.rig.sync.retry.into();
        let retrier = Retrier::new(self.stores.clone(), self.applier.clone(), Some(self.rig.publisher()), policy);
        self.spawn(retrier.run(self.soft.clone()));
    }

    /// SIGTERM: waits until everything has ended by itself.
    pub(crate) async fn stop(self) {
        self.soft.cancel();
        let mut tasks = self.tasks.into_inner().unwrap();
        tokio::time::timeout(PATIENCE, async { while tasks.join_next().await.is_some() {} }).await.expect("hangs");
    }

    /// A user likes [`VIDEO`], or takes it back; noted in the log.
    pub(crate) async fn accept(&self, server: &Acceptor, user: i64, action: Action) -> LikeAnswer {
        let answer = server.accept_one(intent(video_pair(user, VIDEO), action)).await.unwrap();
        self.rig.note(user, action, &answer);
        answer
    }

    /// Likes by users 1 to `users`.
    pub(crate) async fn accept_likes(&self, server: &Acceptor, users: i64) {
        for user in 1..=users {
            self.accept(server, user, Action::Like).await;
        }
    }

    /// What waits in the journals, in order.
    pub(crate) async fn journal(&self) -> Vec<LikeEvent> {
        let shard = self.rig.sync.shards.of(video_pair(1, VIDEO).resource);
        let page = self.stores.cache.journal_page(shard, Version::ZERO, 1000).await.unwrap();
        page.iter().map(|entry| entry.decode().unwrap()).collect()
    }

    /// Waits until everything accepted is settled.
    pub(crate) async fn settled(&self) {
        eventually(PATIENCE, "an empty journal", async || expect_eq(self.journal().await.len(), 0)).await;
    }

    /// Commits without settling.
    pub(crate) async fn commit(&self, event: &LikeEvent) -> Applied {
        self.stores.database.apply(std::slice::from_ref(event), test_support::wall_clock().into()).await.unwrap()
    }

    /// Settles what was committed, as often and as late as the test likes.
    pub(crate) async fn settle(&self, event: &LikeEvent, applied: &Applied) {
        assert_eq!(event.origin, Origin::Journal);
        let (resource, stored) = applied.counts[0];
        let resources = vec![SettledResource { resource, entries: vec![event.version], stored: Some(stored) }];
        let settlement = Settlement { resources, pairs: applied.pairs.clone(), commit: None };
        self.stores.cache.settle(&settlement).await.unwrap();
    }

    /// Served count of [`VIDEO`] and how many entries it waits for.
    pub(crate) async fn served(&self) -> Option<(i64, i64)> {
        let counts = self.stores.cache.counts(&[video_pair(1, VIDEO).resource]).await.unwrap();
        counts[0].map(|count| (count.served, count.pending))
    }
}
