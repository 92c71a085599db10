//! `GET /openapi.json`: what ops HTTP of a server answers. Each route brings its own description; here stands what all of them
//! have in common, and the routes of every process ([`service_runtime::router`]).

use crate::status::{Reason, Violation};
use axum::Router;
use axum::body::Bytes;
use axum::http::header;
use axum::routing::get;
use consistency::openapi::{AnyObject, one_of};
use utoipa::ToSchema;
use utoipa::openapi::path::{HttpMethod, Operation, OperationBuilder, PathItem};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, InfoBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder};
use utoipa_axum::router::OpenApiRouter;

const ERROR: &str = "#/components/schemas/Error";
const JSON: &str = "application/json";

/// Answers of every route that needs a token where tokens are needed.
const GUARDED: &[(&str, &str)] = &[
    ("401", "No token, or none that is known."),
    ("403", "The token's role is too low, or the request comes from another site's page."),
];

/// Answers of every route that asks the stores.
const WORKING: &[(&str, &str)] = &[
    ("500", "A bug, or a store that holds what it should not."),
    ("503", "A store is unreachable."),
    ("504", "No answer within 30 seconds."),
];

/// Answers of every route with a body.
const READING: &[(&str, &str)] =
    &[("413", "The body is longer than 1 MiB."), ("415", "The body is not application/json.")];

/// An error.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what service_runtime's ApiError writes")]
struct Error {
    /// The HTTP status again.
    status: u16,
    /// Why, for a program; docs/API.md has all of them.
    #[schema(schema_with = reasons)]
    reason: String,
    /// What is wrong; begins with the field, if it is one's fault.
    error: String,
    /// Everything that is wrong with the request, where that is known.
    field_violations: Option<Vec<Violation>>,
}

fn reasons() -> RefOr<utoipa::openapi::schema::Schema> {
    one_of(Reason::ALL.iter().map(|reason| reason.name()))
}

/// These routes, and one that describes them.
pub(crate) fn described(routes: OpenApiRouter) -> Router {
    let (router, mut document) = routes.split_for_parts();
    complete(&mut document);
    let text = Bytes::from(serde_json::to_vec(&document).unwrap_or_default());
    router.route("/openapi.json", get(async move || ([(header::CONTENT_TYPE, JSON)], text)))
}

fn complete(document: &mut OpenApi) {
    document.info = InfoBuilder::new()
        .title("Interaction sync, ops HTTP of a server")
        .version("1")
        .description(Some(
            "Health, metrics, the calls of callers for whoever has no gRPC, and what operators ask of interaction-server and standalone. \
             64-bit numbers of callers are strings in answers. Every error is JSON.",
        ))
        .build();
    let components = document.components.get_or_insert_default();
    components.schemas.insert("Error".to_owned(), <Error as utoipa::PartialSchema>::schema());
    components.schemas.insert("FieldViolation".to_owned(), <Violation as utoipa::PartialSchema>::schema());
    components.schemas.insert("Health".to_owned(), health_schema());
    let mut bearer = Http::new(HttpAuthScheme::Bearer);
    bearer.description = Some("Needed where service.access.tokens_file is set.".to_owned());
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));

    for item in document.paths.paths.values_mut() {
        for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
            guard(operation);
            refusals(operation, WORKING);
            if operation.request_body.is_some() {
                refusals(operation, READING);
            }
            describe_errors(operation);
        }
    }
    for (path, item) in of_every_process() {
        document.paths.paths.insert(path.to_owned(), item);
    }
}

fn guard(operation: &mut Operation) {
    refusals(operation, GUARDED);
    let bearer = SecurityRequirement::new("bearer", [""; 0]);
    operation.security = Some(vec![SecurityRequirement::default(), bearer]);
}

fn refusals(operation: &mut Operation, common: &[(&str, &str)]) {
    for (code, description) in common {
        let answer = || RefOr::T(Response::new(*description));
        operation.responses.responses.entry((*code).to_owned()).or_insert_with(answer);
    }
}

/// Errors have one shape.
fn describe_errors(operation: &mut Operation) {
    for (code, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && code.as_str() >= "400"
            && response.content.is_empty()
        {
            response.content.insert(JSON.to_owned(), Content::new(Some(Ref::new(ERROR))).into());
        }
    }
}

fn of_every_process() -> [(&'static str, PathItem); 4] {
    let answer = |description: &str, kind: &str, schema: RefOr<_>| {
        ResponseBuilder::new().description(description).content(kind, Content::new(Some(schema))).build()
    };
    let object = |description| answer(description, JSON, <AnyObject as utoipa::PartialSchema>::schema());
    let health = |description| answer(description, JSON, Ref::from_schema_name("Health").into());
    let operation = |id: &str, summary: &str| OperationBuilder::new().operation_id(Some(id)).summary(Some(summary));
    let guarded = |builder: OperationBuilder| {
        let mut operation = builder.build();
        guard(&mut operation);
        describe_errors(&mut operation);
        operation
    };
    let text = answer("Metrics.", "text/plain", ObjectBuilder::new().schema_type(Type::String).into());
    let get = |operation: Operation| PathItem::new(HttpMethod::Get, operation);
    [
        (
            "/health",
            get(operation("health", "This process and its parts.")
                .response("200", health("All well, or working with a substitute."))
                .response("503", health("Does not work."))
                .build()),
        ),
        (
            "/health/live",
            get(operation("live", "Whether the process can answer at all.").response("200", object("It can.")).build()),
        ),
        (
            "/metrics",
            get(guarded(
                operation("metrics", "Prometheus text; deploy/METRICS.md explains it.")
                    .response("200", text)
                    .response("404", Response::new("Switched off.")),
            )),
        ),
        (
            "/openapi.json",
            get(guarded(operation("openapi", "This document.").response("200", object("An OpenAPI 3.1 document.")))),
        ),
    ]
}

fn health_schema() -> RefOr<utoipa::openapi::schema::Schema> {
    let status = || one_of(["ok", "degraded", "down"]);
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let part = ObjectBuilder::new().property("status", status()).property("detail", text()).required("status");
    let fields = [
        ("status", status()),
        ("service", text().into()),
        ("version", text().into()),
        ("instance", text().into()),
        ("stopping", ObjectBuilder::new().schema_type(Type::Boolean).into()),
        ("uptime_seconds", ObjectBuilder::new().schema_type(Type::Integer).into()),
        ("parts", ObjectBuilder::new().additional_properties(Some(part)).into()),
    ];
    let whole = ObjectBuilder::new().description(Some("The process and its parts."));
    fields.into_iter().fold(whole, |whole, (name, schema)| whole.property(name, schema).required(name)).into()
}
