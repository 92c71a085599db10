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
            // As good as a read: the like that it repeats may be of another server, but it was answered before this call.
            Ok(AcceptOutcome::Unchanged(Answer { count: Some(count), .. })) => {
                near.learn(resource, *count, near.at(asked));
            }
            Ok(AcceptOutcome::Unchanged(_) | AcceptOutcome::Repeated { .. }) => near.forget(resource, near.at(asked)),
            // It may have taken effect.
            Ok(AcceptOutcome::Accepted(_) | AcceptOutcome::Unconfirmed { .. }) | Err(_) => {
                near.forget(resource, near.now());
            }
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
