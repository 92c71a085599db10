//! Operators' calls by HTTP: JSON objects, or queries, of a few known fields. Every mistake is one line that begins with
//! the field.

use domain::{Resource, ResourceType};
use serde_json::{Map, Value};

/// A body that is taken apart field by field.
#[derive(Debug)]
pub struct Body {
    /// Put before the names of fields.
    prefix: String,
    fields: Map<String, Value>,
}

impl Body {
    /// An object with none but these fields; nothing at all is an empty object if `optional`.
    pub fn parse(bytes: &[u8], known: &[&str], optional: bool) -> Result<Self, String> {
        if optional && bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self { prefix: String::new(), fields: Map::new() });
        }
        let value = serde_json::from_slice(bytes).map_err(|error| format!("body: {error}"))?;
        Self::of(value, "", known)
    }

    /// The parameters of a query; `numbers` are those that are whole numbers.
    pub fn query(
        given: impl IntoIterator<Item = (String, String)>,
        known: &[&str],
        numbers: &[&str],
    ) -> Result<Self, String> {
        let value = |name: &str, text: String| match text.parse::<i64>() {
            Ok(number) if numbers.contains(&name) => Value::from(number),
            _ => Value::String(text),
        };
        let fields: Map<String, Value> =
            given.into_iter().map(|(name, text)| (name.clone(), value(&name, text))).collect();
        Self::of(Value::Object(fields), "", known)
    }

    /// An object under `name` with none but these fields.
    pub fn object(&mut self, name: &str, known: &[&str]) -> Result<Option<Self>, String> {
        let prefix = format!("{}{name}.", self.prefix);
        self.take(name).map(|value| Self::of(value, &prefix, known)).transpose()
    }

    fn of(value: Value, prefix: &str, known: &[&str]) -> Result<Self, String> {
        let Value::Object(fields) = value else {
            let name = if prefix.is_empty() { "body" } else { prefix.trim_end_matches('.') };
            return Err(format!("{name}: expected an object"));
        };
        match fields.keys().find(|key| !known.contains(&key.as_str())) {
            Some(unknown) => Err(format!("{prefix}{unknown}: unknown field, expected {}", known.join(", "))),
            None => Ok(Self { prefix: prefix.to_owned(), fields }),
        }
    }

    /// A mistake in a field.
    pub fn bad(&self, name: &str, reason: &str) -> String {
        format!("{}{name}: {reason}", self.prefix)
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.fields.remove(name).filter(|value| !value.is_null())
    }

    /// A truth value, false if it is not there.
    pub fn flag(&mut self, name: &str) -> Result<bool, String> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Err(self.bad(name, &format!("expected true or false, got {other}"))),
        }
    }

    /// A number from 0 to `most`.
    pub fn number(&mut self, name: &str, most: u32) -> Result<Option<u32>, String> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok()).filter(|number| *number <= most);
        match number {
            Some(number) => Ok(Some(number)),
            None => Err(self.bad(name, &format!("expected 0 to {most}, got {value}"))),
        }
    }

    /// A text of at most `most` bytes; none if it is not there or empty.
    pub fn text(&mut self, name: &str, most: usize) -> Result<Option<String>, String> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.len() > most => {
                Err(self.bad(name, &format!("expected at most {most} bytes, got {}", text.len())))
            }
            Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
            Some(other) => Err(self.bad(name, &format!("expected a text, got {other}"))),
        }
    }

    /// A list of texts, at most `most`; none if it is not there.
    pub fn texts(&mut self, name: &str, most: usize) -> Result<Option<Vec<String>>, String> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let Value::Array(values) = value else { return Err(self.bad(name, "expected a list")) };
        if values.len() > most {
            return Err(self.bad(name, &format!("expected at most {most}, got {}", values.len())));
        }
        let one = |(i, value)| match value {
            Value::String(text) => Ok(text),
            other => Err(self.bad(&format!("{name}[{i}]"), &format!("expected a text, got {other}"))),
        };
        values.into_iter().enumerate().map(one).collect::<Result<_, _>>().map(Some)
    }

    /// A whole number greater than 0.
    pub fn id(&mut self, name: &str) -> Result<Option<i64>, String> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.as_i64() {
            Some(id) if id > 0 => Ok(Some(id)),
            Some(id) => Err(self.bad(name, &format!("must be greater than 0, got {id}"))),
            None => Err(self.bad(name, &format!("expected a whole number, got {value}"))),
        }
    }

    /// The same as [`resource`](Self::resource); none if neither field is there.
    pub fn optional_resource(&mut self) -> Result<Option<Resource>, String> {
        let given = ["resource_type", "resource_id"].iter().any(|name| self.fields.contains_key(*name));
        if given { self.resource().map(Some) } else { Ok(None) }
    }

    /// `resource_type` and `resource_id`.
    pub fn resource(&mut self) -> Result<Resource, String> {
        let kind = match self.take("resource_type") {
            None => return Err(self.bad("resource_type", "must be given")),
            Some(Value::String(word)) => word.parse::<ResourceType>().map_err(|invalid| invalid.reason),
            Some(other) => Err(format!("expected video or comment, got {other}")),
        };
        let kind = kind.map_err(|reason| self.bad("resource_type", &reason))?;
        let id = match self.take("resource_id") {
            None => return Err(self.bad("resource_id", "must be given")),
            Some(value) => value.as_i64().ok_or_else(|| format!("expected a whole number, got {value}")),
        };
        let id = id.map_err(|reason| self.bad("resource_id", &reason))?;
        Resource::new(kind, id).map_err(|invalid| self.bad("resource_id", &invalid.reason))
    }

    /// A list of resources under `name`, at most `most`; empty if it is not there.
    pub fn resources(&mut self, name: &str, most: usize) -> Result<Vec<Resource>, String> {
        let Some(value) = self.take(name) else { return Ok(Vec::new()) };
        let Value::Array(values) = value else { return Err(self.bad(name, "expected a list")) };
        if values.len() > most {
            return Err(self.bad(name, &format!("expected at most {most}, got {}", values.len())));
        }
        let one = |(i, value)| {
            let prefix = format!("{}{name}[{i}].", self.prefix);
            Self::of(value, &prefix, &["resource_type", "resource_id"])?.resource()
        };
        values.into_iter().enumerate().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_names_its_field() {
        let known = ["resource_type", "resource_id", "top", "dry_run", "resources"];
        let parse = |text: &str| {
            let mut body = Body::parse(text.as_bytes(), &known, true)?;
            body.number("top", 10)?;
            body.flag("dry_run")?;
            body.resources("resources", 1)?;
            body.resource()
        };
        for (text, expected) in [
            ("[]", "body: expected an object"),
            ("{", "body: "),
            ("{\"x\":1}", "x: unknown field"),
            ("{\"top\":11}", "top: expected 0 to 10, got 11"),
            ("{\"top\":-1}", "top: expected 0 to 10, got -1"),
            ("{\"dry_run\":1}", "dry_run: expected true or false"),
            ("{\"resources\":1}", "resources: expected a list"),
            ("{\"resources\":[1]}", "resources[0]: expected an object"),
            ("{\"resources\":[{},{}]}", "resources: expected at most 1, got 2"),
            ("{\"resources\":[{\"resource_type\":\"video\",\"resource_id\":0}]}", "resources[0].resource_id: must be"),
            ("", "resource_type: must be given"),
            ("{\"resource_type\":\"film\"}", "resource_type: expected video or comment, got \"film\""),
            ("{\"resource_type\":1}", "resource_type: expected video or comment, got 1"),
            ("{\"resource_type\":\"video\"}", "resource_id: must be given"),
            ("{\"resource_type\":\"video\",\"resource_id\":\"1\"}", "resource_id: expected a whole number, got \"1\""),
            ("{\"resource_type\":\"video\",\"resource_id\":-1}", "resource_id: must be greater than 0"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
        assert_eq!(parse("{\"resource_type\":\"comment\",\"resource_id\":7}").unwrap().to_string(), "comment:7");
        assert!(Body::parse(b"", &known, false).is_err());
    }
}
