//! Keys that have another name, too.

use super::load::ConfigError;
use super::value::Node;
use humantime_serde::re::humantime;

/// A key under which somebody may give the value of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renamed {
    /// The other name, in full.
    pub from: &'static str,
    /// The key.
    pub to: &'static str,
}

/// Moves values to the keys that they belong to. Both may be given if they say the same.
pub(super) fn rename(root: &mut Node, renamed: &[Renamed]) -> Result<(), ConfigError> {
    for Renamed { from, to } in renamed {
        let Some(value) = take(root, &from.split('.').collect::<Vec<_>>()) else { continue };
        let place = place(root, to).ok_or_else(|| ConfigError::key(*from, format!("{to} lies below a value")))?;
        match place {
            Node::Null => *place = value,
            there if text(there).zip(text(&value)).is_some_and(|(one, other)| same_value(one, other)) => {}
            there => {
                let said = (shown(&value), shown(there));
                let reason = format!("says {}, and {to} says {}: leave one of them out", said.0, said.1);
                return Err(ConfigError::key(*from, reason));
            }
        }
    }
    Ok(())
}

/// Takes a value out, and the sections that are empty without it.
fn take(node: &mut Node, path: &[&str]) -> Option<Node> {
    let Node::Map(entries) = node else { return None };
    let (first, rest) = path.split_first()?;
    if rest.is_empty() {
        return entries.remove(*first);
    }
    let section = entries.get_mut(*first)?;
    let found = take(section, rest);
    if found.is_some() && matches!(section, Node::Map(entries) if entries.is_empty()) {
        entries.remove(*first);
    }
    found
}

/// Where a key's value is, or would be.
fn place<'n>(root: &'n mut Node, key: &str) -> Option<&'n mut Node> {
    let mut node = root;
    for part in key.split('.') {
        if matches!(node, Node::Null) {
            *node = Node::Map(Default::default());
        }
        let Node::Map(entries) = node else { return None };
        node = entries.entry(part.to_owned()).or_insert(Node::Null);
    }
    Some(node)
}

fn text(node: &Node) -> Option<&str> {
    match node {
        Node::Text(text) | Node::Plain(text) | Node::Env { value: text, .. } => Some(text.trim()),
        Node::Null | Node::List(_) | Node::Map(_) => None,
    }
}

fn shown(node: &Node) -> String {
    text(node).map_or_else(|| "something else".to_owned(), str::to_owned)
}

/// Whether two values mean the same: `5m` is `300s`, and `1` is `1.0`.
pub fn same_value(one: &str, other: &str) -> bool {
    let times = || humantime::parse_duration(one).ok().zip(humantime::parse_duration(other).ok());
    let numbers = || one.parse::<f64>().ok().zip(other.parse::<f64>().ok());
    one.eq_ignore_ascii_case(other)
        || times().is_some_and(|(one, other)| one == other)
        || numbers().is_some_and(|(one, other)| one == other)
}
