//! What a request of ops HTTP carries, read into types. Every mistake is one line that begins with the field.

use super::api_error::ApiError;
use serde::de::{self, Deserialize, DeserializeOwned, Deserializer, Visitor};
use std::fmt::{self, Display, Formatter};

/// A body that is one JSON object.
///
/// # Errors
/// 400, `field: reason`; `body: reason` where it is no JSON of this kind at all.
pub fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    // Derived types would take a list of all fields as well.
    if body.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|byte| *byte != b'{') {
        return Err(ApiError::bad_request("body: expected an object"));
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader)
        .map_err(|error| mistake(&error.path().to_string(), "body", error.inner()))?;
    reader.end().map_err(|error| mistake("", "body", &error))?;
    Ok(value)
}

/// The same, where nothing at all asks for the default.
pub fn json_or_default<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, ApiError> {
    if body.iter().all(u8::is_ascii_whitespace) { Ok(T::default()) } else { json(body) }
}

/// The parameters of a query.
///
/// # Errors
/// 400, `parameter: reason`.
pub fn query<T: DeserializeOwned>(query: Option<&str>) -> Result<T, ApiError> {
    let pairs = serde_urlencoded::Deserializer::new(form_urlencoded::parse(query.unwrap_or_default().as_bytes()));
    serde_path_to_error::deserialize(pairs).map_err(|error| mistake(&error.path().to_string(), "query", error.inner()))
}

fn mistake(place: &str, whole: &str, reason: &dyn Display) -> ApiError {
    let place = if matches!(place, "" | "." | "?") { whole } else { place };
    let reason = reason.to_string();
    // Where in the text a value stands says no more than its name does.
    let reason = if place == whole { &*reason } else { reason.split(" at line ").next().unwrap_or(&reason) };
    ApiError::bad_request(format!("{place}: {reason}"))
}

/// A whole number of 64 bits: in JSON a number, or its digits as a string, because many languages read numbers as 64-bit floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole(pub i64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WholeVisitor)
    }
}

struct WholeVisitor;

impl Visitor<'_> for WholeVisitor {
    type Value = Whole;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number of 64 bits, or its digits as a string")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Whole, E> {
        Ok(Whole(number))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Whole, E> {
        i64::try_from(number).map(Whole).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(number), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Whole, E> {
        text.parse().map(Whole).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        id: Option<Whole>,
        #[serde(default)]
        inner: Vec<Inner>,
        dry_run: Option<bool>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        top: Option<u32>,
    }

    #[test]
    fn every_mistake_names_its_field() {
        for (text, expected) in [
            ("", "body: EOF"),
            ("{", "body: EOF"),
            ("{} {}", "body: trailing characters"),
            ("[1]", "body: expected an object"),
            ("7", "body: expected an object"),
            (r#"{"x":1}"#, "x: unknown field `x`, expected one of"),
            (r#"{"id":1.5}"#, "id: invalid type: floating point"),
            (r#"{"id":"one"}"#, "id: invalid value: string \"one\", expected a whole number"),
            (r#"{"id":9223372036854775808}"#, "id: invalid value"),
            (r#"{"dry_run":1}"#, "dry_run: invalid type: integer `1`, expected a boolean"),
            (r#"{"inner":1}"#, "inner: invalid type"),
            (r#"{"inner":[{},{"top":-1}]}"#, "inner[1].top: invalid value"),
            (r#"{"inner":[{"bottom":1}]}"#, "inner[0].bottom: unknown field"),
        ] {
            let error = json::<Outer>(text.as_bytes()).expect_err(text);
            assert!(error.message.starts_with(expected), "{text}: {error}");
            assert!(!error.message.contains('\n'), "{text}: {error}");
            assert_eq!(error.status, 400);
        }
        assert!(json::<Outer>("[".repeat(2_000).as_bytes()).is_err());
        let read: Outer = json(br#"{"id":"-7","inner":[{"top":3}],"dry_run":null}"#).unwrap();
        assert_eq!((read.id, read.inner[0].top, read.dry_run), (Some(Whole(-7)), Some(3), None));
        assert!(json_or_default::<Outer>(b" \n").unwrap().id.is_none());
        assert!(json_or_default::<Outer>(b"[").is_err());
    }

    #[test]
    fn a_query_too() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Parameters {
            id: Option<Whole>,
            size: Option<i32>,
        }
        for (text, expected) in [
            ("size=many", "size: "),
            ("x=1", "x: unknown field"),
            ("id=", "id: "),
            ("id=1&id=2", "query: duplicate field `id`"),
        ] {
            let error = query::<Parameters>(Some(text)).expect_err(text);
            assert!(error.message.starts_with(expected), "{text}: {error}");
        }
        let read: Parameters = query(Some("size=3&id=%37")).unwrap();
        assert_eq!((read.id, read.size), (Some(Whole(7)), Some(3)));
        assert!(query::<Parameters>(None).unwrap().id.is_none());
    }
}
