//! `interaction.v1.InteractionService`: likes, counts, lists, live counts.

mod batch;
mod caller;
pub(crate) mod deadline;
pub mod hot;
pub(crate) mod http;
pub mod limits;
mod quota;
mod turns;
pub mod watch;

use crate::request::Violations;
use crate::request::convert::{self, MAX_ITEMS, wire_resource};
use crate::request::page::{self, List};
use crate::status::{self, Reason};
use caller::Who;
use domain::{Action, LikeIntent, Pair, Resource, Version};
use event_store::EventStore;
use hot::HotList;
use interaction_proto::v1;
use interaction_proto::v1::interaction_service_server::InteractionService;
use limits::Limits;
use service_runtime::Pulse;
use std::sync::Arc;
use sync_engine::accept::{Acceptor, Call, LikeAnswer};
use sync_engine::read::{Read, Reader};
use sync_engine::trace::on_behalf;
use tonic::{Request, Response, Status};
use watch::Watch;

/// `interaction.v1.InteractionService`.
#[derive(Clone)]
pub struct Interactions {
    acceptor: Acceptor,
    reader: Reader,
    database: EventStore,
    limits: Arc<Limits>,
    hot: HotList,
    watch: Watch,
    pulse: Pulse,
}

impl Interactions {
    /// Lists are read from `database` alone.
    pub fn new(
        acceptor: Acceptor,
        reader: Reader,
        database: EventStore,
        limits: Limits,
        hot: HotList,
        watch: Watch,
        pulse: Pulse,
    ) -> Self {
        Self { acceptor, reader, database, limits: Arc::new(limits), hot, watch, pulse }
    }

    async fn one(
        &self,
        (who, call): (Who, Call),
        user: i64,
        resource: Option<v1::Resource>,
        action: Action,
        key: String,
    ) -> Result<Response<v1::LikeResponse>, Status> {
        let mut violations = Violations::default();
        let intent = convert::intent(&mut violations, "", user, resource, action, key);
        let intent = violations.given(intent)?;
        self.accept_one(&who, intent, call).await.map(|answer| Response::new(response(&answer)))
    }

    /// One like, however it came.
    async fn accept_one(&self, who: &Who, intent: LikeIntent, call: Call) -> Result<LikeAnswer, Status> {
        who.may_like(&intent)?;
        self.limits.likes(who, 1)?;
        let result = self.acceptor.accept(vec![intent], call).await.pop();
        result.ok_or_else(|| status::refuse(Reason::Internal, "no answer"))?.map_err(|error| status::like(&error))
    }

    /// A call by HTTP says nothing of how long its caller waits.
    async fn arriving_now(&self) -> Call {
        Call::arrived(self.pulse.arrived().await, None)
    }
}

#[tonic::async_trait]
impl InteractionService for Interactions {
    async fn like(&self, request: Request<v1::LikeRequest>) -> Result<Response<v1::LikeResponse>, Status> {
        let call = deadline::call(request.metadata(), &self.pulse).await;
        let (who, caller) = (Who::calls(&request), caller(&request));
        let v1::LikeRequest { user_id, resource, idempotency_key } = request.into_inner();
        on_behalf(caller, self.one((who, call), user_id, resource, Action::Like, idempotency_key)).await
    }

    async fn unlike(&self, request: Request<v1::UnlikeRequest>) -> Result<Response<v1::LikeResponse>, Status> {
        let call = deadline::call(request.metadata(), &self.pulse).await;
        let (who, caller) = (Who::calls(&request), caller(&request));
        let v1::UnlikeRequest { user_id, resource, idempotency_key } = request.into_inner();
        on_behalf(caller, self.one((who, call), user_id, resource, Action::Unlike, idempotency_key)).await
    }

    async fn apply_likes(
        &self,
        request: Request<v1::ApplyLikesRequest>,
    ) -> Result<Response<v1::ApplyLikesResponse>, Status> {
        let call = deadline::call(request.metadata(), &self.pulse).await;
        let (who, caller) = (Who::calls(&request), caller(&request));
        let operations = request.into_inner().operations;
        let mut violations = Violations::default();
        convert::bounded(&mut violations, "operations", operations.len(), MAX_ITEMS);
        violations.finish()?;
        let intents = operations.into_iter().enumerate().map(|(i, given)| convert::operation(i, given)).collect();
        let outcomes = on_behalf(caller, batch::apply(self, &who, intents, call)).await?;
        let results = outcomes.iter().map(batch::result).collect();
        Ok(Response::new(v1::ApplyLikesResponse { results }))
    }

    async fn get_like_counts(
        &self,
        request: Request<v1::GetLikeCountsRequest>,
    ) -> Result<Response<v1::GetLikeCountsResponse>, Status> {
        let who = Who::calls(&request);
        let mut violations = Violations::default();
        let resources = convert::resources(&mut violations, request.into_inner().resources, MAX_ITEMS);
        violations.finish()?;
        let read = counts_of(self, &who, &resources).await?;
        let each = resources.into_iter().zip(read.values);
        let counts =
            each.map(|(resource, count)| v1::LikeCount { resource: Some(wire_resource(resource)), count }).collect();
        Ok(Response::new(v1::GetLikeCountsResponse { counts, degraded: read.degraded }))
    }

    async fn get_like_states(
        &self,
        request: Request<v1::GetLikeStatesRequest>,
    ) -> Result<Response<v1::GetLikeStatesResponse>, Status> {
        let who = Who::calls(&request);
        let v1::GetLikeStatesRequest { user_id, resources } = request.into_inner();
        let mut violations = Violations::default();
        let user = convert::user(&mut violations, user_id);
        let resources = convert::resources(&mut violations, resources, MAX_ITEMS);
        let user = violations.given(user)?;
        let pairs: Vec<Pair> = resources.into_iter().map(|resource| Pair { resource, user }).collect();
        who.may_user(user)?;
        who.may_types(pairs.iter().map(|pair| pair.resource.kind))?;
        let turn = self.limits.reads(&who, pairs.len()).await?;
        let read = self.reader.states(&pairs).await.map_err(|error| status::read(&error))?;
        drop(turn);
        let states = pairs
            .into_iter()
            .zip(read.values)
            .map(|(pair, state)| v1::LikeState {
                resource: Some(wire_resource(pair.resource)),
                liked: state.liked,
                version: state.version.0,
            })
            .collect();
        Ok(Response::new(v1::GetLikeStatesResponse { states, degraded: read.degraded }))
    }

    async fn list_liked_resources(
        &self,
        request: Request<v1::ListLikedResourcesRequest>,
    ) -> Result<Response<v1::ListLikedResourcesResponse>, Status> {
        let who = Who::calls(&request);
        let request = request.into_inner();
        let mut violations = Violations::default();
        let user = convert::user(&mut violations, request.user_id);
        let kind = convert::resource_type(request.r#type)
            .map_err(|invalid| violations.add(invalid.field, invalid.reason))
            .ok();
        let size = convert::page_size(&mut violations, "page_size", request.page_size);
        let list = user.zip(kind).map(|(user, kind)| List::Liked(user, kind));
        let after = page::cursor(list, &request.page_token).map_err(|reason| violations.add("page_token", reason)).ok();
        let (((user, kind), list), after) = violations.given(user.zip(kind).zip(list).zip(after))?;
        who.may_user(user)?;
        who.may_types([kind])?;
        let turn = self.limits.list(&who, size).await?;
        let page = self.database.list_liked(user, kind, size, after).await.map_err(|error| status::store(&error))?;
        drop(turn);
        let resources = page
            .likes
            .iter()
            .map(|like| v1::LikedResource {
                resource: Some(wire_resource(like.pair.resource)),
                liked_at: Some(timestamp(like.version)),
            })
            .collect();
        Ok(Response::new(v1::ListLikedResourcesResponse { resources, next_page_token: page::token(list, page.next)? }))
    }

    async fn list_likers(
        &self,
        request: Request<v1::ListLikersRequest>,
    ) -> Result<Response<v1::ListLikersResponse>, Status> {
        let who = Who::calls(&request);
        let request = request.into_inner();
        let mut violations = Violations::default();
        let resource = convert::resource(&mut violations, "", request.resource);
        let size = convert::page_size(&mut violations, "page_size", request.page_size);
        let list = resource.map(List::Likers);
        let after = page::cursor(list, &request.page_token).map_err(|reason| violations.add("page_token", reason)).ok();
        let ((resource, list), after) = violations.given(resource.zip(list).zip(after))?;
        who.may_all_users()?;
        who.may_resources(&[resource])?;
        let turn = self.limits.list(&who, size).await?;
        let page = self.database.list_likers(resource, size, after).await.map_err(|error| status::store(&error))?;
        drop(turn);
        let likers = page
            .likes
            .iter()
            .map(|like| v1::Liker { user_id: like.pair.user.get(), liked_at: Some(timestamp(like.version)) })
            .collect();
        Ok(Response::new(v1::ListLikersResponse { likers, next_page_token: page::token(list, page.next)? }))
    }

    async fn list_hot_resources(
        &self,
        request: Request<v1::ListHotResourcesRequest>,
    ) -> Result<Response<v1::ListHotResourcesResponse>, Status> {
        let who = Who::calls(&request);
        self.hot.list(request.into_inner(), &who, &self.limits).await.map(Response::new)
    }

    type WatchLikeCountsStream = watch::Counts;

    async fn watch_like_counts(
        &self,
        request: Request<v1::WatchLikeCountsRequest>,
    ) -> Result<Response<watch::Counts>, Status> {
        let who = Who::calls(&request);
        self.watch.begin(request.into_inner(), &who, &self.limits).map(Response::new)
    }
}

/// Counts, however they were asked for.
async fn counts_of(interactions: &Interactions, who: &Who, resources: &[Resource]) -> Result<Read<i64>, Status> {
    who.may_resources(resources)?;
    let _turn = interactions.limits.reads(who, resources.len()).await?;
    interactions.reader.counts(resources).await.map_err(|error| status::read(&error))
}

/// The span that a call is part of, by W3C Trace Context.
fn caller<T>(request: &Request<T>) -> Option<Arc<str>> {
    request.metadata().get("traceparent")?.to_str().ok().map(Arc::from)
}

fn response(answer: &LikeAnswer) -> v1::LikeResponse {
    v1::LikeResponse {
        liked: answer.liked,
        count: answer.count,
        version: answer.version.0,
        changed: answer.changed,
        degraded: answer.degraded,
    }
}

fn timestamp(version: Version) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: version.0.div_euclid(1_000_000),
        nanos: i32::try_from(version.0.rem_euclid(1_000_000) * 1_000).unwrap_or(0),
    }
}
