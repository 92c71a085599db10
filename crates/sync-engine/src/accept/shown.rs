//! What a caller is about to be told is what this server shows from then on: see [`near_cache`](crate::stores::near_cache).

use super::Acceptor;
use domain::LikeIntent;
use domain::cache::{AcceptOutcome, AcceptRequest, Answer, CacheResult};
use std::sync::atomic::Ordering;
use tokio::time::Instant;

impl Acceptor {
    /// The cache was asked after `asked`.
    pub(super) fn show(&self, request: &AcceptRequest, outcome: &CacheResult<AcceptOutcome>, asked: Instant) {
        let Some(near) = &self.stores.near_cache else { return };
        let resource = request.intent.pair.resource;
        match outcome {
            Ok(AcceptOutcome::Accepted(Answer { count: Some(count), version })) => {
                near.accepted(resource, *count, *version, near.at(asked), near.now());
            }
            // The like that it repeats may be on its way through another server at the same time.
            Ok(AcceptOutcome::Unchanged(Answer { count: Some(count), .. })) => {
                near.told(resource, *count, near.at(asked), near.now());
            }
            // With the count of that time, or none; what failed may have taken effect.
            Ok(
                AcceptOutcome::Accepted(_)
                | AcceptOutcome::Unchanged(_)
                | AcceptOutcome::Repeated { .. }
                | AcceptOutcome::Unconfirmed { .. },
            )
            | Err(_) => near.forget(resource, near.now()),
            Ok(_) => {}
        }
    }

    /// These may have been written around the cache.
    pub(super) fn show_no_longer(&self, intents: &[LikeIntent]) {
        self.stores.written_around.fetch_add(1, Ordering::Release);
        if let Some(near) = &self.stores.near_cache {
            intents.iter().for_each(|intent| near.forget(intent.pair.resource, near.now()));
        }
    }
}
