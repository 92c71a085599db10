//! Fences: what a user did before their erasure changes nothing, whatever brings it; and nothing of a resource that was said
//! before its deletion.
//!
//! As bytes, in the redo log beside the events, all integers big-endian:
//!
//! ```text
//! users      u8 format (2) | u16 count | count × ( i64 user | i64 version )
//! resources  u8 format (3) | u16 count | count × ( u8 type | i64 id | i64 version | i64 at | u8 1 deleted, 0 restored )
//! ```
//!
//! A batch of events begins with another format, so whoever reads one does not take it for the other.

use crate::codec::DecodeError;
use crate::{Invalid, Pair, Resource, ResourceId, ResourceType, UserId, Version};
use bytes::{Buf, BufMut, Bytes, BytesMut};

const USERS: u8 = 2;
const RESOURCES: u8 = 3;

/// Most fences of one message.
pub const MAX_FENCES: usize = 4_096;

/// What was erased, with all that it had liked, or that had liked it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Erased {
    /// A user, for good.
    User(UserId),
    /// A resource, until it is restored.
    Resource(Resource),
}

impl Erased {
    /// Whether a pair is of it.
    pub fn has(self, pair: Pair) -> bool {
        match self {
            Self::User(user) => pair.user == user,
            Self::Resource(resource) => pair.resource == resource,
        }
    }
}

/// Up to where the events of an erased user, or of a deleted resource, change nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Fence {
    /// Whose events.
    pub of: Erased,
    /// Those with this version, or a lower one, are left out. Later ones count.
    pub up_to: Version,
}

impl Fence {
    /// Whether an event of this pair and version is left out.
    pub fn covers(&self, pair: Pair, version: Version) -> bool {
        self.of.has(pair) && version <= self.up_to
    }
}

/// What is known of a resource that was deleted, also if it was restored since: its fence stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
pub struct DeletedMark {
    /// Its events up to this version are left out, for good.
    pub up_to: Version,
    /// When it was deleted or restored, by the database's clock: the newest word says whether it is deleted.
    pub at: Version,
    /// It is deleted: nobody can like it.
    pub deleted: bool,
}

impl DeletedMark {
    /// What two of one resource come to: the newer word, behind the higher fence.
    #[must_use]
    pub fn merged(self, other: Self) -> Self {
        let newer = if other.at > self.at { other } else { self };
        Self { up_to: self.up_to.max(other.up_to), ..newer }
    }
}

/// At most [`MAX_FENCES`] of users as one message.
pub fn encode_fences(fences: &[(UserId, Version)]) -> Bytes {
    debug_assert!(fences.len() <= MAX_FENCES);
    let mut out = BytesMut::with_capacity(3 + 16 * fences.len());
    out.put_u8(USERS);
    out.put_u16(fences.len() as u16);
    for (user, up_to) in fences {
        out.put_i64(user.get());
        out.put_i64(up_to.0);
    }
    out.freeze()
}

/// At most [`MAX_FENCES`] of resources as one message.
pub fn encode_deleted(marks: &[(Resource, DeletedMark)]) -> Bytes {
    debug_assert!(marks.len() <= MAX_FENCES);
    let mut out = BytesMut::with_capacity(3 + 26 * marks.len());
    out.put_u8(RESOURCES);
    out.put_u16(marks.len() as u16);
    for (resource, mark) in marks {
        out.put_u8(resource.kind as u8);
        out.put_i64(resource.id.get());
        out.put_i64(mark.up_to.0);
        out.put_i64(mark.at.0);
        out.put_u8(u8::from(mark.deleted));
    }
    out.freeze()
}

/// The fences of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fences {
    /// Of users.
    Users(Vec<(UserId, Version)>),
    /// Of resources.
    Resources(Vec<(Resource, DeletedMark)>),
}

/// The fences of a message; none if it is something else, such as a batch of events.
///
/// # Errors
/// It says that it has fences, and is no such message.
pub fn decode_fences(body: &[u8]) -> Result<Option<Fences>, DecodeError> {
    let Some(format @ (USERS | RESOURCES)) = body.first().copied() else { return Ok(None) };
    let mut bytes = &body[1..];
    let count = usize::from(bytes.try_get_u16().map_err(|_| DecodeError::Truncated("count"))?);
    if count > MAX_FENCES {
        return Err(DecodeError::Bound { field: "count", value: count, bound: MAX_FENCES });
    }
    let fences = if format == USERS {
        Fences::Users((0..count).map(|_| user_fence(&mut bytes)).collect::<Result<_, _>>()?)
    } else {
        Fences::Resources((0..count).map(|_| resource_mark(&mut bytes)).collect::<Result<_, _>>()?)
    };
    if bytes.is_empty() { Ok(Some(fences)) } else { Err(DecodeError::Trailing(bytes.len())) }
}

fn user_fence(bytes: &mut &[u8]) -> Result<(UserId, Version), DecodeError> {
    let user = number(bytes, "user")?;
    Ok((UserId::new(user)?, Version(number(bytes, "version")?)))
}

fn resource_mark(bytes: &mut &[u8]) -> Result<(Resource, DeletedMark), DecodeError> {
    let kind = bytes.try_get_u8().map_err(|_| DecodeError::Truncated("resource_type"))?;
    let kind = ResourceType::from_code(kind)?;
    let id = ResourceId::new(number(bytes, "resource")?)?;
    let up_to = Version(number(bytes, "version")?);
    let at = Version(number(bytes, "time")?);
    let deleted = match bytes.try_get_u8().map_err(|_| DecodeError::Truncated("deleted"))? {
        0 => false,
        1 => true,
        other => return Err(Invalid::new("deleted", format!("must be 0 or 1, got {other}")).into()),
    };
    Ok((Resource { kind, id }, DeletedMark { up_to, at, deleted }))
}

fn number(bytes: &mut &[u8], field: &'static str) -> Result<i64, DecodeError> {
    bytes.try_get_i64().map_err(|_| DecodeError::Truncated(field))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{EncodedEvent, decode_batch, encode_batch};
    use proptest::prelude::*;

    fn users() -> impl Strategy<Value = Vec<(UserId, Version)>> {
        let fence = (1..=i64::MAX, any::<i64>()).prop_map(|(user, up_to)| (UserId::new(user).unwrap(), Version(up_to)));
        proptest::collection::vec(fence, 0..20)
    }

    fn resources() -> impl Strategy<Value = Vec<(Resource, DeletedMark)>> {
        let kind = proptest::sample::select(&ResourceType::ALL);
        let mark = (kind, 1..=i64::MAX, any::<(i64, i64, bool)>()).prop_map(|(kind, id, (up_to, at, deleted))| {
            (Resource::new(kind, id).unwrap(), DeletedMark { up_to: Version(up_to), at: Version(at), deleted })
        });
        proptest::collection::vec(mark, 0..20)
    }

    proptest! {
        #[test]
        fn fences_survive_the_wire_and_are_no_events(users in users(), resources in resources(), cut in any::<proptest::sample::Index>()) {
            for (body, format, fences) in [
                (encode_fences(&users), USERS, Fences::Users(users)),
                (encode_deleted(&resources), RESOURCES, Fences::Resources(resources)),
            ] {
                prop_assert_eq!(decode_fences(&body), Ok(Some(fences)));
                prop_assert_eq!(decode_batch(&body), Err(DecodeError::UnknownFormat(format)));
                let cut = cut.index(body.len());
                prop_assert!(cut == 0 || decode_fences(&body[..cut]).is_err());
            }
        }

        #[test]
        fn garbage_is_an_error_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = decode_fences(&bytes);
        }
    }

    #[test]
    fn a_batch_of_events_has_no_fences() {
        let none: [EncodedEvent; 0] = [];
        assert_eq!(decode_fences(&encode_batch(&none)), Ok(None));
        assert_eq!(decode_fences(b""), Ok(None));
    }

    #[test]
    fn a_word_that_is_neither_deleted_nor_restored_is_an_error() {
        let mark = DeletedMark { up_to: Version(5), at: Version(6), deleted: true };
        let mut body = encode_deleted(&[(Resource::new(ResourceType::Comment, 3).unwrap(), mark)]).to_vec();
        assert!(decode_fences(&body).is_ok());
        *body.last_mut().unwrap() = 2;
        assert!(matches!(decode_fences(&body), Err(DecodeError::Invalid(_))), "{:?}", decode_fences(&body));
    }

    #[test]
    fn a_fence_is_about_one_user_or_resource_and_what_came_before() {
        let pair = |user, id| Pair::new(user, ResourceType::Video, id).unwrap();
        let fence = Fence { of: Erased::User(pair(7, 1).user), up_to: Version(5) };
        assert!(fence.covers(pair(7, 1), Version(5)) && fence.covers(pair(7, 2), Version(5)));
        assert!(!fence.covers(pair(7, 1), Version(6)) && !fence.covers(pair(8, 1), Version(5)));
        let fence = Fence { of: Erased::Resource(pair(7, 1).resource), up_to: Version(5) };
        assert!(fence.covers(pair(7, 1), Version(5)) && fence.covers(pair(8, 1), Version(5)));
        assert!(!fence.covers(pair(7, 1), Version(6)) && !fence.covers(pair(7, 2), Version(5)));
        let comment = Pair::new(7, ResourceType::Comment, 1).unwrap();
        assert!(!fence.covers(comment, Version(5)), "of another kind");
    }

    #[test]
    fn the_newer_word_counts_and_the_higher_fence() {
        let mark = |up_to, at, deleted| DeletedMark { up_to: Version(up_to), at: Version(at), deleted };
        let (deleted, restored) = (mark(5, 6, true), mark(4, 7, false));
        assert_eq!(deleted.merged(restored), mark(5, 7, false));
        assert_eq!(restored.merged(deleted), mark(5, 7, false));
        assert_eq!(restored.merged(mark(9, 8, true)), mark(9, 8, true));
    }
}
