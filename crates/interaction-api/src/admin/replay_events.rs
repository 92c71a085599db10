//! `ReplayEvents`, `POST /events/replay`: failed and dead events become due again.

use super::event::{self, Actions};
use super::operation::{self, Answer, Body, Operate, Source};
use super::{Admin, timestamp};
use crate::request::{Violations, page};
use crate::status::HttpError;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use interaction_proto::v1;
use sync_engine::operate::events::Operated;
use tonic::{Request, Status};

const NEEDS_REASON: bool = false;

async fn call(admin: &Admin, asked: Operate) -> Result<Operated, Status> {
    let Operate { selection, operation, dry_run } = asked;
    let operated = admin.operator.replay(selection, operation, dry_run).await;
    operated.map_err(|error| operation::failed(&error))
}

pub(super) async fn grpc(
    admin: &Admin,
    request: Request<v1::ReplayEventsRequest>,
) -> Result<v1::ReplayEventsResponse, Status> {
    let source = Source::of(&request);
    let v1::ReplayEventsRequest { selection, dry_run, actor, reason } = request.into_inner();
    let mut violations = Violations::default();
    let body = Body::of_wire(&mut violations, selection, dry_run, actor, reason);
    let operated = call(admin, body.check(violations, &source, NEEDS_REASON)?).await?;
    Ok(v1::ReplayEventsResponse {
        dry_run: operated.dry_run,
        events: event::grpc(&operated.events, &Actions::new()),
        skipped: operation::skipped(&operated),
        next_page_token: page::event_token(operated.next),
        due_until: operated.due_until.map(timestamp),
    })
}

/// Failed and dead events become due again.
#[utoipa::path(post, path = "/events/replay", operation_id = "replayEvents", request_body = Body,
    responses((status = 200, description = "Which.", body = Answer), (status = 400, description = "Names the field.")))]
pub(super) async fn http(State(admin): State<Admin>, source: Source, body: Bytes) -> Result<Json<Answer>, HttpError> {
    let asked = operation::of_body(&body, &source, NEEDS_REASON)?;
    Ok(Json(call(&admin, asked).await?.into()))
}
