//! RabbitMQ nodes that are one cluster.

use crate::launch::{Launch, WorkDir, find_program};
use crate::process::Process;
use crate::{PortLease, RabbitMq, lease_port, try_eventually, unique_name};
use anyhow::{Context, Result, ensure};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

/// Joining, or a node's return, on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

/// What a node needs to know of its cluster.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) node: String,
    pub(crate) epmd_port: u16,
    cookie: String,
    /// Nodes it joins; empty for the first one.
    others: Vec<String>,
}

impl Member {
    pub(crate) fn name(number: usize) -> String {
        format!("{}-{number}@localhost", unique_name("rabbit"))
    }

    pub(crate) fn settings(&self) -> String {
        // A minority stops instead of taking decisions of its own.
        let mut settings = "cluster_partition_handling = pause_minority\n".to_owned();
        if !self.others.is_empty() {
            settings += "cluster_formation.peer_discovery_backend = classic_config\n";
            for (number, node) in self.others.iter().chain([&self.node]).enumerate() {
                settings += &format!("cluster_formation.classic_config.nodes.{} = {node}\n", number + 1);
            }
        }
        settings
    }

    /// Nodes believe whoever knows the same word.
    pub(crate) fn write_cookie(&self, home: &Path) -> Result<()> {
        let path = home.join(".erlang.cookie");
        fs::write(&path, &self.cookie).context("write the cookie")?;
        fs::set_permissions(&path, Permissions::from_mode(0o400)).context("hide the cookie")
    }
}

/// A cluster; its quorum queues have a copy on every node. A start takes about 15 s on two cores.
#[derive(Debug)]
pub struct RabbitMqGroup {
    nodes: Vec<RabbitMq>,
    names: Vec<String>,
    // Last: nodes say goodbye to it. It is nobody's child, or it would die with the node that happened to start it.
    _epmd: Epmd,
}

#[derive(Debug)]
struct Epmd {
    _process: Process,
    _dir: WorkDir,
    lease: PortLease,
}

impl Epmd {
    fn start() -> Result<Self> {
        let dir = WorkDir::create("epmd")?;
        let lease = lease_port()?;
        let port = lease.port().to_string();
        let launch = Launch::new(find_program(&["epmd"])?, dir.path()).args(["-port", &port, "-address", "127.0.0.1"]);
        let process = Process::new(launch);
        process.spawn()?;
        Ok(Self { _process: process, _dir: dir, lease })
    }
}

impl RabbitMqGroup {
    /// Starts it, and waits until all nodes know each other.
    pub async fn start(size: usize) -> Result<Self> {
        let epmd = Epmd::start()?;
        let names: Vec<String> = (0..size).map(Member::name).collect();
        let cookie = unique_name("cookie");
        let member = |number: usize| Member {
            node: names[number].clone(),
            epmd_port: epmd.lease.port(),
            cookie: cookie.clone(),
            others: names[..number].to_vec(),
        };
        let mut nodes = Vec::new();
        for number in 0..size {
            nodes.push(RabbitMq::start_member(&member(number)).await?);
        }
        let group = Self { nodes, names, _epmd: epmd };
        group.all_run(size).await?;
        Ok(group)
    }

    /// A node, by its number.
    pub fn node(&self, number: usize) -> Result<&RabbitMq> {
        self.nodes.get(number).with_context(|| format!("no node {number}"))
    }

    /// `host:port` of every node.
    pub fn addrs(&self) -> Result<Vec<String>> {
        self.nodes.iter().map(|node| node.addr()).collect()
    }

    /// The node that decides about a quorum queue, as one that runs sees it.
    pub async fn leader(&self, queue: &str) -> Result<usize> {
        let said = self.running()?.ctl(&["-q", "list_queues", "--no-table-headers", "name", "leader"]).await?;
        let leader = said.lines().find_map(|line| line.split_once('\t').filter(|(name, _)| *name == queue));
        let (_, leader) = leader.with_context(|| format!("no queue {queue}: {said}"))?;
        let number = self.names.iter().position(|name| name == leader.trim());
        number.with_context(|| format!("{leader} is no node of this cluster"))
    }

    /// Waits until that many nodes run, as the first of them sees it.
    pub async fn all_run(&self, size: usize) -> Result<()> {
        let running = async || {
            let status = self.running()?.ctl(&["-q", "cluster_status", "--formatter", "json"]).await?;
            let known = status.split_once("\"running_nodes\":").context("no running nodes")?.1;
            let known = known.split_once(']').context("no end of the list")?.0;
            ensure!(known.matches("@localhost").count() == size, "{known}");
            Ok(())
        };
        let text = |error: anyhow::Error| format!("{error:#}");
        try_eventually(LIMIT, "a cluster that knows itself", async || running().await.map_err(text)).await
    }

    fn running(&self) -> Result<&RabbitMq> {
        self.nodes.iter().find(|node| node.pid().is_some()).context("no node runs")
    }
}
