//! Pooled connections of background work.

use crate::primary::Primary;
use deadpool::managed::{Manager, Metrics, RecycleError, RecycleResult};
use deadpool_redis::redis::RedisError;
use deadpool_redis::redis::aio::MultiplexedConnection;
use std::sync::Arc;

pub(crate) type Pool = deadpool::managed::Pool<Pooled>;

/// Opens connections to the primary, and asks those that rest whether they live and still lead there.
pub(crate) struct Pooled(pub(crate) Arc<Primary>);

impl Manager for Pooled {
    type Type = (MultiplexedConnection, u64);
    type Error = RedisError;

    async fn create(&self) -> Result<(MultiplexedConnection, u64), RedisError> {
        self.0.connect().await
    }

    async fn recycle(
        &self,
        (connection, generation): &mut (MultiplexedConnection, u64),
        _: &Metrics,
    ) -> RecycleResult<RedisError> {
        if *generation != self.0.generation() {
            return Err(RecycleError::message("of a former generation"));
        }
        Ok(self.0.may_be_used(connection, *generation).await?)
    }
}
