//! `EraseUser`, `POST /users/erase`; `GetErasure`, `GET /users/erasure`: everything that a user did goes, and how far that has come.

use super::operation::{self, Source};
use super::{Admin, timestamp};
use crate::request::{Violations, convert};
use crate::status::{self, HttpError};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use chrono::{DateTime, Utc};
use consistency::openapi::id;
use domain::{Erased, Fence, Invalid, UserId, Version};
use event_store::{Erasure, IndexedRows, Operation};
use interaction_proto::v1;
use serde::{Deserialize, Serialize};
use service_runtime::listen::request::{Whole, json, query};
use sync_engine::operate::erase;
use sync_engine::recover::catch_up::RefreshError;
use tonic::{Request, Status};
use utoipa::{IntoParams, ToSchema};

/// Who is erased, who asks, and why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = EraseUser)]
pub(super) struct Body {
    /// Whose likes go.
    #[schema(schema_with = id)]
    user_id: Option<Whole>,
    /// Only says what there is.
    dry_run: Option<bool>,
    /// Who asks.
    #[schema(max_length = 64)]
    actor: Option<String>,
    /// Why; must not name the user.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

/// Whose erasure, by HTTP.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Parameters {
    /// Whose.
    #[param(schema_with = id, required = true)]
    user_id: Option<Whole>,
}

/// How far an erasure has come.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Erasure)]
pub(super) struct ErasureState {
    /// Microseconds: what the user did up to this version is gone, or going.
    up_to: i64,
    /// When it began, the last time.
    fenced_at: DateTime<Utc>,
    /// When everything was gone.
    cleaned_at: Option<DateTime<Utc>>,
    /// Likes, tombstones and keys that were deleted so far, about.
    removed: i64,
}

/// What was begun, and what there is to remove.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Erased)]
pub(super) struct Answer {
    dry_run: bool,
    /// None after a dry run of a user who was never erased.
    erasure: Option<ErasureState>,
    /// That count.
    likes: u64,
    /// That were taken back.
    tombstones: u64,
    /// Idempotency keys.
    keys: u64,
}

/// How far it has come.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ErasureOfUser)]
pub(super) struct ErasureAnswer {
    /// None if the user was never erased.
    erasure: Option<ErasureState>,
}

struct Asked {
    user: UserId,
    by: Operation,
    dry_run: bool,
}

struct Done {
    dry_run: bool,
    erasure: Option<Erasure>,
    rows: IndexedRows,
}

fn check(
    mut violations: Violations,
    user: Option<UserId>,
    source: &Source,
    (actor, reason): (Option<String>, Option<String>),
    dry_run: bool,
) -> Result<Asked, Status> {
    let names = |text: &Option<String>| {
        let numbers =
            |text: &String| user.is_some_and(|user| text.split(not_digit).any(|number| number == user.to_string()));
        text.as_ref().is_some_and(numbers)
    };
    for (field, text) in [("actor", &actor), ("reason", &reason)] {
        if names(text) {
            violations.add(field, "must not name the user: it is kept");
        }
    }
    let by = operation::signed(&mut violations, source, actor, reason);
    Ok(Asked { user: violations.given(user)?, by, dry_run })
}

fn not_digit(c: char) -> bool {
    !c.is_ascii_digit()
}

async fn call(admin: &Admin, asked: Asked) -> Result<Done, Status> {
    let Asked { user, by, dry_run } = asked;
    let database = &admin.stores.database;
    // Read first: a consumer may be faster.
    let all = Fence { of: Erased::User(user), up_to: Version::MAX };
    let rows = database.indexed_rows(all).await.map_err(|error| status::store(&error))?;
    let erasure = if dry_run {
        database.erasure_of(user).await.map_err(|error| status::store(&error))?
    } else {
        Some(erase::erase_user(&admin.stores, user, &by).await.map_err(|error| failed(&error))?)
    };
    Ok(Done { dry_run, erasure, rows })
}

pub(super) fn failed(error: &RefreshError) -> Status {
    match error {
        RefreshError::Cache(error) => status::stores(error.is_unavailable(), "the cache", error),
        RefreshError::Store(error) => status::store(error),
    }
}

pub(super) async fn grpc(
    admin: &Admin,
    request: Request<v1::EraseUserRequest>,
) -> Result<v1::EraseUserResponse, Status> {
    let source = Source::of(&request);
    let v1::EraseUserRequest { user_id, dry_run, actor, reason } = request.into_inner();
    let mut violations = Violations::default();
    let user = convert::user(&mut violations, user_id);
    let done = call(admin, check(violations, user, &source, (Some(actor), Some(reason)), dry_run)?).await?;
    Ok(v1::EraseUserResponse {
        dry_run: done.dry_run,
        erasure: done.erasure.as_ref().map(wire),
        likes: done.rows.likes.cast_signed(),
        tombstones: done.rows.tombstones.cast_signed(),
        keys: done.rows.keys.cast_signed(),
    })
}

pub(super) async fn grpc_erasure(
    admin: &Admin,
    given: v1::GetErasureRequest,
) -> Result<v1::GetErasureResponse, Status> {
    let mut violations = Violations::default();
    let user = convert::user(&mut violations, given.user_id);
    let erasure = admin.stores.database.erasure_of(violations.given(user)?).await;
    Ok(v1::GetErasureResponse { erasure: erasure.map_err(|error| status::store(&error))?.as_ref().map(wire) })
}

fn named(violations: &mut Violations, user_id: Option<Whole>) -> Option<UserId> {
    let user = user_id.ok_or_else(|| Invalid::new("user_id", "must be given")).and_then(|Whole(id)| UserId::new(id));
    violations.take("", user)
}

/// Everything that a user did goes; a consumer removes it.
#[utoipa::path(post, path = "/users/erase", operation_id = "eraseUser", request_body = Body,
    responses((status = 200, description = "What was begun.", body = Answer), (status = 400, description = "Names the field.")))]
pub(super) async fn http(State(admin): State<Admin>, source: Source, body: Bytes) -> Result<Json<Answer>, HttpError> {
    let Body { user_id, dry_run, actor, reason } = json(&body)?;
    let mut violations = Violations::http();
    let user = named(&mut violations, user_id);
    let asked = check(violations, user, &source, (actor, reason), dry_run.unwrap_or(false))?;
    let Done { dry_run, erasure, rows } = call(&admin, asked).await?;
    let erasure = erasure.as_ref().map(ErasureState::of);
    Ok(Json(Answer { dry_run, erasure, likes: rows.likes, tombstones: rows.tombstones, keys: rows.keys }))
}

/// How far the erasure of a user has come.
#[utoipa::path(get, path = "/users/erasure", operation_id = "getErasure", params(Parameters),
    responses((status = 200, description = "How far.", body = ErasureAnswer), (status = 400, description = "Names the parameter.")))]
pub(super) async fn http_erasure(
    State(admin): State<Admin>,
    RawQuery(given): RawQuery,
) -> Result<Json<ErasureAnswer>, HttpError> {
    let Parameters { user_id } = query(given.as_deref())?;
    let mut violations = Violations::http();
    let user = named(&mut violations, user_id);
    let erasure =
        admin.stores.database.erasure_of(violations.given(user)?).await.map_err(|error| status::store(&error))?;
    Ok(Json(ErasureAnswer { erasure: erasure.as_ref().map(ErasureState::of) }))
}

impl ErasureState {
    fn of(erasure: &Erasure) -> Self {
        let Erasure { fence, fenced_at, cleaned_at, removed, .. } = *erasure;
        Self { up_to: fence.up_to.0, fenced_at, cleaned_at, removed }
    }
}

fn wire(erasure: &Erasure) -> v1::Erasure {
    v1::Erasure {
        up_to: erasure.fence.up_to.0,
        fenced_at: Some(timestamp(erasure.fenced_at)),
        cleaned_at: erasure.cleaned_at.map(timestamp),
        removed: erasure.removed,
    }
}
