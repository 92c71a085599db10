//! Each call within the bounds of its method, of its connection and of the process.
//!
//! | bound | beyond it |
//! |---|---|
//! | length of the message, by method | RESOURCE_EXHAUSTED |
//! | [`RECEIVE_TIMEOUT`] until the request is complete | DEADLINE_EXCEEDED |
//! | `service.max_unfinished_bytes` of all requests that are not | RESOURCE_EXHAUSTED for the oldest of them |
//! | [`MAX_OPEN_CALLS`] of one connection that need no token | RESOURCE_EXHAUSTED |
//! | `grpc-timeout` that is none | INVALID_ARGUMENT |
//! | [`SEND_TIMEOUT`] until a part of the answer is taken, `service.max_untaken_bytes` of all that are not | the end of the connection |
//! | places of the listener | UNAVAILABLE for everything but health |

use super::access::HEALTH;
use super::connection::Peer;
use crate::request::lengths::longest_body;
use crate::service::deadline::timeout;
use crate::status::{self, Reason};
use axum::http::{Request, Response};
use service_runtime::listen::{Answer, Bounded, Link, Refused, Unfinished, head_len};
use std::pin::Pin;
use std::task::{Context, Poll};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

#[cfg(doc)]
use service_runtime::listen::{RECEIVE_TIMEOUT, SEND_TIMEOUT};

/// A client asks for health once in a while, and may watch it.
const MAX_OPEN_CALLS: usize = 8;

/// Puts [`CallsService`] in front of a service.
#[derive(Debug, Clone)]
pub(super) struct CallsLayer(Unfinished);

impl CallsLayer {
    /// With this budget.
    pub(super) const fn new(unfinished: Unfinished) -> Self {
        Self(unfinished)
    }
}

impl<S> Layer<S> for CallsLayer {
    type Service = CallsService<S>;

    fn layer(&self, inner: S) -> CallsService<S> {
        CallsService { inner, unfinished: self.0.clone() }
    }
}

/// Bounds calls, and knows of each until its answer is sent.
#[derive(Debug, Clone)]
pub(super) struct CallsService<S> {
    inner: S,
    unfinished: Unfinished,
}

impl<S> Service<Request<Body>> for CallsService<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Answer<Body>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let open = request.uri().path().starts_with(HEALTH);
        let link = match request.extensions_mut().remove::<Peer>() {
            Some(peer) => {
                request.extensions_mut().insert(peer.address);
                peer.link
            }
            // Not over a connection of the gate.
            None => Link::default(),
        };
        request.extensions_mut().insert(link.arrived());
        let call = link.call(open);
        let refused = if let Some(key) = link.lacks_place().filter(|_| !open) {
            Some(("reserve", status::no_place(key)))
        } else if let Err(reason) = timeout(request.headers()) {
            Some(("timeout", status::refuse(Reason::InvalidRequest, reason)))
        } else if call.open_calls() > MAX_OPEN_CALLS {
            let message = format!("more than {MAX_OPEN_CALLS} calls at a time that need no token");
            Some(("open_calls", status::refuse_for_now(Reason::TooManyOpenCalls, message)))
        } else {
            None
        };
        if let Some((reason, status)) = refused {
            count(reason);
            return Box::pin(async move { Ok(status.into_http::<Body>().map(|body| Answer::new(body, call))) });
        }
        let (longest, head) = (longest_body(request.uri().path()), head_len(request.headers()));
        let (unfinished, stage) = (self.unfinished.clone(), call.stage());
        request.extensions_mut().insert(stage.clone());
        let request = request.map(|body| {
            Body::new(Bounded::new(body, longest, head, unfinished, Some(stage), |why: Refused| refusal(why).into()))
        });
        let answer = self.inner.call(request);
        Box::pin(async move { Ok(answer.await?.map(|body| Answer::new(body, call))) })
    }
}

pub(super) fn count(reason: &'static str) {
    metrics::counter!("interaction_calls_refused_total", "surface" => "grpc", "reason" => reason).increment(1);
}

fn refusal(why: Refused) -> Status {
    count(why.reason());
    match why {
        Refused::Late | Refused::Long(_) => status::refuse(why.because(), why.to_string()),
        Refused::Crowded => status::refuse_for_now(why.because(), why.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{MAX_ACTOR, MAX_LISTED, MAX_REASON};
    use crate::request::convert::MAX_ITEMS;
    use crate::request::lengths::{PREFIX, SHORT};
    use crate::service::watch::MAX_WATCHED;
    use domain::LikeIntent;
    use interaction_proto::v1;
    use prost::Message;
    use prost_types::Timestamp;
    use sync_engine::operate::events::MAX_OPERATED;

    fn resources(number: usize) -> Vec<v1::Resource> {
        vec![v1::Resource { r#type: v1::ResourceType::Comment.into(), id: i64::MAX }; number]
    }

    fn operations() -> v1::ApplyLikesRequest {
        let operation = v1::LikeOperation {
            user_id: i64::MAX,
            resource: resources(1).pop(),
            action: v1::Action::Unlike.into(),
            idempotency_key: "k".repeat(LikeIntent::MAX_KEY_LEN),
        };
        v1::ApplyLikesRequest { operations: vec![operation; MAX_ITEMS] }
    }

    fn filter() -> v1::EventFilter {
        let time = || Some(Timestamp { seconds: 253_402_300_799, nanos: 999_999_999 });
        let status = v1::EventStatus::Dead.into();
        v1::EventFilter { status, resource: resources(1).pop(), user_id: i64::MAX, since: time(), until: time() }
    }

    fn replay() -> v1::ReplayEventsRequest {
        let selection = v1::EventSelection {
            ids: vec!["01890000-0000-7000-8000-000000000001".to_owned(); MAX_OPERATED as usize],
            filter: Some(filter()),
            limit: i32::MAX,
            page_token: "t".repeat(64),
        };
        let (actor, reason) = ("a".repeat(MAX_ACTOR), "r".repeat(MAX_REASON));
        v1::ReplayEventsRequest { selection: Some(selection), dry_run: true, actor, reason }
    }

    #[test]
    fn every_method_takes_its_longest_legal_message() {
        let like = &operations().operations[0];
        let key = like.idempotency_key.clone();
        let like = v1::LikeRequest { user_id: i64::MAX, resource: like.resource, idempotency_key: key };
        let page_token = "t".repeat(64);
        let events = v1::ListEventsRequest { filter: Some(filter()), page_size: i32::MAX, page_token };
        let warm_up =
            v1::WarmUpRequest { top_resources: i32::MAX, recent_events: i32::MAX, resources: resources(MAX_LISTED) };
        for (method, len) in [
            ("InteractionService/Like", like.encoded_len()),
            ("InteractionService/ApplyLikes", operations().encoded_len()),
            (
                "InteractionService/GetLikeCounts",
                v1::GetLikeCountsRequest { resources: resources(MAX_ITEMS), least_version: i64::MAX }.encoded_len(),
            ),
            (
                "InteractionService/GetLikeStates",
                v1::GetLikeStatesRequest { user_id: i64::MAX, resources: resources(MAX_ITEMS) }.encoded_len(),
            ),
            (
                "InteractionService/GetLikeSummaries",
                v1::GetLikeSummariesRequest {
                    user_id: i64::MAX,
                    resources: resources(MAX_ITEMS),
                    least_version: i64::MAX,
                }
                .encoded_len(),
            ),
            (
                "InteractionService/WatchLikeCounts",
                v1::WatchLikeCountsRequest { resources: resources(MAX_WATCHED) }.encoded_len(),
            ),
            ("SyncAdminService/ListEvents", events.encoded_len()),
            ("SyncAdminService/WarmUp", warm_up.encoded_len()),
            ("SyncAdminService/ReplayEvents", replay().encoded_len()),
        ] {
            let longest = longest_body(&format!("/interaction.v1.{method}")) - PREFIX;
            // With room for a caller who does not know the bound: what is wrong is then said by field.
            assert!(len * 5 / 4 <= longest, "{method}: {len} bytes, allowed are {longest}");
            assert!(longest <= SHORT || longest <= len * 4, "{method}: {len} bytes, and {longest} are allowed");
        }
        assert_eq!(longest_body("/grpc.health.v1.Health/Check"), SHORT + PREFIX);
    }
}
