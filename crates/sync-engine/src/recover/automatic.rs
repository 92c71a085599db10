//! Recovery: a database that became what it once was is told again what it has lost, without anybody having to order it.
//!
//! One process at a time, and only while both stores agree: the cache by a lease, the database by a fencing token without which
//! the note of the recovery cannot be moved. The note stands in the database from the first step to the last. Whoever dies,
//! another process goes on where the note says.
//!
//! 1. *Latch.* The note is written. Within a second every process knows it: what is committed from then on is not settled, and
//!    the checker repairs nothing (`database_history`).
//! 2. The redo log, from before the last commit that the database still has: [`replay`](super::replay).
//! 3. Cached pairs that are newer than their rows and in no journal: [`lost_pairs`](super::lost_pairs).
//! 4. *Verify.* Once more through the cached pairs, until none lacks; every cached counter becomes what the rows say.
//! 5. *Unlatch*, unless the database went back further, or once more, meanwhile: then from 2 on, in another round.
//! 6. The journals: what was committed under the latch is settled, and what was not is committed.
//!
//! Every step goes by version, so any part may happen twice.
//!
//! Bounds: of events and pairs per second (`recovery.max_rate`); of entries under the latch
//! ([`Stores::is_latched`]).
//!
//! Deliberately absent: a note of what each consumer had in its hands. The log is read from earlier by `recovery.margin` and by
//! the longest time that one of the newest events waited; what had waited for longer, and is not cached, stays lost. Nor is
//! anything noticed where cache and database lose everything and no process is left that had written: that takes
//! `syncctl recover --since`.

use super::lost_pairs::{LostPairs, RecoverError, Walk};
use super::recovery_report::{self, Brought, LogReach, Source};
use super::recovery_work::{Failed, LEASE, Work, keep, owns, save};
use super::replay::{Replay, ReplayError, ReplayOptions, ReplayReport};
use crate::apply::Applier;
use crate::clock::wall_clock;
use crate::config::RecoveryConfig;
use crate::stores::{Stores, faults};
use chrono::{DateTime, TimeDelta, Utc};
use domain::LikeEvent;
use domain::cache::JournalPages;
use event_bus::{BusConfig, LogReader, LogStart, LogState, Publisher};
use event_store::{Fenced, RecoveryNote, RecoveryStep, RunStatus, StoreError, WentBack};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often it is looked whether there is something to do.
const INTERVAL: Duration = Duration::from_millis(500);

/// And after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// So often, and with such pauses, it is looked whether this process knows that the latch is gone.
const UNLATCH_LOOKS: u32 = 50;
const UNLATCH_PAUSE: Duration = Duration::from_millis(100);

/// Newest events whose wait is looked at, and the longest wait that is believed.
const LAGS: u32 = 5_000;
const LONGEST_LAG: i64 = 3_600_000;

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
        tokio::select! {
            done = self.work(&work) => done,
            lost = keep(&stores, &owner, &work) => Err(lost),
        }
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
        let (mut read, mut reach) = (0, LogReach::default());
        let unlatched = loop {
            let mut note = work.current().await?;
            let evidence = stores.database.went_back();
            // Of what is told here the database must have everything when this round ends.
            let told = stores.cache.commits().await?;
            if note.step == RecoveryStep::Log {
                (read, reach) = self.log(&note, &work.brought).await?;
                fail::fail_point!("recover.logged");
                note = work.next(&stores, RecoveryNote { step: RecoveryStep::Pairs, ..note }).await?;
            }
            read += self.pairs(&note, work).await?;
            while scanned_and_held() {
                tokio::time::sleep(PAUSE).await;
            }
            if let Some(evidence) = &evidence {
                let so_far = (evidence, &reach);
                let note = work.brought.counted(note);
                recovery_report::write(&stores.database, &note, so_far, (read, &work.brought), RunStatus::Running)
                    .await?;
            }
            let mut held = work.note.lock().await;
            match stores.database.conclude_recovery(&note, &told).await? {
                Fenced::Refused => return Err(Failed::NotHeld),
                Fenced::Done(None) => {
                    *held = None;
                    break (note, evidence);
                }
                Fenced::Done(Some(more)) => {
                    drop(held);
                    tracing::warn!(evidence = %more, "the database has gone back meanwhile: another round");
                    let since = self.since(&more, TimeDelta::zero()).await?.min(note.since);
                    let (round, round_at) = (note.round + 1, stores.database.now().await?);
                    let step = RecoveryStep::Log;
                    let again = RecoveryNote { round, round_at, back_to: more.back_to(), step, since, ..note };
                    work.next(&stores, again).await?;
                }
            }
        };
        stores.history.saw_recovery(None);
        read += self.journals(&work.brought).await?;
        let (note, evidence) = unlatched;
        if let Some(evidence) = evidence {
            let note = work.brought.counted(note);
            let so_far = (&evidence, &reach);
            recovery_report::write(&stores.database, &note, so_far, (read, &work.brought), RunStatus::Finished).await?;
        }
        let RecoveryNote { round, from_log, from_pairs, .. } = work.brought.counted(note);
        tracing::info!(
            round,
            from_log,
            from_pairs,
            "the database has again what it had lost, as far as anybody had it"
        );
        Ok(())
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
            .heard_by(Box::new(move |events| heard.add(Source::RedoLog, events)));
        let seen = |_: &ReplayReport| self.stores.history.saw_recovery(Some(brought.counted(*note)));
        let report = replay.run(&CancellationToken::new(), &seen).await?;
        Ok((report.events, reach))
    }

    /// Brings back cached pairs until none lacks, and tells the cache what the rows say. Gives how many were looked at.
    async fn pairs(&self, note: &RecoveryNote, work: &Work) -> Result<u64, Failed> {
        let heard = work.brought.clone();
        let pairs = LostPairs::new(self.stores.clone(), self.applier.clone(), self.config.max_rate, false)
            .heard_by(Box::new(move |events| heard.add(Source::CachedPair, events)));
        let (stop, token) = (CancellationToken::new(), Some(note.token));
        let mut seen = 0;
        let mut walk = Walk::Pairs;
        loop {
            let each = |_| self.stores.history.saw_recovery(Some(work.brought.counted(*note)));
            let done = pairs.walk(walk, token, &stop, each).await?;
            seen += done.pairs;
            if done.lost == 0 && walk == Walk::Counters {
                break;
            }
            walk = Walk::Counters;
        }
        for resources in work.brought.touched().chunks(self.batch_size.max(1)) {
            pairs.recount(resources, note.token).await?;
            pairs.tell(resources).await?;
        }
        Ok(seen)
    }

    /// What waited under the latch. Gives how many entries there were.
    async fn journals(&self, brought: &Brought) -> Result<u64, Failed> {
        // A look at the database that was under way may have read what is gone now; the next one reads better.
        for _ in 0..UNLATCH_LOOKS {
            if !self.stores.is_latched() {
                break;
            }
            tokio::time::sleep(UNLATCH_PAUSE).await;
        }
        let unlatched = self.stores.now();
        let mut seen = 0;
        for shard in self.stores.shards().all() {
            let mut pages = JournalPages::new(self.stores.cache.as_ref(), shard, self.batch_size, usize::MAX);
            while let Some(page) = pages.next().await? {
                if page.first().is_none_or(|entry| entry.version > unlatched) {
                    break;
                }
                let events: Vec<LikeEvent> = page.iter().filter_map(|entry| entry.decode().ok()).collect();
                let ids: Vec<Uuid> = events.iter().map(|event| event.intent.id).collect();
                let known = self.stores.database.known_events(&ids).await?;
                self.applier.apply(&events).await?;
                seen += events.len() as u64;
                let unknown = events.into_iter().filter(|event| !known.contains(&event.intent.id));
                brought.add(Source::Journal, &unknown.collect::<Vec<_>>());
                tokio::time::sleep(Duration::from_secs(page.len() as u64) / self.config.max_rate.max(1)).await;
            }
        }
        Ok(seen)
    }
}

/// Whether a test holds a recovery before its end: pausing there would stop a thread, and others with it.
fn scanned_and_held() -> bool {
    fail::fail_point!("recover.scanned", |_| true);
    false
}
