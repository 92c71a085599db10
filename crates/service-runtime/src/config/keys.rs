//! Which keys there are, asked of the sections themselves, and what a file gives.

use super::load::ConfigError;
use super::value::Node;
use super::yaml;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// No key is named so.
const PROBE: &str = "?";

/// All keys of a configuration in full, in the order in which its sections declare them.
pub fn keys<T: DeserializeOwned>() -> Vec<String> {
    let mut found = Vec::new();
    collect::<T>(&mut Vec::new(), &mut found);
    found
}

fn collect<T: DeserializeOwned>(path: &mut Vec<String>, found: &mut Vec<String>) {
    let mut probe = Node::Map(BTreeMap::from([(PROBE.to_owned(), Node::Null)]));
    for part in path.iter().rev() {
        probe = Node::Map(BTreeMap::from([(part.clone(), probe)]));
    }
    // What is no section refuses the map as such.
    let known = T::deserialize(probe).err().filter(|error| error.path == *path).and_then(|error| error.known);
    let Some(known) = known else { return found.push(path.join(".")) };
    for key in known {
        path.push((*key).to_owned());
        collect::<T>(path, found);
        path.pop();
    }
}

/// All keys that a file gives, in full, with their values as they are written; lists and empty sections are left out.
pub fn given(name: &str, text: &str) -> Result<Vec<(String, String)>, ConfigError> {
    let mut found = Vec::new();
    flatten(&Node::Map(yaml::read(name, text)?), "", &mut found);
    Ok(found)
}

fn flatten(node: &Node, path: &str, found: &mut Vec<(String, String)>) {
    match node {
        Node::Map(entries) => {
            for (key, value) in entries {
                flatten(value, &if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, found);
            }
        }
        Node::Text(text) | Node::Plain(text) => found.push((path.to_owned(), text.clone())),
        Node::Null | Node::List(_) | Node::Env { .. } => {}
    }
}
