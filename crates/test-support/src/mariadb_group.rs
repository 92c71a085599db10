//! A mariadb primary with replicas by GTID.

use crate::{MariaDb, MariaDbOptions, Proxy, execute_sql, try_eventually};
use anyhow::{Context, Result, ensure};
use std::time::Duration;

/// A change of roles, on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// Servers that copy one of them; the first one is the primary at the start. Beside `root` there is the user `app` with the password
/// `pw`, who may do everything but what an administrator may: `root` writes where only is to be read.
#[derive(Debug)]
pub struct MariaDbGroup {
    nodes: Vec<MariaDb>,
    /// From each replica to the first primary.
    links: Vec<Proxy>,
}

impl MariaDbGroup {
    /// Login of the user who is no administrator, as it stands in an address.
    pub const APP: &str = "app:pw@";

    /// Starts a primary and this many replicas, and waits until they are in touch.
    pub async fn start(options: MariaDbOptions, replicas: usize) -> Result<Self> {
        let mut group = Self { nodes: Vec::new(), links: Vec::new() };
        for number in 0..=replicas {
            let id = format!("--server-id={}", number + 1);
            let arguments = [id.as_str(), "--log-bin=binlog", "--log-slave-updates", "--gtid-strict-mode=1"];
            group.nodes.push(MariaDb::start_with_arguments(options, &arguments).await?);
        }
        let users = "CREATE USER repl@'%' IDENTIFIED BY 'pw'; GRANT REPLICATION SLAVE ON *.* TO repl@'%'; \
                     CREATE USER app@'%' IDENTIFIED BY 'pw'; \
                     GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX, REFERENCES, TRIGGER ON *.* TO app@'%'";
        execute_sql(group.node(0)?.url(), users).await?;
        for number in 1..=replicas {
            let link = Proxy::start(group.node(0)?.addr()?).await?;
            group.follow(number, &link.addr().to_string()).await?;
            group.links.push(link);
            group.caught_up(number, 0).await?;
        }
        Ok(group)
    }

    /// The primary at the start is number 0.
    pub fn node(&self, number: usize) -> Result<&MariaDb> {
        self.nodes.get(number).with_context(|| format!("no node {number}"))
    }

    /// `host:port` of every server.
    pub fn addrs(&self) -> Result<Vec<String>> {
        self.nodes.iter().map(|node| node.addr()).collect()
    }

    /// From the replica of this number to the first primary; frozen, the replica falls behind.
    pub fn link(&self, number: usize) -> Result<&Proxy> {
        number.checked_sub(1).and_then(|at| self.links.get(at)).with_context(|| format!("no link of node {number}"))
    }

    /// Runs statements as administrator.
    pub async fn sql(&self, number: usize, statements: &str) -> Result<String> {
        execute_sql(self.node(number)?.url(), statements).await
    }

    /// A planned switchover as managed services do it: `from` only reads, its clients stay connected, `to` has everything and
    /// then writes, and `from` copies it. Without loss.
    pub async fn switch(&self, from: usize, to: usize) -> Result<()> {
        self.sql(from, "SET GLOBAL read_only = ON").await?;
        self.caught_up(to, from).await?;
        self.promote(to).await?;
        self.follow(from, &self.node(to)?.addr()?).await
    }

    /// A replica stops to copy, and writes.
    pub async fn promote(&self, number: usize) -> Result<()> {
        self.sql(number, "STOP SLAVE; RESET SLAVE ALL; SET GLOBAL read_only = OFF").await.map(drop)
    }

    /// A server only reads, and copies the one at `host:port`.
    pub async fn follow(&self, number: usize, primary: &str) -> Result<()> {
        let (host, port) = primary.split_once(':').context("no port")?;
        let follow = format!(
            "SET GLOBAL read_only = ON; SET GLOBAL gtid_slave_pos = @@gtid_current_pos; \
             CHANGE MASTER TO MASTER_HOST = '{host}', MASTER_PORT = {port}, MASTER_USER = 'repl', \
             MASTER_PASSWORD = 'pw', MASTER_USE_GTID = slave_pos, MASTER_CONNECT_RETRY = 1; START SLAVE"
        );
        self.sql(number, &follow).await.map(drop)
    }

    /// Waits until a replica has what `primary` has now.
    pub async fn caught_up(&self, number: usize, primary: usize) -> Result<()> {
        let position = self.sql(primary, "SELECT @@gtid_current_pos").await?;
        let wait = format!("SELECT MASTER_GTID_WAIT('{}', 1)", position.trim());
        let arrived = async || match self.sql(number, &wait).await {
            Ok(said) if said.trim() == "0" => Ok(()),
            Ok(said) => Err(said),
            Err(error) => Err(format!("{error:#}")),
        };
        try_eventually(LIMIT, "a replica that has everything", arrived).await?;
        let status = self.sql(number, "SHOW SLAVE STATUS").await?;
        ensure!(number == primary || !status.is_empty(), "node {number} copies nobody");
        Ok(())
    }
}
