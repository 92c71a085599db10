//! Streams of live counts. One ends when its caller's token goes, or may do something else than before.

use super::caller::Who;
use super::limits::Limits;
use crate::request::Violations;
use crate::request::convert::{self, wire_resource};
use crate::status::{self, Reason};
use futures::stream::{BoxStream, StreamExt, unfold};
use interaction_proto::v1;
use service_runtime::listen::access::{Access, Caller};
use sync_engine::read::live::{LiveCounts, LiveUpdate};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Most resources of one stream.
pub const MAX_WATCHED: usize = 100;

/// Messages of one stream. It is asked for the next one only when the last is on its way, so nothing piles up here.
pub type Counts = BoxStream<'static, Result<v1::WatchLikeCountsResponse, Status>>;

/// Answers `WatchLikeCounts`.
#[derive(Clone)]
pub struct Watch {
    live: LiveCounts,
    access: Access,
    stop: CancellationToken,
}

impl Watch {
    /// Streams end at `stop`; tokens are those of `access`.
    pub const fn new(live: LiveCounts, access: Access, stop: CancellationToken) -> Self {
        Self { live, access, stop }
    }

    /// A stream, unless the request is wrong or there are too many.
    pub(super) fn begin(
        &self,
        request: v1::WatchLikeCountsRequest,
        who: &Who,
        caller: Option<Caller>,
        limits: &Limits,
    ) -> Result<Counts, Status> {
        let mut violations = Violations::default();
        let resources = convert::resources(&mut violations, request.resources, MAX_WATCHED);
        violations.finish()?;
        who.may_resources(&resources)?;
        let watching = limits.watch(who, &resources)?;
        if self.stop.is_cancelled() {
            return Err(status::stopping());
        }
        let subscription = self
            .live
            .watch(&resources)
            .map_err(|error| status::refuse_for_now(Reason::TooManyStreams, error.to_string()))?;
        let (stop, admission) = (self.stop.clone(), self.access.admission(caller));
        let messages = unfold(Some((subscription, admission, watching)), move |watched| {
            let stop = stop.clone();
            async move {
                let (mut subscription, mut admission, watching) = watched?;
                let update = tokio::select! {
                    biased;
                    () = stop.cancelled() => Err(status::stopping()),
                    update = subscription.next() => update.map_err(|error| status::read(&error)),
                };
                Some(match update {
                    // Only what is told matters: a stream on which nothing happens may stay.
                    Ok(_) if !admission.holds() => (Err(status::token_gone()), None),
                    Ok(update) => (Ok(message(update)), Some((subscription, admission, watching))),
                    Err(last) => (Err(last), None),
                })
            }
        });
        Ok(messages.boxed())
    }
}

fn message(update: LiveUpdate) -> v1::WatchLikeCountsResponse {
    let counts = update.counts.into_iter();
    let counts = counts.map(|(resource, count)| v1::LikeCount { resource: Some(wire_resource(resource)), count });
    v1::WatchLikeCountsResponse { counts: counts.collect(), degraded: update.degraded }
}
