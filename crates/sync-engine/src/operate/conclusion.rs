//! What the story of a pair comes to, in one sentence, and what an operator does about it. It speaks of the pair alone; whether the
//! count is right, too, the checker says.

use super::explain::{CachedNow, ExplainedEvent};
use crate::clock::wall_clock;
use crate::stores::Stores;
use crate::stores::standing::LATE;
use chrono::{DateTime, Utc};
use domain::{Pair, PairState, Version};
use event_store::{EventStatus, StoredRow};
use serde::Serialize;

/// The end of a story.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Conclusion {
    /// Nobody has to do anything.
    pub fine: bool,
    /// In words.
    pub says: String,
    /// What to do; empty if nothing is to be done.
    pub hint: String,
}

impl Conclusion {
    fn fine(says: impl Into<String>) -> Self {
        Self { fine: true, says: says.into(), hint: String::new() }
    }

    fn wrong(says: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { fine: false, says: says.into(), hint: hint.into() }
    }
}

/// What is seen of the pair against what its events came to.
pub(super) fn conclude(
    stores: &Stores,
    pair: Pair,
    events: &[ExplainedEvent],
    row: Option<StoredRow>,
    cache: Option<CachedNow>,
) -> Conclusion {
    let row = row.map_or(PairState::UNTOUCHED, |row| PairState { liked: row.liked, version: row.version });
    let old = |version: Version| stores.now().since(version) > LATE;
    let late = |at: DateTime<Utc>| (wall_clock() - at).to_std().is_ok_and(|age| age > LATE);
    judge(pair, events, row, cache, old, late)
}

fn judge(
    pair: Pair,
    events: &[ExplainedEvent],
    row: PairState,
    cache: Option<CachedNow>,
    old: impl Fn(Version) -> bool,
    late: impl Fn(DateTime<Utc>) -> bool,
) -> Conclusion {
    let cached = cache.and_then(|cache| cache.pair);
    let seen = cached.unwrap_or(row);
    let user = if seen.liked { "the user sees the like" } else { "the user sees no like" };
    let database = match (seen.liked, row.liked) {
        (true, false) => "the database lacks it",
        (false, true) => "the database still has it",
        (true, true) => "the database has it",
        (false, false) => "the database has none",
    };
    // The newest first: it decides what holds once everything has arrived.
    let dead = events.iter().rev().find(|event| event.status == Some(EventStatus::Dead));
    if let Some(dead) = dead {
        let id = dead.id;
        if dead.version < row.version {
            return Conclusion::wrong(
                format!("{user}, {database}; event {id} is dead, and a newer change has decided"),
                format!("its replay changes nothing but the ledger: syncctl dead-letters replay {id}"),
            );
        }
        return Conclusion::wrong(
            format!("{user}, {database}, its event is dead"),
            format!("remove the reason, then replay it: syncctl dead-letters replay {id}"),
        );
    }
    let unfinished = |event: &&ExplainedEvent| {
        matches!(event.status, Some(EventStatus::Failed | EventStatus::Processing | EventStatus::Pending))
    };
    if let Some(event) = events.iter().rev().find(unfinished) {
        if let Some(at) = event.replayed_at {
            if !late(at) {
                return Conclusion::fine(format!("{user}, {database}, its event was replayed and is tried again now"));
            }
            let says = format!("{user}, {database}, its event was replayed, and nobody takes it up");
            return Conclusion::wrong(says, "do consumers run? syncctl status");
        }
        let says = format!("{user}, {database}, its event failed and is tried again");
        let hint = format!("the error is above; at once: syncctl events replay {}", event.id);
        return Conclusion { fine: !old(event.version), says, hint };
    }
    if let Some(event) = events.iter().rev().find(|event| event.in_journal == Some(true)) {
        if event.version <= row.version {
            return Conclusion::fine(format!("{user}, {database}; the journal will forget its entry"));
        }
        if old(event.version) {
            let hint = "find why events do not reach the database: syncctl status";
            return Conclusion::wrong(format!("{user}, {database}, its event waits in the journal for too long"), hint);
        }
        return Conclusion::fine(format!("{user}, {database}, its event is on its way"));
    }
    let Some(_) = cache else {
        return Conclusion::fine(format!("{database}; the cache does not answer, so nobody knows what is on its way"));
    };
    match cached {
        None if row == PairState::UNTOUCHED && events.is_empty() => Conclusion::fine("nothing is known of it"),
        None => Conclusion::fine("it is not cached, and the database decides"),
        Some(cached) if cached.liked == row.liked => Conclusion::fine("cache and database say the same of the pair"),
        Some(cached) if cached.version < row.version => Conclusion::wrong(
            format!("{user}, {database}: the cache has not heard the newest"),
            format!("the checker tells it; at once: syncctl repair --apply {}", pair.resource),
        ),
        Some(cached) if events.iter().any(|event| applied(event, cached.version)) => Conclusion::wrong(
            format!("{user}, {database}: its event was applied, and somebody changed the row or deleted it since"),
            format!("the checker applies it again; at once: syncctl repair --apply {}", pair.resource),
        ),
        Some(_) => Conclusion::wrong(
            format!("{user}, {database}, and no event says why"),
            format!("syncctl repair {} says what a repair would do", pair.resource),
        ),
    }
}

fn applied(event: &ExplainedEvent, version: Version) -> bool {
    event.status == Some(EventStatus::Completed) && event.version == version
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{Action, ResourceType};
    use uuid::Uuid;

    fn event(version: i64, status: Option<EventStatus>, in_journal: bool) -> ExplainedEvent {
        ExplainedEvent {
            id: Uuid::from_u128(7),
            action: Action::Like,
            version: Version(version),
            origin: Some("journal"),
            status,
            retry_count: 0,
            error: None,
            replayed_at: None,
            in_history: status == Some(EventStatus::Completed),
            in_journal: Some(in_journal),
        }
    }

    fn state(liked: bool, version: i64) -> PairState {
        PairState { liked, version: Version(version) }
    }

    fn concluded(events: &[ExplainedEvent], row: PairState, cached: Option<PairState>) -> Conclusion {
        let Ok(pair) = Pair::new(1, ResourceType::Video, 13) else { unreachable!("both are positive") };
        let cache = Some(CachedNow { pair: cached, count: None });
        judge(pair, events, row, cache, |version| version < Version(100), |at| at.timestamp() < 1_000)
    }

    #[test]
    fn each_story_has_an_end_and_what_to_do() {
        let untouched = PairState::UNTOUCHED;
        let liked = Some(state(true, 500));
        let dead = event(500, Some(EventStatus::Dead), false);
        let told = concluded(std::slice::from_ref(&dead), untouched, liked);
        assert_eq!(told.says, "the user sees the like, the database lacks it, its event is dead");
        assert!(!told.fine && told.hint.contains("replay it: syncctl dead-letters replay 00000000"), "{told:?}");
        let told = concluded(&[dead], state(false, 600), Some(state(false, 600)));
        assert!(!told.fine && told.says.contains("a newer change has decided"), "{told:?}");

        for (version, fine) in [(500, true), (50, false)] {
            let failed = event(version, Some(EventStatus::Failed), false);
            let told = concluded(&[failed], untouched, liked);
            assert!(told.fine == fine && told.says.contains("is tried again"), "{told:?}");
            let told = concluded(&[event(version, None, true)], untouched, liked);
            assert!(told.fine == fine && told.says.contains(if fine { "on its way" } else { "too long" }), "{told:?}");
        }
        // Accepted long ago, and replayed just now: nothing is left to do. Replayed long ago, and still where it was.
        for (replayed, fine) in [(1_000, true), (999, false)] {
            let at = DateTime::from_timestamp(replayed, 0);
            let failed = ExplainedEvent { replayed_at: at, ..event(50, Some(EventStatus::Failed), false) };
            let told = concluded(&[failed], untouched, liked);
            assert!(told.fine == fine && told.says.contains("was replayed"), "{told:?}");
            assert!(!told.hint.contains("replay"), "{told:?}");
        }
        let done = event(500, Some(EventStatus::Completed), false);
        assert_eq!(
            concluded(&[done], state(true, 500), liked),
            Conclusion::fine("cache and database say the same of the pair")
        );
        assert_eq!(concluded(&[], untouched, None), Conclusion::fine("nothing is known of it"));
        let gone = concluded(&[event(500, Some(EventStatus::Completed), false)], untouched, liked);
        assert!(!gone.fine && gone.says.contains("its event was applied"), "{gone:?}");
        assert!(gone.hint.ends_with("syncctl repair --apply video:13"), "{gone:?}");
        let stale = concluded(&[], state(true, 900), Some(state(false, 500)));
        assert!(!stale.fine && stale.says.contains("has not heard the newest"), "{stale:?}");
        let alone = concluded(&[], untouched, liked);
        assert!(!alone.fine && alone.says.contains("no event says why"), "{alone:?}");
    }
}
