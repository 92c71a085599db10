//! Who likes what.

use crate::Invalid;
use std::fmt;

/// Kind of a resource; the discriminants are stored and sent, so they never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum ResourceType {
    /// A video.
    Video = 1,
    /// A comment.
    Comment = 2,
}

impl ResourceType {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Video, Self::Comment];

    /// `video` or `comment`, as stored and shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::Comment => "comment",
        }
    }

    /// One letter for cache keys.
    pub const fn letter(self) -> char {
        match self {
            Self::Video => 'v',
            Self::Comment => 'c',
        }
    }

    /// From its stored number.
    pub fn from_code(code: u8) -> Result<Self, Invalid> {
        match code {
            1 => Ok(Self::Video),
            2 => Ok(Self::Comment),
            other => Err(Invalid::new("resource_type", format!("unknown code {other}"))),
        }
    }
}

impl std::str::FromStr for ResourceType {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "video" => Ok(Self::Video),
            "comment" => Ok(Self::Comment),
            other => Err(Invalid::new("resource_type", format!("expected video or comment, got {other:?}"))),
        }
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
    /// Video or comment.
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
        }
        assert!(ResourceType::from_code(0).is_err());
        assert!("film".parse::<ResourceType>().is_err());
    }
}
