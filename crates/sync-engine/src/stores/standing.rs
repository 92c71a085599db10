//! What is wrong with accepted likes, whoever asks: one function says it for the health of every process, the page, the report and
//! the command line, and the alerts compare the same figures with the same limits.
//!
//! Parts of a process (its circuits, its clocks) are its own affair. This is what all of them see alike, because it stands in
//! the stores.

mod processes;
mod seen;

pub use seen::Standings;

use crate::stores::lag::{Lag, WITHIN};
use chrono::{DateTime, TimeDelta, Utc};
use event_store::{EventStatus, Standing};
use serde::Serialize;
use std::time::Duration;

/// An accepted like that the database refused, or that nobody takes up, is late after this time: retries begin after seconds.
pub const LATE: Duration = Duration::from_secs(60);

/// An accepted like that waits in a journal is late: every way that does not wait for somebody takes it along before.
pub const WAITS_LONG: Duration = Duration::from_secs(30);

/// From acceptance to commit, of 99 in 100: more than that is slow.
pub const SLOW: Duration = Duration::from_secs(5);

/// A journal that is fuller than this share of its limit is on its way to refuse likes.
pub const FILLED: f64 = 0.5;

/// The figures that are judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// When ledger and findings were read; now, where they were not.
    pub at: DateTime<Utc>,
    /// Ledger and findings, however long ago that was; none before they were ever read.
    pub standing: Option<Standing>,
    /// How long likes of the last minute took; none without one.
    pub lag: Option<Lag>,
    /// None while the cache does not answer.
    pub journals: Option<Journals>,
    /// For how long nobody could read ledger and findings, if that is too long or the database is unreachable.
    pub unread: Option<Duration>,
    /// The database is unreachable, or was within the last minute.
    pub catching_up: bool,
    /// Processes that say nothing any more, and that no other of their kind has followed.
    pub silent: Vec<SilentProcess>,
    /// What the database has lost and what is done about it, in words.
    pub went_back: Option<String>,
}

/// A process that did not take leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SilentProcess {
    /// Which program.
    pub service: String,
    /// Its name among its kind.
    pub instance: String,
    /// Since its last word.
    pub silence: Duration,
}

/// What waits in the journals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Journals {
    /// Entries of all of them.
    pub entries: u64,
    /// Age of the oldest entry.
    pub oldest: Duration,
    /// Entries of the fullest shard, as a share of what it may hold.
    pub fullest_shard: f64,
}

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TroubleKind {
    /// The database lacks what it had confirmed, or is told it again.
    DatabaseHistory,
    /// Events are given up.
    DeadEvents,
    /// Events failed, or are taken up by nobody, for too long.
    LateEvents,
    /// The checkers found something wrong that nobody put right.
    OpenFindings,
    /// A journal is filling up.
    JournalFill,
    /// Likes wait in a journal for too long.
    JournalAge,
    /// Likes took too long to the database.
    CommitLag,
    /// Nobody knows what the ledger and the findings say.
    LedgerUnread,
    /// A process was not heard of for too long.
    SilentProcess,
}

impl TroubleKind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::DatabaseHistory,
        Self::DeadEvents,
        Self::LateEvents,
        Self::OpenFindings,
        Self::JournalFill,
        Self::JournalAge,
        Self::CommitLag,
        Self::LedgerUnread,
        Self::SilentProcess,
    ];

    /// As shown, and the name of the part of health.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DatabaseHistory => "database_history",
            Self::DeadEvents => "dead_events",
            Self::LateEvents => "late_events",
            Self::OpenFindings => "open_findings",
            Self::JournalFill => "journal_fill",
            Self::JournalAge => "journal_age",
            Self::CommitLag => "commit_lag",
            Self::LedgerUnread => "ledger_unread",
            Self::SilentProcess => "silent_process",
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
    if let Some(lost) = &figures.went_back {
        add(
            TroubleKind::DatabaseHistory,
            lost.clone(),
            "docs/OPERATING.md#databasewentback: leave the cache as it is, and nothing needs to be stopped",
        );
    }
    // What was known stays said while nobody can ask.
    let as_of = figures.unread.map_or_else(String::new, |_| figures.at.format(", as of %H:%M:%SZ").to_string());
    let ledger = figures.standing.iter().flat_map(|standing| &standing.ledger);
    let of = |status| ledger.clone().filter(move |one| one.status == status && one.count > 0);
    for dead in of(EventStatus::Dead) {
        let since = since(figures.at, dead.oldest);
        add(
            TroubleKind::DeadEvents,
            format!("{}{since}{as_of}", many(dead.count, "accepted like is dead", "accepted likes are dead")),
            "syncctl dead-letters list shows why; remove the reason, then: syncctl dead-letters replay",
        );
    }
    for (status, one, more) in [
        (EventStatus::Failed, "accepted like failed and is tried again", "accepted likes failed and are tried again"),
        (EventStatus::Processing, "accepted like is being tried again", "accepted likes are being tried again"),
        (EventStatus::Pending, "accepted like is taken up by nobody", "accepted likes are taken up by nobody"),
    ] {
        for late in of(status).filter(|one| age(figures.at, one.oldest) > LATE) {
            add(
                TroubleKind::LateEvents,
                format!("{}{}{as_of}", many(late.count, one, more), since(figures.at, late.oldest)),
                "syncctl events list --status failed shows the errors",
            );
        }
    }
    if let Some(standing) = figures.standing.as_ref().filter(|standing| standing.open_findings > 0) {
        let since = since(figures.at, standing.oldest_finding);
        add(
            TroubleKind::OpenFindings,
            format!(
                "{}{since}{as_of}",
                many(standing.open_findings, "inconsistency is open", "inconsistencies are open")
            ),
            "the findings in `syncctl report` name them",
        );
    }
    if let Some(journals) = figures.journals.filter(|journals| journals.fullest_shard > FILLED) {
        add(
            TroubleKind::JournalFill,
            format!("the fullest journal holds {:.0} % of what it may", journals.fullest_shard * 100.0),
            "at 100 % its likes are refused: find why events do not reach the database",
        );
    }
    // After an outage what is slow already is not called well before it has arrived.
    let limit = if figures.catching_up { SLOW } else { WAITS_LONG };
    if let Some(journals) = figures.journals.filter(|journals| journals.entries > 0 && journals.oldest > limit) {
        let waiting = many(journals.entries, "accepted like is not committed", "accepted likes are not committed");
        add(
            TroubleKind::JournalAge,
            format!("{waiting}, the oldest for {}", length(journals.oldest.as_secs())),
            "syncctl cache-stats shows in which journal; does every store answer, do consumers run?",
        );
    }
    if let Some(lag) = figures.lag.filter(|lag| lag.p99_ms > millis(SLOW)) {
        add(
            TroubleKind::CommitLag,
            in_words(lag),
            "over when the newest is quick and a minute has passed; else the database or the queue is slow (what waited for an \
             outage or a recovery to end counts, too)",
        );
    }
    if let Some(unread) = figures.unread {
        add(
            TroubleKind::LedgerUnread,
            format!("ledger and findings were not read for {}: nobody knows what they say", length(unread.as_secs())),
            "does the database answer? /health has its last error",
        );
    }
    for SilentProcess { service, instance, silence } in &figures.silent {
        add(
            TroubleKind::SilentProcess,
            format!("{service} {instance} was not heard of for {}{as_of}", length(silence.as_secs())),
            "does it run, does it hang? its log; said for an hour, or until another one of its kind has started",
        );
    }
    found
}

/// The figure of a kind that is not wrong, where there is one worth showing.
pub fn calm(figures: &Figures, kind: TroubleKind) -> Option<String> {
    match kind {
        TroubleKind::CommitLag => figures.lag.map(in_words),
        _ => None,
    }
}

/// With what it is the figure of.
fn in_words(lag: Lag) -> String {
    let seconds = |ms: i64| ms as f64 / 1e3;
    let within = WITHIN.as_secs();
    let (p99, newest) = (seconds(lag.p99_ms), seconds(lag.newest_ms));
    format!("commit lag p99 {p99:.3} s over the last {within} s; newest {newest:.3} s")
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A number with its noun and what goes with it.
fn many(count: u64, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

fn age(now: DateTime<Utc>, oldest: Option<DateTime<Utc>>) -> Duration {
    oldest.and_then(|oldest| (now - oldest).to_std().ok()).unwrap_or_default()
}

fn since(now: DateTime<Utc>, oldest: Option<DateTime<Utc>>) -> String {
    let Some(oldest) = oldest else { return String::new() };
    let seconds = (now - oldest).max(TimeDelta::zero()).num_seconds();
    format!(", the oldest for {}", length(seconds.unsigned_abs()))
}

fn length(seconds: u64) -> String {
    let (length, unit) = match seconds {
        0..120 => (seconds, "s"),
        120..7_200 => (seconds / 60, "min"),
        7_200..172_800 => (seconds / 3_600, "h"),
        _ => (seconds / 86_400, "days"),
    };
    format!("{length} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use event_store::LedgerStanding;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap_or_default()
    }

    pub(super) fn standing(ledger: &[(EventStatus, u64, i64)]) -> Standing {
        let standing = |(status, count, oldest): &(EventStatus, u64, i64)| LedgerStanding {
            status: *status,
            count: *count,
            oldest: (*count > 0).then(|| at(*oldest)),
        };
        Standing { ledger: ledger.iter().map(standing).collect(), open_findings: 0, oldest_finding: None }
    }

    fn figures(ledger: &[(EventStatus, u64, i64)]) -> Figures {
        let journals = Journals { entries: 9, oldest: WAITS_LONG, fullest_shard: FILLED };
        let lag = Lag { events: 100, p99_ms: 5_000, newest_ms: 20, ..Lag::default() };
        Figures {
            at: at(1_000),
            standing: Some(standing(ledger)),
            lag: Some(lag),
            journals: Some(journals),
            unread: None,
            catching_up: false,
            silent: Vec::new(),
            went_back: None,
        }
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
        if let Some(standing) = &mut all.standing {
            standing.open_findings = 34;
            standing.oldest_finding = Some(at(500));
        }
        all.journals = Some(Journals { entries: 2, oldest: WAITS_LONG * 5, fullest_shard: 0.51 });
        all.lag = Some(Lag { p99_ms: 91_250, newest_ms: 40, ..Lag::default() });
        all.unread = Some(Duration::from_secs(95));
        let (service, instance) = ("sync-consumer".to_owned(), "c-1".to_owned());
        all.silent = vec![SilentProcess { service, instance, silence: Duration::from_secs(9) }];
        all.went_back = Some("the database went back in time: evidence; a consumer will tell it again".to_owned());
        assert_eq!(kinds(&all), TroubleKind::ALL);
        let words: Vec<_> = troubles(&all).into_iter().map(|one| one.detail).collect();
        let expected = [
            "the database went back in time: evidence; a consumer will tell it again",
            "33 accepted likes are dead, the oldest for 10 min, as of 00:16:40Z",
            "1 accepted like is taken up by nobody, the oldest for 16 min, as of 00:16:40Z",
            "34 inconsistencies are open, the oldest for 8 min, as of 00:16:40Z",
            "the fullest journal holds 51 % of what it may",
            "2 accepted likes are not committed, the oldest for 2 min",
            "commit lag p99 91.250 s over the last 60 s; newest 0.040 s",
            "ledger and findings were not read for 95 s: nobody knows what they say",
            "sync-consumer c-1 was not heard of for 9 s, as of 00:16:40Z",
        ];
        assert_eq!(words, expected);
    }

    #[test]
    fn one_is_one() {
        let mut one = figures(&[(EventStatus::Dead, 1, 999), (EventStatus::Failed, 1, 100)]);
        if let Some(standing) = &mut one.standing {
            standing.open_findings = 1;
        }
        one.journals = Some(Journals { entries: 1, oldest: WAITS_LONG * 2, fullest_shard: 0.0 });
        let words: Vec<_> = troubles(&one).into_iter().map(|one| one.detail).collect();
        let expected = [
            "1 accepted like is dead, the oldest for 1 s",
            "1 accepted like failed and is tried again, the oldest for 15 min",
            "1 inconsistency is open",
            "1 accepted like is not committed, the oldest for 60 s",
        ];
        assert_eq!(words, expected);
    }

    #[test]
    fn a_figure_that_is_well_is_still_a_figure() {
        let calm = |kind| calm(&figures(&[]), kind);
        let said = "commit lag p99 5.000 s over the last 60 s; newest 0.020 s";
        assert_eq!(calm(TroubleKind::CommitLag).as_deref(), Some(said));
        assert_eq!(calm(TroubleKind::DeadEvents), None);
    }

    /// A store has thawed: likes have waited for less than is late otherwise, and for longer than is quick.
    #[test]
    fn after_an_outage_what_has_waited_is_not_well_until_it_has_arrived() {
        let mut waiting = figures(&[]);
        waiting.journals = Some(Journals { entries: 4, oldest: SLOW * 2, fullest_shard: 0.0 });
        assert_eq!(kinds(&waiting), []);
        waiting.catching_up = true;
        assert_eq!(kinds(&waiting), [TroubleKind::JournalAge]);
        waiting.journals = Some(Journals { entries: 0, oldest: Duration::ZERO, fullest_shard: 0.0 });
        waiting.lag = Some(Lag { p99_ms: 12_000, newest_ms: 12_000, ..Lag::default() });
        assert_eq!(kinds(&waiting), [TroubleKind::CommitLag]);
    }
}
