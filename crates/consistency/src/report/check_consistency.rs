//! `POST /consistency/check`: whether cache and database agree on one resource. The leader repairs what it finds.

use super::routes::{bad, failed};
use crate::error::CheckError;
use crate::openapi::{ResourceTypeName, id};
use crate::run::checker::{CheckOutcome, Checker};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use domain::{Invalid, Resource, ResourceType};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::Deserialize;
use service_runtime::listen::api_error::ApiError;
use service_runtime::listen::request::{Whole, json};
use utoipa::ToSchema;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckConsistency {
    /// Of which resource.
    pub resource: Resource,
    /// Only says what would be repaired.
    pub dry_run: bool,
}

impl CheckConsistency {
    /// Asks the checker. Boxed, so that the check is compiled here and not with everybody who asks.
    pub fn call(self, checker: &Checker) -> BoxFuture<'_, Result<CheckOutcome, CheckError>> {
        checker.check(self.resource, self.dry_run).boxed()
    }
}

/// Which resource is looked at.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CheckRequest {
    #[schema(value_type = ResourceTypeName, required)]
    resource_type: Option<ResourceType>,
    #[schema(schema_with = id, required)]
    resource_id: Option<Whole>,
    /// Only says what would be repaired.
    dry_run: Option<bool>,
}

impl TryFrom<CheckRequest> for CheckConsistency {
    type Error = Invalid;

    fn try_from(given: CheckRequest) -> Result<Self, Invalid> {
        let resource = named_resource(given.resource_type, given.resource_id)?;
        Ok(Self { resource, dry_run: given.dry_run.unwrap_or(false) })
    }
}

/// A resource as HTTP names it: `resource_type` and `resource_id`.
pub fn named_resource(kind: Option<ResourceType>, id: Option<Whole>) -> Result<Resource, Invalid> {
    let kind = kind.ok_or_else(|| Invalid::new("resource_type", "must be given"))?;
    let Whole(id) = id.ok_or_else(|| Invalid::new("resource_id", "must be given"))?;
    Resource::new(kind, id)
}

/// Whether cache and database agree on one resource; repaired only by the leader.
#[utoipa::path(post, path = "/consistency/check", operation_id = "consistencyCheck", request_body = CheckRequest,
    responses((status = 200, description = "The verdict.", body = CheckOutcome), (status = 400, description = "Names the field.")))]
pub(crate) async fn http(State(checker): State<Checker>, body: Bytes) -> Result<Json<CheckOutcome>, ApiError> {
    let request = CheckConsistency::try_from(json::<CheckRequest>(&body)?).map_err(|invalid| bad(&invalid))?;
    request.call(&checker).await.map(Json).map_err(|error| failed("the check", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_names_its_field() {
        let read = |text: &str| {
            let request = json::<CheckRequest>(text.as_bytes()).map_err(|error| error.message)?;
            CheckConsistency::try_from(request).map_err(|invalid| bad(&invalid).message)
        };
        for (text, expected) in [
            ("", "body: "),
            ("{}", "resource_type: must be given"),
            (r#"{"resource_type":"film"}"#, "resource_type: unknown variant `film`, expected `video` or `comment`"),
            (r#"{"resource_type":1}"#, "resource_type: "),
            (r#"{"resource_type":"video"}"#, "resource_id: must be given"),
            (r#"{"resource_type":"video","resource_id":"one"}"#, "resource_id: invalid value"),
            (r#"{"resource_type":"video","resource_id":-1}"#, "resource_id: must be greater than 0"),
            (r#"{"resource_type":"video","resource_id":1,"dry_run":1}"#, "dry_run: "),
            (r#"{"resource_type":"video","resource_id":1,"repair":1}"#, "repair: unknown field"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.starts_with(expected), "{text}: {error}");
        }
        let asked = read(r#"{"resource_type":"comment","resource_id":"9007199254740993","dry_run":true}"#).unwrap();
        assert_eq!((asked.resource.to_string(), asked.dry_run), ("comment:9007199254740993".to_owned(), true));
    }
}
