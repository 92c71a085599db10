//! `remember.lua`: what the first calls with their idempotency keys were told.

use crate::accept::first_answer;
use crate::connection::CHUNK;
use crate::fill::by_shard;
use crate::keys::Keys;
use crate::meaning::shard_error;
use crate::routes::Routes;
use crate::script::Script;
use domain::cache::{CacheResult, CacheRules, FirstAnswer};
use std::sync::Arc;

pub(crate) struct Remember(Script);

impl Remember {
    pub(crate) fn new() -> Self {
        Self(Script::new(include_str!("scripts/remember.lua")))
    }

    pub(crate) async fn run(
        &self,
        routes: &Arc<Routes>,
        keys: &Keys,
        rules: &CacheRules,
        answers: &[FirstAnswer],
    ) -> CacheResult<()> {
        let left = |first: &FirstAnswer| rules.idempotency_ttl.saturating_sub(first.age).as_millis();
        let alive: Vec<(&FirstAnswer, u128)> =
            answers.iter().map(|first| (first, left(first))).filter(|(_, left)| *left > 0).collect();
        let groups = by_shard(&alive, |(first, _)| rules.shards.of(first.pair.resource));
        let pieces = groups.iter().flat_map(|(shard, group)| group.chunks(CHUNK).map(move |piece| (shard, piece)));
        let calls = pieces.map(|(shard, piece)| async move {
            let mut call = self.0.call(piece.len() + 1);
            call.arg(keys.clock(*shard));
            for (first, _) in piece {
                call.arg(keys.idempotency(first.pair, &first.key));
            }
            for (first, left) in piece {
                call.arg(first_answer(first)).arg(first.answer.version.0).arg(left.to_string());
            }
            let kept = self.0.run::<i64>(routes, routes.slot(*shard), &call).await;
            kept.map_err(|error| shard_error(error, keys, *shard))
        });
        futures::future::try_join_all(calls).await.map(drop)
    }
}
