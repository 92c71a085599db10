//! `interaction.v1.SyncAdminService`, and the same for ops HTTP: one file for each operation, with its request, its errors and
//! both of its adapters.
//!
//! | by gRPC | by HTTP | file |
//! |---|---|---|
//! | `CheckConsistency` | `POST /consistency/check` | `check_consistency`; the route is [`consistency`]'s |
//! | `GetConsistencyReport` | `GET /consistency/report` | `consistency_report`; the same |
//! | `WarmUp` | `POST /cache/warmup` | `warm_up` |
//! | `GetCacheStats` | `GET /cache/stats` | `cache_stats` |
//! | `ListEvents` | `GET /events` | `list_events` |
//! | – | `GET /events/groups` | `error_groups` |
//! | `ReplayEvents` | `POST /events/replay` | `replay_events` |
//! | `DiscardEvents` | `POST /events/discard` | `discard_events` |
//! | `ExplainLike` | `GET /explain` | `explain_like` |
//! | `EraseUser` | `POST /users/erase` | `erase_user` |
//! | `GetErasure` | `GET /users/erasure` | `erase_user` |
//! | `DeleteResource` | `POST /resources/delete` | `delete_resource` |
//! | `RestoreResource` | `POST /resources/restore` | `delete_resource` |
//! | `GetDeletion` | `GET /resources/deletion` | `delete_resource` |
//! | – | `GET /overview` | `overview` |
//! | – | `GET /history` | `history` |
//! | – | `GET /resource` | `resource` |
//!
//! What is wrong with a request is named by field: INVALID_ARGUMENT, or 400. A store that is unreachable is UNAVAILABLE, or 503.

mod cache_stats;
mod check_consistency;
mod consistency_report;
mod delete_resource;
mod discard_events;
mod erase_user;
mod error_groups;
mod event;
mod explain_like;
mod filter;
mod history;
mod list_events;
mod operation;
mod overview;
mod replay_events;
mod resource;
mod warm_up;

use chrono::{DateTime, Utc};
use consistency::Checker;
use event_bus::Publisher;
use history::Samples;
use interaction_proto::v1;
use interaction_proto::v1::sync_admin_service_server::SyncAdminService;
use overview::OverviewCache;
use sync_engine::Stores;
use sync_engine::operate::events::Operator;
use sync_engine::read::Reader;
use sync_engine::read::warm_up::Warmer;
use tonic::{Request, Response, Status};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use cache_stats::CacheStats;
pub use operation::{MAX_ACTOR, MAX_REASON};
pub use warm_up::MAX_LISTED;

/// What operators ask of a server.
#[derive(Clone)]
pub struct Admin {
    stores: Stores,
    reader: Reader,
    warmer: Warmer,
    checker: Checker,
    operator: Operator,
    overview_cache: OverviewCache,
    samples: Samples,
}

impl Admin {
    /// All parts of one server; `queue` asks how much waits there, if there is a broker.
    pub fn new(stores: Stores, reader: Reader, warmer: Warmer, checker: Checker, queue: Option<Publisher>) -> Self {
        let operator = Operator::new(stores.clone());
        Self {
            stores,
            reader,
            warmer,
            checker,
            operator,
            overview_cache: OverviewCache::new(queue),
            samples: Samples::default(),
        }
    }
}

/// Operators' HTTP, described.
pub(crate) fn routes(admin: Admin) -> OpenApiRouter {
    let checks = consistency::described_routes(admin.checker.clone());
    OpenApiRouter::new()
        .routes(routes!(cache_stats::http))
        .routes(routes!(warm_up::http))
        .routes(routes!(list_events::http))
        .routes(routes!(error_groups::http))
        .routes(routes!(replay_events::http))
        .routes(routes!(discard_events::http))
        .routes(routes!(explain_like::http))
        .routes(routes!(erase_user::http))
        .routes(routes!(erase_user::http_erasure))
        .routes(routes!(delete_resource::http))
        .routes(routes!(delete_resource::http_restore))
        .routes(routes!(delete_resource::http_deletion))
        .routes(routes!(overview::http))
        .routes(routes!(history::http))
        .routes(routes!(resource::http))
        .with_state(admin)
        .merge(checks)
}

fn timestamp(time: DateTime<Utc>) -> prost_types::Timestamp {
    // Fewer than a thousand million, always.
    let nanos = i32::try_from(time.timestamp_subsec_nanos()).unwrap_or(0);
    prost_types::Timestamp { seconds: time.timestamp(), nanos }
}

#[tonic::async_trait]
impl SyncAdminService for Admin {
    async fn check_consistency(
        &self,
        request: Request<v1::CheckConsistencyRequest>,
    ) -> Result<Response<v1::CheckConsistencyResponse>, Status> {
        check_consistency::grpc(self, request.into_inner()).await.map(Response::new)
    }

    async fn get_consistency_report(
        &self,
        request: Request<v1::GetConsistencyReportRequest>,
    ) -> Result<Response<v1::GetConsistencyReportResponse>, Status> {
        consistency_report::grpc(self, request.into_inner()).await.map(Response::new)
    }

    async fn warm_up(&self, request: Request<v1::WarmUpRequest>) -> Result<Response<v1::WarmUpResponse>, Status> {
        warm_up::grpc(self, request.into_inner()).await.map(Response::new)
    }

    async fn get_cache_stats(
        &self,
        _request: Request<v1::GetCacheStatsRequest>,
    ) -> Result<Response<v1::GetCacheStatsResponse>, Status> {
        cache_stats::grpc(self).await.map(Response::new)
    }

    async fn list_events(
        &self,
        request: Request<v1::ListEventsRequest>,
    ) -> Result<Response<v1::ListEventsResponse>, Status> {
        list_events::grpc(self, request.into_inner()).await.map(Response::new)
    }

    async fn replay_events(
        &self,
        request: Request<v1::ReplayEventsRequest>,
    ) -> Result<Response<v1::ReplayEventsResponse>, Status> {
        replay_events::grpc(self, request).await.map(Response::new)
    }

    async fn discard_events(
        &self,
        request: Request<v1::DiscardEventsRequest>,
    ) -> Result<Response<v1::DiscardEventsResponse>, Status> {
        discard_events::grpc(self, request).await.map(Response::new)
    }

    async fn explain_like(
        &self,
        request: Request<v1::ExplainLikeRequest>,
    ) -> Result<Response<v1::ExplainLikeResponse>, Status> {
        explain_like::grpc(self, request.into_inner()).await.map(Response::new)
    }

    async fn erase_user(
        &self,
        request: Request<v1::EraseUserRequest>,
    ) -> Result<Response<v1::EraseUserResponse>, Status> {
        erase_user::grpc(self, request).await.map(Response::new)
    }

    async fn get_erasure(
        &self,
        request: Request<v1::GetErasureRequest>,
    ) -> Result<Response<v1::GetErasureResponse>, Status> {
        erase_user::grpc_erasure(self, request.into_inner()).await.map(Response::new)
    }

    async fn delete_resource(
        &self,
        request: Request<v1::DeleteResourceRequest>,
    ) -> Result<Response<v1::DeleteResourceResponse>, Status> {
        delete_resource::grpc(self, request).await.map(Response::new)
    }

    async fn restore_resource(
        &self,
        request: Request<v1::RestoreResourceRequest>,
    ) -> Result<Response<v1::RestoreResourceResponse>, Status> {
        delete_resource::grpc_restore(self, request).await.map(Response::new)
    }

    async fn get_deletion(
        &self,
        request: Request<v1::GetDeletionRequest>,
    ) -> Result<Response<v1::GetDeletionResponse>, Status> {
        delete_resource::grpc_deletion(self, request.into_inner()).await.map(Response::new)
    }
}
