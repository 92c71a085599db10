//! Numbers from what `syncctl load` prints.

use anyhow::{Context, Result};
use serde_json::Value;

/// The first number of this name, at the outermost place that has one, of a load's JSON.
pub(crate) fn number(json: &Value, name: &str) -> Option<f64> {
    json.get(name).and_then(Value::as_f64).or_else(|| match json {
        Value::Object(members) => members.values().find_map(|child| number(child, name)),
        Value::Array(items) => items.iter().find_map(|child| number(child, name)),
        _ => None,
    })
}

/// A number that must be there.
pub(crate) fn wanted(json: &Value, name: &str) -> Result<f64> {
    number(json, name).with_context(|| format!("the load has no {name}: {json}"))
}
