//! A Redis Cluster, three brokers, a database with a replica: with the profile `cluster`.
//!
//! The programs know all nodes, and find out by themselves who has what. No link stands between: clients of a cluster go where
//! its nodes say that they are.

use crate::groups::BROKERS;
use crate::kinds::{Loss, NodeId};
use crate::redis;
use crate::rig::{Rig, lock};
use crate::served::Absence;
use crate::watch;
use anyhow::{Context, Result};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use test_support::{
    Deployment, DeploymentBuilder, MariaDbGroup, MariaDbOptions, RabbitMq, RabbitMqGroup, RedisCluster, RedisOptions,
};
use tokio::time::sleep;
use traffic::history::now_micros;

const PRIMARIES: usize = 3;

/// Of a slot whose time to move is over, in one step.
const KEYS_AT_LAST: usize = 1_000;

/// Between the steps of a slot that moves.
const STEP: Duration = Duration::from_millis(5);

/// After it nobody waits any more for the half that is left.
const PATIENCE: Duration = Duration::from_secs(40);

/// The half that is left stays alone for so long after it works as usual.
const ALONE: Duration = Duration::from_secs(2);

pub(crate) struct Cluster {
    redis: RedisCluster,
    mariadb: MariaDbGroup,
    rabbitmq: RabbitMqGroup,
    /// The broker that dies next.
    broker: AtomicUsize,
}

impl Cluster {
    pub(crate) async fn start() -> Result<Self> {
        let redis = RedisCluster::start(RedisOptions::default(), PRIMARIES, true).await?;
        let options = MariaDbOptions { durable: false, ..MariaDbOptions::default() };
        let mariadb = MariaDbGroup::start(options, 1).await?;
        let rabbitmq = RabbitMqGroup::start(BROKERS).await?;
        Ok(Self { redis, mariadb, rabbitmq, broker: AtomicUsize::new(0) })
    }

    /// A deployment that comes here.
    pub(crate) fn at(&self, deployment: DeploymentBuilder) -> Result<DeploymentBuilder> {
        let (redis, mariadb) = (self.redis.node(0)?, self.mariadb.node(0)?);
        Ok(deployment.at(redis.url(), mariadb.url(), self.rabbitmq.node(0)?.url()))
    }

    /// Programs know every node.
    pub(crate) fn known_to(&self, deployment: Deployment) -> Result<Deployment> {
        let (redis, brokers) = (self.redis.addrs()?.join(","), self.rabbitmq.addrs()?.join(","));
        let deployment = deployment.with("REDIS__CLUSTER", "true").with("REDIS__NODES", redis);
        let replica = self.mariadb.node(1)?.addr()?;
        Ok(deployment.with("RABBITMQ__HOSTS", brokers).with("DATABASE__REPLICAS", replica))
    }

    /// Where Redis answers.
    pub(crate) fn redis_addrs(&self) -> Result<Vec<String>> {
        let running = (0..2 * PRIMARIES).map(|number| self.redis.node(number)).filter(|node| {
            // One that is away is no error: the others have its shards.
            node.as_ref().map_or(true, |node| node.pid().is_some())
        });
        running.map(|node| node?.addr()).collect()
    }

    /// Logs of all nodes.
    pub(crate) fn logs(&self) -> Vec<(String, String)> {
        let redis = (0..2 * PRIMARIES).filter_map(|at| Some((format!("redis{at}"), self.redis.node(at).ok()?.log())));
        let mariadb = (0..2).filter_map(|at| Some((format!("mariadb{at}"), self.mariadb.node(at).ok()?.log())));
        let rabbitmq =
            (0..BROKERS).filter_map(|at| Some((format!("rabbitmq{at}"), self.rabbitmq.node(at).ok()?.log())));
        redis.chain(mariadb).chain(rabbitmq).collect()
    }

    /// A broker dies and comes back: each in its turn.
    pub(crate) async fn kill_broker_node(&self, lasts: Duration) -> Result<()> {
        let node = self.rabbitmq.node(self.next_broker())?;
        node.kill9()?;
        sleep(lasts).await;
        self.broker_comes_back(node).await
    }

    /// On a busy machine it may be too late the first time, and is ended then.
    async fn broker_comes_back(&self, node: &RabbitMq) -> Result<()> {
        if node.restart().await.is_err() {
            node.restart().await?;
        }
        self.rabbitmq.all_run(BROKERS).await
    }

    fn next_broker(&self) -> usize {
        self.broker.fetch_add(1, Ordering::Relaxed) % BROKERS
    }

    /// The primary dies, its replica is elected, and it comes back as a replica.
    pub(crate) async fn lose_primary(&self, rig: &Rig, loss: Loss) -> Result<()> {
        let primary = self.redis.primary_of(&journal(loss.shard)).await?;
        let replica = self.redis.replica_of(primary).await?;
        let shards = redis::shards_of(&self.redis.node(primary)?.addr()?).await?;
        if !loss.behind.is_zero() {
            self.redis.falls_behind(replica).await?;
            sleep(loss.behind).await;
        }
        let begin = now_micros();
        self.redis.node(primary)?.kill9()?;
        self.redis.elected(replica).await?;
        let elected = now_micros();
        self.redis.comes_back(primary, loss.empty).await?;
        lock(&rig.absences).push(Absence { begin, elected, end: now_micros(), shards, half: false });
        Ok(())
    }

    /// Few keys at a time for so long, then what is left.
    pub(crate) async fn move_slot(&self, rig: &Rig, shard: u16, keys: usize, lasts: Duration) -> Result<()> {
        let key = journal(shard);
        let from = self.redis.primary_of(&key).await?;
        let primaries = self.redis.primaries().await?;
        let others: Vec<usize> = primaries.into_iter().filter(|number| *number != from).collect();
        let to = *others.get(usize::from(shard) % others.len().max(1)).context("no other primary")?;
        let began = Instant::now();
        self.redis.begin_move(&key, from, to).await?;
        let some = || if began.elapsed() < lasts { keys } else { KEYS_AT_LAST };
        while self.redis.move_some(&key, from, to, some()).await? {
            sleep(STEP).await;
        }
        self.redis.end_move(&key, from, to).await?;
        lock(&rig.notes).push(format!("move_slot of shard {shard}: {:.1} s", began.elapsed().as_secs_f64()));
        Ok(())
    }

    /// One of the brokers, of the primaries, of the databases and of each of our programs dies in the same moment. What is left
    /// must work as usual soon after the elections, before anything of the rest is back.
    pub(crate) async fn lose_half(&self, rig: &Rig, shard: u16, lasts: Duration) -> Result<()> {
        let primary = self.redis.primary_of(&journal(shard)).await?;
        let replica = self.redis.replica_of(primary).await?;
        let shards = redis::shards_of(&self.redis.node(primary)?.addr()?).await?;
        let (broker, database) = (self.rabbitmq.node(self.next_broker())?, self.mariadb.node(1)?);
        let (gone, left): (Vec<NodeId>, Vec<NodeId>) = NodeId::all().partition(|id| id.is_twin(shard));
        let began = Instant::now();
        let begin = now_micros();
        self.redis.node(primary)?.kill9()?;
        broker.kill9()?;
        database.kill9()?;
        for id in &gone {
            rig.node(*id).kill9()?;
        }
        self.redis.elected(replica).await?;
        let elected = now_micros();
        let well = watch::converged(rig, &left, PATIENCE).await;
        match &well {
            Ok(took) => {
                let took = took.as_secs_f64();
                lock(&rig.halves).push(took);
                lock(&rig.notes).push(format!("lose_half with shard {shard}: well {took:.1} s after the election"));
            }
            Err(problem) => lock(&rig.findings).push(format!("half of all: not well: {problem}")),
        }
        sleep(ALONE.max(lasts.saturating_sub(began.elapsed()))).await;
        let end = now_micros();
        for id in &gone {
            rig.node(*id).process().restart()?;
        }
        let rest = async {
            database.restart().await?;
            self.broker_comes_back(broker).await?;
            self.mariadb.caught_up(1, 0).await
        };
        let (redis, rest) = tokio::join!(self.redis.comes_back(primary, false), rest);
        redis.and(rest)?;
        lock(&rig.absences).push(Absence { begin, elected, end, shards, half: true });
        Ok(())
    }
}

/// A key of the shard's slot.
fn journal(shard: u16) -> String {
    format!("{{s{shard}}}:j")
}
