//! Where the cache is, for commands that need no server.

use clap::Args;
use std::path::PathBuf;

/// Where the cache is.
#[derive(Debug, Args)]
pub(crate) struct CacheArgs {
    /// Cache, for example redis://host:6379.
    #[arg(long, env = "REDIS_URL", help_heading = "Stores", hide_env_values = true)]
    redis_url: String,
    /// The cache is a Redis Cluster, of which the url names a node.
    #[arg(long, env = "REDIS_CLUSTER", help_heading = "Stores")]
    redis_cluster: bool,
    /// Authority of a rediss:// url, PEM; else the public ones.
    #[arg(long, env = "REDIS_CA_FILE", help_heading = "Stores")]
    redis_ca_file: Option<PathBuf>,
    /// What all keys of the cache start with.
    #[arg(long, env = "REDIS_PREFIX", help_heading = "Stores", default_value = "")]
    redis_prefix: String,
}

#[cfg(feature = "distributed")]
impl CacheArgs {
    /// As the configuration says it.
    pub(crate) fn tell(&self, redis: &mut cache_manager::RedisConfig) {
        redis.url = self.redis_url.clone().into();
        redis.cluster = self.redis_cluster;
        redis.ca_file.clone_from(&self.redis_ca_file);
        redis.key_prefix.clone_from(&self.redis_prefix);
    }

    /// Which one: never a user, a password or an option.
    pub(crate) fn which(&self) -> String {
        let cache = match domain::StoreUrl::parse(&self.redis_url, &["redis", "rediss"]) {
            Ok(url) => {
                let place = domain::addresses::join(&url.host, url.port.unwrap_or(6379));
                let number = url.path.as_deref().filter(|number| !number.is_empty()).unwrap_or("0");
                if self.redis_cluster {
                    format!("the cluster of {place}")
                } else {
                    format!("{place} database {number}")
                }
            }
            Err(_) => "unknown".to_owned(),
        };
        let prefix = match self.redis_prefix.as_str() {
            "" => "keys without a prefix".to_owned(),
            prefix => format!("keys that begin with {prefix:?}"),
        };
        format!("Redis {cache}, {prefix}")
    }
}
