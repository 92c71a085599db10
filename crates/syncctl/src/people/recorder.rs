//! What was asked and answered, into the history, and numbers of it for the report.

use super::report::Tally;
use super::scene::Word;
use domain::{Pair, Resource};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use traffic::history::{Answer, HistoryWriter, Kind, Outcome, Record, now_micros};

/// From look to look whether this process itself was held up.
const BEAT: Duration = Duration::from_millis(5);

/// Way of a request to its server, and what a server may not notice: see "Stops shorter than 50 ms" in docs/GUARANTEES.md.
const ALLOWANCE: Duration = Duration::from_millis(50);

/// Shared by all people.
pub(super) struct Recorder {
    writer: Option<Mutex<HistoryWriter>>,
    tally: Mutex<Tally>,
    calls: AtomicU64,
    /// Microseconds for which this process did not run although it wanted to.
    held_up: AtomicU64,
    began: u64,
    acknowledged_at: AtomicU64,
    longest_gap: AtomicU64,
}

/// What one attempt is about, item by item, and when it began.
pub(super) struct Attempt {
    records: Vec<Record>,
    held_up: u64,
}

/// Who calls whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    pub(super) device: u32,
    pub(super) server: u32,
    /// Time in which the call may take effect, counted from its arrival.
    pub(super) limit: Duration,
}

impl Recorder {
    pub(super) fn new(writer: Option<HistoryWriter>) -> Self {
        let now = now_micros();
        Self {
            writer: writer.map(Mutex::new),
            tally: Mutex::new(Tally::default()),
            calls: AtomicU64::new(0),
            held_up: AtomicU64::new(0),
            began: now,
            acknowledged_at: AtomicU64::new(now),
            longest_gap: AtomicU64::new(0),
        }
    }

    /// Notices when this process is held up, until `stop`.
    pub(super) async fn beat(&self, stop: CancellationToken) {
        let mut last = now_micros();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(BEAT) => {}
            }
            let now = now_micros();
            // A millisecond is what timers are late by.
            let late = (now - last).saturating_sub(micros(BEAT) + 1_000);
            self.held_up.fetch_add(late, Ordering::Relaxed);
            last = now;
        }
    }

    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count(&self, what: &'static str, number: u64) {
        self.tally().count(what, number);
    }

    /// Words that leave now.
    pub(super) fn begin_words(&self, caller: Caller, words: &[Word]) -> io::Result<Attempt> {
        let items = words.iter().map(|word| Item {
            kind: Kind::Word(word.action),
            pair: Some(word.pair),
            resource: word.pair.resource,
            logical: word.logical,
            key: word.key.as_deref().map(Into::into),
        });
        let attempt = self.attempt(caller, items);
        if let Some(writer) = &self.writer {
            let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            attempt.records.iter().try_for_each(|record| writer.begin(record))?;
        }
        Ok(attempt)
    }

    /// An attempt to read states begins.
    pub(super) fn begin_states(&self, caller: Caller, pairs: &[Pair]) -> Attempt {
        let items = pairs.iter().map(|pair| Item::read(Kind::State, Some(*pair), pair.resource));
        self.attempt(caller, items)
    }

    /// An attempt to read counts begins.
    pub(super) fn begin_counts(&self, caller: Caller, resources: &[Resource]) -> Attempt {
        self.attempt(caller, resources.iter().map(|resource| Item::read(Kind::Count, None, *resource)))
    }

    fn attempt(&self, caller: Caller, items: impl Iterator<Item = Item>) -> Attempt {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let begin = now_micros();
        let record = |(item, of): (usize, Item)| Record {
            call,
            item: u32::try_from(item).unwrap_or(u32::MAX),
            logical: of.logical,
            device: caller.device,
            server: caller.server,
            kind: of.kind,
            user: of.pair.map(|pair| pair.user),
            resource: of.resource,
            key: of.key,
            begin,
            end: begin,
            limit: micros(caller.limit + ALLOWANCE),
            outcome: Outcome::Unknown,
        };
        let records = items.enumerate().map(record).collect();
        Attempt { records, held_up: self.held_up.load(Ordering::Relaxed) }
    }

    /// How an attempt ended, item by item; what is not said is unknown.
    pub(super) fn end(&self, mut attempt: Attempt, outcomes: impl IntoIterator<Item = Outcome>) -> io::Result<()> {
        let end = now_micros();
        // The request may have left that much later than it began.
        let late = self.held_up.load(Ordering::Relaxed) - attempt.held_up;
        let mut outcomes = outcomes.into_iter();
        for record in &mut attempt.records {
            record.outcome = outcomes.next().unwrap_or(Outcome::Unknown);
            record.end = end;
            record.limit += late;
        }
        self.write(&attempt.records)
    }

    /// One message of a stream that was waited for since `begin`.
    pub(super) fn message(
        &self,
        caller: Caller,
        begin: u64,
        counts: &[(Resource, i64)],
        degraded: bool,
    ) -> io::Result<()> {
        let items = counts.iter().map(|(resource, _)| Item::read(Kind::Stream, None, *resource));
        let mut attempt = self.attempt(caller, items);
        attempt.records.iter_mut().for_each(|record| record.begin = begin);
        let answers = counts.iter().map(|(_, count)| Answer { count: Some(*count), degraded, ..Answer::default() });
        self.end(attempt, answers.map(Outcome::Answered))
    }

    fn write(&self, records: &[Record]) -> io::Result<()> {
        self.tell(records);
        let Some(writer) = &self.writer else { return Ok(()) };
        let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
        records.iter().try_for_each(|record| writer.append(record))
    }

    fn tell(&self, records: &[Record]) {
        let mut tally = self.tally();
        for record in records {
            tally.see(record);
            let acknowledged = matches!(record.kind, Kind::Word(_)) && record.answer().is_some();
            if acknowledged {
                let before = self.acknowledged_at.fetch_max(record.end, Ordering::Relaxed);
                self.longest_gap.fetch_max(record.end.saturating_sub(before), Ordering::Relaxed);
            }
        }
    }

    pub(super) fn flush(&self) -> io::Result<()> {
        match &self.writer {
            Some(writer) => writer.lock().unwrap_or_else(PoisonError::into_inner).flush(),
            None => Ok(()),
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        Duration::from_micros(now_micros() - self.began)
    }

    pub(super) fn longest_gap(&self) -> Duration {
        let open = now_micros().saturating_sub(self.acknowledged_at.load(Ordering::Relaxed));
        Duration::from_micros(self.longest_gap.load(Ordering::Relaxed).max(open))
    }

    pub(super) fn held_up(&self) -> Duration {
        Duration::from_micros(self.held_up.load(Ordering::Relaxed))
    }
}

struct Item {
    kind: Kind,
    pair: Option<Pair>,
    resource: Resource,
    logical: u64,
    key: Option<Box<str>>,
}

impl Item {
    const fn read(kind: Kind, pair: Option<Pair>, resource: Resource) -> Self {
        Self { kind, pair, resource, logical: 0, key: None }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
