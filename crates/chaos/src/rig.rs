//! The deployment: private stores, and our own processes with a link of their own to each store.
//!
//! What is not in [`Deployment`] is what only chaos needs: processes that are replaced while others use them, and what is
//! known of queues and processes that were lost.

use crate::account::{Flush, Record};
use crate::cli::Cli;
use crate::cluster::Cluster;
use crate::groups::Groups;
use crate::kinds::Shape;
use crate::notice::Notice;
use crate::plan::{EACH, NodeId, Store};
use crate::served::Absence;
use anyhow::{Context, Result};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use test_support::{
    Deployment, Links, MariaDbGroup, Ports, Preload, Program, Proxy, RedisOptions, Server, try_eventually,
};

pub(crate) const QUEUE: &str = "chaos.likes";

const LOG_LEVELS: &str = "info,event_fate=trace";

const START_LIMIT: Duration = Duration::from_secs(90);
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// After a queue was declared, RabbitMQ must not be killed for this long.
const BROKER_REST: Duration = Duration::from_secs(4);

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
    ("DATA_CONSISTENCY__CHECK_INTERVAL", "2s"),
    ("DATA_CONSISTENCY__HOT_DATA_CHECK", "1s"),
    ("DATA_CONSISTENCY__STUCK_AFTER", "20s"),
    ("DATA_CONSISTENCY__LEASE", "3s"),
];

pub(crate) struct Rig {
    pub(crate) nodes: Vec<Node>,
    /// Where the stores have several nodes.
    groups: Option<Groups>,
    /// Where they are a cluster.
    cluster: Option<Cluster>,
    pub(crate) deployment: Deployment,
    /// Whether disks can be made slow and clocks be set.
    pub(crate) can_preload: bool,
    /// When all queues were last known to be declared.
    declared: Mutex<Instant>,
    /// What flushes took, and when.
    pub(crate) flushes: Mutex<Vec<Flush>>,
    /// The queue with all that was in it was lost: what did it, and how far the logs of all nodes reached then.
    lost_queues: Mutex<Vec<(String, Vec<usize>)>>,
    /// The clock of Redis was set in this run.
    pub(crate) clock_was_set: AtomicBool,
    /// What a fault found wrong while it lasted.
    pub(crate) findings: Mutex<Vec<String>>,
    /// What a fault has to tell.
    pub(crate) notes: Mutex<Vec<String>>,
    /// How failovers of the database were noticed.
    pub(crate) notices: Mutex<Vec<Notice>>,
    /// When primaries of a cluster were away.
    pub(crate) absences: Mutex<Vec<Absence>>,
    /// Seconds until the half that was left worked as usual.
    pub(crate) halves: Mutex<Vec<f64>>,
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
    preload: Option<Preload>,
    /// How far the log reached whenever its process, with all that it had in memory, was gone.
    deaths: Mutex<Vec<usize>>,
}

impl Rig {
    /// Starts everything, and waits until every process has all of its stores.
    pub(crate) async fn start(options: &Cli) -> Result<Self> {
        let shape = options.shape();
        let groups = if shape == Shape::Groups { Some(Groups::start().await?) } else { None };
        let cluster = if shape == Shape::Cluster { Some(Cluster::start().await?) } else { None };
        let can_preload = shape == Shape::Single && Preload::is_available()?;
        let chaos = Deployment::build("chaos").programs_in(&options.bin_dir);
        let mut own = match (&groups, &cluster) {
            (Some(groups), _) => groups.at(chaos)?,
            (None, Some(cluster)) => cluster.at(chaos)?,
            (None, None) => chaos.own_redis(RedisOptions::default()).own_mariadb().own_rabbitmq(),
        };
        if can_preload {
            own = own.preloaded();
        }
        let confirm = options.confirm_replicas.to_string();
        let mut deployment = own.start().await?.with_all(SETTINGS).with("REDIS__CONFIRM_REPLICAS", confirm);
        if let Some(cluster) = &cluster {
            deployment = cluster.known_to(deployment)?;
        }
        let mut nodes = Vec::new();
        for id in NodeId::all() {
            nodes.push(Node::start(id, &deployment, can_preload).await.with_context(|| format!("start {id}"))?);
        }
        let rig = Self {
            nodes,
            groups,
            cluster,
            deployment,
            can_preload,
            declared: Mutex::new(Instant::now()),
            flushes: Mutex::default(),
            lost_queues: Mutex::default(),
            clock_was_set: AtomicBool::default(),
            findings: Mutex::default(),
            notes: Mutex::default(),
            notices: Mutex::default(),
            absences: Mutex::default(),
            halves: Mutex::default(),
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

    /// Stores of several nodes.
    pub(crate) fn groups(&self) -> Result<&Groups> {
        self.groups.as_ref().context("the stores have one node each")
    }

    /// Stores that are a cluster.
    pub(crate) fn cluster(&self) -> Result<&Cluster> {
        self.cluster.as_ref().context("the stores are no cluster")
    }

    /// Where the journals are: on some of these.
    pub(crate) fn redis_addrs(&self) -> Result<Vec<String>> {
        match &self.cluster {
            Some(cluster) => cluster.redis_addrs(),
            None => Ok(vec![self.deployment.redis().addr()?]),
        }
    }

    pub(crate) fn consumers(&self) -> &[Node] {
        &self.nodes[EACH..2 * EACH]
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

    /// The node of this name, as leases have it.
    pub(crate) fn node_named(&self, name: &str) -> Option<NodeId> {
        NodeId::all().find(|id| id.to_string() == name)
    }

    /// Everything in the queue is gone, and none of it can have come after this.
    pub(crate) fn queue_is_lost(&self, by: &str) {
        let reached = self.nodes.iter().map(|node| node.log().len()).collect();
        lock(&self.lost_queues).push((by.to_owned(), reached));
    }

    /// What the processes said of every event that they had in memory, and what was lost of it.
    pub(crate) fn record(&self) -> Record {
        let mut record = Record::default();
        for node in &self.nodes {
            record.add(node.id.to_string(), &node.log(), &lock(&node.deaths));
        }
        record.lost_queues.clone_from(&lock(&self.lost_queues));
        record
    }

    pub(crate) async fn broker_rests(&self) {
        let until = *lock(&self.declared) + BROKER_REST;
        tokio::time::sleep_until(until.into()).await;
    }
}

impl Node {
    async fn start(id: NodeId, deployment: &Deployment, preload: bool) -> Result<Self> {
        let links = Links::to(deployment).await?;
        let ports = Ports::lease()?;
        // Clients of a cluster go where its nodes say that they are.
        let is_direct = deployment.setting("REDIS__CLUSTER").is_some();
        let deployment = if is_direct { deployment.clone() } else { deployment.clone().through(&links) };
        let mut deployment = deployment.with("SERVICE__INSTANCE", id.to_string());
        if deployment.mariadb().is_external() {
            // An administrator would write where only is to be read.
            let url = deployment.setting("DATABASE__URL").context("no database")?;
            let url = url.replace("root@", MariaDbGroup::APP);
            deployment = deployment.with("DATABASE__URL", url);
        }
        let dir = deployment.dir().join(id.to_string());
        std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        let preload = if preload { Some(Preload::new(&dir)?) } else { None };
        let process = Mutex::new(Arc::new(launch(id, &deployment, &ports, preload.as_ref())?));
        let (old_logs, deaths) = Default::default();
        Ok(Self { id, links, ports, deployment, process, old_logs, preload, deaths })
    }

    pub(crate) fn process(&self) -> Arc<Program> {
        Arc::clone(&lock(&self.process))
    }

    /// Its clock and disk.
    pub(crate) fn preload(&self) -> Result<&Preload> {
        self.preload.as_ref().context("no C compiler")
    }

    /// SIGKILL.
    pub(crate) fn kill9(&self) -> Result<()> {
        self.process().kill9()?;
        self.is_gone();
        Ok(())
    }

    /// Ends the process in order and starts it anew with its clock ahead by so many seconds.
    pub(crate) async fn replace(&self, seconds: i64) -> Result<()> {
        self.stop().await?;
        self.is_gone();
        self.preload()?.set_clock(seconds * 1_000_000)?;
        let new = Arc::new(launch(self.id, &self.deployment, &self.ports, self.preload.as_ref())?);
        // Held, so that nobody finds the log without a part of it.
        let mut old_logs = lock(&self.old_logs);
        let old = std::mem::replace(&mut *lock(&self.process), new);
        old_logs.push_str(&old.log());
        Ok(())
    }

    fn is_gone(&self) {
        let reached = self.log().len();
        lock(&self.deaths).push(reached);
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
        let old_logs = lock(&self.old_logs);
        let log = self.process().log();
        old_logs.clone() + &log
    }

    /// Whether it has all of its stores, by its own word.
    pub(crate) async fn healthy(&self) -> Result<(), String> {
        let limit = Duration::from_secs(1);
        match tokio::time::timeout(limit, self.process().health()).await {
            Ok(Ok((200, health))) if all_reached(&health) => Ok(()),
            Ok(Ok((status, health))) => Err(format!("{}: {status} {health}", self.id)),
            Ok(Err(error)) => Err(format!("{}: {error}", self.id)),
            Err(_) => Err(format!("{}: no answer", self.id)),
        }
    }
}

fn launch(id: NodeId, deployment: &Deployment, ports: &Ports, preload: Option<&Preload>) -> Result<Program> {
    let program = match id.program() {
        "server" => deployment.server(),
        "consumer" => deployment.consumer(),
        _ => deployment.checker(),
    };
    // A line for every event that is in memory only, or no longer: see the account of flushes.
    let program = program.at(ports).env("RUST_LOG", LOG_LEVELS);
    let env = preload.map(Preload::env).into_iter().flatten();
    env.fold(program, |program, (name, value)| program.env(name, value)).start()
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// No part is down. What was last said against one that is well again does not matter.
fn all_reached(health: &serde_json::Value) -> bool {
    let parts = health["parts"].as_object();
    parts.is_some_and(|parts| parts.values().all(|part| part["status"] != "down"))
}
