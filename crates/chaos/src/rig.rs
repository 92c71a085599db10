//! The stack: private stores, and our own processes with a link of their own to each store.

use crate::plan::{EACH, NodeId, Store};
use crate::redis::{self, Ends, Entries};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use test_support::{
    Binary, MariaDb, MariaDbOptions, PortLease, Proxy, RabbitMq, Redis, RedisOptions, Server, execute_sql,
    fresh_database, lease_port, try_eventually,
};

pub(crate) const QUEUE: &str = "chaos.likes";

/// Messages in it, as [`SETTINGS`] say.
pub(crate) const QUEUE_LIMIT: u32 = 100;

const START_LIMIT: Duration = Duration::from_secs(90);
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// After a queue was declared, RabbitMQ must not be killed for this long.
const BROKER_REST: Duration = Duration::from_secs(4);

/// Within it the journals must be rid of what was accepted before the last heal.
const SETTLE_LIMIT: Duration = Duration::from_secs(30);

/// Shorter than the defaults where a default would only make the run longer, and small bounds, so that they are met.
const SETTINGS: &[(&str, &str)] = &[
    ("SERVICE__WORKER_THREADS", "2"),
    ("EVENT_DRIVEN_SYNC__REPUBLISH_AFTER", "1s"),
    ("EVENT_DRIVEN_SYNC__RESCUE_INTERVAL", "200ms"),
    ("EVENT_DRIVEN_SYNC__RETRY__BASE_DELAY", "200ms"),
    ("EVENT_DRIVEN_SYNC__RETRY__MAX_DELAY", "2s"),
    ("EVENT_DRIVEN_SYNC__RETRY__MAX_RETRIES", "50"),
    ("EVENT_DRIVEN_SYNC__RETRY__CLAIM_LEASE", "3s"),
    ("EVENT_DRIVEN_SYNC__CIRCUIT__PROBE_INTERVAL", "100ms"),
    ("RATE_LIMITING__USER_ACTION__ENABLED", "false"),
    ("RABBITMQ__PREFIX", "chaos"),
    ("RABBITMQ__QUEUE_MAX_LENGTH", "100"),
    ("RABBITMQ__CONFIRM_TIMEOUT", "2s"),
    ("DATABASE__QUERY_TIMEOUT", "5s"),
];

pub(crate) struct Rig {
    pub(crate) nodes: Vec<Node>,
    pub(crate) redis: Redis,
    pub(crate) mariadb: MariaDb,
    pub(crate) rabbitmq: RabbitMq,
    pub(crate) database_url: String,
    pub(crate) bin_dir: PathBuf,
    /// Library that lies about the time, if it is installed.
    pub(crate) faketime: Option<PathBuf>,
    /// When all queues were last known to be declared.
    declared: Mutex<Instant>,
    /// Where the journals ended when the last round of faults was over.
    healed: Mutex<Option<Ends>>,
    /// What flushes took that may have been nowhere else.
    pub(crate) flushed: Mutex<Entries>,
}

/// A server or consumer.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    /// By the number of the store.
    links: [Proxy; 3],
    pub(crate) http: PortLease,
    pub(crate) grpc: PortLease,
    settings: Vec<(String, String)>,
    process: Mutex<Arc<Binary>>,
    /// Logs of processes that were replaced.
    old_logs: Mutex<String>,
}

impl Rig {
    /// Starts everything, and waits until every process has all of its stores.
    pub(crate) async fn start(bin_dir: &Path) -> Result<Self> {
        let (redis, mariadb, rabbitmq) = tokio::join!(
            Redis::start(RedisOptions::default()),
            // Survives every kill of the process, and leaves the disk to others.
            MariaDb::start_with(MariaDbOptions { durable: false }),
            RabbitMq::start()
        );
        let (redis, mariadb, rabbitmq) = (redis?, mariadb?, rabbitmq?);
        let database_url = fresh_database(mariadb.url()).await?;
        let urls = [redis.url(), &database_url, rabbitmq.url()];
        let mut nodes = Vec::new();
        for id in NodeId::all() {
            nodes.push(Node::start(id, bin_dir, urls).await.with_context(|| format!("start {id}"))?);
        }
        let rig = Self {
            nodes,
            redis,
            mariadb,
            rabbitmq,
            database_url,
            bin_dir: bin_dir.to_owned(),
            faketime: find_faketime(),
            declared: Mutex::new(Instant::now()),
            healed: Mutex::default(),
            flushed: Mutex::default(),
        };
        for node in &rig.nodes {
            try_eventually(START_LIMIT, format!("{} has its stores", node.id), || node.healthy())
                .await
                .with_context(|| format!("log:\n{}", node.log()))?;
        }
        rig.broker_declared();
        Ok(rig)
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    pub(crate) fn consumers(&self) -> &[Node] {
        &self.nodes[EACH..]
    }

    pub(crate) fn store(&self, store: Store) -> &Server {
        match store {
            Store::Redis => &self.redis,
            Store::MariaDb => &self.mariadb,
            Store::RabbitMq => &self.rabbitmq,
        }
    }

    pub(crate) fn link(&self, node: NodeId, store: Store) -> &Proxy {
        &self.nodes[node.0].links[store as usize]
    }

    /// Addresses for the load.
    pub(crate) fn grpc_addrs(&self) -> String {
        self.nodes[..EACH].iter().map(|node| node.grpc.addr()).collect::<Vec<_>>().join(",")
    }

    pub(crate) fn broker_declared(&self) {
        *lock(&self.declared) = Instant::now();
    }

    /// A round is over: what is accepted from here on meets no fault of it.
    pub(crate) async fn healed(&self) -> Result<()> {
        let addr = self.redis.addr()?;
        let ends = try_eventually(SETTLE_LIMIT, "redis", async || {
            redis::ends(&addr).await.map_err(|error| format!("{error:#}"))
        })
        .await?;
        *lock(&self.healed) = Some(ends);
        Ok(())
    }

    /// Waits until the journals are rid of everything that was accepted before the last heal.
    pub(crate) async fn earlier_faults_settled(&self) -> Result<()> {
        let Some(ends) = lock(&self.healed).clone() else { return Ok(()) };
        let addr = self.redis.addr()?;
        try_eventually(SETTLE_LIMIT, "journals without entries of before the heal", async || {
            match redis::left_of(&addr, &ends).await {
                Ok(0) => Ok(()),
                Ok(left) => Err(format!("{left} entries")),
                Err(error) => Err(format!("{error:#}")),
            }
        })
        .await
    }

    pub(crate) async fn broker_rests(&self) {
        let until = *lock(&self.declared) + BROKER_REST;
        tokio::time::sleep_until(until.into()).await;
    }

    /// What a query prints, run in the installation's schema.
    pub(crate) async fn sql(&self, query: &str) -> Result<String> {
        execute_sql(&self.database_url, query).await
    }
}

impl Node {
    async fn start(id: NodeId, bin_dir: &Path, urls: [&str; 3]) -> Result<Self> {
        let mut links = Vec::new();
        for url in urls {
            let authority = url.split('/').nth(2).context("no host")?;
            let upstream = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            links.push(Proxy::start(upstream).await?);
        }
        let links: [Proxy; 3] = links.try_into().ok().context("three links")?;
        let (http, grpc) = (lease_port()?, lease_port()?);
        let mut settings: Vec<(String, String)> =
            SETTINGS.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        for (key, link, url) in [
            ("REDIS__URL", &links[0], urls[0]),
            ("DATABASE__URL", &links[1], urls[1]),
            ("RABBITMQ__URL", &links[2], urls[2]),
        ] {
            settings.push((key.to_owned(), link.url_of(url)));
        }
        for (key, value) in [
            ("SERVICE__GRPC_ADDR", grpc.addr()),
            ("SERVICE__HTTP_ADDR", http.addr()),
            ("SERVICE__CONSUMER_HTTP_ADDR", http.addr()),
            ("SERVICE__INSTANCE", id.to_string()),
        ] {
            settings.push((key.to_owned(), value));
        }
        let process = Mutex::new(Arc::new(launch(id, bin_dir, &settings, &[])?));
        Ok(Self { id, links, http, grpc, settings, process, old_logs: Mutex::default() })
    }

    pub(crate) fn process(&self) -> Arc<Binary> {
        Arc::clone(&lock(&self.process))
    }

    /// Ends the process in order and starts it anew with more in its environment.
    pub(crate) async fn replace(&self, bin_dir: &Path, env: &[(&str, String)]) -> Result<()> {
        self.stop().await?;
        let new = Arc::new(launch(self.id, bin_dir, &self.settings, env)?);
        let old = std::mem::replace(&mut *lock(&self.process), new);
        lock(&self.old_logs).push_str(&old.log());
        Ok(())
    }

    /// SIGTERM; killed when that takes too long. Whether it ended by itself and without an error.
    pub(crate) async fn stop(&self) -> Result<bool> {
        let process = self.process();
        process.terminate()?;
        match process.wait_exit(DRAIN_LIMIT).await {
            Ok(status) => Ok(status.success()),
            Err(_) => process.kill9().map(|()| false),
        }
    }

    /// Of all of its processes.
    pub(crate) fn log(&self) -> String {
        let log = self.process().log();
        lock(&self.old_logs).clone() + &log
    }

    /// Whether it has all of its stores, by its own word.
    pub(crate) async fn healthy(&self) -> Result<(), String> {
        let limit = Duration::from_secs(1);
        match tokio::time::timeout(limit, test_support::http::get(&self.http.addr(), "/health")).await {
            Ok(Ok((200, body))) if !body.contains("unreachable") => Ok(()),
            Ok(Ok((status, body))) => Err(format!("{}: {status} {body}", self.id)),
            Ok(Err(error)) => Err(format!("{}: {error:#}", self.id)),
            Err(_) => Err(format!("{}: no answer", self.id)),
        }
    }
}

fn launch(id: NodeId, bin_dir: &Path, settings: &[(String, String)], env: &[(&str, String)]) -> Result<Binary> {
    let program = if id.is_server() { "interaction-server" } else { "sync-consumer" };
    let mut builder = Binary::build(program).found_in(bin_dir);
    for (key, value) in settings {
        builder = builder.env(format!("INTERACTION__{key}"), value);
    }
    for (key, value) in env {
        builder = builder.env(*key, value);
    }
    builder.start()
}

fn find_faketime() -> Option<PathBuf> {
    let mut dirs: Vec<PathBuf> = vec!["/usr/lib".into(), "/usr/local/lib".into(), "/usr/lib64".into()];
    dirs.extend(std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path()));
    dirs.into_iter().map(|dir| dir.join("faketime/libfaketimeMT.so.1")).find(|path| path.is_file())
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
