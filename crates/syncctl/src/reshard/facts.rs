//! Where database and cache stand, and whether they belong together.

use super::under_way::{NOTE, UnderWay};
use anyhow::{Context, ensure};
use cache_manager::RedisCache;
use domain::{ShardCount, WritePath};
use event_store::EventStore;
use settings::Settings;

/// What both stores say before anything is done; nothing is written for that.
pub(super) struct Facts {
    pub(super) stored: ShardCount,
    /// Whether a note says that one is under way.
    pub(super) is_noted: bool,
    in_cache: Option<ShardCount>,
    path: Option<WritePath>,
    noted: Option<UnderWay>,
    prefix: String,
}

impl Facts {
    pub(super) async fn read(settings: &Settings, database: &EventStore) -> anyhow::Result<Self> {
        let stored = database.shards().await?;
        let stored = stored.context("the database has no number of shards: no service has ever used it")?;
        let in_cache = cache(settings, stored)?.recorded_shards().await.context("cache")?;
        let noted = database.note(NOTE).await?.map(|text| UnderWay::read(&text)).transpose()?;
        let path = database.write_path().await?;
        let is_noted = noted.is_some();
        Ok(Self { stored, is_noted, in_cache, path, noted, prefix: settings.redis.key_prefix.clone() })
    }

    /// What is to be done; nothing if the data has that number already.
    ///
    /// This must be the cache of that database: the journals of another one are empty, and whatever stands in the right ones would be
    /// left there. Its own record says so. Only of a reshard that is under way, which has looked before, it may have been lost.
    pub(super) fn under_way(&self, to: u16) -> anyhow::Result<Option<UnderWay>> {
        let Self { stored, is_noted: _, in_cache, path, noted, prefix } = self;
        let said = in_cache.map_or_else(|| "none".to_owned(), |shards| shards.to_string());
        if let Some(noted) = noted {
            ensure!(
                noted.to.get() == to,
                "a reshard to {0} is under way: syncctl reshard --to {0} ends it",
                noted.to.get()
            );
            let known = |shards: &ShardCount| *shards == noted.from || *shards == noted.to;
            ensure!(
                known(stored) && in_cache.as_ref().is_none_or(known),
                "under way is a reshard from {} to {}, and the database has {stored} shards, the cache {said}: another Redis or \
                 --redis-prefix was meant",
                noted.from,
                noted.to
            );
            return Ok(Some(*noted));
        }
        // The note is lost, and how far it was: only the database has the number. Whether this is that cache, its shards say.
        if let Some(from) = in_cache
            && stored.get() == to
            && stored.epoch() == from.epoch() + 1
        {
            return Ok(Some(UnderWay { from: *from, to: *stored, path: *path, sealing: true }));
        }
        ensure!(
            *in_cache == Some(*stored),
            "the database has {stored} shards, the cache under the prefix {prefix:?} {said}: another Redis or --redis-prefix was meant; \
             if it was emptied, or one of both is an older copy, start a server first"
        );
        if stored.get() == to {
            return Ok(None);
        }
        Ok(Some(UnderWay { from: *stored, to: stored.resharded_to(to)?, path: *path, sealing: false }))
    }
}

/// The cache with so many shards.
pub(super) fn cache(settings: &Settings, shards: ShardCount) -> anyhow::Result<RedisCache> {
    let mut settings = settings.clone();
    settings.event_driven_sync.shards = shards;
    Ok(settings.redis.build(settings.cache_rules())?)
}
