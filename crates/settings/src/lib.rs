//! The one configuration file, composed of every part's own section.
//!
//! Each section is defined by the crate that it configures; here they are put together, checked against each other,
//! and turned into what the binaries share ([`Settings::stores`]).

mod alerts;
mod bounds;
pub mod health;
#[cfg(feature = "distributed")]
mod logins;
pub mod old_system;
pub mod presence;
mod programs;
mod remarks;
mod sections;
mod shards;
mod traces;

use cache_manager::RedisConfig;
use consistency::ConsistencyConfig;
use domain::cache::{CacheRules, UserLimit};
use embedded_cache::EmbeddedConfig;
use event_bus::BusConfig;
use event_store::DatabaseConfig;
use service_runtime::{AlertRule, ConfigError, Configured, MonitoringConfig, ServiceConfig};
use std::path::Path;
use sync_engine::SyncConfig;

pub use bounds::Bound;
pub use programs::Program;
pub use sections::{BulkReads, CacheManagement, GlobalLimit, IpLimit, RateLimiting, TokenLimit, UserActionLimit};
pub use service_runtime::ENV_PREFIX;

/// The whole configuration; every key has a default.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Addresses, shutdown.
    pub service: ServiceConfig,
    /// Logs and metrics.
    pub monitoring: MonitoringConfig,
    /// MySQL.
    pub database: DatabaseConfig,
    /// Redis.
    pub redis: RedisConfig,
    /// RabbitMQ.
    pub rabbitmq: BusConfig,
    /// The cache of `standalone`.
    pub embedded_cache: EmbeddedConfig,
    /// How likes travel.
    pub event_driven_sync: SyncConfig,
    /// What the cache keeps, and how long.
    pub cache_management: CacheManagement,
    /// What the checker does.
    pub data_consistency: ConsistencyConfig,
    /// Limits of callers.
    pub rate_limiting: RateLimiting,
}

impl Settings {
    /// Redis, the database and their circuits; connects on first use.
    #[cfg(feature = "distributed")]
    pub async fn stores(&self) -> anyhow::Result<sync_engine::Stores> {
        let (cache, database) = self.open().await?;
        Ok(self.around(cache, database, self.event_driven_sync.shards))
    }

    /// The same for a process that goes on: it works with the number of shards that the data has, and where logins come from files,
    /// these are followed.
    #[cfg(feature = "distributed")]
    pub async fn followed_stores(&self, context: &service_runtime::Context) -> anyhow::Result<sync_engine::Stores> {
        let (cache, database) = self.open().await?;
        let (shards, guessed) = self.shards_of_data(&cache, &database).await;
        let rules = CacheRules { shards, ..self.cache_rules() };
        let cache = std::sync::Arc::new(self.redis.build(rules)?);
        if guessed {
            self.confirm_shards(context, &cache, &database);
        }
        self.follow_stores(context, &cache, &database);
        Ok(self.around(cache, database, shards))
    }

    #[cfg(feature = "distributed")]
    async fn open(&self) -> anyhow::Result<(std::sync::Arc<cache_manager::RedisCache>, event_store::EventStore)> {
        let cache = std::sync::Arc::new(self.redis.build(self.cache_rules())?);
        let database = event_store::EventStore::connect(&self.database).await?;
        let database = database.with_idempotency_ttl(self.event_driven_sync.idempotency_ttl);
        Ok((cache, database.with_change_notes(self.rabbitmq.changes.enabled)))
    }

    #[cfg(feature = "distributed")]
    fn around(
        &self,
        cache: std::sync::Arc<cache_manager::RedisCache>,
        database: event_store::EventStore,
        shards: domain::ShardCount,
    ) -> sync_engine::Stores {
        let sync = &self.event_driven_sync;
        let stores = sync_engine::Stores::new(cache, database, shards, sync.circuit);
        stores.with_recovery(&sync.recovery, sync.journal_limit)
    }

    /// What the cache enforces.
    pub fn cache_rules(&self) -> CacheRules {
        let user = &self.rate_limiting.user_action;
        CacheRules {
            shards: self.event_driven_sync.shards,
            pair_ttl: self.cache_management.default_expiry,
            counter_ttl: self.cache_management.default_expiry,
            unknown_ttl: self.cache_management.unknown_expiry,
            idempotency_ttl: self.event_driven_sync.idempotency_ttl,
            journal_limit: self.event_driven_sync.journal_limit,
            user_limit: user.enabled.then_some(UserLimit { actions: user.max_actions, period: user.window }),
        }
    }
}

impl Configured for Settings {
    fn load(path: Option<&Path>, environment: Vec<(String, String)>) -> Result<Self, ConfigError> {
        service_runtime::load_renamed(path, environment, old_system::RENAMED).map_err(|error| {
            let file = path.and_then(|path| Some((path.display().to_string(), std::fs::read_to_string(path).ok()?)));
            file.and_then(|(name, text)| old_system::explain(&name, &text)).unwrap_or(error)
        })
    }

    fn service(&self) -> &ServiceConfig {
        &self.service
    }

    fn monitoring(&self) -> &MonitoringConfig {
        &self.monitoring
    }

    fn alert_rules(&self) -> &'static [AlertRule] {
        alerts::RULES
    }

    fn remarks(&self, environment: &[(String, String)]) -> Vec<String> {
        self.remarks_of(environment)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let split = |error: String| {
            let (key, reason) = error.split_once(": ").unwrap_or(("configuration", &error));
            ConfigError::key(key.to_owned(), reason.to_owned())
        };
        self.bounds().into_iter().try_for_each(Bound::check).map_err(split)?;
        self.event_driven_sync.validate().map_err(split)?;
        self.database.validate().map_err(split)?;
        self.redis.validate().map_err(split)?;
        self.database.validate_hosts().map_err(split)?;
        self.rabbitmq.validate().map_err(|error| split(format!("rabbitmq.{error}")))?;
        self.embedded_cache.validate().map_err(split)?;
        self.cache_management.validate().map_err(split)?;
        self.data_consistency.validate().map_err(split)?;
        if self.data_consistency.history >= self.event_driven_sync.retention.tombstones {
            let reason = "must be shorter than event_driven_sync.retention.tombstones";
            return Err(ConfigError::key("data_consistency.history".to_owned(), reason.to_owned()));
        }
        if self.data_consistency.history >= self.event_driven_sync.retention.behaviors {
            let reason = "must be shorter than event_driven_sync.retention.behaviors";
            return Err(ConfigError::key("data_consistency.history".to_owned(), reason.to_owned()));
        }
        // Below that the interval between two actions is nothing, and there is no limit.
        let per_user = &self.rate_limiting.user_action;
        if per_user.window.as_micros() < u128::from(per_user.max_actions) {
            let reason = "must be at least a microsecond for each of rate_limiting.user_action.max_actions";
            return Err(ConfigError::key("rate_limiting.user_action.window".to_owned(), reason.to_owned()));
        }
        self.rate_limiting.validate().map_err(split)
    }
}
