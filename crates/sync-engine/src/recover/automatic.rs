//! Recovery: a database that became what it once was is told again what it has lost, without anybody having to order it.
//!
//! One process at a time, and only while both stores agree: the cache by a lease, the database by a fencing token without which
//! the note of the recovery cannot be moved. The note stands in the database from the first step to the last. Whoever dies,
//! another process goes on where the note says.
//!
//! 1. *Latch.* The note is written. Within a second every process knows it: what is committed from then on is not settled, and
//!    the checker repairs nothing (`database_history`).
//! 2. The redo log, from before the last commit that the database still has: [`replay`](super::replay).
//! 3. Cached pairs that are newer than their rows and in no journal: [`lost_pairs`](super::lost_pairs). Every cached counter of
//!    theirs, and of what the log brought, becomes what the rows say.
//! 4. *Unlatch*, unless the database went back further, or once more, meanwhile: then from 2 on, in another round.
//! 5. The journals: what was committed under the latch is settled, and what was not is committed; until then, or for a while,
//!    nobody else brings their entries on. Then the note goes.
//!
//! Every step goes by version, so any part may happen twice.
//!
//! Bounds: of events and pairs per second (`recovery.max_rate`) and of batches at a time (`recovery.at_once`); of entries under
//! the latch ([`Stores::is_latched`]).
//!
//! Deliberately absent: a note of what each consumer had in its hands. The log is read from earlier by `recovery.margin` and by
//! the longest time that one of the newest events waited; what had waited for longer, and is not cached, stays lost. Nor is
//! anything noticed where cache and database lose everything and no process is left that had written: that takes
//! `syncctl recover --since`.

use super::lost_pairs::{LostPairs, RecoverError};
use super::pace::Pace;
use super::recovery_journals::Journals;
use super::recovery_report::{self, Brought, LogReach, Source};
use super::recovery_work::{Failed, LEASE, Work, keep, owns, save};
use super::replay::{Replay, ReplayError, ReplayOptions, ReplayReport};
use crate::apply::Applier;
use crate::clock::wall_clock;
use crate::config::RecoveryConfig;
use crate::stores::{Stores, faults};
use chrono::{DateTime, TimeDelta, Utc};
use domain::Version;
use event_bus::{BusConfig, LogReader, LogStart, LogState, Publisher};
use event_store::{Fenced, RecoveryNote, RecoveryStep, RunStatus, StoreError, WentBack};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often it is looked whether there is something to do.
const INTERVAL: Duration = Duration::from_millis(500);

/// And after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// Newest events whose wait is looked at, and the longest wait that is believed.
const LAGS: u32 = 5_000;
const LONGEST_LAG: i64 = 3_600_000;

/// What a recovery saw, for its report.
#[derive(Default)]
struct Saw {
    evidence: Option<WentBack>,
    reach: LogReach,
    /// Events, pairs and entries.
    read: u64,
}

/// Brings back what a database has lost.
pub struct Recovery {
    stores: Stores,
    applier: Applier,
    bus: BusConfig,
    publisher: Publisher,
    owner: String,
    config: RecoveryConfig,
    batch_size: usize,
}

impl Recovery {
    /// `owner` must differ between processes.
    pub fn new(
        stores: Stores,
        applier: Applier,
        bus: BusConfig,
        owner: String,
        config: RecoveryConfig,
        batch_size: usize,
    ) -> Self {
        let publisher = Publisher::new(bus.clone());
        Self { stores, applier, bus, publisher, owner, config, batch_size }
    }

    /// Runs until `stop`; a recovery that is under way then is another process's, or the next one's.
    pub fn run(self, stop: CancellationToken) -> BoxFuture<'static, ()> {
        self.run_inner(stop).boxed()
    }

    async fn run_inner(mut self, stop: CancellationToken) {
        let mut pause = INTERVAL;
        while self.config.automatic {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
            pause = INTERVAL;
            let history = &self.stores.history;
            let wanted = history.went_back().is_some() || history.recovery().is_some();
            if !wanted || self.stores.cache_circuit.is_open() || self.stores.database_circuit.is_open() {
                continue;
            }
            let done = tokio::select! {
                () = stop.cancelled() => break,
                done = self.recover() => done,
            };
            if let Err(error) = done {
                pause = PAUSE;
                self.failed(&error);
            }
        }
        let _ = self.stores.cache.release_lease(LEASE, &self.owner).await;
        self.publisher.close().await;
    }

    fn failed(&self, error: &Failed) {
        match error {
            Failed::Cache(error) | Failed::Pairs(RecoverError::Cache(error)) if error.is_unavailable() => {
                self.stores.cache_failed_somewhere(error);
            }
            Failed::Store(error)
            | Failed::Pairs(RecoverError::Store(error))
            | Failed::Replay(ReplayError::Store(error))
                if error.is_unavailable() =>
            {
                self.stores.database_circuit.failure(error);
            }
            _ => {}
        }
        faults::tell("recovering the database, which is begun again,", error);
    }

    async fn recover(&mut self) -> Result<(), Failed> {
        if !owns(&self.stores, &self.owner).await? {
            return Ok(());
        }
        let Some(note) = self.latch().await? else { return Ok(()) };
        let work = Work::new(note);
        let (stores, owner) = (self.stores.clone(), self.owner.clone());
        let done = tokio::select! {
            done = self.work(&work) => done,
            lost = keep(&stores, &owner, &work) => Err(lost),
        };
        // Whoever is to do the next one need not wait until it runs out.
        let _ = stores.cache.release_lease(LEASE, &owner).await;
        done
    }

    /// Begins, or goes on with what another process began; from here on nobody else does.
    async fn latch(&mut self) -> Result<Option<RecoveryNote>, Failed> {
        let database = self.stores.database.clone();
        let token = database.take_repair_token().await?;
        self.stores.cache.fence_repairs(token).await?;
        let note = match (database.recovery().await?, database.went_back()) {
            (Some(begun), _) => RecoveryNote { token, ..begun },
            (None, Some(evidence)) => self.begin(token, &evidence).await?,
            (None, None) => {
                self.stores.history.saw_recovery(None);
                return Ok(None);
            }
        };
        save(&self.stores, &note).await?;
        fail::fail_point!("recover.latched");
        let (round, since) = (note.round, note.since.to_rfc3339());
        tracing::warn!(token, round, since, "the database has gone back in time and is told again");
        Ok(Some(note))
    }

    async fn begin(&mut self, token: u64, evidence: &WentBack) -> Result<RecoveryNote, Failed> {
        let queued = self.publisher.queue_depth().await.map_or(0, |depth| depth.ready.into());
        let lags = self.stores.database.commit_lags(LAGS).await?;
        let waited = lags.into_iter().max().unwrap_or(0).min(LONGEST_LAG);
        let since = self.since(evidence, TimeDelta::milliseconds(waited)).await?;
        let (now, back_to) = (self.stores.database.now().await?, evidence.back_to());
        Ok(RecoveryNote {
            token,
            run: Uuid::now_v7(),
            began_at: wall_clock(),
            round: 1,
            round_at: now,
            back_to,
            step: RecoveryStep::Log,
            since,
            queued,
            from_log: 0,
            from_pairs: 0,
        })
    }

    /// What was published before was committed before the database went back.
    async fn since(&self, evidence: &WentBack, waited: TimeDelta) -> Result<DateTime<Utc>, StoreError> {
        let last = self.stores.database.last_commit_before(evidence.known_at).await?;
        let Some(last) = last.max(evidence.back_to()) else { return Ok(DateTime::UNIX_EPOCH) };
        let margin = TimeDelta::from_std(self.config.margin).unwrap_or(TimeDelta::MAX);
        Ok(last.checked_sub_signed(margin).and_then(|at| at.checked_sub_signed(waited)).unwrap_or_default())
    }

    async fn work(&mut self, work: &Work) -> Result<(), Failed> {
        let stores = self.stores.clone();
        let mut saw = Saw::default();
        let note = loop {
            let note = work.current().await?;
            let back_again = match note.step {
                RecoveryStep::Journals => self.settle(&note, work, &mut saw).await?,
                RecoveryStep::Log | RecoveryStep::Pairs => self.tell_again(note, work, &mut saw).await?,
            };
            match back_again {
                Some(more) => {
                    tracing::warn!(evidence = %more, "the database has gone back meanwhile: another round");
                    let since = self.since(&more, TimeDelta::zero()).await?.min(note.since);
                    let (round, round_at) = (note.round + 1, stores.database.now().await?);
                    let step = RecoveryStep::Log;
                    let again = RecoveryNote { round, round_at, back_to: more.back_to(), step, since, ..note };
                    work.next(&stores, again).await?;
                }
                None if note.step == RecoveryStep::Journals => break note,
                None => {}
            }
        };
        let note = work.brought.counted(note);
        if let Some(evidence) = &saw.evidence {
            let so_far = (evidence, &saw.reach);
            recovery_report::write(&stores.database, &note, so_far, (saw.read, &work.brought), RunStatus::Finished)
                .await?;
        }
        let RecoveryNote { round, from_log, from_pairs, .. } = note;
        tracing::info!(
            round,
            from_log,
            from_pairs,
            "the database has again what it had lost, as far as anybody had it"
        );
        Ok(())
    }

    /// Log and pairs. Afterwards the database is believed again; or it has gone back once more.
    async fn tell_again(
        &mut self,
        mut note: RecoveryNote,
        work: &Work,
        saw: &mut Saw,
    ) -> Result<Option<WentBack>, Failed> {
        let stores = self.stores.clone();
        saw.evidence = stores.database.went_back().or(saw.evidence);
        // Of what is told here the database must have everything when this round ends.
        let told = stores.cache.commits().await?;
        if note.step == RecoveryStep::Log {
            let (read, reach) = self.log(&note, &work.brought).await?;
            saw.read += read;
            saw.reach = reach;
            fail::fail_point!("recover.logged");
            note = work.next(&stores, RecoveryNote { step: RecoveryStep::Pairs, ..note }).await?;
        }
        saw.read += self.pairs(&note, work).await?;
        while scanned_and_held() {
            tokio::time::sleep(PAUSE).await;
        }
        let note = work.brought.counted(note);
        if let Some(evidence) = &saw.evidence {
            let so_far = (evidence, &saw.reach);
            recovery_report::write(&stores.database, &note, so_far, (saw.read, &work.brought), RunStatus::Running)
                .await?;
        }
        let mut held = work.note.lock().await;
        match stores.database.conclude_recovery(&note, &told).await? {
            Fenced::Refused => Err(Failed::NotHeld),
            Fenced::Done(Some(more)) => Ok(Some(more)),
            Fenced::Done(None) => {
                *held = Some(RecoveryNote { step: RecoveryStep::Journals, ..note });
                stores.history.saw_recovery(*held);
                Ok(None)
            }
        }
    }

    /// The journals. Afterwards there is no recovery any more; or the database has gone back once more.
    async fn settle(&self, note: &RecoveryNote, work: &Work, saw: &mut Saw) -> Result<Option<WentBack>, Failed> {
        let database = &self.stores.database;
        if saw.evidence.is_none() {
            // Another process had come so far.
            saw.evidence = database.recovered_from().await?;
        }
        while unlatched_and_held() {
            tokio::time::sleep(PAUSE).await;
        }
        let journals = Journals {
            stores: &self.stores,
            applier: &self.applier,
            brought: &work.brought,
            batch_size: self.batch_size.max(1),
            at_once: self.config.at_once.max(1),
            pace: Mutex::new(Pace::new(self.config.max_rate)),
            began: Version(note.began_at.timestamp_micros()),
        };
        saw.read += journals.settle().await?;
        let mut held = work.note.lock().await;
        match database.end_recovery(note).await? {
            Fenced::Refused => Err(Failed::NotHeld),
            Fenced::Done(Some(more)) => Ok(Some(more)),
            Fenced::Done(None) => {
                *held = None;
                self.stores.history.saw_recovery(None);
                Ok(None)
            }
        }
    }

    /// Gives how many events were read, and how far the log reaches.
    async fn log(&mut self, note: &RecoveryNote, brought: &Brought) -> Result<(u64, LogReach), Failed> {
        let mut reach = LogReach::default();
        match self.publisher.check_log().await? {
            LogState::Up => {}
            LogState::Off => reach.absent = Some("rabbitmq.log.enabled is false".to_owned()),
            LogState::Absent(reason) => reach.absent = Some(reason),
            LogState::Down(reason) => return Err(Failed::Log(reason)),
            LogState::Unknown => return Err(Failed::Log("nothing is known of it".to_owned())),
        }
        if reach.absent.is_some() {
            return Ok((0, reach));
        }
        let mut reader = LogReader::open(&self.bus, LogStart::First).await?;
        let oldest = reader.next().await?.and_then(|oldest| DateTime::from_timestamp_millis(oldest.at?));
        reader.close().await;
        reach.begins = oldest.filter(|oldest| *oldest > note.since);
        let batch_size = self.batch_size;
        let options = ReplayOptions { since: note.since, dry_run: false, restart: false, batch_size };
        let heard = brought.clone();
        let replay = Replay::new(self.stores.clone(), &self.applier, self.bus.clone(), options)
            .at_most(self.config.max_rate)
            .at_once(self.config.at_once)
            .heard_by(Box::new(move |events| heard.add(Source::RedoLog, events)));
        let seen = |_: &ReplayReport| self.stores.history.saw_recovery(Some(brought.counted(*note)));
        let report = replay.run(&CancellationToken::new(), &seen).await?;
        Ok((report.events, reach))
    }

    /// Brings back cached pairs, and tells the cache what the rows say. Gives how many were looked at.
    async fn pairs(&self, note: &RecoveryNote, work: &Work) -> Result<u64, Failed> {
        let heard = work.brought.clone();
        let pairs = LostPairs::new(self.stores.clone(), self.applier.clone(), self.config.max_rate, false)
            .at_once(self.config.at_once)
            .heard_by(Box::new(move |events| heard.add(Source::CachedPair, events)));
        let each = |_| self.stores.history.saw_recovery(Some(work.brought.counted(*note)));
        let (stop, touched) = (CancellationToken::new(), || work.brought.touched());
        let done = pairs.bring_back(Some(note.token), touched, &stop, each).await?;
        work.brought.left_to_the_ledger(done.in_ledger);
        Ok(done.pairs)
    }
}

/// Whether a test holds a recovery before its end: pausing there would stop a thread, and others with it.
fn scanned_and_held() -> bool {
    fail::fail_point!("recover.scanned", |_| true);
    false
}

/// And before the journals are settled.
fn unlatched_and_held() -> bool {
    fail::fail_point!("recover.unlatched", |_| true);
    false
}
