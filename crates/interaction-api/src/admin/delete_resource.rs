//! `DeleteResource`, `POST /resources/delete`; `RestoreResource`, `POST /resources/restore`; `GetDeletion`,
//! `GET /resources/deletion`: a resource goes with its likes, nobody likes it until it is restored, and how far that has come.

use super::erase_user::failed;
use super::operation::{self, Source};
use super::{Admin, resource, timestamp};
use crate::request::{Violations, convert};
use crate::status::{self, HttpError};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use chrono::{DateTime, Utc};
use consistency::openapi::{ResourceTypeName, id};
use domain::{Erased, Fence, Resource, ResourceType, Version};
use event_store::{Erasure, IndexedRows, Operation};
use interaction_proto::v1;
use serde::{Deserialize, Serialize};
use service_runtime::listen::request::{Whole, json};
use sync_engine::operate::erase;
use tonic::{Request, Status};
use utoipa::ToSchema;

/// What is deleted, who asks, and why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = DeleteResource)]
pub(super) struct DeleteBody {
    /// Of which kind.
    #[schema(value_type = ResourceTypeName, required)]
    resource_type: Option<ResourceType>,
    /// Which.
    #[schema(schema_with = id, required)]
    resource_id: Option<Whole>,
    /// Only says what there is.
    dry_run: Option<bool>,
    /// Who asks.
    #[schema(max_length = 64)]
    actor: Option<String>,
    /// Why.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

/// What is restored, who asks, and why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RestoreResource)]
pub(super) struct RestoreBody {
    /// Of which kind.
    #[schema(value_type = ResourceTypeName, required)]
    resource_type: Option<ResourceType>,
    /// Which.
    #[schema(schema_with = id, required)]
    resource_id: Option<Whole>,
    /// Who asks.
    #[schema(max_length = 64)]
    actor: Option<String>,
    /// Why.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

/// How far a deletion has come.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Deletion)]
pub(super) struct DeletionState {
    /// Microseconds: likes and unlikes up to this version are gone, or going, for good.
    up_to: i64,
    /// When it began, the last time.
    deleted_at: DateTime<Utc>,
    /// When everything was gone.
    cleaned_at: Option<DateTime<Utc>>,
    /// Likes, tombstones and keys that were deleted so far, about.
    removed: i64,
    /// When it was restored; none while nobody can like it.
    restored_at: Option<DateTime<Utc>>,
}

/// What was begun, and what there is to remove.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Deleted)]
pub(super) struct Answer {
    dry_run: bool,
    /// None after a dry run of a resource that was never deleted.
    deletion: Option<DeletionState>,
    /// That count.
    likes: u64,
    /// That were taken back, as far as they are not archived.
    tombstones: u64,
}

/// How far it has come.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeletionOfResource)]
pub(super) struct DeletionAnswer {
    /// None if the resource was never deleted.
    deletion: Option<DeletionState>,
}

struct Done {
    deletion: Option<Erasure>,
    rows: IndexedRows,
}

async fn delete(admin: &Admin, resource: Resource, by: &Operation, dry_run: bool) -> Result<Done, Status> {
    let database = &admin.stores.database;
    // Read first: a consumer may be faster.
    let everything = Fence { of: Erased::Resource(resource), up_to: Version::MAX };
    let rows = database.indexed_rows(everything).await.map_err(|error| status::store(&error))?;
    let deletion = if dry_run {
        deletion_of(admin, resource).await?
    } else {
        Some(erase::delete_resource(&admin.stores, resource, by).await.map_err(|error| failed(&error))?)
    };
    Ok(Done { deletion, rows })
}

async fn restore(admin: &Admin, resource: Resource, by: &Operation) -> Result<Option<Erasure>, Status> {
    erase::restore_resource(&admin.stores, resource, by).await.map_err(|error| failed(&error))
}

async fn deletion_of(admin: &Admin, resource: Resource) -> Result<Option<Erasure>, Status> {
    admin.stores.database.deletion_of(resource).await.map_err(|error| status::store(&error))
}

pub(super) async fn grpc(
    admin: &Admin,
    request: Request<v1::DeleteResourceRequest>,
) -> Result<v1::DeleteResourceResponse, Status> {
    let source = Source::of(&request);
    let v1::DeleteResourceRequest { resource, dry_run, actor, reason } = request.into_inner();
    let mut violations = Violations::default();
    let resource = convert::resource(&mut violations, "", resource);
    let by = operation::signed(&mut violations, &source, Some(actor), Some(reason));
    let Done { deletion, rows } = delete(admin, violations.given(resource)?, &by, dry_run).await?;
    Ok(v1::DeleteResourceResponse {
        dry_run,
        deletion: deletion.as_ref().map(wire),
        likes: rows.likes.cast_signed(),
        tombstones: rows.tombstones.cast_signed(),
    })
}

pub(super) async fn grpc_restore(
    admin: &Admin,
    request: Request<v1::RestoreResourceRequest>,
) -> Result<v1::RestoreResourceResponse, Status> {
    let source = Source::of(&request);
    let v1::RestoreResourceRequest { resource, actor, reason } = request.into_inner();
    let mut violations = Violations::default();
    let resource = convert::resource(&mut violations, "", resource);
    let by = operation::signed(&mut violations, &source, Some(actor), Some(reason));
    let deletion = restore(admin, violations.given(resource)?, &by).await?;
    Ok(v1::RestoreResourceResponse { deletion: deletion.as_ref().map(wire) })
}

pub(super) async fn grpc_deletion(
    admin: &Admin,
    given: v1::GetDeletionRequest,
) -> Result<v1::GetDeletionResponse, Status> {
    let mut violations = Violations::default();
    let resource = convert::resource(&mut violations, "", given.resource);
    let deletion = deletion_of(admin, violations.given(resource)?).await?;
    Ok(v1::GetDeletionResponse { deletion: deletion.as_ref().map(wire) })
}

fn named(violations: &mut Violations, kind: Option<ResourceType>, id: Option<Whole>) -> Option<Resource> {
    violations.resource("", kind, id.map(|Whole(id)| id))
}

/// A resource goes with its likes; a consumer removes them. Nobody likes it until it is restored.
#[utoipa::path(post, path = "/resources/delete", operation_id = "deleteResource", request_body = DeleteBody,
    responses((status = 200, description = "What was begun.", body = Answer), (status = 400, description = "Names the field.")))]
pub(super) async fn http(State(admin): State<Admin>, source: Source, body: Bytes) -> Result<Json<Answer>, HttpError> {
    let DeleteBody { resource_type, resource_id, dry_run, actor, reason } = json(&body)?;
    let dry_run = dry_run.unwrap_or(false);
    let mut violations = Violations::http();
    let resource = named(&mut violations, resource_type, resource_id);
    let by = operation::signed(&mut violations, &source, actor, reason);
    let Done { deletion, rows } = delete(&admin, violations.given(resource)?, &by, dry_run).await?;
    let deletion = deletion.as_ref().map(DeletionState::of);
    Ok(Json(Answer { dry_run, deletion, likes: rows.likes, tombstones: rows.tombstones }))
}

/// A deleted resource may be liked again, from no like on.
#[utoipa::path(post, path = "/resources/restore", operation_id = "restoreResource", request_body = RestoreBody,
    responses((status = 200, description = "What becomes of its deletion.", body = DeletionAnswer),
        (status = 400, description = "Names the field.")))]
pub(super) async fn http_restore(
    State(admin): State<Admin>,
    source: Source,
    body: Bytes,
) -> Result<Json<DeletionAnswer>, HttpError> {
    let RestoreBody { resource_type, resource_id, actor, reason } = json(&body)?;
    let mut violations = Violations::http();
    let resource = named(&mut violations, resource_type, resource_id);
    let by = operation::signed(&mut violations, &source, actor, reason);
    let deletion = restore(&admin, violations.given(resource)?, &by).await?;
    Ok(Json(DeletionAnswer { deletion: deletion.as_ref().map(DeletionState::of) }))
}

/// How far the deletion of a resource has come.
#[utoipa::path(get, path = "/resources/deletion", operation_id = "getDeletion", params(resource::Parameters),
    responses((status = 200, description = "How far.", body = DeletionAnswer), (status = 400, description = "Names the parameter.")))]
pub(super) async fn http_deletion(
    State(admin): State<Admin>,
    RawQuery(given): RawQuery,
) -> Result<Json<DeletionAnswer>, HttpError> {
    let deletion = deletion_of(&admin, resource::of_query(given.as_deref())?).await?;
    Ok(Json(DeletionAnswer { deletion: deletion.as_ref().map(DeletionState::of) }))
}

impl DeletionState {
    fn of(deletion: &Erasure) -> Self {
        let Erasure { fence, fenced_at, cleaned_at, removed, restored_at, .. } = *deletion;
        Self { up_to: fence.up_to.0, deleted_at: fenced_at, cleaned_at, removed, restored_at }
    }
}

fn wire(deletion: &Erasure) -> v1::Deletion {
    v1::Deletion {
        up_to: deletion.fence.up_to.0,
        deleted_at: Some(timestamp(deletion.fenced_at)),
        cleaned_at: deletion.cleaned_at.map(timestamp),
        removed: deletion.removed,
        restored_at: deletion.restored_at.map(timestamp),
    }
}
