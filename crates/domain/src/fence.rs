//! Fences: what a user did before their erasure changes nothing, whatever brings it.
//!
//! As bytes, in the redo log beside the events, all integers big-endian:
//!
//! ```text
//! fences   u8 format (2) | u16 count | count × ( i64 user | i64 version )
//! ```
//!
//! A batch of events begins with another format, so whoever reads one does not take it for the other.

use crate::codec::DecodeError;
use crate::{UserId, Version};
use bytes::{Buf, BufMut, Bytes, BytesMut};

const FORMAT: u8 = 2;

/// Most fences of one message.
pub const MAX_FENCES: usize = 4_096;

/// An erased user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Fence {
    /// Who.
    pub user: UserId,
    /// Events of theirs with this version, or a lower one, are left out. Later ones count.
    pub up_to: Version,
}

impl Fence {
    /// Whether an event of this user and version is left out.
    pub fn covers(&self, user: UserId, version: Version) -> bool {
        self.user == user && version <= self.up_to
    }
}

/// At most [`MAX_FENCES`] as one message.
pub fn encode_fences(fences: &[Fence]) -> Bytes {
    debug_assert!(fences.len() <= MAX_FENCES);
    let mut out = BytesMut::with_capacity(3 + 16 * fences.len());
    out.put_u8(FORMAT);
    out.put_u16(fences.len() as u16);
    for fence in fences {
        out.put_i64(fence.user.get());
        out.put_i64(fence.up_to.0);
    }
    out.freeze()
}

/// The fences of a message; none if it is something else, such as a batch of events.
///
/// # Errors
/// It says that it has fences, and is no such message.
pub fn decode_fences(body: &[u8]) -> Result<Option<Vec<Fence>>, DecodeError> {
    if body.first() != Some(&FORMAT) {
        return Ok(None);
    }
    let mut bytes = &body[1..];
    let count = usize::from(bytes.try_get_u16().map_err(|_| DecodeError::Truncated("count"))?);
    if count > MAX_FENCES {
        return Err(DecodeError::Bound { field: "count", value: count, bound: MAX_FENCES });
    }
    let mut fences = Vec::with_capacity(count);
    for _ in 0..count {
        let user = bytes.try_get_i64().map_err(|_| DecodeError::Truncated("user"))?;
        let up_to = bytes.try_get_i64().map_err(|_| DecodeError::Truncated("version"))?;
        fences.push(Fence { user: UserId::new(user)?, up_to: Version(up_to) });
    }
    if bytes.is_empty() { Ok(Some(fences)) } else { Err(DecodeError::Trailing(bytes.len())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{EncodedEvent, decode_batch, encode_batch};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn fences_survive_the_wire_and_are_no_events(known in proptest::collection::vec((1..=i64::MAX, any::<i64>()), 0..20), cut in any::<proptest::sample::Index>()) {
            let fences: Vec<Fence> =
                known.into_iter().map(|(user, up_to)| Fence { user: UserId::new(user).unwrap(), up_to: Version(up_to) }).collect();
            let body = encode_fences(&fences);
            prop_assert_eq!(decode_fences(&body), Ok(Some(fences)));
            prop_assert_eq!(decode_batch(&body), Err(DecodeError::UnknownFormat(FORMAT)));
            let cut = cut.index(body.len());
            prop_assert!(cut == 0 || decode_fences(&body[..cut]).is_err());
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
    fn a_fence_is_about_one_user_and_what_came_before() {
        let user = |id| UserId::new(id).unwrap();
        let fence = Fence { user: user(7), up_to: Version(5) };
        assert!(fence.covers(user(7), Version(5)));
        assert!(!fence.covers(user(7), Version(6)) && !fence.covers(user(8), Version(5)));
    }
}
