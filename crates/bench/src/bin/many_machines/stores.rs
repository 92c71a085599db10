//! What the programs stand on.

use anyhow::Result;
use test_support::{
    DeploymentBuilder, MariaDb, MariaDbGroup, MariaDbOptions, RabbitMq, RabbitMqGroup, Redis, RedisCluster,
    RedisOptions,
};

/// Primaries of Redis, each with a replica.
const PRIMARIES: usize = 3;

const BROKERS: usize = 3;

/// Of the database.
const REPLICAS: usize = 2;

pub(crate) enum Stores {
    Single { redis: Box<Redis>, mariadb: Box<MariaDb>, rabbitmq: Box<RabbitMq> },
    Groups { redis: Box<RedisCluster>, mariadb: Box<MariaDbGroup>, rabbitmq: Box<RabbitMqGroup> },
}

impl Stores {
    pub(crate) async fn start(single: bool) -> Result<Self> {
        let redis = RedisOptions::default();
        // Its disk is that of all others, which no measurement here means.
        let mariadb = MariaDbOptions { durable: false, ..MariaDbOptions::default() };
        Ok(if single {
            Self::Single {
                redis: Box::new(Redis::start(redis).await?),
                mariadb: Box::new(MariaDb::start_with(mariadb).await?),
                rabbitmq: Box::new(RabbitMq::start().await?),
            }
        } else {
            Self::Groups {
                redis: Box::new(RedisCluster::start(redis, PRIMARIES, true).await?),
                mariadb: Box::new(MariaDbGroup::start(mariadb, REPLICAS).await?),
                rabbitmq: Box::new(RabbitMqGroup::start(BROKERS).await?),
            }
        })
    }

    /// The nodes that take commands of clients come first.
    pub(crate) fn redis(&self) -> Result<Vec<&Redis>> {
        match self {
            Self::Single { redis, .. } => Ok(vec![redis]),
            Self::Groups { redis, .. } => (0..2 * PRIMARIES).map(|number| redis.node(number)).collect(),
        }
    }

    /// How many of [`Stores::redis`] take commands of clients.
    pub(crate) const fn redis_primaries(&self) -> usize {
        match self {
            Self::Single { .. } => 1,
            Self::Groups { .. } => PRIMARIES,
        }
    }

    pub(crate) fn mariadb(&self) -> Result<Vec<&MariaDb>> {
        match self {
            Self::Single { mariadb, .. } => Ok(vec![mariadb]),
            Self::Groups { mariadb, .. } => (0..=REPLICAS).map(|number| mariadb.node(number)).collect(),
        }
    }

    pub(crate) fn rabbitmq(&self) -> Result<Vec<&RabbitMq>> {
        match self {
            Self::Single { rabbitmq, .. } => Ok(vec![rabbitmq]),
            Self::Groups { rabbitmq, .. } => (0..BROKERS).map(|number| rabbitmq.node(number)).collect(),
        }
    }

    pub(crate) fn at(&self, deployment: DeploymentBuilder) -> Result<DeploymentBuilder> {
        let (redis, mariadb, rabbitmq) = (self.redis()?[0], self.mariadb()?[0], self.rabbitmq()?[0]);
        Ok(deployment.at(redis.url(), mariadb.url(), rabbitmq.url()))
    }

    /// Where all nodes are, in the programs' keys.
    pub(crate) fn settings(&self) -> Result<Vec<(&'static str, String)>> {
        let Self::Groups { redis, mariadb, rabbitmq } = self else { return Ok(Vec::new()) };
        Ok(vec![
            ("REDIS__CLUSTER", "true".to_owned()),
            ("REDIS__NODES", redis.addrs()?.join(",")),
            ("DATABASE__REPLICAS", mariadb.addrs()?[1..].join(",")),
            ("RABBITMQ__HOSTS", rabbitmq.addrs()?.join(",")),
        ])
    }
}
