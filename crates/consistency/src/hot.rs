//! What is hot: ranked by the newest entries of the ledger, so the hot path pays nothing for it.

use crate::check::Inspector;
use crate::checker::Checker;
use crate::error::CheckError;
use domain::{Pair, Resource};
use std::collections::BTreeMap;

/// Newest events that the ranking looks at.
const EVENTS: u32 = 5_000;

/// The hottest resources, and pairs that changed last.
#[derive(Debug, Default)]
pub(crate) struct Hot {
    /// Each with its number among the newest events.
    pub(crate) resources: Vec<(Resource, usize)>,
    pub(crate) pairs: Vec<Pair>,
}

impl Inspector {
    pub(crate) async fn hot(&self, resources: u32) -> Result<Hot, CheckError> {
        let mut pairs = self.stores.database.latest_pairs(EVENTS).await?;
        let mut ranking: BTreeMap<Resource, usize> = BTreeMap::new();
        for pair in &pairs {
            *ranking.entry(pair.resource).or_default() += 1;
        }
        let mut ranked: Vec<(Resource, usize)> = ranking.into_iter().collect();
        ranked.sort_by_key(|(_, events)| std::cmp::Reverse(*events));
        ranked.truncate(resources as usize);
        pairs.sort_unstable();
        pairs.dedup();
        Ok(Hot { resources: ranked, pairs })
    }
}

impl Checker {
    /// The hottest resources, each with its number among the newest events.
    pub async fn hot_resources(&self, resources: u32) -> Result<Vec<(Resource, usize)>, CheckError> {
        Ok(self.inspector().hot(resources).await?.resources)
    }
}
