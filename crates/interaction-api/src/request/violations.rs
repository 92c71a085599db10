//! What is wrong with a request: all of it at once, each part by the name that its caller gave it.

use crate::status::{self, Reason};
use consistency::named_resource;
use domain::{Invalid, Resource, ResourceType};
use service_runtime::listen::request::Whole;
use tonic::Status;
use tonic_types::ErrorDetails;

/// How a request came: fields have other names in messages of gRPC than in JSON and queries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Form {
    #[default]
    Grpc,
    Http,
}

/// Collects everything that is wrong with a request, so that its caller learns it at once.
#[derive(Debug, Default)]
pub struct Violations {
    form: Form,
    details: ErrorDetails,
}

impl Violations {
    /// Of a request that came by HTTP; the default is one by gRPC.
    pub fn http() -> Self {
        Self { form: Form::Http, details: ErrorDetails::default() }
    }

    /// Notes what is wrong with `field`.
    pub fn add(&mut self, field: impl Into<String>, reason: impl Into<String>) {
        self.details.add_bad_request_violation(field, reason);
    }

    /// The value of a check, or its violation under `prefix`.
    pub fn take<T>(&mut self, prefix: &str, result: Result<T, Invalid>) -> Option<T> {
        result.map_err(|invalid| self.add(format!("{prefix}{}", invalid.field), invalid.reason)).ok()
    }

    /// A resource: one message by gRPC, whose type was read and noted before; two fields by HTTP.
    pub fn resource(&mut self, prefix: &str, kind: Option<ResourceType>, id: Option<i64>) -> Option<Resource> {
        match (self.form, id) {
            (Form::Http, id) => self.take(prefix, named_resource(kind, id.map(Whole))),
            (Form::Grpc, None) => {
                self.add(format!("{prefix}resource"), "must be given");
                None
            }
            (Form::Grpc, Some(id)) if id <= 0 => {
                self.add(format!("{prefix}resource.id"), format!("must be greater than 0, got {id}"));
                None
            }
            (Form::Grpc, Some(id)) => Resource::new(kind?, id).ok(),
        }
    }

    /// The name of a field that gRPC has inside of `message`, and HTTP beside the others.
    pub fn inside(&self, message: &str, field: &str) -> String {
        match self.form {
            Form::Grpc => format!("{message}.{field}"),
            Form::Http => field.to_owned(),
        }
    }

    /// The name that something has in each form.
    pub const fn named<'a>(&self, grpc: &'a str, http: &'a str) -> &'a str {
        match self.form {
            Form::Grpc => grpc,
            Form::Http => http,
        }
    }

    /// INVALID_ARGUMENT with all violations, if there are any.
    pub fn finish(self) -> Result<(), Status> {
        let Some(first) = self.details.bad_request().and_then(|bad| bad.field_violations.first().cloned()) else {
            return Ok(());
        };
        let message = format!("{}: {}", first.field, first.description);
        Err(status::refuse_with(Reason::InvalidRequest, message, self.details))
    }

    /// What the request became; INVALID_ARGUMENT if anything is wrong with it.
    pub fn given<T>(self, value: Option<T>) -> Result<T, Status> {
        self.finish()?;
        value.ok_or_else(|| status::refuse(Reason::Internal, "a valid request lacks a part"))
    }
}
