//! Reads the counts of resources that are only being liked: a served count that goes down is a flicker.

use crate::client::{Client, to_proto};
use crate::hash::IdMap;
use domain::Resource;
use interaction_proto::v1;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Resources read in one call: always the hottest half of it, the rest in turn.
const SAMPLE: usize = 100;

/// Most falls kept as examples.
const EXAMPLES: usize = 10;

/// What was seen.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct WatchReport {
    /// Counts read.
    pub samples: u64,
    /// Times a count went down.
    pub flicker: u64,
    /// Times a count went down in an answer marked degraded: the database's count, which may honestly lag.
    pub flicker_degraded: u64,
    /// Calls without an answer.
    pub errors: u64,
    /// The first few falls.
    pub examples: Vec<Fall>,
}

/// A count that went down.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Fall {
    /// Whose.
    #[serde(flatten)]
    pub resource: Resource,
    /// Served before.
    pub from: i64,
    /// Served after.
    pub to: i64,
    /// Whether the answer was marked degraded.
    pub degraded: bool,
}

/// Reads counts of `resources` (the hottest first) until `stop`, pausing `interval` between calls. One call at a time,
/// so that a later answer is never older than an earlier one.
pub(super) async fn watch(
    mut client: Client,
    resources: Vec<Resource>,
    interval: Duration,
    stop: CancellationToken,
) -> WatchReport {
    let mut report = WatchReport::default();
    let mut served: IdMap<Resource, i64> = IdMap::default();
    let hot = resources.len().min(SAMPLE / 2);
    let mut at = hot;
    while !stop.is_cancelled() && !resources.is_empty() {
        let mut sample: Vec<Resource> = resources[..hot].to_vec();
        for _ in 0..(SAMPLE - hot).min(resources.len() - hot) {
            sample.push(resources[at]);
            at = if at + 1 == resources.len() { hot } else { at + 1 };
        }
        let request =
            v1::GetLikeCountsRequest { resources: sample.iter().map(|r| to_proto(*r)).collect(), ..Default::default() };
        match tokio::time::timeout(Duration::from_secs(5), client.get_like_counts(request)).await {
            Ok(Ok(answer)) => {
                let answer = answer.into_inner();
                for (resource, count) in sample.into_iter().zip(answer.counts) {
                    report.note(&mut served, resource, count.count, answer.degraded);
                }
            }
            Ok(Err(_)) | Err(_) => report.errors += 1,
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = stop.cancelled() => {}
        }
    }
    report
}

impl WatchReport {
    fn note(&mut self, served: &mut IdMap<Resource, i64>, resource: Resource, count: i64, degraded: bool) {
        self.samples += 1;
        let before = served.entry(resource).or_insert(count);
        let from = *before;
        if !degraded {
            *before = count;
        }
        if count >= from {
            return;
        }
        if degraded {
            self.flicker_degraded += 1;
        } else {
            self.flicker += 1;
        }
        if self.examples.len() < EXAMPLES {
            self.examples.push(Fall { resource, from, to: count, degraded });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::ResourceType;

    #[test]
    fn only_falls_count() {
        let resource = Resource::new(ResourceType::Video, 1).unwrap();
        let (mut report, mut served) = (WatchReport::default(), IdMap::default());
        for (count, degraded) in [(5, false), (5, false), (6, false), (4, true), (6, false), (3, false), (4, false)] {
            report.note(&mut served, resource, count, degraded);
        }
        assert_eq!((report.samples, report.flicker, report.flicker_degraded), (7, 1, 1));
        assert_eq!((report.examples[1].from, report.examples[1].to), (6, 3));
    }
}
