//! Configuration from a YAML file and the environment.
//!
//! `INTERACTION__SECTION__KEY=value` overrides `section.key`; deeper keys have more parts. Lists are separated by
//! commas. A secret (`url`, or a name ending in `password`, `token` or `secret`) can be given as the file that holds it,
//! with `_file` appended to its key, both in YAML and in the environment. The name of the file of a `url` stays, so that who uses
//! it can follow the file.

use super::reload::{read, read_secret};
use super::renamed::{Renamed, rename};
use super::sections::ServiceConfig;
use super::value::{Node, NodeError};
use super::yaml;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What the variables that override the file start with.
pub const ENV_PREFIX: &str = "INTERACTION__";

/// The file of this one stays, beside what is in it.
const FOLLOWED: &str = "url";

const SECRETS: [&str; 4] = ["url", "password", "token", "secret"];

/// A configuration that cannot be used; one line that names the file or the full key, and never a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The configuration file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not YAML, or not a map.
    #[error("{file}: {reason}")]
    Syntax {
        /// The file.
        file: String,
        /// What the parser says.
        reason: String,
    },
    /// A key that is unknown, or whose value cannot be used.
    #[error("{key}: {reason}")]
    Key {
        /// Full key, for example `rabbitmq.prefetch`, with the variable it came from, if any.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl ConfigError {
    /// An error about one key, for checks that only the sections themselves can make.
    pub fn key(key: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        Self::Key { key: key.into(), reason: one_line(&reason.to_string()) }
    }
}

/// Reads the file, if any, and overrides it from the environment; variables without [`ENV_PREFIX`] are not looked at.
pub fn load<T: DeserializeOwned>(
    path: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<T, ConfigError> {
    load_renamed(path, environment, &[])
}

/// The same for a configuration some of whose keys have other names, too.
pub fn load_renamed<T: DeserializeOwned>(
    path: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    renamed: &[Renamed],
) -> Result<T, ConfigError> {
    let text = match path {
        None => String::new(),
        Some(path) => read(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?,
    };
    let name = path.map_or("configuration".to_owned(), |path| path.display().to_string());
    parse_renamed(&name, &text, environment, renamed)
}

/// The section `service` alone: mistakes elsewhere do not matter, nor secrets that cannot be read.
pub(crate) fn load_service(
    path: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<ServiceConfig, ConfigError> {
    #[derive(Deserialize)]
    struct Whole {
        #[serde(default)]
        service: ServiceConfig,
    }

    let text = match path {
        None => String::new(),
        Some(path) => read(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?,
    };
    let mut sections = yaml::read("configuration", &text)?;
    sections.retain(|name, _| name == "service");
    let variables = environment.into_iter().filter(|(name, _)| name.starts_with(&format!("{ENV_PREFIX}SERVICE__")));
    let tree = overridden(Node::Map(sections), variables.collect(), &[])?;
    Whole::deserialize(tree).map(|whole| whole.service).map_err(|error| describe(&error))
}

/// The same for a text; `name` is what errors call it.
pub fn parse<T: DeserializeOwned>(
    name: &str,
    yaml: &str,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<T, ConfigError> {
    parse_renamed(name, yaml, environment, &[])
}

/// Both.
pub fn parse_renamed<T: DeserializeOwned>(
    name: &str,
    yaml: &str,
    environment: impl IntoIterator<Item = (String, String)>,
    renamed: &[Renamed],
) -> Result<T, ConfigError> {
    let variables = environment.into_iter().filter(|(name, _)| name.starts_with(ENV_PREFIX)).collect();
    T::deserialize(tree(name, yaml, variables, renamed)?).map_err(|error| describe(&error))
}

fn tree(name: &str, yaml: &str, variables: Vec<(String, String)>, renamed: &[Renamed]) -> Result<Node, ConfigError> {
    overridden(Node::Map(yaml::read(name, yaml)?), variables, renamed)
}

fn overridden(mut root: Node, mut variables: Vec<(String, String)>, renamed: &[Renamed]) -> Result<Node, ConfigError> {
    rename(&mut root, renamed)?;
    read_secrets(&mut root, &mut Vec::new())?;

    variables.sort();
    let mut overrides = Node::Map(BTreeMap::new());
    for (variable, value) in variables {
        insert(&mut overrides, variable, value)?;
    }
    rename(&mut overrides, renamed)?;
    read_secrets(&mut overrides, &mut Vec::new())?;
    merge(&mut root, overrides);
    Ok(root)
}

/// Puts a variable at its place in the tree.
fn insert(root: &mut Node, variable: String, value: String) -> Result<(), ConfigError> {
    let path = variable[ENV_PREFIX.len()..].to_ascii_lowercase();
    let mut node = root;
    let mut parts = path.split("__").peekable();
    while let Some(part) = parts.next() {
        if part.is_empty() {
            return Err(ConfigError::key(variable.clone(), "has an empty part"));
        }
        let Node::Map(entries) = node else {
            return Err(ConfigError::key(variable.clone(), "lies below a variable that sets a value"));
        };
        if parts.peek().is_none() {
            entries.insert(part.to_owned(), Node::Env { variable, value });
            return Ok(());
        }
        node = entries.entry(part.to_owned()).or_insert_with(|| Node::Map(BTreeMap::new()));
    }
    Ok(())
}

fn merge(base: &mut Node, over: Node) {
    match (base, over) {
        (Node::Map(base), Node::Map(over)) => {
            for (key, value) in over {
                if is_secret(&key) {
                    base.remove(&format!("{key}_file"));
                }
                merge(base.entry(key).or_insert(Node::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}

/// Whether values of this name must not be shown, and may come from a file.
fn is_secret(name: &str) -> bool {
    SECRETS.iter().any(|secret| name == *secret || name.ends_with(&format!("_{secret}")))
}

/// Replaces every `<secret>_file` by `<secret>` with the file's content.
fn read_secrets(node: &mut Node, path: &mut Vec<String>) -> Result<(), ConfigError> {
    let Node::Map(entries) = node else { return Ok(()) };
    let names: Vec<_> = entries.keys().cloned().collect();
    for name in names {
        path.push(name.clone());
        let secret = name.strip_suffix("_file").filter(|secret| is_secret(secret));
        match (entries.get_mut(&name), secret) {
            (Some(Node::Text(file) | Node::Plain(file) | Node::Env { value: file, .. }), Some(secret)) => {
                let fail = |reason: String| ConfigError::Key { key: path.join("."), reason };
                let content =
                    read_secret(Path::new(file.as_str())).map_err(|error| fail(format!("{file}: {error}")))?;
                if entries.contains_key(secret) {
                    return Err(fail(format!("given together with {secret}: one of them")));
                }
                let text = Node::Text(content);
                let secret = secret.to_owned();
                if secret != FOLLOWED {
                    entries.remove(&name);
                }
                entries.insert(secret, text);
            }
            (Some(child), _) => read_secrets(child, path)?,
            (None, _) => {}
        }
        path.pop();
    }
    Ok(())
}

fn describe(error: &NodeError) -> ConfigError {
    let last = error.path.last().map_or("", String::as_str);
    let reason = if is_secret(last) { "cannot be used (value not shown)".to_owned() } else { one_line(&error.reason) };
    // Some types name themselves as the key does.
    let reason = reason.strip_prefix(&format!("{last}: ")).unwrap_or(&reason).to_owned();
    let key = if error.path.is_empty() { "configuration".to_owned() } else { error.path.join(".") };
    match &error.variable {
        Some(variable) => ConfigError::Key { key: format!("{key} (from {variable})"), reason },
        None => ConfigError::Key { key, reason },
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
