//! Links between programs and their stores, for a test to cut.

use super::Deployment;
use crate::Proxy;
use anyhow::Result;

/// A link to each store of a deployment; see [`Deployment::through`].
#[derive(Debug)]
pub struct Links {
    /// To Redis.
    pub redis: Proxy,
    /// To MariaDB.
    pub mariadb: Proxy,
    /// To RabbitMQ.
    pub rabbitmq: Proxy,
}

impl Links {
    /// New ones, which carry what they are given.
    pub async fn to(deployment: &Deployment) -> Result<Self> {
        Ok(Self {
            redis: Proxy::start(deployment.redis().addr()?).await?,
            mariadb: Proxy::start(deployment.mariadb().addr()?).await?,
            rabbitmq: Proxy::start(deployment.rabbitmq().addr()?).await?,
        })
    }

    /// Cuts all.
    pub async fn cut(&self) {
        tokio::join!(self.redis.cut(), self.mariadb.cut(), self.rabbitmq.cut());
    }
}
