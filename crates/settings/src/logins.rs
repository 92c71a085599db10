//! Logins of stores that come from files: what stands there later is valid from then on, without a restart.

use crate::Settings;
use cache_manager::RedisCache;
use event_store::EventStore;
use service_runtime::Context;
use std::sync::Arc;

impl Settings {
    /// Follows the files of database and Redis.
    pub(crate) fn follow_stores(&self, context: &Context, cache: &Arc<RedisCache>, database: &EventStore) {
        if let Some(file) = &self.database.url_file {
            let database = database.clone();
            context.follow_url("mysql_login", "database.url_file", file, self.database.url.clone(), move |url| {
                let database = database.clone();
                async move { database.renew_login(&url).await.map_err(|error| error.to_string()) }
            });
        }
        if let Some(file) = &self.redis.url_file {
            let cache = Arc::clone(cache);
            context.follow_url("redis_login", "redis.url_file", file, self.redis.url.clone(), move |url| {
                let cache = Arc::clone(&cache);
                async move { cache.renew_login(url).await.map_err(|error| error.to_string()) }
            });
        }
    }

    /// Follows the file of RabbitMQ, for who talks to it.
    pub fn follow_broker(&self, context: &Context) {
        let Some(file) = &self.rabbitmq.url_file else { return };
        let bus = self.rabbitmq.clone();
        context.follow_url("rabbitmq_login", "rabbitmq.url_file", file, bus.url.clone(), move |url| {
            let bus = bus.clone();
            async move { bus.renew_login(url).await.map_err(|error| error.to_string()) }
        });
    }
}
