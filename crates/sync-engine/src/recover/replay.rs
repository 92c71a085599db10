//! Replay: a database that came back from a copy is told again what the redo log has.
//!
//! Everything that was published since a time is read in order; what the database does not know, by ledger, history or row, is
//! applied by the way that all events go: the version of the row decides, retained rows and discarded events count, and the
//! cache is told. What it knows is left alone. Any part of that may happen twice; where it stands is noted, so that another
//! run goes on from there.
//!
//! A rehearsal reads and asks the same and writes nothing, so it says the same number. An event may be in the log more than
//! once: whoever counts remembers which were missing, up to a bound, beyond which a rehearsal says too many rather than too few.

use crate::apply::{Applier, DatabaseUnreachable};
use crate::recover::catch_up::RefreshError;
use crate::recover::fences;
use crate::recover::pace::Pace;
use crate::stores::Stores;
use chrono::{DateTime, Utc};
use domain::cache::CacheError;
use domain::codec::decode_batch;
use domain::fence::{Fences, decode_fences};
use domain::{DeletedMark, LikeEvent, Pair, PairState, Resource, UserId, Version};
use event_bus::{BusConfig, BusError, LogMessage, LogReader, LogStart};
use event_store::StoreError;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt, TryStreamExt};
use std::collections::HashSet;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Name of the note that says where it stands.
const NOTE: &str = "replay";

/// Most missing events that are remembered: about 100 MB.
const REMEMBERED: usize = 4_000_000;

/// A connection that breaks is opened again so often in a row.
const ATTEMPTS: u32 = 10;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(500);

/// What is replayed, and how.
#[derive(Debug, Clone, Copy)]
pub struct ReplayOptions {
    /// Published at or after; reading begins a little before, because clocks differ.
    pub since: DateTime<Utc>,
    /// Only says what would be done.
    pub dry_run: bool,
    /// Begins again, whatever an earlier run has done.
    pub restart: bool,
    /// Most events asked for, and applied, at once.
    pub batch_size: usize,
}

/// What a replay found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct ReplayReport {
    /// Messages read.
    pub messages: u64,
    /// Events in them; one may be there more than once.
    pub events: u64,
    /// Events that the database did not know, each counted once.
    pub missing: u64,
    /// Whether `missing` may be too many.
    pub at_most: bool,
    /// Of those, events that the database refused and that wait in its ledger.
    pub parked: u64,
    /// Messages that are no events.
    pub unreadable: u64,
    /// An earlier run had come so far: what it read is not counted here.
    pub resumed_at: Option<u64>,
    /// Number of the last message read.
    pub last_offset: Option<u64>,
    /// Somebody stopped it; another run goes on.
    pub stopped: bool,
}

/// Why a replay did not end; it may be run again.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The log.
    #[error("the redo log cannot be read: {0}")]
    Log(#[from] BusError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cache, which keeps fences.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The database, while events were applied.
    #[error(transparent)]
    Apply(#[from] DatabaseUnreachable),
}

impl From<RefreshError> for ReplayError {
    fn from(error: RefreshError) -> Self {
        match error {
            RefreshError::Cache(error) => error.into(),
            RefreshError::Store(error) => error.into(),
        }
    }
}

/// Hears of every batch.
pub type Progress<'a> = &'a (dyn Fn(&ReplayReport) + Sync);

/// Hears of events that the database has again.
pub type Listener = Box<dyn Fn(&[LikeEvent]) + Send + Sync>;

/// Tells the database again.
pub struct Replay {
    stores: Stores,
    applier: Applier,
    bus: BusConfig,
    options: ReplayOptions,
    /// Events per second, at most.
    pace: Option<Pace>,
    /// Batches that are asked for, or applied, at a time.
    at_once: usize,
    listener: Option<Listener>,

    report: ReplayReport,
    /// Of events that were missing; ids of version 7 end in random bits.
    remembered: HashSet<u64>,
    gathered: Vec<LikeEvent>,
    /// Of users who were erased after the copy was made.
    fences: Vec<(UserId, Version)>,
    /// Of resources that were deleted or restored after that.
    marks: Vec<(Resource, DeletedMark)>,
}

impl Replay {
    /// Of the log that `bus` leads to.
    pub fn new(stores: Stores, applier: &Applier, bus: BusConfig, options: ReplayOptions) -> Self {
        let (report, remembered, gathered, fences, marks) = Default::default();
        let applier = applier.of_logged();
        let (pace, at_once, listener) = (None, 1, None);
        Self { stores, applier, bus, options, pace, at_once, listener, report, remembered, gathered, fences, marks }
    }

    /// Reads so many events per second, at most.
    #[must_use]
    pub fn at_most(self, rate: u32) -> Self {
        Self { pace: Some(Pace::new(rate)), ..self }
    }

    /// Asks for so many batches at a time, and applies them.
    #[must_use]
    pub fn at_once(self, batches: usize) -> Self {
        Self { at_once: batches.max(1), ..self }
    }

    /// Says what came back.
    #[must_use]
    pub fn heard_by(self, listener: Listener) -> Self {
        Self { listener: Some(listener), ..self }
    }

    /// Runs to what was the end of the log when it began, or until `stop`.
    pub fn run<'a>(
        mut self,
        stop: &'a CancellationToken,
        progress: Progress<'a>,
    ) -> BoxFuture<'a, Result<ReplayReport, ReplayError>> {
        async move {
            let done = self.run_inner(stop, progress).await?;
            if done && !self.options.dry_run {
                self.stores.database.set_note(NOTE, None).await?;
            }
            self.report.stopped = !done;
            Ok(self.report)
        }
        .boxed()
    }

    /// Whether it came to the end.
    async fn run_inner(&mut self, stop: &CancellationToken, progress: Progress<'_>) -> Result<bool, ReplayError> {
        if !self.options.dry_run {
            fences::bring_back(&self.stores).await?;
        }
        let start = self.start().await?;
        let mut reader = LogReader::open(&self.bus, start).await?;
        loop {
            if stop.is_cancelled() {
                return Ok(false);
            }
            let message = match reader.next().await {
                Ok(message) => message,
                Err(error) => {
                    let next = self.report.last_offset.map(|last| LogStart::Offset(last + 1));
                    reader = self.open_again(next.unwrap_or(start), error).await?;
                    continue;
                }
            };
            let ended = message.is_none();
            if let Some(message) = message {
                self.gather(&message);
            }
            let gathered = self.gathered.len() + self.fences.len() + self.marks.len();
            if gathered >= self.options.batch_size * self.at_once || ended {
                let events = self.gathered.len();
                self.tell_gathered().await?;
                progress(&self.report);
                if let Some(pace) = self.pace.as_mut().filter(|_| !ended) {
                    pace.passed(events).await;
                }
            }
            if ended {
                reader.close().await;
                return Ok(true);
            }
        }
    }

    async fn start(&mut self) -> Result<LogStart, ReplayError> {
        if !self.options.restart && !self.options.dry_run {
            let note = self.stores.database.note(NOTE).await?;
            self.report.resumed_at = note.and_then(|note| self.noted(&note));
        }
        let begin = LogStart::At(self.options.since.timestamp_millis());
        Ok(self.report.resumed_at.map_or(begin, LogStart::Offset))
    }

    async fn open_again(&self, start: LogStart, mut error: BusError) -> Result<LogReader, ReplayError> {
        for _ in 0..ATTEMPTS {
            tokio::time::sleep(ATTEMPT_PAUSE).await;
            match LogReader::open(&self.bus, start).await {
                Ok(reader) => return Ok(reader),
                Err(again) => error = again,
            }
        }
        Err(error.into())
    }

    fn gather(&mut self, message: &LogMessage) {
        self.report.messages += 1;
        self.report.last_offset = Some(message.offset);
        match decode_batch(&message.body) {
            Ok(events) => {
                self.report.events += events.len() as u64;
                self.gathered.extend(events);
            }
            Err(_) => match decode_fences(&message.body) {
                Ok(Some(Fences::Users(fences))) => self.fences.extend(fences),
                Ok(Some(Fences::Resources(marks))) => self.marks.extend(marks),
                Ok(None) | Err(_) => self.report.unreadable += 1,
            },
        }
    }

    async fn tell_gathered(&mut self) -> Result<(), ReplayError> {
        let (mut gathered, fences) = (std::mem::take(&mut self.gathered), std::mem::take(&mut self.fences));
        let marks = std::mem::take(&mut self.marks);
        if !self.options.dry_run {
            let now = self.stores.database.now().await?;
            self.stores.database.restore_fences(&fences, now).await?;
            self.stores.database.restore_deleted(&marks, now).await?;
        }
        // Those of one resource together: batches side by side then seldom wait for each other's rows. Versions decide, not order.
        gathered.sort_by_key(|event| event.pair().resource);
        let size = self.options.batch_size.max(1);
        let asked: Vec<_> = gathered.chunks(size).map(|batch| self.lacking(batch)).collect();
        let lacking: Vec<Vec<LikeEvent>> = stream::iter(asked).buffered(self.at_once).try_collect().await?;
        let missing: Vec<LikeEvent> =
            lacking.into_iter().flatten().filter(|event| self.is_new(event.intent.id)).collect();
        self.report.missing += missing.len() as u64;
        if !self.options.dry_run {
            let told: Vec<_> = missing.chunks(size).map(|batch| self.tell(batch)).collect();
            let parked: Vec<usize> = stream::iter(told).buffer_unordered(self.at_once).try_collect().await?;
            self.report.parked += parked.into_iter().sum::<usize>() as u64;
        }
        let Some(last) = self.report.last_offset.filter(|_| !self.options.dry_run) else { return Ok(()) };
        let note = format!("{} {}", self.options.since.timestamp_micros(), last + 1);
        Ok(self.stores.database.set_note(NOTE, Some(&note)).await?)
    }

    /// Those that the database does not know.
    async fn lacking(&self, batch: &[LikeEvent]) -> Result<Vec<LikeEvent>, ReplayError> {
        let ids: Vec<Uuid> = batch.iter().map(|event| event.intent.id).collect();
        let known = self.stores.database.known_events(&ids).await?;
        let unknown: Vec<&LikeEvent> = batch.iter().filter(|event| !known.contains(&event.intent.id)).collect();
        if unknown.is_empty() {
            return Ok(Vec::new());
        }
        let told = self.told_by_pairs(&unknown).await?;
        // What is behind a fence is not missing: it is gone.
        let said: Vec<_> = unknown.iter().map(|event| (event.pair(), event.version)).collect();
        let fenced = self.stores.database.fenced(&said).await?;
        let kept = unknown.into_iter().zip(told.into_iter().zip(fenced)).filter(|(_, (told, fenced))| !told && !fenced);
        Ok(kept.map(|(event, _)| event.clone()).collect())
    }

    /// Gives how many of them the database refuses.
    async fn tell(&self, missing: &[LikeEvent]) -> Result<usize, ReplayError> {
        let parked = self.applier.apply(missing).await?.parked;
        fail::fail_point!("recover.reapplied");
        if let Some(listener) = &self.listener {
            listener(missing);
        }
        Ok(parked)
    }

    /// Which of them rows have already, told by cached pairs: those have other ids, and a version is one event's.
    async fn told_by_pairs(&self, events: &[&LikeEvent]) -> Result<Vec<bool>, StoreError> {
        let pairs: Vec<Pair> = events.iter().map(|event| event.intent.pair).collect();
        let rows = self.stores.likes.load_states(&pairs).await?;
        let is_it = |event: &LikeEvent, row: PairState| {
            row == PairState { liked: event.intent.action.liked(), version: event.version }
        };
        Ok(events.iter().zip(rows).map(|(event, row)| is_it(event, row)).collect())
    }

    /// Whether it was not counted before.
    fn is_new(&mut self, id: Uuid) -> bool {
        let bits = id.as_u64_pair().1;
        if self.remembered.len() < REMEMBERED {
            return self.remembered.insert(bits);
        }
        // From here on only the database knows, and in a rehearsal nobody.
        self.report.at_most = self.options.dry_run;
        !self.remembered.contains(&bits)
    }

    /// Where an earlier run of the same replay stopped.
    fn noted(&self, note: &str) -> Option<u64> {
        let (since, next) = note.split_once(' ')?;
        (since.parse::<i64>().ok()? == self.options.since.timestamp_micros()).then(|| next.parse().ok()).flatten()
    }
}
