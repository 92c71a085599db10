//! Erase: everything that a user did up to a moment goes, from every store, and nothing of it comes back. A resource is deleted in the
//! same way, with what all users did with it.
//!
//! 1. The clocks of all shards are raised: what is accepted from here on has a higher version than the fence.
//! 2. The **fence**, in the database: from its commit on nothing below it is ever written, whatever brings it (queue, journal,
//!    retry, dead letter, replay, import, redo log, recovery, repair). That is the whole promise; the rest only cleans up.
//! 3. Copies of the fence, in the cache and in the redo log: a copy of the database from before does not have it. Of a resource the
//!    cache has it first of all, because it accepts likes: what it accepted before it heard is put behind the fence as well.
//! 4. Rows, tombstones and keys, each with its counter in one transaction; ledger, history, findings and what operators wrote, in
//!    one walk for all whose erasure waits; cached pairs and answers, likewise.
//! 5. A second look at cache and rows; the erasure ends when it finds nothing, else it begins anew.
//!
//! A caller does 1 and 2, any process with the lease the rest, from [`Eraser::run`]. It may stop at any point: the fence says
//! that there is something to do, a note says how far the walk has come, and all of it may happen twice, in two processes at once, or
//! late, because only what is below a fence is deleted.
//!
//! What the user does while the erasure is under way may go with it (a like that the cache takes for unchanged, of a pair that is not
//! gone yet); what is done after its end counts. So it is with a resource that is restored while its deletion is under way.

use crate::clock::wall_clock;
use crate::config::SyncConfig;
use crate::metrics;
use crate::operate::fence::raise_clocks;
use crate::recover::catch_up::{self, RefreshError};
use crate::recover::fences;
use crate::recover::pace::Pace;
use crate::stores::lease::Lease;
use crate::stores::{Stores, faults};
use chrono::{DateTime, Utc};
use domain::cache::{CacheError, Sweep, Swept};
use domain::{Erased, Fence, ResourceType};
use event_store::{Erasure, StoreError, Walked};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

pub use crate::operate::fence::{delete_resource, erase_user, restore_resource, tell_deleted};

const LEASE: &str = "erase";
const LEASE_TTL: Duration = Duration::from_secs(30);

/// Where the walk through tables is: `<fenced until, microseconds> <table> <key>`.
const NOTE: &str = "erasure_walk";

/// Erasures of one walk.
const TOGETHER: u32 = 500;

/// Rows of a table, or keys of the cache, that are looked at in one step.
pub(crate) const SCAN: u32 = 1_000;

/// Steps between two notes of the place, and two looks at the lease.
const STEPS: usize = 20;

/// What was read before rows went is written to the cache within that time, or not at all.
const LATE: Duration = Duration::from_secs(3);

/// How often fences are looked at that the database may have lost.
const EXCHANGE: Duration = Duration::from_secs(60);

/// Where there are very many, looking at them takes this part of the time at most.
const EXCHANGE_SHARE: u32 = 20;

/// Removes what is below fences; one process at a time.
pub struct Eraser {
    stores: Stores,
    interval: Duration,
    late: Duration,
    lease: Lease,
    /// Rows and keys per second.
    pace: Pace,
    exchanged: Option<Exchanged>,
}

/// When fences of all stores were last compared.
#[derive(Debug, Clone, Copy)]
struct Exchanged {
    /// The newest one that the cache was told.
    newest: DateTime<Utc>,
    next: Instant,
}

/// What a round came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    /// Nothing waits, or somebody else is at it.
    Idle,
    /// Something was done, or is to be looked at once more.
    Busy,
}

impl Eraser {
    /// `owner` must differ between processes.
    pub fn new(stores: Stores, owner: String, sync: &SyncConfig) -> Self {
        let pace = Pace::new(sync.retention.erasure_rate);
        let lease = Lease::new(Arc::clone(&stores.cache), LEASE, owner, LEASE_TTL);
        Self { stores, interval: Duration::from_secs(1), late: LATE, lease, pace, exchanged: None }
    }

    /// Looks more or less often, and waits longer or shorter for what is late.
    #[must_use]
    pub fn with_interval(self, interval: Duration, late: Duration) -> Self {
        Self { interval, late, ..self }
    }

    /// Follows one that died sooner or later; a step must take much less.
    #[must_use]
    pub fn with_lease(self, lease: Duration) -> Self {
        Self { lease: self.lease.lasting(lease), ..self }
    }

    /// Runs until `stop`.
    pub fn run(self, stop: CancellationToken) -> BoxFuture<'static, ()> {
        self.run_inner(stop).boxed()
    }

    async fn run_inner(mut self, stop: CancellationToken) {
        loop {
            let round = async {
                tokio::time::sleep(self.interval).await;
                if self.stores.cache_circuit.is_open() || self.stores.database_circuit.is_open() {
                    return Ok(Round::Idle);
                }
                self.round().await
            };
            let round = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                round = round => round,
            };
            match round {
                // Who has nothing to do looks on, and nobody else does.
                Ok(Round::Busy | Round::Idle) => continue,
                Err(RefreshError::Cache(error)) if error.is_unavailable() => self.stores.cache_failed_somewhere(&error),
                Err(RefreshError::Store(error)) if error.is_unavailable() => {
                    self.stores.database_circuit.failure(&error)
                }
                Err(error) => drop(faults::tell("erasing", &error)),
            }
            let _ = self.lease.give_back().await;
        }
        let _ = self.lease.give_back().await;
    }

    async fn round(&mut self) -> Result<Round, RefreshError> {
        if !self.owns().await? {
            return Ok(Round::Idle);
        }
        let waiting = self.stores.database.erasures_under_way(TOGETHER).await?;
        let news = self.news().await?;
        if waiting.is_empty() && news.is_none() {
            return Ok(Round::Idle);
        }
        if let Some(newest) = news {
            self.exchange(newest).await?;
        }
        let noted = self.noted().await?;
        let until = noted.as_ref().map(|(until, ..)| *until).or_else(|| waiting.last().map(|last| last.fenced_at));
        let Some(until) = until else { return Ok(Round::Idle) };
        let erasures = self.stores.database.erasures_fenced_by(until).await?;
        if erasures.is_empty() {
            self.stores.database.set_note(NOTE, None).await?;
            return Ok(if waiting.is_empty() { Round::Idle } else { Round::Busy });
        }
        let highest = erasures.iter().map(|erasure| erasure.fence.up_to).max().unwrap_or_default();
        raise_clocks(&self.stores, highest).await?;
        if !self.erase_rows(until, &erasures).await? {
            return Ok(Round::Idle);
        }
        catch_up::drain(&self.stores).await?;
        fail::fail_point!("erase.told");
        if !self.walk(until, noted, &erasures).await? {
            return Ok(Round::Idle);
        }
        if self.sweep(until, &erasures).await?.is_none() {
            return Ok(Round::Idle);
        }
        fail::fail_point!("erase.swept");
        tokio::time::sleep(self.late).await;
        if !self.look_again(until, &erasures).await? {
            return Ok(Round::Idle);
        }
        self.stores.database.set_note(NOTE, None).await?;
        Ok(Round::Busy)
    }

    /// Both ways, or only what is news to the cache.
    async fn exchange(&mut self, newest: DateTime<Utc>) -> Result<(), RefreshError> {
        let began = Instant::now();
        if let Some(known) = &mut self.exchanged
            && known.newest < newest
            && began < known.next
            && fences::keep_since(&self.stores, known.newest).await?
        {
            known.newest = newest;
            return Ok(());
        }
        fences::bring_back(&self.stores).await?;
        fences::keep(&self.stores).await?;
        // A cache that was emptied, and whose clock was set back, would give what users do from now on versions below their fences.
        raise_clocks(&self.stores, self.stores.database.highest_fence().await?).await?;
        let newest = self.stores.database.newest_fence().await?;
        let next = began + EXCHANGE.max(began.elapsed() * EXCHANGE_SHARE);
        self.exchanged = Some(Exchanged { newest, next });
        Ok(())
    }

    /// The newest fence, if it is time to compare those of all stores.
    async fn news(&self) -> Result<Option<DateTime<Utc>>, StoreError> {
        let newest = self.stores.database.newest_fence().await?;
        let is_known = self.exchanged.is_some_and(|known| known.newest == newest && Instant::now() < known.next);
        Ok((!is_known).then_some(newest))
    }

    /// What does not wait for the end of a round, which may be long: fences and marks that a store lacks, and likes of what was
    /// fenced since it began. False if the lease is lost.
    async fn meanwhile(&mut self, until: DateTime<Utc>) -> Result<bool, RefreshError> {
        if !self.owns().await? {
            return Ok(false);
        }
        if let Some(newest) = self.news().await? {
            self.exchange(newest).await?;
        }
        let mut removed = 0;
        let under_way = self.stores.database.erasures_under_way(TOGETHER).await?;
        for (n, erasure) in under_way.iter().filter(|erasure| erasure.fenced_at > until).enumerate() {
            if n % STEPS == STEPS - 1 && !self.owns().await? {
                return Ok(false);
            }
            removed += self.erase_slice(erasure).await?;
        }
        if removed > 0 {
            catch_up::drain(&self.stores).await?;
        }
        Ok(true)
    }

    /// What indexes find, in turn: a large erasure keeps no other one waiting. False if the lease is lost.
    async fn erase_rows(&mut self, until: DateTime<Utc>, erasures: &[Erasure]) -> Result<bool, RefreshError> {
        let mut left: Vec<&Erasure> = erasures.iter().collect();
        while !left.is_empty() {
            let mut more = Vec::new();
            for (n, erasure) in left.into_iter().enumerate() {
                if n.is_multiple_of(STEPS) && !self.meanwhile(until).await? {
                    return Ok(false);
                }
                if self.erase_slice(erasure).await? > 0 {
                    more.push(erasure);
                }
            }
            left = more;
        }
        Ok(true)
    }

    /// Some of what indexes find; gives how many rows.
    async fn erase_slice(&mut self, erasure: &Erasure) -> Result<u64, RefreshError> {
        let database = self.stores.database.clone();
        let mut removed = 0;
        for kind in ResourceType::ALL {
            removed += database.erase_likes(erasure.fence, kind, wall_clock()).await?;
        }
        fail::fail_point!("erase.likes");
        removed += database.erase_keys(erasure.fence).await?;
        if removed > 0 {
            database.erasure_progressed(erasure.fence.of, removed).await?;
            self.removed(erasure.fence.of, removed).await;
        }
        Ok(removed)
    }

    /// Once through the tables without an index, from where somebody stopped; false if the lease is lost.
    async fn walk(
        &mut self,
        until: DateTime<Utc>,
        noted: Option<(DateTime<Utc>, Walked, Option<String>)>,
        erasures: &[Erasure],
    ) -> Result<bool, RefreshError> {
        let (begin, mut after) = noted.map_or((Walked::Ledger, None), |(_, table, after)| (table, after));
        for table in Walked::ALL.into_iter().skip_while(|table| *table != begin) {
            for step in 0_usize.. {
                if step.is_multiple_of(STEPS) {
                    let place = after.as_deref().unwrap_or("-");
                    let note = format!("{} {} {place}", until.timestamp_micros(), table.name());
                    self.stores.database.set_note(NOTE, Some(&note)).await?;
                    if !self.meanwhile(until).await? {
                        return Ok(false);
                    }
                }
                let walked = self.stores.database.walk_step(table, erasures, after.as_deref(), SCAN, true).await?;
                fail::fail_point!("erase.walked");
                metrics::purged("of_erased_users", walked.found - walked.of_resources);
                metrics::purged("of_deleted_resources", walked.of_resources);
                self.pace.passed(SCAN as usize).await;
                after = walked.next;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(true)
    }

    /// Once through the keys of the cache, for all; gives what was behind each fence. None if the lease is lost.
    async fn sweep(&mut self, until: DateTime<Utc>, erasures: &[Erasure]) -> Result<Option<Vec<Swept>>, RefreshError> {
        let fences: Vec<Fence> = erasures.iter().map(|erasure| erasure.fence).collect();
        let sweep = Sweep { fences: &fences, remove: true };
        let (mut all, mut cursor) = (vec![Swept::default(); fences.len()], 0);
        for step in 0_usize.. {
            if step.is_multiple_of(STEPS) && !self.meanwhile(until).await? {
                return Ok(None);
            }
            let (swept, next) = self.stores.cache.sweep(&sweep, cursor, SCAN).await?;
            all.iter_mut().zip(swept).for_each(|(all, some)| *all += some);
            cursor = next;
            if cursor == 0 {
                break;
            }
            self.pace.passed(SCAN as usize).await;
        }
        Ok(Some(all))
    }

    /// Ends the erasures that have nothing left; the others are gone through again. False if the lease is lost.
    async fn look_again(&mut self, until: DateTime<Utc>, erasures: &[Erasure]) -> Result<bool, RefreshError> {
        let Some(swept) = self.sweep(until, erasures).await? else { return Ok(false) };
        let database = self.stores.database.clone();
        let is_any_untold = self.untold(erasures).await? > 0;
        for (n, (erasure, swept)) in erasures.iter().zip(swept).enumerate() {
            if n % STEPS == STEPS - 1 && !self.owns().await? {
                return Ok(false);
            }
            let rows = database.indexed_rows(erasure.fence).await?;
            let untold = if is_any_untold { self.untold(std::slice::from_ref(erasure)).await? } else { 0 };
            if swept != Swept::default() || rows.total() > 0 || untold > 0 {
                tracing::info!(?swept, ?rows, untold, "an erasure is not over yet");
                continue;
            }
            fail::fail_point!("erase.ending");
            if database.erasure_ended(erasure, database.now().await?).await? {
                tracing::info!(removed = erasure.removed, "everything that was erased is gone");
            }
        }
        Ok(true)
    }

    /// What the cache is not told yet.
    async fn untold(&self, erasures: &[Erasure]) -> Result<u64, StoreError> {
        let (mut after, mut untold) = (None, 0);
        loop {
            let step =
                self.stores.database.walk_step(Walked::Refreshes, erasures, after.as_deref(), SCAN, false).await?;
            untold += step.found;
            after = step.next;
            if after.is_none() {
                return Ok(untold);
            }
        }
    }

    async fn removed(&mut self, of: Erased, rows: u64) {
        let what = match of {
            Erased::User(_) => "of_erased_users",
            Erased::Resource(_) => "of_deleted_resources",
        };
        metrics::purged(what, rows);
        self.pace.passed(usize::try_from(rows).unwrap_or(usize::MAX)).await;
    }

    /// Where a walk stands: until when its erasures were fenced, the table, and the key after which it goes on.
    async fn noted(&self) -> Result<Option<(DateTime<Utc>, Walked, Option<String>)>, StoreError> {
        let Some(note) = self.stores.database.note(NOTE).await? else { return Ok(None) };
        let place = || {
            let mut words = note.split(' ');
            let until = DateTime::from_timestamp_micros(words.next()?.parse().ok()?)?;
            let table = words.next()?;
            let table = Walked::ALL.into_iter().find(|walked| walked.name() == table)?;
            Some((until, table, words.next().filter(|key| *key != "-").map(str::to_owned)))
        };
        let place = place();
        if place.is_none() {
            tracing::warn!(note, "the note of an erasure says nothing: the walk begins again");
        }
        Ok(place)
    }

    async fn owns(&self) -> Result<bool, CacheError> {
        self.lease.is_ours().await
    }
}
