//! A configuration as a tree, and serde's way through it.
//!
//! Own, because it must do two things that no format does: every error carries the full key, and a text from the
//! environment becomes whatever the field wants (number, boolean, list) while a text from the file stays a text.

use serde::de::value::{MapAccessDeserializer, StringDeserializer};
use serde::de::{self, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use std::collections::{BTreeMap, btree_map};
use std::fmt::Display;
use std::str::FromStr;

#[derive(Debug, Clone)]
pub(crate) enum Node {
    Null,
    Bool(bool),
    Int(i64),
    Unsigned(u64),
    Float(f64),
    Text(String),
    /// From this variable: typed by the field that takes it.
    Env {
        variable: String,
        value: String,
    },
    List(Vec<Node>),
    Map(BTreeMap<String, Node>),
}

/// What is wrong, and where: the path is collected on the way out.
#[derive(Debug)]
pub(crate) struct NodeError {
    pub(crate) path: Vec<String>,
    pub(crate) variable: Option<String>,
    pub(crate) reason: String,
}

impl NodeError {
    fn below(mut self, key: String) -> Self {
        self.path.insert(0, key);
        self
    }

    fn blame(mut self, variable: String) -> Self {
        self.variable.get_or_insert(variable);
        self
    }
}

impl Display for NodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for NodeError {}

impl de::Error for NodeError {
    fn custom<T: Display>(message: T) -> Self {
        Self { path: Vec::new(), variable: None, reason: message.to_string() }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let reason = match expected {
            [] => format!("unknown key {field}, there are none here"),
            [only] => format!("unknown key {field}, expected {only}"),
            many => format!("unknown key {field}, expected one of {}", many.join(", ")),
        };
        Self::custom(reason)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format!("unknown value {variant}, expected one of {}", expected.join(", ")))
    }
}

fn parsed<T: FromStr<Err: Display>>(value: &str, wanted: &str) -> Result<T, NodeError> {
    let value = value.trim();
    value.parse().map_err(|error| de::Error::custom(format!("invalid value {value:?}, expected {wanted}: {error}")))
}

/// A hint that only matters for texts from the environment: they are parsed, everything else says what it is.
macro_rules! parse_env {
    ($($method:ident $visit:ident $type:ty, $wanted:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
            match self {
                Node::Env { variable, value } => parsed::<$type>(&value, $wanted)
                    .and_then(|parsed| visitor.$visit(parsed))
                    .map_err(|error| error.blame(variable)),
                other => other.deserialize_any(visitor),
            }
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Node {
    type Error = NodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        match self {
            Self::Null => visitor.visit_unit(),
            Self::Bool(value) => visitor.visit_bool(value),
            Self::Int(value) => visitor.visit_i64(value),
            Self::Unsigned(value) => visitor.visit_u64(value),
            Self::Float(value) => visitor.visit_f64(value),
            Self::Text(value) => visitor.visit_string(value),
            Self::Env { variable, value } => {
                visitor.visit_string(value).map_err(|error: NodeError| error.blame(variable))
            }
            Self::List(items) => visitor.visit_seq(Items { items: items.into_iter(), index: 0 }),
            Self::Map(entries) => visitor.visit_map(Entries { entries: entries.into_iter(), value: None }),
        }
    }

    parse_env! {
        deserialize_bool visit_bool bool, "true or false";
        deserialize_i8 visit_i64 i64, "a whole number";
        deserialize_i16 visit_i64 i64, "a whole number";
        deserialize_i32 visit_i64 i64, "a whole number";
        deserialize_i64 visit_i64 i64, "a whole number";
        deserialize_u8 visit_u64 u64, "a whole number, 0 or more";
        deserialize_u16 visit_u64 u64, "a whole number, 0 or more";
        deserialize_u32 visit_u64 u64, "a whole number, 0 or more";
        deserialize_u64 visit_u64 u64, "a whole number, 0 or more";
        deserialize_f32 visit_f64 f64, "a number";
        deserialize_f64 visit_f64 f64, "a number";
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        match self {
            Self::Null => visitor.visit_none(),
            Self::Env { value, .. } if value.is_empty() => visitor.visit_none(),
            other => visitor.visit_some(other),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        match self {
            Self::Null => visitor.visit_seq(Items { items: Vec::new().into_iter(), index: 0 }),
            Self::Env { variable, value } => {
                let parts = value.split(',').map(str::trim).filter(|part| !part.is_empty());
                let items: Vec<_> =
                    parts.map(|part| Self::Env { variable: variable.clone(), value: part.to_owned() }).collect();
                visitor.visit_seq(Items { items: items.into_iter(), index: 0 })
            }
            other => other.deserialize_any(visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, NodeError> {
        self.deserialize_seq(visitor)
    }

    /// A section whose keys are all commented out is a section of defaults.
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        match self {
            Self::Null => Self::Map(BTreeMap::new()).deserialize_any(visitor),
            other => other.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, NodeError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, NodeError> {
        match self {
            Self::Text(value) => visitor.visit_enum(value.into_deserializer()),
            Self::Env { variable, value } => {
                let value: StringDeserializer<NodeError> = value.trim().to_owned().into_deserializer();
                visitor.visit_enum(value).map_err(|error| error.blame(variable))
            }
            Self::Map(entries) => {
                visitor.visit_enum(MapAccessDeserializer::new(Entries { entries: entries.into_iter(), value: None }))
            }
            other => other.deserialize_any(visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, NodeError> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct tuple_struct identifier ignored_any
    }
}

struct Items {
    items: std::vec::IntoIter<Node>,
    index: usize,
}

impl<'de> SeqAccess<'de> for Items {
    type Error = NodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, NodeError> {
        let Some(item) = self.items.next() else { return Ok(None) };
        let index = self.index;
        self.index += 1;
        seed.deserialize(item).map(Some).map_err(|error| error.below(index.to_string()))
    }
}

struct Entries {
    entries: btree_map::IntoIter<String, Node>,
    value: Option<(String, Node)>,
}

impl<'de> MapAccess<'de> for Entries {
    type Error = NodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, NodeError> {
        let Some((key, node)) = self.entries.next() else { return Ok(None) };
        let variable = match &node {
            Node::Env { variable, .. } => Some(variable.clone()),
            _ => None,
        };
        self.value = Some((key.clone(), node));
        // The path stays that of the section: the message names the key itself.
        let taken = seed.deserialize(StringDeserializer::<NodeError>::new(key));
        taken.map(Some).map_err(|error| match variable {
            Some(variable) => error.blame(variable),
            None => error,
        })
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, NodeError> {
        let Some((key, node)) = self.value.take() else { return Err(de::Error::custom("a value without a key")) };
        seed.deserialize(node).map_err(|error| error.below(key))
    }
}
