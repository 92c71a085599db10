//! Pairs under names of a former number of shards: for an hour after a reshard they may be all that has a like which a failover of
//! the database forgot. They are compared as those of now are, with what was known of them then, which is never more than the truth.

use super::{LostPairs, PAGE, RecoverError, Walked};
use crate::recover::pace::Pace;
use domain::{Pair, PairState};
use std::collections::BTreeMap;
use tokio_util::sync::CancellationToken;

impl LostPairs {
    /// Goes through them all; adds what that comes to.
    pub(super) async fn walk_former(
        &self,
        token: Option<u64>,
        stop: &CancellationToken,
        walked: &mut Walked,
    ) -> Result<(), RecoverError> {
        let (mut cursor, mut pace) = (0, Pace::new(self.rate));
        loop {
            if stop.is_cancelled() {
                walked.done.finished = false;
                return Ok(());
            }
            let (former, next) = self.stores.cache.pairs_of_before(cursor, PAGE as u32).await?;
            // A walk may come to one twice, and a reshard after another leaves two of them.
            let mut newest: BTreeMap<Pair, PairState> = BTreeMap::new();
            for (pair, state) in former {
                let held = newest.entry(pair).or_insert(state);
                if held.order() < state.order() {
                    *held = state;
                }
            }
            if !newest.is_empty() {
                pace.passed(newest.len()).await;
                let resources = newest.keys().map(|pair| pair.resource).collect();
                let pairs = newest.len() as u64;
                let newer = self.newer_than_rows(Vec::from_iter(newest)).await?;
                walked.add(self.bring_newer(pairs, newer, token).await?, resources);
            }
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }
}
