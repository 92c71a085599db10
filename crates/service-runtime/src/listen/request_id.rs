//! Request ids: what a caller, its answer and the log lines in between have in common.
//!
//! A request's id is its `x-request-id`, else the trace of its `traceparent`, else one made here. Its answer carries it
//! in `x-request-id`, refusals too, and so does every line that is logged while the request is worked on, as
//! `request{id=...}`. What several requests share (a batch of likes, the relay) is logged without one; from a like on,
//! its event's id leads further.
//!
//! Each answer is a line at level `debug`; at `warn` those with the code of an internal fault, at most one a second: gRPC has
//! that code for messages that are no protobuf, too, and whoever sends these must not fill the log.

use crate::request_lines::{in_request, of_request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;
use tower::{Layer, Service};

/// Header of requests and answers; metadata, to gRPC.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id of a caller that is taken; instead of longer ones, and of those that could be mistaken for more of the
/// line they are logged in, one is made.
const MAX_LEN: usize = 64;

/// Codes of gRPC for faults of the server: UNKNOWN, INTERNAL, DATA_LOSS.
const FAULTS: [&str; 3] = ["2", "13", "15"];

/// Ids made here: they begin anywhere, so that two processes hardly ever make the same, and count from there.
static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(RandomState::new().hash_one("x-request-id")));

fn id_of(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(REQUEST_ID).filter(|id| is_id(id.as_bytes())).cloned();
    let mut id = given.or_else(|| trace_of(headers)).unwrap_or_else(|| {
        let id = format!("{:016x}", NEXT.fetch_add(1, Ordering::Relaxed));
        HeaderValue::try_from(id).unwrap_or_else(|_| HeaderValue::from_static("-"))
    });
    // Not that it is secret: HTTP/2 keeps no such value in its tables, where one that never comes again pushes out others.
    id.set_sensitive(true);
    id
}

fn is_id(id: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(byte);
    (1..=MAX_LEN).contains(&id.len()) && id.iter().all(fits)
}

/// The trace of a W3C `traceparent`, `00-<trace>-<span>-<flags>`.
fn trace_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let trace = headers.get("traceparent")?.to_str().ok()?.split('-').nth(1)?;
    let is_trace = trace.len() == 32 && trace.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_trace.then(|| HeaderValue::from_str(trace).ok()).flatten()
}

/// Puts [`RequestIdService`] in front of a service of gRPC or HTTP; the outermost layer, so that refusals have ids.
#[derive(Debug, Clone, Copy, Default)]
pub struct RequestIdLayer;

impl<S> Layer<S> for RequestIdLayer {
    type Service = RequestIdService<S>;

    fn layer(&self, inner: S) -> RequestIdService<S> {
        RequestIdService(inner)
    }
}

/// Gives each request its id.
#[derive(Debug, Clone)]
pub struct RequestIdService<S>(S);

impl<S, B, R> Service<Request<B>> for RequestIdService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let id = id_of(request.headers());
        let (method, path) = (request.method().clone(), request.uri().clone());
        let began = Instant::now();
        let answer = in_request(id.clone(), || self.0.call(request));
        let with_id = {
            let id = id.clone();
            async move {
                let mut response = answer.await?;
                say(&method, path.path(), began, &response);
                response.headers_mut().insert(REQUEST_ID, id);
                Ok(response)
            }
        };
        Box::pin(of_request(id, with_id))
    }
}

/// The path is of a route or method, its query (which may name users) is left out.
fn say<R>(method: &axum::http::Method, path: &str, began: Instant, response: &Response<R>) {
    let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let (status, grpc_status) = (response.status().as_u16(), text("grpc-status"));
    let is_fault = status == 500 || grpc_status.is_some_and(|code| FAULTS.contains(&code));
    if is_fault && is_first_of_its_second() {
        let error = text("grpc-message");
        tracing::warn!(%method, path, status, grpc_status, error, "answered with an internal error");
    } else {
        tracing::debug!(%method, path, status, grpc_status, took_us = began.elapsed().as_micros() as u64, "answered");
    }
}

fn is_first_of_its_second() -> bool {
    static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);
    static NEWEST: AtomicU64 = AtomicU64::new(0);
    // The first second is 1, so that it differs from none.
    let second = STARTED.elapsed().as_secs() + 1;
    NEWEST.swap(second, Ordering::Relaxed) != second
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(pairs: &[(&'static str, &str)]) -> String {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        };
        id_of(&pairs.iter().map(pair).collect()).to_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn an_answers_id_takes_no_room_in_tables_of_headers() {
        let inner = tower::service_fn(async |_: Request<()>| Ok::<_, std::convert::Infallible>(Response::new(())));
        let mut service = RequestIdLayer.layer(inner);
        for given in [None, Some("checkout-7:1")] {
            let mut request = Request::new(());
            request.headers_mut().extend(given.map(|id| (REQUEST_ID, HeaderValue::from_static(id))));
            let answer = service.call(request).await.unwrap();
            let id = &answer.headers()[REQUEST_ID];
            assert!(id.is_sensitive() && given.is_none_or(|given| given == id), "{given:?}");
        }
    }

    #[test]
    fn however_many_faults_there_are_one_a_second_is_told() {
        let began = Instant::now();
        let told = (0..100_000).filter(|_| is_first_of_its_second()).count();
        let seconds = began.elapsed().as_secs() as usize;
        assert!((1..=seconds + 2).contains(&told), "{told} in {seconds} s");
    }

    #[test]
    fn the_callers_id_then_its_trace_then_one_of_our_own() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let parent = format!("00-{trace}-00f067aa0ba902b7-01");
        assert_eq!(id(&[("x-request-id", "checkout-7:1"), ("traceparent", &parent)]), "checkout-7:1");
        assert_eq!(id(&[("traceparent", &parent)]), trace);
        let longest = "x".repeat(MAX_LEN);
        assert_eq!(id(&[("x-request-id", &longest)]), longest);
        let own = |made: &str| made.len() == 16 && made.bytes().all(|byte| byte.is_ascii_hexdigit());
        let (one, two) = (id(&[]), id(&[]));
        assert!(own(&one) && own(&two) && one != two, "{one} {two}");
        for wrong in ["", "two words", "a\tb", "x{y=1}", "\"", "ü", &"x".repeat(MAX_LEN + 1)] {
            let made = id(&[("x-request-id", wrong)]);
            assert!(own(&made), "{wrong:?} gave {made}");
        }
        for wrong in ["00", "00-4bf9-00f067aa0ba902b7-01", &parent.replace("4bf9", "zzzz")] {
            let made = id(&[("traceparent", wrong)]);
            assert!(own(&made), "{wrong:?} gave {made}");
        }
    }
}
