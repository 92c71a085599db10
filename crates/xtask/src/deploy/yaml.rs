//! YAML and JSON as one tree of values, read strictly: a key given twice is an error.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};
use yaml_rust2::{Yaml, YamlLoader};

/// Every document of a YAML text, with its merge keys (`<<`) resolved.
///
/// # Errors
///
/// If it does not parse, repeats a key, or holds what JSON cannot: a key that is no text.
pub(crate) fn documents(text: &str) -> Result<Vec<Value>> {
    YamlLoader::load_from_str(text)?.into_iter().map(value).collect()
}

/// As [`documents`], for a name that ends in `.json` as JSON.
///
/// # Errors
///
/// As [`documents`], or if there is nothing in it.
pub(crate) fn read(name: &str, text: &str) -> Result<Vec<Value>> {
    let found = if name.ends_with(".json") { vec![serde_json::from_str(text)?] } else { documents(text)? };
    if found.is_empty() || found.iter().any(Value::is_null) {
        bail!("empty");
    }
    Ok(found)
}

fn value(yaml: Yaml) -> Result<Value> {
    Ok(match yaml {
        Yaml::Null => Value::Null,
        Yaml::Boolean(value) => value.into(),
        Yaml::Integer(value) => value.into(),
        Yaml::Real(text) => text.parse::<f64>().with_context(|| format!("{text} is no number"))?.into(),
        Yaml::String(text) => text.into(),
        Yaml::Array(values) => values.into_iter().map(value).collect::<Result<Vec<_>>>()?.into(),
        Yaml::Hash(pairs) => {
            let (mut own, mut merged) = (Map::new(), Map::new());
            for (key, found) in pairs {
                let key = match key {
                    Yaml::String(key) => key,
                    Yaml::Integer(key) => key.to_string(),
                    Yaml::Boolean(key) => key.to_string(),
                    other => bail!("a key is no text: {other:?}"),
                };
                match (key.as_str(), value(found)?) {
                    ("<<", bases) => merge(bases, &mut merged)?,
                    (_, found) => _ = own.insert(key, found),
                }
            }
            merged.extend(own);
            merged.into()
        }
        Yaml::Alias(_) | Yaml::BadValue => bail!("an alias without its anchor"),
    })
}

/// Adds what a merge key names: a map, or several, of which the first one that has a key wins.
fn merge(bases: Value, into: &mut Map<String, Value>) -> Result<()> {
    let bases = if let Value::Array(bases) = bases { bases } else { vec![bases] };
    for base in bases {
        let Value::Object(base) = base else { bail!("only a map can be merged, not {base}") };
        for (key, value) in base {
            into.entry(key).or_insert(value);
        }
    }
    Ok(())
}

/// Calls `visit` with every map in a tree.
pub(crate) fn walk<'a>(value: &'a Value, visit: &mut impl FnMut(&'a Map<String, Value>)) {
    match value {
        Value::Object(map) => {
            visit(map);
            map.values().for_each(|child| walk(child, visit));
        }
        Value::Array(values) => values.iter().for_each(|child| walk(child, visit)),
        _ => {}
    }
}

/// The elements of an array; none if it is something else.
pub(crate) fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The entries of a map; none if it is something else.
pub(crate) fn entries(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(key, value)| (key.as_str(), value))
}

/// A scalar as text, a text without its quotes; empty if there is none.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Seconds of a duration such as `500ms`, `10s`, `5m`, `24h`, `7d` or a plain number of seconds.
///
/// # Errors
///
/// If it is none of these.
pub(crate) fn seconds(value: &Value) -> Result<f64> {
    let text = text(value);
    let digits = text.trim_end_matches(|char: char| char.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        other => bail!("{text} has the unknown unit {other}"),
    };
    let number: u32 = digits.parse().with_context(|| format!("{text:?} is no duration"))?;
    Ok(f64::from(number) * unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_merged_map_gives_way_to_its_own_keys() -> Result<()> {
        let found = documents("base: &b {a: 1, b: 2}\nmore: {<<: *b, b: 3}\n---\n- yes\n- 0.5\n- '7'")?;
        assert_eq!(found[0]["more"], json!({"a": 1, "b": 3}));
        assert_eq!(found[1], json!(["yes", 0.5, "7"]));
        let found = documents("a: &a {x: 1}\nb: &b {x: 2, y: 2}\nboth: {<<: [*a, *b]}")?;
        assert_eq!(found[0]["both"], json!({"x": 1, "y": 2}));
        Ok(())
    }

    #[test]
    fn mistakes_are_refused() {
        assert!(documents("a: 1\na: 2").is_err(), "a key given twice");
        assert!(documents("a: [1").is_err());
        assert!(documents("<<: 3").is_err());
        assert!(read("a.yml", "# nothing").is_err());
        assert!(read("a.json", "{\"a\": }").is_err());
    }

    #[test]
    fn durations() -> Result<()> {
        for (text, expected) in [("90", 90.0), ("90s", 90.0), ("500ms", 0.5), ("2m", 120.0), ("1d", 86400.0)] {
            assert_eq!(seconds(&text.into())?, expected, "{text}");
        }
        assert_eq!(seconds(&json!(40))?, 40.0);
        assert!(seconds(&"soon".into()).is_err() && seconds(&"5w".into()).is_err() && seconds(&Value::Null).is_err());
        Ok(())
    }
}
