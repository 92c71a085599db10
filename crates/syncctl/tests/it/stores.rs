//! A database and a cache that agree with a log, to plant mistakes in.

use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{Client, Cmd, cmd};
use domain::{Action, LikeEvent, Pair, ResourceType, ShardCount, Version};
use event_store::{DatabaseConfig, EventStore};
use std::path::PathBuf;
use std::time::Duration;
use syncctl::Operation;
use syncctl::oplog::{Entry, OplogWriter, Outcome};
use syncctl::verify::{self, AllowedLoss, VerifyOptions, VerifyReport};
use tempfile::TempDir;
use test_support::{build, execute_sql, fresh_database, shared, unique_name};

/// Versions of the log start above this.
pub(crate) const BASE: i64 = 1_700_000_000_000_000;

pub(crate) struct Stores {
    pub(crate) database_url: String,
    pub(crate) redis_url: String,
    pub(crate) prefix: String,
    dir: TempDir,
    redis: Vec<MultiplexedConnection>,
    store: EventStore,
}

pub(crate) fn entry(pair: Pair, action: Action, version: i64, changed: bool) -> Entry {
    Entry {
        operation: Operation { pair, action },
        outcome: Outcome::Acknowledged { version: Version(BASE + version), changed, degraded: false },
        doubtful: 0,
    }
}

pub(crate) fn unknown(pair: Pair, action: Action) -> Entry {
    Entry { outcome: Outcome::Unknown, doubtful: 1, ..entry(pair, action, 0, false) }
}

/// Video 10 is liked by user 2, comment 5 by user 3; users 1 and 4 took theirs back.
pub(crate) fn small_log() -> Vec<Entry> {
    let (video, comment) = (|user| build::video_pair(user, 10), |user| build::comment_pair(user, 5));
    vec![
        entry(video(1), Action::Like, 1, true),
        entry(video(2), Action::Like, 2, true),
        entry(comment(3), Action::Like, 3, true),
        entry(video(1), Action::Unlike, 4, true),
        entry(comment(3), Action::Like, 3, false),
        entry(comment(4), Action::Unlike, 5, true),
    ]
}

impl Stores {
    /// Stores that hold what [`small_log`] says.
    pub(crate) async fn of_small_log() -> Self {
        Self::empty().await.with_small_log().await
    }

    pub(crate) async fn with_small_log(self) -> Self {
        let mut stores = self;
        let log = small_log();
        let events: Vec<LikeEvent> = log.iter().filter_map(event_of).collect();
        stores.apply(&events).await;
        for (key, n) in [("c:v10", 1), ("c:c5", 1)] {
            stores.redis(cmd("HSET").arg(stores.key(key)).arg("n").arg(n).arg("p").arg(0)).await;
        }
        for (key, version, liked) in [("p:v1:10", 4, 0), ("p:v2:10", 2, 1), ("p:c3:5", 3, 1), ("p:c4:5", 5, 0)] {
            stores.redis(cmd("SET").arg(stores.key(key)).arg((BASE + version) * 2 + liked)).await;
        }
        stores
    }

    pub(crate) async fn empty() -> Self {
        Self::of(vec![shared::redis().await.unwrap().url().to_owned()]).await
    }

    /// The cache is at all of these, and each key at the one that takes it.
    pub(crate) async fn of(redis_urls: Vec<String>) -> Self {
        let database_url = fresh_database(shared::mariadb().await.unwrap().url()).await.unwrap();
        let config = DatabaseConfig { url: database_url.clone().into(), ..DatabaseConfig::default() };
        let store = EventStore::connect(&config).await.unwrap();
        store.migrate().await.unwrap();
        let mut redis = Vec::new();
        for url in &redis_urls {
            redis.push(Client::open(url.as_str()).unwrap().get_multiplexed_async_connection().await.unwrap());
        }
        let (prefix, redis_url) = (unique_name("verify"), redis_urls[0].clone());
        Self { database_url, redis_url, prefix, dir: TempDir::new().unwrap(), redis, store }
    }

    /// A key of the cache, from its part after the shard.
    pub(crate) fn key(&self, rest: &str) -> String {
        let id = rest.rsplit(['v', 'c', ':']).next().unwrap().parse().unwrap();
        let comment = rest.starts_with("c:c") || rest.starts_with("p:c");
        let kind = if comment { ResourceType::Comment } else { ResourceType::Video };
        let shard = ShardCount::default().of(domain::Resource::new(kind, id).unwrap());
        format!("{}{{s{shard}}}:{rest}", self.prefix)
    }

    pub(crate) async fn apply(&self, events: &[LikeEvent]) {
        self.store.apply(events, test_support::wall_clock().into()).await.unwrap();
    }

    pub(crate) async fn sql(&self, statements: &str) {
        execute_sql(&self.database_url, statements).await.unwrap();
    }

    pub(crate) async fn redis(&mut self, command: &Cmd) {
        for node in &mut self.redis {
            match command.exec_async(node).await {
                Ok(()) => return,
                Err(error) if error.code() == Some("MOVED") => {}
                Err(error) => panic!("{error}"),
            }
        }
        panic!("no node takes it");
    }

    pub(crate) fn log(&self, name: &str, entries: &[Entry]) -> PathBuf {
        let path = self.dir.path().join(name);
        let mut log = OplogWriter::create(&path).unwrap();
        for entry in entries {
            log.append(entry).unwrap();
        }
        log.flush().unwrap();
        path
    }

    pub(crate) fn options(&self, entries: &[Entry]) -> VerifyOptions {
        VerifyOptions {
            oplogs: vec![self.log("oplog", entries)],
            database_url: self.database_url.clone(),
            redis_url: self.redis_url.clone(),
            redis_prefix: self.prefix.clone(),
            served_by: None,
            wait: Duration::ZERO,
            allowed_loss: AllowedLoss::default(),
            allow_dead: false,
            shared: false,
        }
    }

    pub(crate) async fn verify(&self, entries: &[Entry]) -> VerifyReport {
        verify::run(&self.options(entries)).await.unwrap()
    }
}

/// The event behind an entry that changed something.
pub(crate) fn event_of(entry: &Entry) -> Option<LikeEvent> {
    match entry.outcome {
        Outcome::Acknowledged { version, changed: true, .. } => {
            Some(build::event_of(entry.operation.pair, entry.operation.action, version.0))
        }
        _ => None,
    }
}
