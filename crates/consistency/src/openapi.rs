//! Names of the OpenAPI document for what lower crates define, made from the values themselves.

use crate::finding::Verdict;
use domain::ResourceType;
use std::borrow::Cow;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaFormat, SchemaType, Type};
use utoipa::openapi::{KnownFormat, RefOr};
use utoipa::{PartialSchema, ToSchema};

/// A string that is one of these.
pub fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)).into()
}

/// An id as callers write it: a number, or its digits as a string.
pub fn id() -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(SchemaType::Array(vec![Type::Integer, Type::String]))
        .description(Some("Greater than 0, of 64 bits; a string of its digits says the same."))
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .minimum(Some(1))
        .maximum(Some(i64::MAX))
        .pattern(Some("^[1-9][0-9]{0,18}$"))
        .into()
}

/// [`ResourceType`] in documents.
#[derive(Debug, Clone, Copy)]
pub struct ResourceTypeName;

impl PartialSchema for ResourceTypeName {
    fn schema() -> RefOr<Schema> {
        one_of(ResourceType::ALL.map(ResourceType::name))
    }
}

impl ToSchema for ResourceTypeName {
    fn name() -> Cow<'static, str> {
        "ResourceType".into()
    }
}

/// A resource in documents of answers.
#[derive(Debug, Clone, Copy, ToSchema)]
pub struct ResourceName {
    /// Its kind.
    #[schema(value_type = ResourceTypeName)]
    pub resource_type: ResourceType,
    /// Its number within the kind.
    #[schema(minimum = 1)]
    pub resource_id: i64,
}

/// Some object: its members are not promised.
#[derive(Debug, Clone, Copy)]
pub struct AnyObject;

impl PartialSchema for AnyObject {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::Object).into()
    }
}

impl ToSchema for AnyObject {}

/// [`Verdict`] in documents.
#[derive(Debug, Clone, Copy)]
pub(crate) struct VerdictName;

impl PartialSchema for VerdictName {
    fn schema() -> RefOr<Schema> {
        one_of(Verdict::ALL.map(Verdict::name))
    }
}

impl ToSchema for VerdictName {
    fn name() -> Cow<'static, str> {
        "Verdict".into()
    }
}
