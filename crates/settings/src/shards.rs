//! Which number of shards a process works with: what the data has, and what is configured where there is no data yet.

use crate::Settings;
use domain::ShardCount;

#[cfg(feature = "distributed")]
use {
    cache_manager::RedisCache,
    event_store::EventStore,
    service_runtime::Context,
    std::sync::Arc,
    std::time::Duration,
    tokio::time::{sleep, timeout},
};

/// A store that is slower is taken to be unreachable.
#[cfg(feature = "distributed")]
const PATIENCE: Duration = Duration::from_secs(2);

/// Between two questions where no store has answered yet.
#[cfg(feature = "distributed")]
const PAUSE: Duration = Duration::from_secs(1);

impl Settings {
    /// The number for data that has this one recorded, if any.
    ///
    /// The default is a wish for new data. Any other number is meant for the data that it was written for, so a program that meets
    /// another one does not start; unless that was resharded, which a configuration need not know.
    pub fn shards_where(&self, recorded: Option<ShardCount>) -> ShardCount {
        let configured = self.event_driven_sync.shards;
        recorded.filter(|stored| configured == ShardCount::default() || stored.epoch() > 0).unwrap_or(configured)
    }

    /// The number for the data of these stores, and whether it is a guess: the database has said nothing, nor a cache that knows. The
    /// process ends when the guess turns out to be wrong, and until it is confirmed accepts nothing where no number is recorded.
    #[cfg(feature = "distributed")]
    pub(crate) async fn shards_of_data(&self, cache: &RedisCache, database: &EventStore) -> (ShardCount, bool) {
        let configured = self.event_driven_sync.shards;
        let Some(recorded) = recorded(cache, database).await else { return (configured, true) };
        let shards = self.shards_where(recorded);
        if shards != configured {
            tracing::info!(
                shards = shards.get(),
                configured = configured.get(),
                "working with the number of shards of the data"
            );
        }
        (shards, false)
    }

    /// Asks until the guess is confirmed; an error, and the end of the process, if it was wrong.
    #[cfg(feature = "distributed")]
    pub(crate) fn confirm_shards(&self, context: &Context, cache: &Arc<RedisCache>, database: &EventStore) {
        let guess = self.event_driven_sync.shards;
        let (settings, cache, database) = (self.clone(), Arc::clone(cache), database.clone());
        let stop = context.soft.clone();
        cache.guessing(true);
        context.spawn("finding out the number of shards", async move {
            let found = async {
                loop {
                    sleep(PAUSE).await;
                    if let Some(recorded) = recorded(&cache, &database).await {
                        return settings.shards_where(recorded);
                    }
                }
            };
            tokio::select! {
                () = stop.cancelled() => Ok(()),
                found = found => {
                    let found_count = found.get();
                    anyhow::ensure!(found == guess, "the data has {found_count} shards, which no store could say at start");
                    cache.guessing(false);
                    Ok(())
                }
            }
        });
    }
}

/// What is recorded: none within if there is no data yet. Of two the later one holds: the other one was lost again, or is about to
/// follow. An empty cache alone says nothing: it may have been emptied, and the data be in the database.
#[cfg(feature = "distributed")]
async fn recorded(cache: &RedisCache, database: &EventStore) -> Option<Option<ShardCount>> {
    let (of_cache, of_database) =
        tokio::join!(timeout(PATIENCE, cache.recorded_shards()), timeout(PATIENCE, database.shards_if_any()));
    let (of_cache, of_database) = (of_cache.ok().and_then(Result::ok), of_database.ok().and_then(Result::ok));
    match (of_cache, of_database) {
        (None | Some(None), None) => None,
        (of_cache, of_database) => {
            let answered = [of_cache.flatten(), of_database.flatten()];
            Some(answered.into_iter().flatten().max_by_key(|shards| shards.epoch()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_keeps_its_number_and_a_wrong_one_is_not_followed() {
        let number = |number| ShardCount::new(number).unwrap();
        let resharded = number(16).resharded_to(64).unwrap();
        let mut settings = Settings::default();
        assert_eq!(settings.shards_where(None), number(64));
        assert_eq!(settings.shards_where(Some(number(16))), number(16));
        assert_eq!(settings.shards_where(Some(resharded)), resharded);
        settings.event_driven_sync.shards = number(16);
        assert_eq!(settings.shards_where(None), number(16));
        // It does not start.
        assert_eq!(settings.shards_where(Some(number(32))), number(16));
        assert_eq!(settings.shards_where(Some(resharded)), resharded);
    }
}
