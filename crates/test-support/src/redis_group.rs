//! A redis primary with replicas, and Sentinels where asked for.

use crate::{Proxy, Redis, RedisOptions, try_eventually};
use anyhow::{Context, Result, ensure};
use std::time::Duration;

/// A change of roles, or a first copy, on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// What a group is made of.
#[derive(Debug, Clone, Copy)]
pub struct RedisGroupOptions {
    /// Of each node.
    pub node: RedisOptions,
    /// Beside the primary.
    pub replicas: usize,
    /// They elect a new primary half a second after they miss the old one. None by default.
    pub sentinels: usize,
}

impl Default for RedisGroupOptions {
    fn default() -> Self {
        Self { node: RedisOptions::default(), replicas: 1, sentinels: 0 }
    }
}

/// Nodes that copy one of them; the first one is the primary at the start.
#[derive(Debug)]
pub struct RedisGroup {
    nodes: Vec<Redis>,
    sentinels: Vec<Redis>,
    /// From each replica to the first primary. None with Sentinels, which lead replicas themselves.
    links: Vec<Proxy>,
}

impl RedisGroup {
    /// Starts it, and waits until every replica has its copy.
    pub async fn start(options: RedisGroupOptions) -> Result<Self> {
        let primary = Redis::start(options.node).await?;
        let mut group = Self { nodes: vec![primary], sentinels: Vec::new(), links: Vec::new() };
        for _ in 0..options.replicas {
            let mut to = group.node(0)?.addr()?;
            if options.sentinels == 0 {
                let link = Proxy::start(to).await?;
                to = link.addr().to_string();
                group.links.push(link);
            }
            let (host, port) = to.split_once(':').context("no port")?;
            let arguments = ["--replicaof", host, port, "--repl-diskless-sync-delay", "0"];
            let replica = Redis::start_with_arguments(options.node, &arguments).await?;
            group.nodes.push(replica);
        }
        for _ in 0..options.sentinels {
            let sentinel = Redis::start_sentinel(&group.node(0)?.addr()?, options.sentinels / 2 + 1).await?;
            group.sentinels.push(sentinel);
        }
        group.in_touch(options).await?;
        Ok(group)
    }

    async fn in_touch(&self, options: RedisGroupOptions) -> Result<()> {
        let online = || async {
            let said = self.node(0)?.cli(&["INFO", "replication"]).await?;
            ensure!(said.matches("state=online").count() == options.replicas, "{said}");
            let others = options.sentinels.saturating_sub(1);
            for sentinel in &self.sentinels {
                let said = sentinel.cli(&["INFO", "sentinel"]).await?;
                let whole = format!("slaves={},sentinels={}", options.replicas, others + 1);
                ensure!(said.contains(&whole), "{said} is not {whole}");
            }
            Ok(())
        };
        try_eventually(LIMIT, "a group that knows itself", async || online().await.map_err(text)).await
    }

    /// The primary at the start is number 0.
    pub fn node(&self, number: usize) -> Result<&Redis> {
        self.nodes.get(number).with_context(|| format!("no node {number}"))
    }

    /// `host:port` of every node.
    pub fn addrs(&self) -> Result<Vec<String>> {
        self.nodes.iter().map(|node| node.addr()).collect()
    }

    /// `host:port` of every Sentinel.
    pub fn sentinel_addrs(&self) -> Result<Vec<String>> {
        self.sentinels.iter().map(|sentinel| sentinel.addr()).collect()
    }

    /// A Sentinel.
    pub fn sentinel(&self, number: usize) -> Result<&Redis> {
        self.sentinels.get(number).with_context(|| format!("no sentinel {number}"))
    }

    /// From the replica of this number to the first primary; frozen, the replica falls behind.
    pub fn link(&self, number: usize) -> Result<&Proxy> {
        number.checked_sub(1).and_then(|at| self.links.get(at)).with_context(|| format!("no link of node {number}"))
    }

    /// The node that says it is the primary.
    pub async fn primary(&self) -> Result<usize> {
        for (number, node) in self.nodes.iter().enumerate() {
            if node.role().await.is_ok_and(|role| role == "master") {
                return Ok(number);
            }
        }
        anyhow::bail!("no node is the primary")
    }

    /// A planned switchover as managed services do it: the old primary waits for the new one, hands over and copies it, and
    /// its clients stay connected. Without loss.
    pub async fn switch_to(&self, number: usize) -> Result<()> {
        let old = self.primary().await?;
        let addr = self.node(number)?.addr()?;
        let (host, port) = addr.split_once(':').context("no port")?;
        let said = self.node(old)?.cli(&["FAILOVER", "TO", host, port, "TIMEOUT", "20000"]).await?;
        ensure!(said == "OK", "{said}");
        let switched = async || match self.node(number).map_err(text)?.role().await {
            Ok(role) if role == "master" => Ok(()),
            other => Err(format!("{other:?}")),
        };
        try_eventually(LIMIT, "the new primary", switched).await?;
        for (other, node) in self.nodes.iter().enumerate() {
            if other != number && other != old && node.pid().is_some() {
                node.cli(&["REPLICAOF", host, port]).await?;
            }
        }
        Ok(())
    }

    /// Makes a replica the primary of whoever comes; it waits for nothing and the others are told nothing.
    pub async fn promote(&self, number: usize) -> Result<()> {
        let said = self.node(number)?.cli(&["REPLICAOF", "NO", "ONE"]).await?;
        ensure!(said == "OK", "{said}");
        Ok(())
    }
}

fn text(error: anyhow::Error) -> String {
    format!("{error:#}")
}
