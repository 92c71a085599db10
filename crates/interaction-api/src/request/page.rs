//! Page tokens: where a list goes on. Callers cannot read anything out of them, and one is good for its own list alone.
//!
//! A token of a list of likes is sealed: version and id of the last line, encrypted and authenticated together with the
//! arguments of the list. The key stands here, so it hides nothing from whoever has this program. It keeps callers from
//! building on what is inside, and user ids from where addresses of pages are written down. All servers have the same key:
//! a page may come from another one. The same place of the same list has the same token.

use crate::status::{self, Reason};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::{Resource, ResourceType, UserId, Version};
use event_store::{LikeCursor, Within};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::error::Unspecified;
use ring::hmac;
use std::fmt::{self, Display, Formatter};
use tonic::Status;
use uuid::Uuid;

/// No secret: see above.
const KEY: &[u8; 32] = b"pages of interaction-sync, no. 1";

/// The form of a token, in front of it.
const SEALED: &str = "2";

/// Said of every token that is not of this list.
const FOREIGN: &str = "is not a token of this list";

/// A list with its arguments: what a token is bound to. The page size is none of them.
#[derive(Debug, Clone, Copy)]
pub enum List {
    /// What a user likes.
    Liked(UserId, ResourceType, Within),
    /// Who likes a resource.
    Likers(Resource, Within),
}

impl Display for List {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let within = match self {
            Self::Liked(user, kind, within) => {
                write!(f, "liked {} {}", user.get(), kind.name())?;
                within
            }
            Self::Likers(resource, within) => {
                write!(f, "likers {resource}")?;
                within
            }
        };
        within.since.iter().try_for_each(|since| write!(f, " since {}", since.0))?;
        within.until.iter().try_for_each(|until| write!(f, " until {}", until.0))
    }
}

/// A token for the page of this list after `cursor`; empty at the end.
pub fn token(list: List, cursor: Option<LikeCursor>) -> Result<String, Status> {
    let Some(cursor) = cursor else { return Ok(String::new()) };
    let sealed = seal(&list.to_string(), cursor).map_err(|_| status::refuse(Reason::Internal, "no page token"))?;
    Ok(format!("{SEALED}{}", URL_SAFE_NO_PAD.encode(sealed)))
}

/// The cursor of a token; `Err` if it is not of this list. A list whose arguments are wrong has no tokens.
///
/// Tokens of the form before, `1-VERSION-ID`, are read for one release more.
pub fn cursor(list: Option<List>, token: &str) -> Result<Option<LikeCursor>, &'static str> {
    if token.is_empty() {
        return Ok(None);
    }
    if let Some(cursor) = unsealed(token) {
        return Ok(Some(cursor));
    }
    let open = || {
        let sealed = URL_SAFE_NO_PAD.decode(token.strip_prefix(SEALED)?).ok()?;
        open(&list?.to_string(), sealed).ok()
    };
    open().map(Some).ok_or(FOREIGN)
}

fn key() -> Result<LessSafeKey, Unspecified> {
    UnboundKey::new(&CHACHA20_POLY1305, KEY).map(LessSafeKey::new)
}

/// Made of what is sealed: another one for other contents, and no clock or chance is needed.
fn nonce(list: &str, content: &[u8]) -> Result<[u8; NONCE_LEN], Unspecified> {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, KEY));
    context.update(content);
    context.update(list.as_bytes());
    let tag = context.sign();
    tag.as_ref().first_chunk().copied().ok_or(Unspecified)
}

fn seal(list: &str, cursor: LikeCursor) -> Result<Vec<u8>, Unspecified> {
    let mut content = [cursor.version.0.to_be_bytes(), cursor.id.to_be_bytes()].concat();
    let nonce = nonce(list, &content)?;
    key()?.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(list), &mut content)?;
    Ok([&nonce[..], &content].concat())
}

fn open(list: &str, mut sealed: Vec<u8>) -> Result<LikeCursor, Unspecified> {
    let (nonce, content) = sealed.split_first_chunk_mut::<NONCE_LEN>().ok_or(Unspecified)?;
    let content = key()?.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(list), content)?;
    let (version, id) = content.split_first_chunk().ok_or(Unspecified)?;
    let id: &[u8; 8] = (&*id).try_into().map_err(|_| Unspecified)?;
    Ok(LikeCursor { version: Version(i64::from_be_bytes(*version)), id: i64::from_be_bytes(*id) })
}

/// The form before.
fn unsealed(token: &str) -> Option<LikeCursor> {
    let (version, id) = token.strip_prefix("1-")?.split_once('-')?;
    let version = Version(i64::from_str_radix(version, 16).ok()?);
    let id = i64::from_str_radix(id, 16).ok()?;
    (version.0 >= 0 && id >= 0).then_some(LikeCursor { version, id })
}

/// A token for the page of events after this one; empty at the end.
pub fn event_token(after: Option<Uuid>) -> String {
    after.map_or_else(String::new, |id| format!("e-{}", id.simple()))
}

/// The event of a token; `Err` if it is not one of ours.
pub fn event_cursor(token: &str) -> Result<Option<Uuid>, &'static str> {
    if token.is_empty() {
        return Ok(None);
    }
    let id = token.strip_prefix("e-").filter(|id| id.len() == 32).and_then(|id| Uuid::try_parse(id).ok());
    id.map(Some).ok_or("is not a token of this service")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn liked(user: i64) -> List {
        List::Liked(UserId::new(user).unwrap(), ResourceType::Video, Within::default())
    }

    fn likers(id: i64) -> List {
        List::Likers(Resource::new(ResourceType::Video, id).unwrap(), Within::default())
    }

    #[test]
    fn tokens_of_events_too() {
        let id = Uuid::now_v7();
        assert_eq!(event_cursor(&event_token(Some(id))), Ok(Some(id)));
        assert_eq!(event_cursor(&event_token(None)), Ok(None));
        for foreign in ["e-", "e-1", "1-1-1", &id.to_string(), &format!("e-{id}")] {
            assert!(event_cursor(foreign).is_err(), "{foreign}");
        }
    }

    #[test]
    fn a_token_is_good_for_its_own_list_alone() {
        let at = LikeCursor { version: Version(1_760_000_000_000_000), id: 42 };
        let made = token(liked(7), Some(at)).unwrap();
        assert_eq!(cursor(Some(liked(7)), &made), Ok(Some(at)));
        assert_eq!(made, token(liked(7), Some(at)).unwrap(), "not the same on every server");
        assert_eq!(token(liked(7), None).unwrap(), "");
        assert_eq!(cursor(Some(liked(7)), ""), Ok(None));
        let comments = List::Liked(UserId::new(7).unwrap(), ResourceType::Comment, Within::default());
        let later = Within { since: Some(Version(1)), until: None };
        let later = List::Liked(UserId::new(7).unwrap(), ResourceType::Video, later);
        for other in [Some(liked(8)), Some(comments), Some(later), Some(likers(7)), None] {
            assert_eq!(cursor(other, &made), Err(FOREIGN), "{other:?}");
        }
        // It may stand in an address, and within the bound of the contract.
        assert!(made.len() <= 64 && made.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)), "{made}");
    }

    #[test]
    fn nothing_can_be_read_out_of_a_token_nor_changed_in_it() {
        let at = |id| LikeCursor { version: Version(1_760_000_000_000_000), id };
        let (one, next) = (token(likers(1), Some(at(42))).unwrap(), token(likers(1), Some(at(43))).unwrap());
        // Neighbours have nothing in common but their form.
        let same = one.bytes().zip(next.bytes()).skip(1).filter(|(a, b)| a == b).count();
        assert!(same < one.len() / 4, "{one} {next}");
        for place in 1..one.len() {
            let mut changed = one.clone().into_bytes();
            changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
            assert!(cursor(Some(likers(1)), &String::from_utf8(changed).unwrap()).is_err(), "{place}");
        }
        for foreign in ["x", "2", "2AAAA", "2 ", "2é", &one[1..], &format!("{one}A"), "1-", "1-zz-1", "1-1", "1--1-1"]
        {
            assert!(cursor(Some(likers(1)), foreign).is_err(), "{foreign}");
        }
    }

    #[test]
    fn the_form_before_is_read_still() {
        let at = LikeCursor { version: Version(0x640_b5ee_d000), id: 42 };
        assert_eq!(cursor(Some(likers(1)), "1-640b5eed000-2a"), Ok(Some(at)));
        assert_eq!(cursor(Some(likers(1)), "1-640b5eed000-2a-1").ok(), None);
    }
}
