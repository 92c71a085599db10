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

pub(crate) struct Stores {
    redis: RedisNodes,
    others: Others,
}

enum RedisNodes {
    One(Box<Redis>),
    Cluster { cluster: Box<RedisCluster>, primaries: usize, nodes: usize },
}

enum Others {
    Single { mariadb: Box<MariaDb>, rabbitmq: Box<RabbitMq> },
    Groups { mariadb: Box<MariaDbGroup>, rabbitmq: Box<RabbitMqGroup> },
}

impl Stores {
    /// One node of each, or several; of Redis so many primaries without replicas, if that is said.
    pub(crate) async fn start(single: bool, primaries: Option<usize>) -> Result<Self> {
        let redis = RedisOptions::default();
        let cluster = async |primaries, replicas: bool| {
            let cluster = Box::new(RedisCluster::start(redis, primaries, replicas).await?);
            let nodes = if replicas { 2 * primaries } else { primaries };
            anyhow::Ok(RedisNodes::Cluster { cluster, primaries, nodes })
        };
        let redis = match primaries {
            Some(primaries) => cluster(primaries, false).await?,
            None if single => RedisNodes::One(Box::new(Redis::start(redis).await?)),
            None => cluster(PRIMARIES, true).await?,
        };
        // Its disk is that of all others, which no measurement here means.
        let mariadb = MariaDbOptions { durable: false, ..MariaDbOptions::default() };
        let others = if single {
            Others::Single {
                mariadb: Box::new(MariaDb::start_with(mariadb).await?),
                rabbitmq: Box::new(RabbitMq::start().await?),
            }
        } else {
            Others::Groups {
                mariadb: Box::new(MariaDbGroup::start(mariadb, REPLICAS).await?),
                rabbitmq: Box::new(RabbitMqGroup::start(BROKERS).await?),
            }
        };
        Ok(Self { redis, others })
    }

    /// The nodes that take commands of clients come first.
    pub(crate) fn redis(&self) -> Result<Vec<&Redis>> {
        match &self.redis {
            RedisNodes::One(redis) => Ok(vec![redis]),
            RedisNodes::Cluster { cluster, nodes, .. } => (0..*nodes).map(|number| cluster.node(number)).collect(),
        }
    }

    /// How many of [`Stores::redis`] take commands of clients.
    pub(crate) const fn redis_primaries(&self) -> usize {
        match &self.redis {
            RedisNodes::One(_) => 1,
            RedisNodes::Cluster { primaries, .. } => *primaries,
        }
    }

    pub(crate) fn mariadb(&self) -> Result<Vec<&MariaDb>> {
        match &self.others {
            Others::Single { mariadb, .. } => Ok(vec![mariadb]),
            Others::Groups { mariadb, .. } => (0..=REPLICAS).map(|number| mariadb.node(number)).collect(),
        }
    }

    pub(crate) fn rabbitmq(&self) -> Result<Vec<&RabbitMq>> {
        match &self.others {
            Others::Single { rabbitmq, .. } => Ok(vec![rabbitmq]),
            Others::Groups { rabbitmq, .. } => (0..BROKERS).map(|number| rabbitmq.node(number)).collect(),
        }
    }

    pub(crate) fn at(&self, deployment: DeploymentBuilder) -> Result<DeploymentBuilder> {
        let (redis, mariadb, rabbitmq) = (self.redis()?[0], self.mariadb()?[0], self.rabbitmq()?[0]);
        Ok(deployment.at(redis.url(), mariadb.url(), rabbitmq.url()))
    }

    /// Where all nodes are, in the programs' keys.
    pub(crate) fn settings(&self) -> Result<Vec<(&'static str, String)>> {
        let mut settings = Vec::new();
        if let RedisNodes::Cluster { cluster, .. } = &self.redis {
            settings.push(("REDIS__CLUSTER", "true".to_owned()));
            settings.push(("REDIS__NODES", cluster.addrs()?.join(",")));
        }
        if let Others::Groups { mariadb, rabbitmq } = &self.others {
            settings.push(("DATABASE__REPLICAS", mariadb.addrs()?[1..].join(",")));
            settings.push(("RABBITMQ__HOSTS", rabbitmq.addrs()?.join(",")));
        }
        Ok(settings)
    }
}
