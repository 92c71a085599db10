//! A Redis Cluster: primaries with a replica each.

use crate::{PortLease, Redis, RedisOptions, lease_port, try_eventually};
use anyhow::{Context, Result, ensure};
use std::time::Duration;

/// A change of roles, or of who knows whom, on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A primary that is silent for so long is replaced; the others go on meanwhile.
const SETTINGS: [[&str; 2]; 5] = [
    ["--cluster-enabled", "yes"],
    ["--cluster-node-timeout", "1000"],
    ["--cluster-require-full-coverage", "no"],
    ["--cluster-replica-validity-factor", "0"],
    ["--repl-diskless-sync-delay", "0"],
];

const SLOTS: usize = 16_384;

/// Keys of one step of a slot that moves.
const KEYS_PER_STEP: usize = 200;

/// Its first nodes are the primaries at the start, and behind them stand their replicas in the same order. A primary that is
/// gone for a second is replaced, and until then the others go on.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Redis>,
    primaries: usize,
    _buses: Vec<PortLease>,
}

impl RedisCluster {
    /// Starts it with so many primaries, and one replica for each or none.
    pub async fn start(node: RedisOptions, primaries: usize, with_replicas: bool) -> Result<Self> {
        let count = if with_replicas { 2 * primaries } else { primaries };
        let buses = (0..count).map(|_| lease_port()).collect::<Result<Vec<_>>>()?;
        let mut nodes = Vec::with_capacity(count);
        for bus in &buses {
            let port = bus.port().to_string();
            let mut arguments = vec!["--cluster-port", &port];
            arguments.extend(SETTINGS.as_flattened());
            nodes.push(Redis::start_with_arguments(node, &arguments).await?);
        }
        let cluster = Self { nodes, primaries, _buses: buses };
        cluster.found().await?;
        Ok(cluster)
    }

    async fn found(&self) -> Result<()> {
        for (number, node) in self.nodes.iter().enumerate() {
            node.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]).await?;
            if number < self.primaries {
                let (first, next) = (number * SLOTS / self.primaries, (number + 1) * SLOTS / self.primaries);
                node.cli(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &(next - 1).to_string()]).await?;
            }
        }
        for (node, bus) in self.nodes.iter().zip(&self._buses).skip(1) {
            let addr = node.addr()?;
            let (host, port) = addr.split_once(':').context("no port")?;
            self.node(0)?.cli(&["CLUSTER", "MEET", host, port, &bus.port().to_string()]).await?;
        }
        self.settled("nodes that know each other", async |node: &Redis| {
            let said = node.cli(&["CLUSTER", "INFO"]).await?;
            let known = format!("cluster_known_nodes:{}", self.nodes.len());
            ensure!(said.contains(&known) && said.contains("cluster_state:ok"), "{said}");
            Ok(())
        })
        .await?;
        for number in self.primaries..self.nodes.len() {
            let primary = self.id(number - self.primaries).await?;
            let follow = async || {
                self.node(number)?.cli(&["CLUSTER", "REPLICATE", &primary]).await.and_then(|said| {
                    ensure!(said == "OK", "{said}");
                    Ok(())
                })
            };
            try_eventually(LIMIT, "a replica", async || follow().await.map_err(text)).await?;
        }
        let replicas = self.nodes.len() - self.primaries;
        for node in self.nodes.iter().take(replicas.min(self.primaries)) {
            let online = async || {
                let said = node.cli(&["INFO", "replication"]).await?;
                ensure!(said.contains("state=online"), "{said}");
                anyhow::Ok(())
            };
            try_eventually(LIMIT, "a replica with its copy", async || online().await.map_err(text)).await?;
        }
        // A replica that nobody knows of is not elected.
        self.settled("nodes that know the replicas", async |node: &Redis| {
            let said = node.cli(&["CLUSTER", "NODES"]).await?;
            ensure!(said.matches("slave").count() == replicas, "{said}");
            Ok(())
        })
        .await
    }

    /// Every node that runs says so.
    async fn settled(&self, what: &str, says: impl AsyncFn(&Redis) -> Result<()>) -> Result<()> {
        for node in self.nodes.iter().filter(|node| node.pid().is_some()) {
            try_eventually(LIMIT, what, async || says(node).await.map_err(text)).await?;
        }
        Ok(())
    }

    /// A node.
    pub fn node(&self, number: usize) -> Result<&Redis> {
        self.nodes.get(number).with_context(|| format!("no node {number}"))
    }

    /// `host:port` of every node.
    pub fn addrs(&self) -> Result<Vec<String>> {
        self.nodes.iter().map(|node| node.addr()).collect()
    }

    async fn id(&self, number: usize) -> Result<String> {
        self.node(number)?.cli(&["CLUSTER", "MYID"]).await
    }

    /// The slot of a key.
    pub async fn slot(&self, key: &str) -> Result<u16> {
        let node = self.nodes.iter().find(|node| node.pid().is_some()).context("no node runs")?;
        Ok(node.cli(&["CLUSTER", "KEYSLOT", key]).await?.parse()?)
    }

    /// The node that has the slot of this key now, as most would say.
    pub async fn primary_of(&self, key: &str) -> Result<usize> {
        let slot = self.slot(key).await?;
        for (number, node) in self.nodes.iter().enumerate() {
            if node.pid().is_none() {
                continue;
            }
            let said = node.cli(&["CLUSTER", "NODES"]).await?;
            let own = said.lines().find(|line| line.contains("myself,master"));
            if own.is_some_and(|line| line.split(' ').skip(8).any(|range| holds(range, slot))) {
                return Ok(number);
            }
        }
        anyhow::bail!("nobody has slot {slot} of {key}")
    }

    /// The nodes that have slots.
    pub async fn primaries(&self) -> Result<Vec<usize>> {
        let mut primaries = Vec::new();
        for (number, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.pid().is_some()) {
            let said = node.cli(&["CLUSTER", "NODES"]).await?;
            let own = said.lines().find(|line| line.contains("myself,master"));
            if own.is_some_and(|line| line.split(' ').nth(8).is_some()) {
                primaries.push(number);
            }
        }
        Ok(primaries)
    }

    /// The node that copies this one.
    pub async fn replica_of(&self, primary: usize) -> Result<usize> {
        let of = format!("myself,slave {}", self.id(primary).await?);
        for (number, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.pid().is_some()) {
            if node.cli(&["CLUSTER", "NODES"]).await?.lines().any(|line| line.contains(&of)) {
                return Ok(number);
            }
        }
        anyhow::bail!("nobody copies node {primary}")
    }

    /// A replica hears nothing of its primary from now on: it says a password that nobody asked for.
    pub async fn falls_behind(&self, replica: usize) -> Result<()> {
        let node = self.node(replica)?;
        node.cli(&["CONFIG", "SET", "masterauth", "none"]).await?;
        node.cli(&["CLIENT", "KILL", "TYPE", "master"]).await.map(drop)
    }

    /// Waits until a replica was elected, after which it may copy others.
    pub async fn elected(&self, replica: usize) -> Result<()> {
        let node = self.node(replica)?;
        let elected = async || {
            let role = node.role().await?;
            ensure!(role == "master", "{role}");
            Ok(())
        };
        try_eventually(LIMIT, "an elected replica", async || elected().await.map_err(text)).await?;
        node.cli(&["CONFIG", "SET", "masterauth", ""]).await.map(drop)
    }

    /// A node that was killed, and whose replica was elected, comes back and copies it: from what it had, or from nothing.
    pub async fn comes_back(&self, number: usize, empty: bool) -> Result<()> {
        let node = self.node(number)?;
        if empty {
            node.remove_data("appendonlydir")?;
        }
        node.restart().await?;
        let copies = async || {
            let said = node.cli(&["INFO", "replication"]).await?;
            ensure!(said.contains("role:slave") && said.contains("master_link_status:up"), "{said}");
            Ok(())
        };
        try_eventually(LIMIT, "a replica with its copy", async || copies().await.map_err(text)).await?;
        self.settled("a cluster that is whole", async |node: &Redis| {
            let said = node.cli(&["CLUSTER", "NODES"]).await?;
            ensure!(!said.contains("fail"), "{said}");
            Ok(())
        })
        .await
    }

    /// Moves the slot of a key to another primary, key by key, as `redis-cli --cluster reshard` does.
    pub async fn move_slot(&self, key: &str, to: usize) -> Result<()> {
        let from = self.primary_of(key).await?;
        self.begin_move(key, from, to).await?;
        while self.move_some(key, from, to, KEYS_PER_STEP).await? {}
        self.end_move(key, from, to).await
    }

    /// From here on the slot is on its way.
    pub async fn begin_move(&self, key: &str, from: usize, to: usize) -> Result<()> {
        let slot = self.slot(key).await?.to_string();
        let (source, target) = (self.id(from).await?, self.id(to).await?);
        self.ok(to, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source]).await?;
        self.ok(from, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target]).await
    }

    /// Moves at most so many keys; false if there are none left.
    pub async fn move_some(&self, key: &str, from: usize, to: usize, keys: usize) -> Result<bool> {
        let slot = self.slot(key).await?.to_string();
        let said = self.node(from)?.cli(&["CLUSTER", "GETKEYSINSLOT", &slot, &keys.to_string()]).await?;
        let keys: Vec<&str> = said.lines().filter(|line| !line.is_empty()).collect();
        if keys.is_empty() {
            return Ok(false);
        }
        let addr = self.node(to)?.addr()?;
        let (host, port) = addr.split_once(':').context("no port")?;
        let mut words = vec!["MIGRATE", host, port, "", "0", "20000", "KEYS"];
        words.extend(keys);
        let said = self.node(from)?.cli(&words).await?;
        ensure!(said == "OK" || said == "NOKEY", "{said}");
        Ok(true)
    }

    /// The slot has arrived; every node is told.
    pub async fn end_move(&self, key: &str, from: usize, to: usize) -> Result<()> {
        let slot = self.slot(key).await?.to_string();
        let target = self.id(to).await?;
        let others = (0..self.nodes.len()).filter(|number| *number != from && *number != to);
        for number in [to, from].into_iter().chain(others) {
            let node = self.node(number)?;
            // A replica learns it from its primary.
            if node.pid().is_some() && node.role().await? == "master" {
                self.ok(number, &["CLUSTER", "SETSLOT", &slot, "NODE", &target]).await?;
            }
        }
        Ok(())
    }

    async fn ok(&self, number: usize, words: &[&str]) -> Result<()> {
        let said = self.node(number)?.cli(words).await?;
        ensure!(said == "OK", "{words:?}: {said}");
        Ok(())
    }
}

/// Whether `5`, or `0-9`, has this slot; what is on its way stands in brackets.
fn holds(range: &str, slot: u16) -> bool {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    matches!((first.parse::<u16>(), last.parse::<u16>()), (Ok(first), Ok(last)) if (first..=last).contains(&slot))
}

fn text(error: anyhow::Error) -> String {
    format!("{error:#}")
}
