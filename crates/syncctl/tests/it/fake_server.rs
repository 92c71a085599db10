//! A server that keeps likes in memory, watches for overlapping calls of a pair, and fails on request.

use domain::{Action, Pair, ResourceType};
use interaction_proto::v1;
use interaction_proto::v1::interaction_service_server::{InteractionService, InteractionServiceServer};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status};

/// How the server behaves.
#[derive(Debug, Clone, Default)]
pub(crate) struct Behaviour {
    /// Every this many operations fail with the code; every second one of them takes effect all the same.
    pub(crate) fail_every: Option<(u64, Code)>,
    /// Every operation of this user fails with the code and has no effect.
    pub(crate) refuse_user: Option<(i64, Code)>,
    /// Time that a call takes.
    pub(crate) delay: Duration,
    /// Every this many reads of counts answer less than any before.
    pub(crate) flicker_every: Option<u64>,
}

/// What the server saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    in_flight: HashSet<Pair>,
    /// Times an operation came while another one of its pair was being handled.
    pub(crate) overlaps: u64,
    pub(crate) states: HashMap<Pair, (bool, i64)>,
    /// Actions of each pair in the order in which they took effect, repetitions of failed ones removed.
    pub(crate) orders: HashMap<Pair, Vec<Action>>,
    /// Pairs whose last call failed after it took effect.
    unanswered: HashSet<Pair>,
    pub(crate) keys: HashSet<String>,
    pub(crate) operations: u64,
    pub(crate) batches: u64,
    reads: u64,
    version: i64,
}

#[derive(Clone)]
pub(crate) struct FakeServer {
    pub(crate) addr: String,
    behaviour: Behaviour,
    pub(crate) seen: Arc<Mutex<Seen>>,
}

impl FakeServer {
    pub(crate) async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let server = Self { addr, behaviour, seen: Arc::default() };
        let service = InteractionServiceServer::new(server.clone());
        let incoming = TcpListenerStream::new(listener);
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
        server
    }

    fn pair(user: i64, resource: Option<v1::Resource>) -> Result<Pair, Status> {
        let resource = resource.ok_or_else(|| Status::invalid_argument("resource"))?;
        let kind = match resource.r#type() {
            v1::ResourceType::Video => ResourceType::Video,
            v1::ResourceType::Comment => ResourceType::Comment,
            v1::ResourceType::Unspecified => return Err(Status::invalid_argument("type")),
        };
        Pair::new(user, kind, resource.id).map_err(|invalid| Status::invalid_argument(invalid.to_string()))
    }

    async fn handle(&self, operations: &[(Pair, Action, String)]) -> Vec<Result<v1::LikeResponse, Status>> {
        {
            let mut seen = self.seen.lock().unwrap();
            for (pair, _, key) in operations {
                seen.overlaps += u64::from(!seen.in_flight.insert(*pair));
                if !key.is_empty() {
                    seen.keys.insert(key.clone());
                }
            }
        }
        tokio::time::sleep(self.behaviour.delay).await;
        let mut seen = self.seen.lock().unwrap();
        operations
            .iter()
            .map(|(pair, action, _)| {
                seen.in_flight.remove(pair);
                seen.apply(&self.behaviour, *pair, *action)
            })
            .collect()
    }

    async fn one(&self, user: i64, resource: Option<v1::Resource>, action: Action, key: String) -> Answer {
        let pair = Self::pair(user, resource)?;
        self.handle(&[(pair, action, key)]).await.remove(0).map(Response::new)
    }
}

type Answer = Result<Response<v1::LikeResponse>, Status>;

impl Seen {
    fn apply(&mut self, behaviour: &Behaviour, pair: Pair, action: Action) -> Result<v1::LikeResponse, Status> {
        self.operations += 1;
        if let Some((_, code)) = behaviour.refuse_user.filter(|(user, _)| *user == pair.user.get()) {
            return Err(Status::new(code, "refused"));
        }
        let failure = behaviour.fail_every.filter(|(every, _)| self.operations.is_multiple_of(*every));
        if let Some((_, code)) = failure.filter(|(every, _)| (self.operations / every).is_multiple_of(2)) {
            return Err(Status::new(code, "before"));
        }
        if !self.unanswered.remove(&pair) {
            self.orders.entry(pair).or_default().push(action);
        }
        let (liked, version) = self.states.get(&pair).copied().unwrap_or((false, 0));
        let changed = liked != action.liked() || version == 0;
        if changed {
            self.version += 1;
            self.states.insert(pair, (action.liked(), self.version));
        }
        if let Some((_, code)) = failure {
            self.unanswered.insert(pair);
            return Err(Status::new(code, "after"));
        }
        let version = self.states[&pair].1;
        Ok(v1::LikeResponse { liked: action.liked(), count: Some(1), version, changed, degraded: false })
    }
}

#[tonic::async_trait]
impl InteractionService for FakeServer {
    async fn like(&self, request: Request<v1::LikeRequest>) -> Answer {
        let request = request.into_inner();
        self.one(request.user_id, request.resource, Action::Like, request.idempotency_key).await
    }

    async fn unlike(&self, request: Request<v1::UnlikeRequest>) -> Answer {
        let request = request.into_inner();
        self.one(request.user_id, request.resource, Action::Unlike, request.idempotency_key).await
    }

    async fn apply_likes(
        &self,
        request: Request<v1::ApplyLikesRequest>,
    ) -> Result<Response<v1::ApplyLikesResponse>, Status> {
        let mut operations = Vec::new();
        for operation in request.into_inner().operations {
            let action = Action::from_liked(operation.action() == v1::Action::Like);
            operations.push((Self::pair(operation.user_id, operation.resource)?, action, operation.idempotency_key));
        }
        self.seen.lock().unwrap().batches += 1;
        let results = self.handle(&operations).await.into_iter().map(|result| {
            let outcome = match result {
                Ok(response) => v1::like_result::Outcome::Response(response),
                Err(status) => v1::like_result::Outcome::Error(v1::LikeError {
                    code: status.code().into(),
                    message: status.message().into(),
                    ..v1::LikeError::default()
                }),
            };
            v1::LikeResult { outcome: Some(outcome) }
        });
        Ok(Response::new(v1::ApplyLikesResponse { results: results.collect() }))
    }

    async fn get_like_counts(
        &self,
        request: Request<v1::GetLikeCountsRequest>,
    ) -> Result<Response<v1::GetLikeCountsResponse>, Status> {
        let mut seen = self.seen.lock().unwrap();
        seen.reads += 1;
        let falls = self.behaviour.flicker_every.is_some_and(|every| seen.reads.is_multiple_of(every));
        let counts = request.into_inner().resources.into_iter().map(|resource| {
            let live = seen.states.iter().filter(|(pair, (liked, _))| *liked && pair.resource.id.get() == resource.id);
            v1::LikeCount { resource: Some(resource), count: if falls { -1 } else { live.count() as i64 } }
        });
        Ok(Response::new(v1::GetLikeCountsResponse { counts: counts.collect(), degraded: false }))
    }

    async fn get_like_states(
        &self,
        _: Request<v1::GetLikeStatesRequest>,
    ) -> Result<Response<v1::GetLikeStatesResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn get_like_summaries(
        &self,
        _: Request<v1::GetLikeSummariesRequest>,
    ) -> Result<Response<v1::GetLikeSummariesResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn list_liked_resources(
        &self,
        _: Request<v1::ListLikedResourcesRequest>,
    ) -> Result<Response<v1::ListLikedResourcesResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn list_likers(&self, _: Request<v1::ListLikersRequest>) -> Result<Response<v1::ListLikersResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn list_hot_resources(
        &self,
        _: Request<v1::ListHotResourcesRequest>,
    ) -> Result<Response<v1::ListHotResourcesResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    type WatchLikeCountsStream = tokio_stream::Empty<Result<v1::WatchLikeCountsResponse, Status>>;

    async fn watch_like_counts(
        &self,
        _: Request<v1::WatchLikeCountsRequest>,
    ) -> Result<Response<Self::WatchLikeCountsStream>, Status> {
        Err(Status::unimplemented("not needed"))
    }
}
