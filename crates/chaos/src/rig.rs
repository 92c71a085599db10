//! The deployment: private stores, and our own processes with a link of their own to each store.
//!
//! What is not in [`Deployment`] is what only chaos needs: processes that are replaced while others use them, and what is
//! known of queues and journals between two rounds of faults.

use crate::plan::{EACH, NodeId, Store};
use crate::redis::{self, Ends, Entries};
use anyhow::{Context, Result};
use std::path::Path;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use test_support::{Deployment, Links, Ports, Program, Proxy, RedisOptions, Server, try_eventually};

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
    ("REDIS__KEY_PREFIX", ""),
    ("RABBITMQ__PREFIX", "chaos"),
    ("RABBITMQ__QUEUE_MAX_LENGTH", "100"),
    ("RABBITMQ__CONFIRM_TIMEOUT", "2s"),
    ("DATABASE__QUERY_TIMEOUT", "5s"),
];

pub(crate) struct Rig {
    pub(crate) nodes: Vec<Node>,
    pub(crate) deployment: Deployment,
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
    links: Links,
    ports: Ports,
    /// As this node sees it: over its links.
    deployment: Deployment,
    process: Mutex<Arc<Program>>,
    /// Logs of processes that were replaced.
    old_logs: Mutex<String>,
}

impl Rig {
    /// Starts everything, and waits until every process has all of its stores.
    pub(crate) async fn start(bin_dir: &Path) -> Result<Self> {
        let own = Deployment::build("chaos")
            .own_redis(RedisOptions::default())
            .own_mariadb()
            .own_rabbitmq()
            .programs_in(bin_dir);
        let deployment = own.start().await?.with_all(SETTINGS);
        let mut nodes = Vec::new();
        for id in NodeId::all() {
            nodes.push(Node::start(id, &deployment).await.with_context(|| format!("start {id}"))?);
        }
        let rig = Self {
            nodes,
            deployment,
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
            Store::Redis => self.deployment.redis(),
            Store::MariaDb => self.deployment.mariadb(),
            Store::RabbitMq => self.deployment.rabbitmq(),
        }
    }

    pub(crate) fn link(&self, node: NodeId, store: Store) -> &Proxy {
        let links = &self.node(node).links;
        match store {
            Store::Redis => &links.redis,
            Store::MariaDb => &links.mariadb,
            Store::RabbitMq => &links.rabbitmq,
        }
    }

    /// Addresses for the load.
    pub(crate) fn grpc_addrs(&self) -> String {
        self.nodes[..EACH].iter().map(|node| node.ports.grpc()).collect::<Vec<_>>().join(",")
    }

    pub(crate) fn broker_declared(&self) {
        *lock(&self.declared) = Instant::now();
    }

    /// A round is over: what is accepted from here on meets no fault of it.
    pub(crate) async fn healed(&self) -> Result<()> {
        let addr = self.deployment.redis().addr()?;
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
        let addr = self.deployment.redis().addr()?;
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
}

impl Node {
    async fn start(id: NodeId, deployment: &Deployment) -> Result<Self> {
        let links = Links::to(deployment).await?;
        let ports = Ports::lease()?;
        let deployment = deployment.clone().through(&links).with("SERVICE__INSTANCE", id.to_string());
        let process = Mutex::new(Arc::new(launch(id, &deployment, &ports, &[])?));
        Ok(Self { id, links, ports, deployment, process, old_logs: Mutex::default() })
    }

    pub(crate) fn process(&self) -> Arc<Program> {
        Arc::clone(&lock(&self.process))
    }

    /// Ends the process in order and starts it anew with more in its environment.
    pub(crate) async fn replace(&self, env: &[(&str, String)]) -> Result<()> {
        self.stop().await?;
        let new = Arc::new(launch(self.id, &self.deployment, &self.ports, env)?);
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
        match tokio::time::timeout(limit, self.process().health()).await {
            Ok(Ok((200, health))) if !health.to_string().contains("unreachable") => Ok(()),
            Ok(Ok((status, health))) => Err(format!("{}: {status} {health}", self.id)),
            Ok(Err(error)) => Err(format!("{}: {error}", self.id)),
            Err(_) => Err(format!("{}: no answer", self.id)),
        }
    }
}

fn launch(id: NodeId, deployment: &Deployment, ports: &Ports, env: &[(&str, String)]) -> Result<Program> {
    let program = if id.is_server() { deployment.server() } else { deployment.consumer() };
    env.iter().fold(program.at(ports), |program, (key, value)| program.env(key, value)).start()
}

fn find_faketime() -> Option<PathBuf> {
    let mut dirs: Vec<PathBuf> = vec!["/usr/lib".into(), "/usr/local/lib".into(), "/usr/lib64".into()];
    dirs.extend(std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path()));
    dirs.into_iter().map(|dir| dir.join("faketime/libfaketimeMT.so.1")).find(|path| path.is_file())
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
