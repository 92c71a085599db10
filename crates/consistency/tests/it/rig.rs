//! A deployment without a broker: accepted likes are applied directly. And ways to break it behind its back.

use cache_manager::{Keys, RedisConfig};
use consistency::{AutoFix, Checker, ConsistencyConfig, Kind, Strategy, Verdict};
use deadpool_redis::redis::{Client, Cmd, FromRedisValue, aio::MultiplexedConnection};
use domain::cache::CacheRules;
use domain::{Action, Pair, Resource, ShardCount};
use event_store::{DatabaseConfig, EventStore, FindingRecord};
use std::sync::Arc;
use std::time::Duration;
use sync_engine::accept::Acceptor;
use sync_engine::apply::Applier;
use sync_engine::deliver::relay::Relay;
use sync_engine::recover::recheck::Recheck;
use sync_engine::{Stores, SyncConfig, WritePath};
use test_support::build::{intent, video_pair};
use test_support::{Deployment, eventually, expect_eq, unique_name};
use tokio_util::sync::CancellationToken;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Rig {
    pub(crate) stores: Stores,
    pub(crate) acceptor: Acceptor,
    pub(crate) keys: Keys,
    _stop: tokio_util::sync::DropGuard,
    raw: MultiplexedConnection,
    pub(crate) deployment: Deployment,
    redis: RedisConfig,
    database: DatabaseConfig,
}

const SHARDS: u16 = 4;

impl Rig {
    pub(crate) async fn new() -> Self {
        Self::of(Deployment::build("checker").without_rabbitmq().start().await.unwrap()).await
    }

    pub(crate) async fn of(deployment: Deployment) -> Self {
        let (redis_url, prefix) = (deployment.redis().url(), deployment.prefix().to_owned());
        let redis = RedisConfig { url: redis_url.into(), key_prefix: prefix.clone(), ..RedisConfig::default() };
        let url = deployment.database_url().to_owned().into();
        let database = DatabaseConfig { url, ..DatabaseConfig::default() };
        let stores = stores(&redis, &database).await;
        stores.prepare().await.unwrap();
        let sync = SyncConfig::default();
        let applier = Applier::new(stores.clone(), sync.retry.into());
        let (handle, relay) = Relay::new(stores.clone(), applier, None, None, 100_000, 500);
        let (recheck, task) = Recheck::new(stores.clone());
        let stop = CancellationToken::new();
        tokio::spawn(relay.run(stop.clone()));
        tokio::spawn(task.run(stop.clone()));
        let acceptor = Acceptor::new(stores.clone(), handle, recheck, 32, WritePath::EventDriven);
        let raw = Client::open(redis_url).unwrap().get_multiplexed_async_connection().await.unwrap();
        let keys = Keys::new(prefix, ShardCount::new(SHARDS).unwrap());
        Self { stores, acceptor, keys, _stop: stop.drop_guard(), raw, deployment, redis, database }
    }

    /// A checker of its own process: nothing shared but the stores.
    pub(crate) async fn checker_with(&self, config: ConsistencyConfig) -> Checker {
        Checker::new(stores(&self.redis, &self.database).await, config, unique_name("owner"))
    }

    /// The same, by another way to the database.
    pub(crate) async fn checker_at(&self, database: &DatabaseConfig, config: ConsistencyConfig) -> Checker {
        Checker::new(stores(&self.redis, database).await, config, unique_name("owner"))
    }

    /// Stores of one more process.
    pub(crate) async fn other_stores(&self) -> Stores {
        stores(&self.redis, &self.database).await
    }

    /// A checker in a process that knows of the stores what these do.
    pub(crate) fn checker_of(&self, stores: Stores, config: ConsistencyConfig) -> Checker {
        Checker::new(stores, config, unique_name("owner"))
    }

    /// The same, with its own connections to the database.
    pub(crate) async fn checker_and_its_database(&self, config: ConsistencyConfig) -> (Checker, EventStore) {
        let stores = stores(&self.redis, &self.database).await;
        (Checker::new(stores.clone(), config, unique_name("owner")), stores.database)
    }

    /// The same, as the leader.
    pub(crate) async fn repairing(&self, strategy: Strategy) -> Checker {
        let checker = self.checker_with(quick(strategy)).await;
        assert!(checker.leader().hold().await.unwrap());
        checker
    }

    pub(crate) async fn like(&self, pair: Pair) {
        self.act(pair, Action::Like).await;
    }

    pub(crate) async fn act(&self, pair: Pair, action: Action) {
        self.acceptor.accept_one(intent(pair, action)).await.unwrap();
    }

    pub(crate) async fn settled(&self) {
        eventually(PATIENCE, "an empty journal", async || {
            let status = self.stores.cache.shard_status().await.unwrap();
            expect_eq(status.iter().map(|shard| shard.journal_len).sum::<u64>(), 0)
        })
        .await;
    }

    /// One command, words separated by spaces.
    pub(crate) async fn redis<T: FromRedisValue>(&self, words: &str) -> T {
        let mut command = Cmd::new();
        words.split(' ').for_each(|word| {
            command.arg(word);
        });
        command.query_async(&mut self.raw.clone()).await.unwrap()
    }

    pub(crate) async fn command(&self, command: &Cmd) {
        command.query_async::<()>(&mut self.raw.clone()).await.unwrap();
    }

    pub(crate) async fn sql(&self, statements: &str) -> String {
        self.deployment.sql(statements).await.unwrap()
    }

    pub(crate) async fn number(&self, query: &str) -> i64 {
        self.deployment.number(query).await.unwrap()
    }

    /// Owner of the checkers' lease.
    pub(crate) fn lease_key(&self) -> String {
        format!("{}{{l:consistency}}:o", self.redis.key_prefix)
    }

    pub(crate) fn counter(&self, video: i64) -> String {
        self.keys.counter(video_of(video))
    }

    /// Everything written down so far, as `(kind, verdict, resource, repaired)`, sorted.
    pub(crate) async fn found(&self) -> Vec<FindingRecord> {
        let since = chrono_epoch();
        self.stores.database.findings_since(since, 10_000).await.unwrap()
    }

    /// Rows, counters and cache all agree.
    pub(crate) async fn assert_agreement(&self, videos: impl Iterator<Item = i64>) {
        let resources: Vec<Resource> = videos.map(video_of).collect();
        let cached = self.stores.cache.counts(&resources).await.unwrap();
        let audits = self.stores.database.audit_counts(&resources).await.unwrap();
        for (cached, audit) in cached.into_iter().zip(audits) {
            let stored = audit.stored.unwrap();
            assert_eq!(stored.count, audit.live, "{audit:?}");
            let Some(cached) = cached else { continue };
            let says = (cached.served, cached.pending, cached.stored, cached.stored_revision);
            assert_eq!(says, (stored.count, 0, stored.count, stored.revision), "{audit:?}");
        }
    }
}

async fn stores(redis: &RedisConfig, database: &DatabaseConfig) -> Stores {
    let shards = ShardCount::new(SHARDS).unwrap();
    let rules = CacheRules {
        shards,
        pair_ttl: Duration::from_secs(3600),
        counter_ttl: Duration::from_secs(3600),
        unknown_ttl: Duration::from_secs(3600),
        idempotency_ttl: Duration::from_secs(60),
        journal_limit: 1_000_000,
        user_limit: None,
    };
    let store = EventStore::connect(database).await.unwrap();
    Stores::new(Arc::new(redis.build(rules).unwrap()), store, shards, SyncConfig::default().circuit)
}

/// Quick to call something stuck, and quick to look again.
pub(crate) fn quick(strategy: Strategy) -> ConsistencyConfig {
    ConsistencyConfig {
        stuck_after: Duration::from_millis(400),
        confirm_after: Duration::from_millis(100),
        lease: Duration::from_secs(120),
        max_rate: 1_000_000,
        auto_fix: AutoFix { enabled: true, strategy, dry_run: false },
        ..ConsistencyConfig::default()
    }
}

pub(crate) fn video_of(id: i64) -> Resource {
    video_pair(1, id).resource
}

pub(crate) fn is(record: &FindingRecord, kind: Kind, verdict: Verdict, id: i64) -> bool {
    let name = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    record.kind == name(serde_json::to_value(kind).unwrap())
        && record.verdict == name(serde_json::to_value(verdict).unwrap())
        && record.resource_id == id
}

fn chrono_epoch() -> chrono::DateTime<chrono::Utc> {
    chrono::DateTime::UNIX_EPOCH
}
