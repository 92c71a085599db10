//! What is found by reading the tables: the ledger, the history and the rows.

use super::{Finding, Kind, Side, Subject, Verdict};
use domain::{LikeEvent, Pair, PairState, Version};
use event_store::{EventStatus, LedgerEntry};
use std::time::Duration;

/// Of an error that a finding shows.
const ERROR_CHARS: usize = 160;

/// An accepted event that the ledger has and no row. A dead one waits for a person; another one is on its way, until it has been
/// for too long. The retries' work, or a person's, so it is only reported.
pub(crate) fn ledger_finding(entry: &LedgerEntry, now: Version, stuck_after: Duration) -> Finding {
    let event = &entry.event;
    let dead = entry.status == EventStatus::Dead;
    let stuck = dead || now.since(event.version) > stuck_after;
    let side = Side::from(PairState { liked: event.intent.action.liked(), version: event.version });
    let mut detail = format!("event {} is {} since {}", event.intent.id, entry.status, entry.updated_at);
    if let Some(error) = entry.error.as_deref() {
        // Its first line says what; explain has the rest.
        let line: String = error.lines().next().unwrap_or_default().chars().take(ERROR_CHARS).collect();
        detail.push_str(": ");
        detail.push_str(&line);
    }
    detail.push_str(match entry.status {
        EventStatus::Dead => "; remove the reason, then replay it",
        EventStatus::Failed => "; it is tried again by itself",
        _ => "",
    });
    Finding {
        kind: Kind::Ledger,
        verdict: if stuck { Verdict::Stuck } else { Verdict::InFlight },
        subject: Subject::Pair(event.pair()),
        cache: Some(side),
        stored: None,
        detail,
        repair: None,
        event: None,
    }
}

/// A row that somebody else dated too far ahead to be believed: a person's work, so it is only reported.
pub(crate) fn foreign_finding((pair, row): (Pair, PairState)) -> Finding {
    Finding {
        kind: Kind::Row,
        verdict: Verdict::Orphan,
        subject: Subject::Pair(pair),
        cache: None,
        stored: Some(row.into()),
        detail:
            "dated more than a day ahead of every clock: it counts as the oldest, and its user's next word replaces it"
                .to_owned(),
        repair: None,
        event: None,
    }
}

/// A row that is older than an event that the database has applied: somebody changed or deleted it.
pub(crate) fn row_finding(event: LikeEvent, row: PairState, detail: &str) -> Finding {
    let says = PairState { liked: event.intent.action.liked(), version: event.version };
    let untouched = row == PairState::UNTOUCHED;
    Finding {
        kind: Kind::Row,
        verdict: if untouched { Verdict::Missing } else { Verdict::Drift },
        subject: Subject::Pair(event.pair()),
        cache: (!untouched).then(|| row.into()),
        stored: Some(says.into()),
        detail: detail.to_owned(),
        repair: None,
        event: Some(Box::new(event)),
    }
}

/// A completed event that the history lacks.
pub(crate) fn history_finding(event: LikeEvent) -> Finding {
    let state = PairState { liked: event.intent.action.liked(), version: event.version };
    Finding {
        kind: Kind::History,
        verdict: Verdict::Missing,
        subject: Subject::Pair(event.pair()),
        cache: None,
        stored: Some(state.into()),
        detail: format!("the history lacks event {}", event.intent.id),
        repair: None,
        event: Some(Box::new(event)),
    }
}
