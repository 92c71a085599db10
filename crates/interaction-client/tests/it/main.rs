//! The client against a server that answers what it is told.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use interaction_client::{Client, Code, Policy, v1, video};
use interaction_proto::v1::interaction_service_server::{InteractionService, InteractionServiceServer};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

type Answer<A> = Result<Response<A>, Status>;

/// What came, and what is answered next; then likes are accepted.
#[derive(Clone, Default)]
struct Script {
    likes: Arc<Mutex<VecDeque<Result<(), Status>>>>,
    batches: Arc<Mutex<VecDeque<Vec<Option<v1::LikeError>>>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

#[derive(Debug, Clone)]
struct Seen {
    keys: Vec<String>,
    token: Option<String>,
    timeout: String,
    at: Instant,
}

impl Script {
    fn sees<T>(&self, request: &Request<T>, keys: Vec<String>) {
        let text = |name| request.metadata().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let seen = Seen {
            keys,
            token: text("authorization"),
            timeout: text("grpc-timeout").unwrap_or_default(),
            at: Instant::now(),
        };
        self.seen.lock().unwrap().push(seen);
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    async fn serve(&self) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let service = InteractionServiceServer::new(self.clone());
        let server = Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        Client::connect(address).unwrap()
    }
}

fn refused(code: Code, reason: &str, wait: Option<Duration>) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, "interaction-sync", []);
    if wait.is_some() {
        details.set_retry_info(wait);
    }
    Status::with_error_details(code, "not now", details)
}

fn accepted() -> v1::LikeResponse {
    v1::LikeResponse { liked: true, count: Some(1), version: 1, changed: true, degraded: false }
}

#[tonic::async_trait]
impl InteractionService for Script {
    async fn like(&self, request: Request<v1::LikeRequest>) -> Answer<v1::LikeResponse> {
        self.sees(&request, vec![request.get_ref().idempotency_key.clone()]);
        let next = self.likes.lock().unwrap().pop_front();
        match next {
            // Nobody answers.
            Some(Err(status)) if status.code() == Code::Cancelled => std::future::pending().await,
            Some(Err(status)) => Err(status),
            _ => Ok(Response::new(accepted())),
        }
    }

    async fn apply_likes(&self, request: Request<v1::ApplyLikesRequest>) -> Answer<v1::ApplyLikesResponse> {
        let operations = &request.get_ref().operations;
        self.sees(&request, operations.iter().map(|one| one.idempotency_key.clone()).collect());
        let errors = self.batches.lock().unwrap().pop_front().unwrap_or_else(|| vec![None; operations.len()]);
        let results = errors.into_iter().map(|error| v1::LikeResult {
            outcome: Some(match error {
                Some(error) => v1::like_result::Outcome::Error(error),
                None => v1::like_result::Outcome::Response(accepted()),
            }),
        });
        Ok(Response::new(v1::ApplyLikesResponse { results: results.collect() }))
    }

    async fn unlike(&self, _: Request<v1::UnlikeRequest>) -> Answer<v1::LikeResponse> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn get_like_counts(&self, _: Request<v1::GetLikeCountsRequest>) -> Answer<v1::GetLikeCountsResponse> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn get_like_states(&self, _: Request<v1::GetLikeStatesRequest>) -> Answer<v1::GetLikeStatesResponse> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn get_like_summaries(
        &self,
        _: Request<v1::GetLikeSummariesRequest>,
    ) -> Answer<v1::GetLikeSummariesResponse> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn list_liked_resources(
        &self,
        _: Request<v1::ListLikedResourcesRequest>,
    ) -> Answer<v1::ListLikedResourcesResponse> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn list_likers(&self, _: Request<v1::ListLikersRequest>) -> Answer<v1::ListLikersResponse> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn list_hot_resources(
        &self,
        _: Request<v1::ListHotResourcesRequest>,
    ) -> Answer<v1::ListHotResourcesResponse> {
        Err(Status::unimplemented("not asked here"))
    }

    type WatchLikeCountsStream = tokio_stream::Empty<Result<v1::WatchLikeCountsResponse, Status>>;

    async fn watch_like_counts(
        &self,
        request: Request<v1::WatchLikeCountsRequest>,
    ) -> Answer<Self::WatchLikeCountsStream> {
        self.sees(&request, vec![]);
        Ok(Response::new(tokio_stream::empty()))
    }
}

#[tokio::test]
async fn a_like_is_sent_again_with_its_key_when_the_server_says() {
    let script = Script::default();
    let wait = Duration::from_millis(300);
    script.likes.lock().unwrap().extend([
        Err(refused(Code::ResourceExhausted, "USER_LIMIT", Some(wait))),
        Err(refused(Code::Unavailable, "NOT_SERVING", Some(Duration::from_millis(1)))),
    ]);
    let client = script.serve().await.with_token("a-token").unwrap();
    assert_eq!(client.like(1, video(42)).await.unwrap(), accepted());
    let seen = script.seen();
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert!(seen[1].at - seen[0].at >= wait, "it did not wait: {seen:?}");
    for one in &seen {
        assert_eq!((one.keys[0].len(), &one.keys, one.token.as_deref()), (36, &seen[0].keys, Some("Bearer a-token")));
        assert!(!one.timeout.is_empty(), "the server does not know how long its caller waits");
    }
    // Another like is another one.
    client.like(1, video(42)).await.unwrap();
    assert_ne!(script.seen()[3].keys, seen[0].keys);
}

#[tokio::test]
async fn what_cannot_succeed_in_time_fails_at_once_and_says_how_long_it_would_be() {
    let script = Script::default();
    let hour = Duration::from_secs(3_600);
    let mut details = ErrorDetails::with_bad_request_violation("user_id", "must be greater than 0, got 0");
    details.set_error_info("INVALID_REQUEST", "interaction-sync", []);
    let wrong = Status::with_error_details(Code::InvalidArgument, "user_id: must be greater than 0", details);
    script.likes.lock().unwrap().extend([Err(refused(Code::ResourceExhausted, "USER_LIMIT", Some(hour))), Err(wrong)]);
    let client = script.serve().await;
    let begun = Instant::now();
    let error = client.like(1, video(42)).await.unwrap_err();
    assert_eq!((error.reason.as_deref(), error.retry_after), (Some("USER_LIMIT"), Some(hour)));
    let error = client.like(0, video(42)).await.unwrap_err();
    assert_eq!(
        (error.reason.as_deref(), error.field_violations[0].field.as_str()),
        (Some("INVALID_REQUEST"), "user_id")
    );
    assert_eq!(script.seen().len(), 2, "what is wrong is not repeated");
    assert!(begun.elapsed() < Policy::default().deadline, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_attempt_without_an_answer_is_repeated_and_the_call_ends_with_its_deadline() {
    let script = Script::default();
    script.likes.lock().unwrap().push_back(Err(Status::cancelled("nobody answers")));
    let policy = Policy { attempt: Duration::from_millis(200), deadline: Duration::from_secs(5), ..Policy::default() };
    let client = script.serve().await.with_policy(policy);
    client.like(1, video(42)).await.unwrap();
    assert_eq!(script.seen().len(), 2);

    // Where nobody listens.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let policy = Policy { deadline: Duration::from_millis(700), ..policy };
    let begun = Instant::now();
    let error = Client::connect(address).unwrap().with_policy(policy).like(1, video(42)).await.unwrap_err();
    assert_eq!((error.code, error.reason.as_deref()), (Code::Unavailable, None), "{error}");
    assert!((50..2_000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn of_a_batch_only_what_failed_for_now_is_sent_again() {
    let script = Script::default();
    let limited = || v1::LikeError {
        code: Code::ResourceExhausted.into(),
        retry_after_ms: Some(50),
        reason: "USER_LIMIT".to_owned(),
        ..Default::default()
    };
    let wrong = v1::LikeError { code: Code::InvalidArgument.into(), ..Default::default() };
    script.batches.lock().unwrap().push_back(vec![None, Some(limited()), Some(wrong), Some(limited())]);
    script.batches.lock().unwrap().push_back(vec![Some(limited()), None]);
    let client = script.serve().await;
    let operations = (1..=4).map(|user_id| v1::LikeOperation {
        user_id,
        resource: Some(video(42)),
        action: v1::Action::Like.into(),
        idempotency_key: String::new(),
    });
    let outcomes = client.apply(operations.collect()).await.unwrap();
    let codes: Vec<_> = outcomes.iter().map(|one| one.as_ref().err().map_or(Code::Ok, |error| error.code)).collect();
    assert_eq!(codes, [Code::Ok, Code::Ok, Code::InvalidArgument, Code::Ok]);
    let seen = script.seen();
    let keys = &seen[0].keys;
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert_eq!((&seen[1].keys, &seen[2].keys), (&vec![keys[1].clone(), keys[3].clone()], &vec![keys[1].clone()]));
}

#[tokio::test]
async fn no_stream_ends_for_the_deadline_of_its_beginning() {
    let script = Script::default();
    script.serve().await.watch(vec![video(42)]).await.unwrap();
    assert_eq!(script.seen()[0].timeout, "");
}
