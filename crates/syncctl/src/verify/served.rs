//! Counts and states as a server answers them: for caches that nobody else can read.

use super::ServedBy;
#[cfg(feature = "distributed")]
use super::cache::Cache;
use crate::client::{Client, connect, to_proto};
use crate::http::fetch;
use anyhow::{Context, ensure};
use domain::{Pair, PairState, Resource, UserId, Version};
use interaction_proto::v1;
use std::collections::BTreeMap;
use std::time::Duration;

/// Most resources in one call.
const CHUNK: usize = 500;

const METRICS_TIMEOUT: Duration = Duration::from_secs(10);

/// A counter's served count and number of unsettled changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counter {
    pub(super) served: i64,
    pub(super) pending: i64,
}

/// What is read beside the database.
pub(super) enum Cached {
    #[cfg(feature = "distributed")]
    Redis(Cache),
    Server(Served),
}

/// A server, read only.
pub(super) struct Served {
    client: Client,
    http: String,
    /// The token, as a header; or nothing.
    header: String,
}

impl Cached {
    /// Unsettled entries of all journals.
    pub(super) async fn journal_len(&mut self) -> anyhow::Result<u64> {
        match self {
            #[cfg(feature = "distributed")]
            Self::Redis(cache) => cache.journal_len().await,
            Self::Server(served) => served.journal_len().await,
        }
    }

    /// Calls `each` with every counter that is cached (of a server: with all).
    pub(super) async fn counters(
        &mut self,
        resources: &[Resource],
        each: impl FnMut(usize, Counter),
    ) -> anyhow::Result<()> {
        match self {
            #[cfg(feature = "distributed")]
            Self::Redis(cache) => cache.counters(resources, each).await,
            Self::Server(served) => served.counters(resources, each).await,
        }
    }

    /// States of pairs, where they are cached (of a server: of all).
    pub(super) async fn pairs(&mut self, pairs: &[Pair]) -> anyhow::Result<Vec<Option<PairState>>> {
        match self {
            #[cfg(feature = "distributed")]
            Self::Redis(cache) => cache.pairs(pairs).await,
            Self::Server(served) => served.pairs(pairs).await,
        }
    }
}

impl Served {
    pub(super) async fn connect(by: &ServedBy) -> anyhow::Result<Self> {
        let header = by.credentials.http_header();
        Ok(Self { client: connect(&by.grpc, &by.credentials).await?, http: by.http.clone(), header })
    }

    async fn journal_len(&self) -> anyhow::Result<u64> {
        let metrics = tokio::time::timeout(METRICS_TIMEOUT, fetch(&self.http, "/metrics", &self.header))
            .await
            .context("metrics: no answer")?
            .with_context(|| format!("metrics of {}", self.http))?;
        let line = metrics.lines().find_map(|line| line.strip_prefix("interaction_journal_entries "));
        let entries: f64 = line.context("the server has no metric interaction_journal_entries")?.trim().parse()?;
        Ok(entries as u64)
    }

    async fn counters(&mut self, resources: &[Resource], mut each: impl FnMut(usize, Counter)) -> anyhow::Result<()> {
        for (number, chunk) in resources.chunks(CHUNK).enumerate() {
            let request = v1::GetLikeCountsRequest {
                resources: chunk.iter().map(|r| to_proto(*r)).collect(),
                // As they are now: nothing that the server remembers.
                least_version: 1,
            };
            let answer = self.client.get_like_counts(request).await.context("counts were refused")?.into_inner();
            ensure!(!answer.degraded && answer.counts.len() == chunk.len(), "counts are answered in part only");
            for (at, count) in answer.counts.iter().enumerate() {
                each(number * CHUNK + at, Counter { served: count.count, pending: 0 });
            }
        }
        Ok(())
    }

    async fn pairs(&mut self, pairs: &[Pair]) -> anyhow::Result<Vec<Option<PairState>>> {
        let mut by_user: BTreeMap<UserId, Vec<usize>> = BTreeMap::new();
        for (at, pair) in pairs.iter().enumerate() {
            by_user.entry(pair.user).or_default().push(at);
        }
        let mut states = vec![None; pairs.len()];
        for (user, positions) in by_user {
            for chunk in positions.chunks(CHUNK) {
                let resources = chunk.iter().map(|at| to_proto(pairs[*at].resource)).collect();
                let request = v1::GetLikeStatesRequest { user_id: user.get(), resources };
                let answer = self.client.get_like_states(request).await.context("states were refused")?.into_inner();
                ensure!(!answer.degraded && answer.states.len() == chunk.len(), "states are answered in part only");
                for (at, state) in chunk.iter().zip(answer.states) {
                    states[*at] = Some(PairState { liked: state.liked, version: Version(state.version) });
                }
            }
        }
        Ok(states)
    }
}
