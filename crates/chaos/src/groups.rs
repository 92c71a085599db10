//! Stores of several nodes behind addresses that move: with the profile `failover`.
//!
//! Two of Redis, two of MariaDB, three of RabbitMQ. Nobody tells the programs who the primary is; connections that are open when
//! an address moves stay where they are. After each fault the group is whole again: a node whose disk is gone begins empty and
//! copies the other one.

use crate::kinds::Store;
use crate::notice::Promotion;
use anyhow::{Context, Result, ensure};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use test_support::{
    DeploymentBuilder, MariaDbGroup, MariaDbOptions, Proxy, RabbitMqGroup, RedisGroup, RedisGroupOptions, RedisOptions,
    try_eventually,
};
use tokio::time::sleep;

const LIMIT: Duration = Duration::from_secs(60);

pub(crate) const BROKERS: usize = 3;

pub(crate) struct Groups {
    redis: RedisGroup,
    to_redis: Proxy,
    mariadb: MariaDbGroup,
    to_mariadb: Proxy,
    /// The node that writes.
    database: AtomicUsize,
    /// Of servers that begin anew.
    server_ids: AtomicUsize,
    rabbitmq: RabbitMqGroup,
    to_rabbitmq: Proxy,
    /// The node that programs reach.
    broker: AtomicUsize,
}

impl Groups {
    pub(crate) async fn start() -> Result<Self> {
        let node = RedisOptions { appendonly: true, preload: false };
        let redis = RedisGroup::start(RedisGroupOptions { node, ..RedisGroupOptions::default() }).await?;
        let to_redis = Proxy::start(redis.node(0)?.addr()?).await?;
        let options = MariaDbOptions { durable: false, ..MariaDbOptions::default() };
        let mariadb = MariaDbGroup::start(options, 1).await?;
        let to_mariadb = Proxy::start(mariadb.node(0)?.addr()?).await?;
        let rabbitmq = RabbitMqGroup::start(BROKERS).await?;
        let to_rabbitmq = Proxy::start(rabbitmq.node(0)?.addr()?).await?;
        let [database, broker, server_ids] = [0, 0, 10].map(AtomicUsize::new);
        Ok(Self { redis, to_redis, mariadb, to_mariadb, database, server_ids, rabbitmq, to_rabbitmq, broker })
    }

    /// A deployment that comes here.
    pub(crate) fn at(&self, deployment: DeploymentBuilder) -> Result<DeploymentBuilder> {
        let redis = self.to_redis.url_of(self.redis.node(0)?.url());
        let mariadb = self.to_mariadb.url_of(self.mariadb.node(0)?.url());
        let rabbitmq = self.to_rabbitmq.url_of(self.rabbitmq.node(0)?.url());
        Ok(deployment.redis_at(redis).mariadb_at(mariadb).rabbitmq_at(rabbitmq))
    }

    /// Logs of all nodes.
    pub(crate) fn logs(&self) -> Vec<(String, String)> {
        let pair = [0, 1];
        let redis = pair.iter().filter_map(|at| Some((format!("redis{at}"), self.redis.node(*at).ok()?.log())));
        let mariadb = pair.iter().filter_map(|at| Some((format!("mariadb{at}"), self.mariadb.node(*at).ok()?.log())));
        let rabbitmq =
            (0..BROKERS).filter_map(|at| Some((format!("rabbitmq{at}"), self.rabbitmq.node(at).ok()?.log())));
        redis.chain(mariadb).chain(rabbitmq).collect()
    }

    /// A planned change of roles, without loss.
    pub(crate) async fn switch(&self, store: Store) -> Result<()> {
        match store {
            Store::Redis => {
                let new = 1 - self.redis.primary().await?;
                self.redis.switch_to(new).await?;
                self.to_redis.retarget(self.redis.node(new)?.addr()?);
                self.redis_copies(1 - new).await
            }
            Store::MariaDb => {
                let old = self.database.load(Ordering::Relaxed);
                self.mariadb.switch(old, 1 - old).await?;
                self.database_is(1 - old)?;
                self.mariadb.caught_up(old, 1 - old).await
            }
            Store::RabbitMq => anyhow::bail!("nobody switches brokers"),
        }
    }

    /// The primary dies with its disk, and the replica has heard nothing of it for so long.
    pub(crate) async fn fail_over_redis(&self, behind: Duration) -> Result<()> {
        let old = self.redis.primary().await?;
        self.redis.promote(1 - old).await?;
        sleep(behind).await;
        self.redis.node(old)?.kill9()?;
        let addr = self.redis.node(1 - old)?.addr()?;
        self.to_redis.retarget(addr);
        self.redis.node(old)?.wipe_and_restart().await?;
        self.redis_copies(old).await
    }

    /// The same of MariaDB, whose numbered commits are in this schema.
    pub(crate) async fn fail_over_database(&self, behind: Duration, schema: &str) -> Result<Promotion> {
        let old = self.database.load(Ordering::Relaxed);
        let new = 1 - old;
        self.mariadb.sql(new, "STOP SLAVE").await?;
        sleep(behind).await;
        let lost_commits = self.commits(old, schema).await? - self.commits(new, schema).await?;
        self.mariadb.node(old)?.kill9()?;
        let at = self.mariadb.sql(new, "SELECT UTC_TIMESTAMP(6)").await?.trim().to_owned();
        self.mariadb.promote(new).await?;
        self.database_is(new)?;
        self.mariadb.node(old)?.wipe_and_restart().await?;
        // A server leaves out what comes from one of its own number, and that is everything it once wrote.
        let id = self.server_ids.fetch_add(1, Ordering::Relaxed);
        self.mariadb.sql(old, &format!("SET GLOBAL server_id = {id}")).await?;
        self.mariadb.follow(old, &self.mariadb.node(new)?.addr()?).await?;
        self.mariadb.caught_up(old, new).await?;
        Ok(Promotion { at, lost_commits })
    }

    /// Numbers that a node has given to commits.
    async fn commits(&self, node: usize, schema: &str) -> Result<i64> {
        let sum = self.mariadb.sql(node, &format!("SELECT COALESCE(SUM(seq), 0) FROM {schema}.sync_writers")).await?;
        sum.trim().parse().with_context(|| format!("no sum: {sum}"))
    }

    /// Two primaries for a while: who is connected to the old one stays there, until it is made a replica.
    pub(crate) async fn split_redis(&self, lasts: Duration) -> Result<()> {
        let old = self.redis.primary().await?;
        self.redis.promote(1 - old).await?;
        self.to_redis.retarget(self.redis.node(1 - old)?.addr()?);
        sleep(lasts).await;
        self.redis_copies(old).await
    }

    /// The replica of the database falls behind, and catches up.
    pub(crate) async fn lag_database(&self, lasts: Duration) -> Result<()> {
        let primary = self.database.load(Ordering::Relaxed);
        self.mariadb.sql(1 - primary, "STOP SLAVE").await?;
        sleep(lasts).await;
        self.mariadb.sql(1 - primary, "START SLAVE").await?;
        self.mariadb.caught_up(1 - primary, primary).await
    }

    /// The node that programs are connected to dies, and their address leads to the next one.
    pub(crate) async fn kill_broker_node(&self, lasts: Duration) -> Result<()> {
        let old = self.broker.load(Ordering::Relaxed);
        let new = (old + 1) % BROKERS;
        self.rabbitmq.node(old)?.kill9()?;
        self.to_rabbitmq.retarget(self.rabbitmq.node(new)?.addr()?);
        self.broker.store(new, Ordering::Relaxed);
        sleep(lasts).await;
        self.rabbitmq.node(old)?.restart().await?;
        self.rabbitmq.all_run(BROKERS).await
    }

    /// The node that programs are connected to is the only one left: too few to decide about a queue.
    pub(crate) async fn minority_broker(&self, lasts: Duration) -> Result<()> {
        let left = self.broker.load(Ordering::Relaxed);
        let others = [(left + 1) % BROKERS, (left + 2) % BROKERS];
        for other in others {
            self.rabbitmq.node(other)?.kill9()?;
        }
        sleep(lasts).await;
        let [first, second] = [self.rabbitmq.node(others[0])?, self.rabbitmq.node(others[1])?];
        let (first, second) = tokio::join!(first.restart(), second.restart());
        first.and(second)?;
        self.rabbitmq.all_run(BROKERS).await
    }

    /// It has no memory left, and takes nothing from publishers.
    pub(crate) async fn alarm_broker(&self, lasts: Duration) -> Result<()> {
        let node = self.rabbitmq.node(self.broker.load(Ordering::Relaxed))?;
        node.ctl(&["set_vm_memory_high_watermark", "0"]).await?;
        sleep(lasts).await;
        node.ctl(&["set_vm_memory_high_watermark", "0.6"]).await.map(drop)
    }

    fn database_is(&self, number: usize) -> Result<()> {
        self.to_mariadb.retarget(self.mariadb.node(number)?.addr()?);
        self.database.store(number, Ordering::Relaxed);
        Ok(())
    }

    /// The node copies the other one, and has done so.
    async fn redis_copies(&self, number: usize) -> Result<()> {
        let addr = self.redis.node(1 - number)?.addr()?;
        let (host, port) = addr.split_once(':').context("no port")?;
        let node = self.redis.node(number)?;
        let copies = async || {
            let said = node.cli(&["INFO", "replication"]).await?;
            let follows = said.contains(&format!("master_port:{port}"));
            if !follows {
                node.cli(&["REPLICAOF", host, port]).await?;
            }
            ensure!(follows && said.contains("master_link_status:up"), "{said}");
            Ok(())
        };
        try_eventually(LIMIT, "a replica", async || copies().await.map_err(|error: anyhow::Error| format!("{error:#}")))
            .await
    }
}
