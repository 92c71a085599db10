//! What is wrong with accepted likes, whoever asks: one function says it for the health of every process, the page, the report and
//! the command line, and the alerts compare the same figures with the same limits.
//!
//! Parts of a process (its circuits, its clocks) are its own affair. This is what all of them see alike, because it stands in
//! the stores.

use chrono::{DateTime, TimeDelta, Utc};
use event_store::{EventStatus, Standing};
use serde::Serialize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// An accepted like that is in no row for so long is late: retries begin after seconds.
pub const LATE: Duration = Duration::from_secs(60);

/// A journal that is fuller than this share of its limit is on its way to refuse likes.
pub const FILLED: f64 = 0.5;

/// What was seen longer ago says nothing any more.
const FRESH: Duration = Duration::from_secs(30);

/// The figures that are judged.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// When they were read.
    pub at: DateTime<Utc>,
    /// Ledger and findings.
    #[serde(flatten)]
    pub standing: Standing,
    /// Entries of the fullest shard's journal, as a share of what it may hold; none while the cache does not answer.
    pub fullest_shard: Option<f64>,
}

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TroubleKind {
    /// Events are given up.
    DeadEvents,
    /// Events failed, or are taken up by nobody, for too long.
    LateEvents,
    /// The checkers found something wrong that nobody put right.
    OpenFindings,
    /// A journal is filling up.
    JournalFill,
}

impl TroubleKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::DeadEvents, Self::LateEvents, Self::OpenFindings, Self::JournalFill];

    /// As shown, and the name of the part of health.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DeadEvents => "dead_events",
            Self::LateEvents => "late_events",
            Self::OpenFindings => "open_findings",
            Self::JournalFill => "journal_fill",
        }
    }
}

/// One thing that is wrong now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// Of what kind.
    pub kind: TroubleKind,
    /// In words, with figures.
    pub detail: String,
    /// What an operator does about it.
    pub hint: &'static str,
}

/// Everything that is wrong; nothing is left out, and what is not here is well.
pub fn troubles(figures: &Figures) -> Vec<Trouble> {
    let mut found = Vec::new();
    let mut add = |kind, detail, hint| found.push(Trouble { kind, detail, hint });
    let of = |status| figures.standing.ledger.iter().filter(move |one| one.status == status && one.count > 0);
    for dead in of(EventStatus::Dead) {
        let since = since(figures.at, dead.oldest);
        add(
            TroubleKind::DeadEvents,
            format!("{} accepted likes are dead{since}", dead.count),
            "syncctl dead-letters list shows why; remove the reason, then: syncctl dead-letters replay",
        );
    }
    for (status, how) in [
        (EventStatus::Failed, "failed and are tried again"),
        (EventStatus::Processing, "are being tried again"),
        (EventStatus::Pending, "are taken up by nobody"),
    ] {
        for late in of(status).filter(|one| age(figures.at, one.oldest) > LATE) {
            add(
                TroubleKind::LateEvents,
                format!("{} accepted likes {how}{}", late.count, since(figures.at, late.oldest)),
                "syncctl events list --status failed shows the errors",
            );
        }
    }
    if figures.standing.open_findings > 0 {
        let since = since(figures.at, figures.standing.oldest_finding);
        add(
            TroubleKind::OpenFindings,
            format!("{} inconsistencies are open{since}", figures.standing.open_findings),
            "syncctl report names them",
        );
    }
    if let Some(fill) = figures.fullest_shard.filter(|fill| *fill > FILLED) {
        add(
            TroubleKind::JournalFill,
            format!("the fullest journal holds {:.0} % of what it may", fill * 100.0),
            "at 100 % its likes are refused: find why events do not reach the database",
        );
    }
    found
}

fn age(now: DateTime<Utc>, oldest: Option<DateTime<Utc>>) -> Duration {
    oldest.and_then(|oldest| (now - oldest).to_std().ok()).unwrap_or_default()
}

fn since(now: DateTime<Utc>, oldest: Option<DateTime<Utc>>) -> String {
    let Some(oldest) = oldest else { return String::new() };
    let seconds = (now - oldest).max(TimeDelta::zero()).num_seconds();
    let (length, unit) = match seconds {
        0..120 => (seconds, "s"),
        120..7_200 => (seconds / 60, "min"),
        7_200..172_800 => (seconds / 3_600, "h"),
        _ => (seconds / 86_400, "days"),
    };
    format!(", the oldest for {length} {unit}")
}

/// What this process saw last.
#[derive(Debug, Default)]
pub struct Standings(Mutex<Option<(Instant, Figures)>>);

impl Standings {
    /// The figures as they are now.
    pub fn saw(&self, now: Instant, figures: Figures) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, figures));
    }

    /// The latest figures; none if the stores did not answer for too long.
    pub fn latest(&self, now: Instant) -> Option<Figures> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.as_ref().filter(|(at, _)| now.saturating_duration_since(*at) < FRESH).map(|(_, figures)| figures.clone())
    }

    /// What is wrong of one kind, in words.
    pub fn trouble(&self, now: Instant, kind: TroubleKind) -> Option<String> {
        let found = troubles(&self.latest(now)?);
        let words: Vec<_> = found.into_iter().filter(|one| one.kind == kind).map(|one| one.detail).collect();
        (!words.is_empty()).then(|| words.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use event_store::LedgerStanding;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap_or_default()
    }

    fn figures(ledger: &[(EventStatus, u64, i64)]) -> Figures {
        let standing = |(status, count, oldest): &(EventStatus, u64, i64)| LedgerStanding {
            status: *status,
            count: *count,
            oldest: (*count > 0).then(|| at(*oldest)),
        };
        let ledger = ledger.iter().map(standing).collect();
        let standing = Standing { ledger, open_findings: 0, oldest_finding: None };
        Figures { at: at(1_000), standing, fullest_shard: Some(FILLED) }
    }

    fn kinds(figures: &Figures) -> Vec<TroubleKind> {
        troubles(figures).into_iter().map(|one| one.kind).collect()
    }

    #[test]
    fn what_is_on_its_way_is_no_trouble_and_what_waits_for_somebody_is() {
        assert_eq!(kinds(&figures(&[])), []);
        assert_eq!(kinds(&figures(&[(EventStatus::Dead, 0, 0), (EventStatus::Failed, 9, 940)])), []);
        assert_eq!(kinds(&figures(&[(EventStatus::Failed, 9, 939)])), [TroubleKind::LateEvents]);
        // A dead one waits for a person from the first second.
        assert_eq!(kinds(&figures(&[(EventStatus::Dead, 1, 1_000)])), [TroubleKind::DeadEvents]);
        let mut all = figures(&[(EventStatus::Dead, 33, 400), (EventStatus::Pending, 1, 0)]);
        all.standing.open_findings = 34;
        all.standing.oldest_finding = Some(at(500));
        all.fullest_shard = Some(0.51);
        assert_eq!(kinds(&all), TroubleKind::ALL);
        let words: Vec<_> = troubles(&all).into_iter().map(|one| one.detail).collect();
        assert_eq!(words[0], "33 accepted likes are dead, the oldest for 10 min");
        assert_eq!(words[2], "34 inconsistencies are open, the oldest for 8 min");
        assert_eq!(words[3], "the fullest journal holds 51 % of what it may");
    }

    #[test]
    fn what_was_seen_long_ago_says_nothing() {
        let standings = Standings::default();
        let now = Instant::now();
        assert_eq!(standings.trouble(now, TroubleKind::DeadEvents), None);
        standings.saw(now, figures(&[(EventStatus::Dead, 2, 999)]));
        let said = standings.trouble(now, TroubleKind::DeadEvents);
        assert_eq!(said.as_deref(), Some("2 accepted likes are dead, the oldest for 1 s"));
        assert_eq!(standings.trouble(now, TroubleKind::LateEvents), None);
        assert_eq!(standings.trouble(now + FRESH, TroubleKind::DeadEvents), None);
    }
}
