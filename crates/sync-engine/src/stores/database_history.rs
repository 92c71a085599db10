//! Whether the database still has what it had confirmed.
//!
//! Looked at with every look at the database, about once a second: what this process committed, what it saw others have committed a
//! look ago, and what the note says that other processes write. Who the others are, dead ones among them, the cache knows, by
//! settlements; that is asked whenever another server may answer (at start, after an outage, under another name), and now and then
//! besides.
//!
//! While the database lacks something, nobody may use it as evidence against the cache: the checker lowers nothing, and no row is
//! a reason for "unchanged". What comes in is committed as ever: it is right by its version in any database.
//!
//! While it is told again ([`automatic`](crate::recover::automatic)), it is *latched*: what is committed is not settled. A settlement
//! says how many likes a resource has, by a database that lacks some, and the cache would believe it. The events stay in the
//! journal and are settled when the latch goes. Whoever sees the verdict first waits for a recovery to begin, for a while.
//! Where there is none, likes are settled as ever.
//!
//! When the latch goes, who recovers settles what is in the journals; rescuers leave these alone until then, for a while.

use crate::metrics;
use domain::cache::LikeCache;
use event_store::{EventStore, RecoveryNote, RecoveryStep, StoreError, WentBack};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often the cache is asked for what dead writers had committed, although nothing points to another server.
const CALM_INTERVAL: Duration = Duration::from_secs(5);

/// A recovery that has not begun after this long is not waited for; nor is one that has not settled the journals.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the database has lost, as far as this process knows.
#[derive(Debug)]
pub struct DatabaseHistory {
    database: EventStore,
    seen: Mutex<Seen>,
    /// Somebody brings back by itself what was lost.
    automatic: AtomicBool,
}

#[derive(Debug, Default)]
struct Seen {
    server: Option<String>,
    /// When the cache was asked last.
    asked: Option<Instant>,
    went_back: bool,
    /// When the verdict was met here.
    met: Option<Instant>,
    recovery: Option<RecoveryNote>,
    /// Since when the recovery that was seen last settles the journals.
    settles_since: Option<Instant>,
}

impl Seen {
    fn saw(&mut self, recovery: Option<RecoveryNote>, now: Instant) {
        let settles = recovery.is_some_and(|note| note.step == RecoveryStep::Journals);
        self.settles_since = settles.then(|| self.settles_since.unwrap_or(now));
        self.recovery = recovery;
    }

    fn settles_journals(&self, now: Instant) -> bool {
        self.settles_since.is_some_and(|since| now.duration_since(since) < PATIENCE)
    }
}

impl DatabaseHistory {
    pub(super) fn new(database: EventStore) -> Self {
        Self { database, seen: Mutex::default(), automatic: AtomicBool::new(false) }
    }

    /// A recovery will begin by itself.
    pub fn expect_recovery(&self, automatic: bool) {
        self.automatic.store(automatic, Ordering::Relaxed);
    }

    /// The recovery that is under way, as this process saw it last.
    pub fn recovery(&self) -> Option<RecoveryNote> {
        self.seen().recovery
    }

    pub(crate) fn saw_recovery(&self, recovery: Option<RecoveryNote>) {
        metrics::recovery_running(recovery.is_some());
        self.seen().saw(recovery, Instant::now());
    }

    /// Whether somebody settles all journals after a recovery: nobody else need bring their entries on. However it ends, not for
    /// long.
    pub(crate) fn settles_journals(&self) -> bool {
        self.seen().settles_journals(Instant::now())
    }

    /// Whether what the database says must not reach the cache.
    pub fn is_latched(&self) -> bool {
        let went_back = self.went_back().is_some();
        let mut seen = self.seen();
        seen.met = went_back.then(|| seen.met.unwrap_or_else(Instant::now));
        let expected =
            || self.automatic.load(Ordering::Relaxed) && seen.met.is_some_and(|met| met.elapsed() < PATIENCE);
        seen.recovery.is_some_and(|note| note.step != RecoveryStep::Journals) || expected()
    }

    /// What is wrong, and what is done about it, in words for an operator.
    pub fn trouble(&self) -> Option<String> {
        let evidence = self.went_back();
        let recovery = self.recovery();
        let done = match recovery {
            None if self.automatic.load(Ordering::Relaxed) => "a consumer will tell it again".to_owned(),
            None => "nobody tells it again (event_driven_sync.recovery.automatic is false): syncctl recover".to_owned(),
            Some(RecoveryNote { step, round, since, from_log, from_pairs, .. }) => {
                let step = match step {
                    RecoveryStep::Log => format!("reads the redo log since {}", since.to_rfc3339()),
                    RecoveryStep::Pairs => "goes through the cached pairs".to_owned(),
                    RecoveryStep::Journals => "settles what waited in the journals".to_owned(),
                };
                format!("recovery, round {round}: {step}; came back: {from_log} from the log, {from_pairs} from pairs")
            }
        };
        match evidence {
            Some(evidence) => Some(format!("the database went back in time: {evidence}; {done}")),
            None => recovery.map(|_| format!("the database is told again: {done}")),
        }
    }

    /// The evidence, while the verdict stands.
    pub fn went_back(&self) -> Option<WentBack> {
        self.database.went_back()
    }

    /// Whether nothing was ever wrong with this server, so that a glance is enough.
    pub(super) fn is_calm_at(&self, server: &str) -> bool {
        let seen = self.seen();
        !seen.went_back && seen.recovery.is_none() && seen.server.as_deref() == Some(server)
    }

    /// Looks. `suspect`: the database was unreachable until now, and may be another one. `asked`: another process has asked the
    /// cache lately, unless something points to another server.
    pub(super) async fn look(&self, cache: &dyn LikeCache, suspect: bool, asked: bool) -> Result<(), StoreError> {
        let server = self.database.server().await?;
        let due = {
            let seen = self.seen();
            let waited = seen.asked.is_none_or(|at| at.elapsed() >= CALM_INTERVAL && !asked);
            suspect || seen.server != server || waited
        };
        // Asked before the database is: of what is told then it must have everything.
        let told = if due { cache.commits().await.ok() } else { None };
        let asked = told.is_some();
        self.database.look_back(&told.unwrap_or_default()).await?;
        self.saw_recovery(self.database.recovery().await?);
        let mut seen = self.seen();
        if asked {
            (seen.server, seen.asked) = (server, Some(Instant::now()));
        }
        let went_back = self.went_back().is_some();
        metrics::database_went_back(went_back);
        if seen.went_back && !went_back {
            tracing::info!("what the database had lost is in it again, or given up");
        }
        seen.went_back = went_back;
        Ok(())
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use uuid::Uuid;

    fn note(step: RecoveryStep) -> RecoveryNote {
        RecoveryNote {
            token: 1,
            run: Uuid::nil(),
            began_at: DateTime::UNIX_EPOCH,
            round: 1,
            round_at: DateTime::UNIX_EPOCH,
            back_to: None,
            step,
            since: DateTime::UNIX_EPOCH,
            queued: 0,
            from_log: 0,
            from_pairs: 0,
        }
    }

    /// However often the note is renewed, and whether or not anybody lives who does what it says.
    #[test]
    fn journals_are_left_to_a_recovery_for_a_while_only() {
        let began = Instant::now();
        let mut seen = Seen::default();
        seen.saw(Some(note(RecoveryStep::Pairs)), began);
        assert!(!seen.settles_journals(began));
        let settles = began + Duration::from_secs(60);
        for second in 0..100 {
            let now = settles + Duration::from_secs(second);
            seen.saw(Some(note(RecoveryStep::Journals)), now);
            assert_eq!(seen.settles_journals(now), second < 30, "{second} s");
        }
        // Another round, and its end.
        let later = settles + Duration::from_secs(200);
        seen.saw(Some(note(RecoveryStep::Log)), later);
        assert!(!seen.settles_journals(later));
        seen.saw(Some(note(RecoveryStep::Journals)), later);
        assert!(seen.settles_journals(later));
        seen.saw(None, later);
        assert!(!seen.settles_journals(later));
    }
}
