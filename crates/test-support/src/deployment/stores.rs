//! Which servers a deployment stands on.

use crate::{MariaDb, MariaDbOptions, RabbitMq, Redis, RedisOptions, fresh_database, shared};
use anyhow::Result;
use std::ops::Deref;

/// Where one store comes from.
#[derive(Debug, Clone, Default)]
pub(super) enum Source {
    /// The one that all tests of the process share.
    #[default]
    Shared,
    /// One that dies with the deployment.
    Own,
    /// Somebody else's, at this address.
    At(String),
    Absent,
}

#[derive(Debug, Default)]
pub(super) struct Choices {
    pub(super) redis: Source,
    /// Of a redis of its own.
    pub(super) redis_options: RedisOptions,
    pub(super) mariadb: Source,
    /// More arguments of a mariadb of its own.
    pub(super) mariadb_arguments: &'static [&'static str],
    pub(super) rabbitmq: Source,
    /// Disks and clocks of one's own stores can fail.
    pub(super) preload: bool,
}

/// A server that is shared, or goes with this value.
#[derive(Debug)]
pub(super) enum Held<T: 'static> {
    Shared(&'static T),
    Own(T),
}

impl<T> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self {
            Self::Shared(server) => server,
            Self::Own(server) => server,
        }
    }
}

#[derive(Debug)]
pub(super) struct Stores {
    pub(super) redis: Option<Held<Redis>>,
    pub(super) mariadb: Option<Held<MariaDb>>,
    pub(super) rabbitmq: Option<Held<RabbitMq>>,
    /// Address of a schema of its own.
    pub(super) database_url: Option<String>,
}

impl Stores {
    pub(super) async fn start(choices: &Choices) -> Result<Self> {
        let redis = async {
            Ok::<_, anyhow::Error>(match &choices.redis {
                Source::Shared => Some(Held::Shared(shared::redis().await?)),
                Source::Own => Some(Held::Own(
                    Redis::start(RedisOptions { preload: choices.preload, ..choices.redis_options }).await?,
                )),
                Source::At(url) => Some(Held::Own(Redis::external(url))),
                Source::Absent => None,
            })
        };
        let mariadb = async {
            Ok::<_, anyhow::Error>(match &choices.mariadb {
                Source::Shared => Some(Held::Shared(shared::mariadb().await?)),
                // Survives every kill of the process, and leaves the disk to others.
                Source::Own => {
                    let options = MariaDbOptions { durable: false, preload: choices.preload };
                    Some(Held::Own(MariaDb::start_with_arguments(options, choices.mariadb_arguments).await?))
                }
                Source::At(url) => Some(Held::Own(MariaDb::external(url))),
                Source::Absent => None,
            })
        };
        let rabbitmq = async {
            Ok::<_, anyhow::Error>(match &choices.rabbitmq {
                Source::Shared => Some(Held::Shared(shared::rabbitmq().await?)),
                Source::Own if choices.preload => Some(Held::Own(RabbitMq::start_preloaded().await?)),
                Source::Own => Some(Held::Own(RabbitMq::start().await?)),
                Source::At(url) => Some(Held::Own(RabbitMq::external(url))),
                Source::Absent => None,
            })
        };
        let (redis, mariadb, rabbitmq) = tokio::try_join!(redis, mariadb, rabbitmq)?;
        let database_url = match &mariadb {
            Some(mariadb) => Some(fresh_database(mariadb.url()).await?),
            None => None,
        };
        Ok(Self { redis, mariadb, rabbitmq, database_url })
    }
}
