//! What is hot: ranked by the newest entries of the ledger, so the hot path pays nothing for it.

use crate::error::CheckError;
use crate::inspect::Inspector;
use crate::run::checker::Checker;
use domain::{Pair, Resource};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::collections::BTreeMap;

/// Newest events that the ranking looks at.
const EVENTS: u32 = 5_000;

/// The hottest resources, and pairs that changed last.
#[derive(Debug, Default)]
pub(crate) struct Hot {
    pub(crate) resources: Vec<Resource>,
    pub(crate) pairs: Vec<Pair>,
}

impl Inspector {
    pub(crate) async fn hot(&self, resources: u32) -> Result<Hot, CheckError> {
        let mut pairs = self.stores.database.latest_pairs(EVENTS).await?;
        let resources = rank(&pairs).into_iter().take(resources as usize).map(|(resource, _)| resource).collect();
        pairs.sort_unstable();
        pairs.dedup();
        Ok(Hot { resources, pairs })
    }
}

impl Checker {
    /// Resources of the newest events in the database, the hottest first, each with its number of them.
    pub fn hottest(&self) -> BoxFuture<'_, Result<Vec<(Resource, i64)>, CheckError>> {
        async { Ok(rank(&self.inspector().stores.database.on_replicas().latest_pairs(EVENTS).await?)) }.boxed()
    }
}

fn rank(pairs: &[Pair]) -> Vec<(Resource, i64)> {
    let mut events: BTreeMap<Resource, i64> = BTreeMap::new();
    for pair in pairs {
        *events.entry(pair.resource).or_default() += 1;
    }
    let mut ranked: Vec<(Resource, i64)> = events.into_iter().collect();
    ranked.sort_by_key(|(_, events)| std::cmp::Reverse(*events));
    ranked
}
