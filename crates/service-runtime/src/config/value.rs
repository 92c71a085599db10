//! A configuration as a tree, and serde's way through it.
//!
//! Own, because it must do two things that no format does: every error carries the full key, and a word of the file or a
//! text from the environment becomes whatever the field wants (number, boolean, text), while a quoted text stays a text.

use super::words;
use serde::de::value::{MapAccessDeserializer, StringDeserializer};
use serde::de::{self, DeserializeSeed, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor};
use std::collections::{BTreeMap, btree_map};
use std::fmt::Display;

#[derive(Debug, Clone)]
pub(crate) enum Node {
    Null,
    /// Quoted.
    Text(String),
    /// Not quoted: typed by the field that takes it.
    Plain(String),
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
    /// If a key is unknown: those that are known.
    pub(crate) known: Option<&'static [&'static str]>,
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
        let reason = words::in_plain_words(message.to_string());
        Self { path: Vec::new(), variable: None, reason, known: None }
    }

    fn invalid_type(found: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        Self::custom(words::unexpected(found, &wanted.to_string()))
    }

    fn invalid_value(found: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        Self::custom(words::unexpected(found, &wanted.to_string()))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let reason = match expected {
            [] => format!("unknown key {field}, there are none here"),
            [only] => format!("unknown key {field}, expected {only}"),
            many => format!("unknown key {field}, expected one of {}", many.join(", ")),
        };
        Self { known: Some(expected), ..Self::custom(reason) }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format!("unknown value {variant}, expected one of {}", expected.join(", ")))
    }
}

fn invalid(value: &str, wanted: &str) -> NodeError {
    de::Error::custom(format!("invalid value {value:?}, expected {wanted}"))
}

/// A boolean, as the versions of YAML write one.
fn boolean(value: &str) -> Result<bool, NodeError> {
    let value = value.trim();
    let same = |words: [&str; 3]| words.iter().any(|word| value.eq_ignore_ascii_case(word));
    if same(["true", "yes", "on"]) {
        Ok(true)
    } else if same(["false", "no", "off"]) {
        Ok(false)
    } else {
        Err(invalid(value, "true or false"))
    }
}

/// A whole number of any sign. Underscores may part its digits. What one version of YAML reads to base 8 and another to base
/// 10 is refused.
fn whole(value: &str, wanted: &str) -> Result<i128, NodeError> {
    let text = value.trim();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (base, digits) = match (digits.strip_prefix("0x"), digits.strip_prefix("0o")) {
        (Some(rest), _) => (16, rest),
        (_, Some(rest)) => (8, rest),
        _ if digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit() || b == b'_') => {
            return Err(ambiguous(text));
        }
        _ => (10, digits),
    };
    let parted = !digits.starts_with('_') && !digits.ends_with('_') && !digits.starts_with(['+', '-']);
    let number = i128::from_str_radix(&digits.replace('_', ""), base).ok().filter(|_| parted);
    number.map(|number| sign * number).ok_or_else(|| invalid(text, wanted))
}

fn ambiguous(text: &str) -> NodeError {
    let reason = "to some readers it is a number to base 8: write it without the 0 in front, or with 0o";
    de::Error::custom(format!("ambiguous value {text:?}: {reason}"))
}

fn signed(value: &str, wanted: &str) -> Result<i64, NodeError> {
    whole(value, wanted).and_then(|number| i64::try_from(number).map_err(|_| invalid(value, wanted)))
}

fn unsigned(value: &str, wanted: &str) -> Result<u64, NodeError> {
    whole(value, wanted).and_then(|number| u64::try_from(number).map_err(|_| invalid(value, wanted)))
}

fn float(value: &str, wanted: &str) -> Result<f64, NodeError> {
    let text = value.trim();
    if let [b'0', next, ..] = text.trim_start_matches(['+', '-']).as_bytes()
        && next.is_ascii_digit()
    {
        return Err(ambiguous(text));
    }
    let number = text.bytes().any(|byte| byte.is_ascii_digit());
    text.replace('_', "").parse().ok().filter(|_| number).ok_or_else(|| invalid(text, wanted))
}

/// A hint matters for words alone: they are read, everything else says what it is.
macro_rules! read_words {
    ($($method:ident $visit:ident $read:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
            match self {
                Node::Plain(value) => $read(&value).and_then(|read| visitor.$visit(read)),
                Node::Env { variable, value } => {
                    $read(&value).and_then(|read| visitor.$visit(read)).map_err(|error| error.blame(variable))
                }
                other => other.deserialize_any(visitor),
            }
        }
    )*};
}

const WHOLE: &str = "a whole number";
const NOT_NEGATIVE: &str = "a whole number, 0 or more";

impl<'de> de::Deserializer<'de> for Node {
    type Error = NodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        match self {
            Self::Null => visitor.visit_unit().map_err(|_: NodeError| de::Error::custom("has no value")),
            Self::Text(value) | Self::Plain(value) => visitor.visit_string(value),
            Self::Env { variable, value } => {
                visitor.visit_string(value).map_err(|error: NodeError| error.blame(variable))
            }
            Self::List(items) => visitor.visit_seq(Items { items: items.into_iter(), index: 0 }),
            Self::Map(entries) => visitor.visit_map(Entries { entries: entries.into_iter(), value: None }),
        }
    }

    read_words! {
        deserialize_bool visit_bool boolean;
        deserialize_i8 visit_i64 |value: &str| signed(value, WHOLE);
        deserialize_i16 visit_i64 |value: &str| signed(value, WHOLE);
        deserialize_i32 visit_i64 |value: &str| signed(value, WHOLE);
        deserialize_i64 visit_i64 |value: &str| signed(value, WHOLE);
        deserialize_u8 visit_u64 |value: &str| unsigned(value, NOT_NEGATIVE);
        deserialize_u16 visit_u64 |value: &str| unsigned(value, NOT_NEGATIVE);
        deserialize_u32 visit_u64 |value: &str| unsigned(value, NOT_NEGATIVE);
        deserialize_u64 visit_u64 |value: &str| unsigned(value, NOT_NEGATIVE);
        deserialize_f32 visit_f64 |value: &str| float(value, "a number");
        deserialize_f64 visit_f64 |value: &str| float(value, "a number");
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
                // As a file would write it. An address in brackets, [::1], is one element.
                if value.starts_with('[') && value.ends_with(']') && !value.contains("::") {
                    let error: NodeError = de::Error::custom("a list stands without brackets and quotes here: a,b");
                    return Err(error.blame(variable));
                }
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
            Self::Text(value) | Self::Plain(value) => visitor.visit_enum(value.into_deserializer()),
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
