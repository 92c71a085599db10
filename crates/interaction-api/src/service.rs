//! `interaction.v1.InteractionService`: likes, counts, lists, live counts.

mod batch;
mod caller;
pub(crate) mod deadline;
pub mod hot;
pub(crate) mod http;
pub mod limits;
mod quota;
mod reads;
mod streams;
mod turns;
pub mod watch;
pub(crate) mod web;

use crate::request::Violations;
use crate::request::convert::{self, MAX_ITEMS, wire_resource};
use crate::request::lengths::LONGEST;
use crate::request::page::{self, List};
use crate::status::{self, Reason};
use axum::http::Extensions;
use caller::Who;
use domain::{Action, LikeIntent, Version};
use event_store::{EventStore, Within};
use hot::HotList;
use interaction_proto::v1;
use interaction_proto::v1::interaction_service_server::{InteractionService, InteractionServiceServer};
use limits::Limits;
use reads::{Page, Part};
use service_runtime::Pulse;
use std::sync::Arc;
use sync_engine::accept::{Acceptor, Call, LikeAnswer};
use sync_engine::read::Reader;
use sync_engine::trace::on_behalf;
use tonic::codec::CompressionEncoding;
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

/// The calls of callers, whatever they come by.
pub(crate) fn callers(interactions: Interactions) -> InteractionServiceServer<Interactions> {
    InteractionServiceServer::new(interactions)
        .max_decoding_message_size(LONGEST)
        .accept_compressed(CompressionEncoding::Gzip)
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
    async fn arrived(&self, extensions: &Extensions) -> Call {
        Call::arrived(deadline::arrived(extensions, &self.pulse).await, None)
    }
}

#[tonic::async_trait]
impl InteractionService for Interactions {
    async fn like(&self, request: Request<v1::LikeRequest>) -> Result<Response<v1::LikeResponse>, Status> {
        let call = deadline::call(&request, &self.pulse).await;
        let (who, caller) = (Who::calls(&request), caller(&request));
        let v1::LikeRequest { user_id, resource, idempotency_key } = request.into_inner();
        on_behalf(caller, self.one((who, call), user_id, resource, Action::Like, idempotency_key)).await
    }

    async fn unlike(&self, request: Request<v1::UnlikeRequest>) -> Result<Response<v1::LikeResponse>, Status> {
        let call = deadline::call(&request, &self.pulse).await;
        let (who, caller) = (Who::calls(&request), caller(&request));
        let v1::UnlikeRequest { user_id, resource, idempotency_key } = request.into_inner();
        on_behalf(caller, self.one((who, call), user_id, resource, Action::Unlike, idempotency_key)).await
    }

    async fn apply_likes(
        &self,
        request: Request<v1::ApplyLikesRequest>,
    ) -> Result<Response<v1::ApplyLikesResponse>, Status> {
        let call = deadline::call(&request, &self.pulse).await;
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
        let v1::GetLikeCountsRequest { resources, least_version } = request.into_inner();
        let mut violations = Violations::default();
        let resources = convert::resources(&mut violations, resources, MAX_ITEMS);
        let least = convert::least_version(&mut violations, least_version);
        violations.finish()?;
        let read = reads::counts(self, &who, &resources, least).await?;
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
        let (user, resources) = convert::own(Violations::default(), user_id, resources)?;
        let read = reads::states(self, &who, user, &resources).await?;
        let states = resources.into_iter().zip(read.values).map(|(resource, state)| v1::LikeState {
            resource: Some(wire_resource(resource)),
            liked: state.liked,
            version: state.version.0,
        });
        Ok(Response::new(v1::GetLikeStatesResponse { states: states.collect(), degraded: read.degraded }))
    }

    async fn get_like_summaries(
        &self,
        request: Request<v1::GetLikeSummariesRequest>,
    ) -> Result<Response<v1::GetLikeSummariesResponse>, Status> {
        let who = Who::calls(&request);
        let v1::GetLikeSummariesRequest { user_id, resources, least_version } = request.into_inner();
        let mut violations = Violations::default();
        let least = convert::least_version(&mut violations, least_version);
        let (user, resources) = convert::own(violations, user_id, resources)?;
        let read = reads::summaries(self, &who, user, &resources, least).await?;
        let summaries = resources.into_iter().zip(read.values).map(|(resource, (count, state))| v1::LikeSummary {
            resource: Some(wire_resource(resource)),
            count,
            liked: state.liked,
            version: state.version.0,
        });
        Ok(Response::new(v1::GetLikeSummariesResponse { summaries: summaries.collect(), degraded: read.degraded }))
    }

    async fn list_liked_resources(
        &self,
        request: Request<v1::ListLikedResourcesRequest>,
    ) -> Result<Response<v1::ListLikedResourcesResponse>, Status> {
        let who = Who::calls(&request);
        let request = request.into_inner();
        let mut violations = Violations::default();
        let user = convert::user(&mut violations, request.user_id);
        let kind = violations.take("", convert::resource_type(request.r#type));
        let within = convert::within(&mut violations, request.since, request.until);
        let list = user.zip(kind).map(|(user, kind)| List::Liked(user, kind, within));
        let part = part(&mut violations, list, within, request.page_size, &request.page_token);
        let ((user, kind), part) = violations.given(user.zip(kind).zip(part))?;
        let Page { likes, next_page_token, max_age_ms } = reads::liked(self, &who, user, kind, part).await?;
        let resources = likes.iter().map(|like| v1::LikedResource {
            resource: Some(wire_resource(like.pair.resource)),
            liked_at: Some(timestamp(like.version)),
        });
        Ok(Response::new(v1::ListLikedResourcesResponse {
            resources: resources.collect(),
            next_page_token,
            max_age_ms,
        }))
    }

    async fn list_likers(
        &self,
        request: Request<v1::ListLikersRequest>,
    ) -> Result<Response<v1::ListLikersResponse>, Status> {
        let who = Who::calls(&request);
        let request = request.into_inner();
        let mut violations = Violations::default();
        let resource = convert::resource(&mut violations, "", request.resource);
        let within = convert::within(&mut violations, request.since, request.until);
        let list = resource.map(|resource| List::Likers(resource, within));
        let part = part(&mut violations, list, within, request.page_size, &request.page_token);
        let (resource, part) = violations.given(resource.zip(part))?;
        let Page { likes, next_page_token, max_age_ms } = reads::likers(self, &who, resource, part).await?;
        let likers = likes
            .iter()
            .map(|like| v1::Liker { user_id: like.pair.user.get(), liked_at: Some(timestamp(like.version)) });
        Ok(Response::new(v1::ListLikersResponse { likers: likers.collect(), next_page_token, max_age_ms }))
    }

    async fn list_hot_resources(
        &self,
        request: Request<v1::ListHotResourcesRequest>,
    ) -> Result<Response<v1::ListHotResourcesResponse>, Status> {
        let who = Who::calls(&request);
        let v1::ListHotResourcesRequest { r#type, limit, window } = request.into_inner();
        let mut violations = Violations::default();
        let kind = match r#type {
            0 => None,
            given => violations.take("", convert::resource_type(given)),
        };
        let limit = convert::page_size(&mut violations, "limit", limit);
        let window = violations.take("", convert::hot_window(window)).flatten();
        violations.finish()?;
        let read = self.hot.list(kind, window, limit, &who, &self.limits).await?;
        let resources = read.values.into_iter().map(|hot| v1::HotResource {
            resource: Some(wire_resource(hot.resource)),
            count: hot.count,
            recent_changes: hot.recent_changes,
            gained: hot.gained,
        });
        Ok(Response::new(v1::ListHotResourcesResponse { resources: resources.collect(), degraded: read.degraded }))
    }

    type WatchLikeCountsStream = watch::Counts;

    async fn watch_like_counts(
        &self,
        request: Request<v1::WatchLikeCountsRequest>,
    ) -> Result<Response<watch::Counts>, Status> {
        let (who, caller) = (Who::calls(&request), request.extensions().get().cloned());
        self.watch.begin(request.into_inner(), &who, caller, &self.limits).map(Response::new)
    }
}

/// Which part of a list is asked for; violations are noted.
fn part(violations: &mut Violations, list: Option<List>, within: Within, size: i32, token: &str) -> Option<Part> {
    let size = convert::page_size(violations, "page_size", size);
    let after = page::cursor(list, token).map_err(|reason| violations.add("page_token", reason)).ok()?;
    Some(Part { size, after, within })
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
