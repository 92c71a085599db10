//! The stores themselves, for commands that need no server.

use crate::UsageError;
use anyhow::{Context, bail, ensure};
use settings::Settings;
use sync_engine::Stores;

/// Of these addresses. The database's schema must be current, and the cache must hold the database's number of shards.
pub(crate) async fn stores(settings: &mut Settings) -> anyhow::Result<Stores> {
    settings.database.validate().map_err(UsageError)?;
    settings.redis.validate().map_err(UsageError)?;
    let database = event_store::EventStore::connect(&settings.database).await?;
    let pending = database.pending_migrations().await.context("could not read the state of the schema")?;
    ensure!(pending.is_empty(), "the schema is not current: syncctl migrate, or another database was meant");
    let shards = database.shards().await?;
    settings.rabbitmq.changes.enabled = database.change_notes_ordered().await?;
    database.close().await;
    let Some(shards) = shards else { bail!("the database has no number of shards: no service has ever used it") };
    settings.event_driven_sync.shards = shards;
    // What these commands commit is settled at once, unless a recovery is under way.
    settings.event_driven_sync.recovery.automatic = false;
    let stores = settings.stores().await?;
    stores.cache.prepare().await.context("cache")?;
    stores.cache.ping().await.context("cache")?;
    Ok(stores)
}
