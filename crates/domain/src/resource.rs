//! Who likes what.

use crate::{Action, Invalid};
use std::fmt;

/// Makes [`ResourceType`] of the table of types. What is called after a type is made of its name: `film` has the table
/// `film_likes` with the column `film_id` and the index `film_likes_of_film`, and its events are `film_like`.
macro_rules! resource_types {
    ($($(#[$doc:meta])* $kind:ident = $code:literal, $name:literal, $letter:literal, $like:literal, $unlike:literal;)*) => {
        /// Kind of a resource; the discriminants are stored and sent, so they never change.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "lowercase")]
        #[repr(u8)]
        pub enum ResourceType {
            $($(#[$doc])* $kind = $code,)*
        }

        impl ResourceType {
            /// Every kind.
            pub const ALL: [Self; [$($code),*].len()] = [$(Self::$kind),*];

            /// The names of all, as stored and shown.
            pub const NAMES: [&str; Self::ALL.len()] = [$($name),*];

            /// As stored and shown.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            /// One letter for cache keys.
            pub const fn letter(self) -> char {
                match self { $(Self::$kind => $letter,)* }
            }

            /// The table of its pairs.
            pub const fn likes_table(self) -> &'static str {
                match self { $(Self::$kind => concat!($name, "_likes"),)* }
            }

            /// The column of its ids there.
            pub const fn id_column(self) -> &'static str {
                match self { $(Self::$kind => concat!($name, "_id"),)* }
            }

            /// The index there that begins with the id, as MySQL is told to use it.
            pub const fn forced_index(self) -> &'static str {
                match self { $(Self::$kind => concat!(" FORCE INDEX (", $name, "_likes_of_", $name, ")"),)* }
            }

            /// As stored in `sync_events.event_type`.
            pub const fn event_type(self) -> &'static str {
                match self { $(Self::$kind => concat!($name, "_like"),)* }
            }

            /// As stored in `user_behaviors.behavior_type`.
            pub const fn behavior(self, action: Action) -> &'static str {
                match (self, action) {
                    $((Self::$kind, Action::Like) => $like, (Self::$kind, Action::Unlike) => $unlike,)*
                }
            }
        }
    };
}

resource_types! {
    // Number, name, letter of cache keys, behaviours of the history.
    /// A video.
    Video = 1, "video", 'v', "like", "unlike";
    /// A comment.
    Comment = 2, "comment", 'c', "comment_like", "comment_unlike";
}

impl ResourceType {
    /// From its stored number.
    pub fn from_code(code: u8) -> Result<Self, Invalid> {
        let unknown = || Invalid::new("resource_type", format!("unknown code {code}"));
        Self::ALL.into_iter().find(|kind| *kind as u8 == code).ok_or_else(unknown)
    }

    /// From its letter of cache keys and logs.
    pub fn from_letter(letter: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| letter.chars().eq([kind.letter()]))
    }

    /// From what the history says was done.
    pub fn from_behavior(word: &str) -> Option<(Self, Action)> {
        let all = Self::ALL.into_iter().flat_map(|kind| [Action::Like, Action::Unlike].map(|action| (kind, action)));
        all.into_iter().find(|(kind, action)| kind.behavior(*action) == word)
    }
}

impl std::str::FromStr for ResourceType {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let names = || Self::NAMES.join(" or ");
        let other = || Invalid::new("resource_type", format!("expected {}, got {text:?}", names()));
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(other)
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

macro_rules! positive_id {
    ($(#[$doc:meta])* $name:ident, $field:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
        pub struct $name(i64);

        impl $name {
            /// Checks that the id is positive.
            pub fn new(id: i64) -> Result<Self, Invalid> {
                if id > 0 { Ok(Self(id)) } else { Err(Invalid::new($field, format!("must be greater than 0, got {id}"))) }
            }

            /// The number itself, greater than 0.
            pub const fn get(self) -> i64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

positive_id!(
    /// A user, id > 0.
    UserId,
    "user_id"
);
positive_id!(
    /// A resource's number within its type, id > 0.
    ResourceId,
    "resource_id"
);

/// What is liked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct Resource {
    /// Which type of thing.
    #[serde(rename = "resource_type")]
    pub kind: ResourceType,
    /// Number within the kind.
    #[serde(rename = "resource_id")]
    pub id: ResourceId,
}

impl Resource {
    /// Checks the id.
    pub fn new(kind: ResourceType, id: i64) -> Result<Self, Invalid> {
        Ok(Self { kind, id: ResourceId::new(id)? })
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.id)
    }
}

/// One user and one resource: the unit whose state is liked or not liked.
///
/// The order (resource first) is the order in which every transaction takes its locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct Pair {
    /// What.
    #[serde(flatten)]
    pub resource: Resource,
    /// Who.
    pub user: UserId,
}

impl Pair {
    /// Checks both ids.
    pub fn new(user: i64, kind: ResourceType, id: i64) -> Result<Self, Invalid> {
        Ok(Self { resource: Resource::new(kind, id)?, user: UserId::new(user)? })
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user {} {}", self.user, self.resource)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_below_one_are_refused_by_name() {
        assert_eq!(UserId::new(0).unwrap_err().to_string(), "user_id: must be greater than 0, got 0");
        assert_eq!(Pair::new(1, ResourceType::Video, -3).unwrap_err().field, "resource_id");
    }

    #[test]
    fn kinds_survive_text_and_code() {
        for kind in ResourceType::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
            assert_eq!(ResourceType::from_code(kind as u8), Ok(kind));
            assert_eq!(ResourceType::from_letter(&kind.letter().to_string()), Some(kind));
            for action in [Action::Like, Action::Unlike] {
                assert_eq!(ResourceType::from_behavior(kind.behavior(action)), Some((kind, action)));
            }
        }
        assert_eq!(ResourceType::NAMES, ResourceType::ALL.map(ResourceType::name));
        assert!(ResourceType::from_code(0).is_err());
        assert!("film".parse::<ResourceType>().is_err());
    }
}
