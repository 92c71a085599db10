//! Page tokens: where a list goes on. Callers must not read anything into them.

use domain::Version;
use event_store::LikeCursor;
use uuid::Uuid;

/// A token for the page after `cursor`; empty at the end.
pub fn token(cursor: Option<LikeCursor>) -> String {
    cursor.map_or_else(String::new, |cursor| format!("1-{:x}-{:x}", cursor.version.0, cursor.id))
}

/// The cursor of a token; `Err` if it is not one of ours.
pub fn cursor(token: &str) -> Result<Option<LikeCursor>, &'static str> {
    if token.is_empty() {
        return Ok(None);
    }
    let parse = || {
        let (version, id) = token.strip_prefix("1-")?.split_once('-')?;
        let version = Version(i64::from_str_radix(version, 16).ok()?);
        let id = i64::from_str_radix(id, 16).ok()?;
        (version.0 >= 0 && id >= 0).then_some(LikeCursor { version, id })
    };
    parse().map(Some).ok_or("is not a token of this service")
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
    fn tokens_survive_and_foreign_ones_are_refused() {
        let at = LikeCursor { version: Version(1_760_000_000_000_000), id: 42 };
        assert_eq!(cursor(&token(Some(at))), Ok(Some(at)));
        assert_eq!(cursor(&token(None)), Ok(None));
        for foreign in ["x", "1-", "1-zz-1", "1-1", "2-1-1", "1--1-1", "1-1-1-1"] {
            assert!(cursor(foreign).is_err(), "{foreign}");
        }
    }
}
