//! [`LikeCache`] in this process.

use crate::config::WallClock;
use crate::error::WalError;
use crate::lease::Leases;
use crate::recovery;
use crate::segment::OpenSegment;
use crate::shard::Now;
use crate::shards::Shards;
use crate::users::Users;
use crate::wal::{GroupCommit, Wal};
use crate::{EmbeddedConfig, OpenError, segment};
use domain::cache::{
    AcceptOutcome, AcceptRequest, CacheResult, CacheRules, CachedCount, CountRepair, FirstAnswer, LikeCache,
    PairRepair, RepairOutcome, SettleReport, Settlement, ShardStatus, Sweep, Swept,
};
use domain::codec::EncodedEvent;
use domain::{DeletedMark, Origin, Pair, PairState, Resource, ShardId, StoredCount, Version};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// What was found when the cache was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovered {
    /// Likes that were accepted and not settled.
    pub unsettled: u64,
    /// Bytes at the end of the journal that no like was answered for, cut off.
    pub torn_bytes: u64,
}

/// The cache of one process. Dropped, it writes what is left and gives its directory free.
pub struct EmbeddedCache {
    // Order matters: the journal ends before the directory is free for others.
    wal: Wal,
    shards: Arc<Shards>,
    users: Users,
    leases: Leases,
    _lock: File,

    rules: CacheRules,
    clock: WallClock,
    opened: Instant,
    recovered: Recovered,
    /// Highest version that was ever given: a shard's clock can be ahead of the wall clock.
    answered: AtomicI64,
}

impl EmbeddedCache {
    pub(crate) fn open(
        config: &EmbeddedConfig,
        directory: &Path,
        rules: CacheRules,
        clock: WallClock,
    ) -> Result<Self, OpenError> {
        std::fs::create_dir_all(directory).map_err(OpenError::io(directory))?;
        let lock = lock_directory(directory)?;
        let recovery = recovery::recover(directory, rules.shards.get())?;
        let unsettled = recovery.journals.iter().map(|journal| journal.len() as u64).sum();
        let recovered = Recovered { unsettled, torn_bytes: recovery.torn_bytes };
        let number = recovery.next_number;
        let segment = OpenSegment::create(directory, number, &recovery.accounting)
            .map_err(OpenError::io(segment::path(directory, number)))?;
        let shards = Arc::new(Shards::new(config, &rules, &recovery.accounting, recovery.journals));
        let answered = recovery.accounting.iter().map(|accounting| accounting.clock).max().unwrap_or(0);
        let wal = Wal::start(config, directory, segment, recovery.closed, recovery.accounting, Arc::clone(&shards))
            .map_err(OpenError::io(directory))?;
        Ok(Self {
            wal,
            shards,
            users: Users::new(config.max_users),
            leases: Leases::default(),
            _lock: lock,
            rules,
            clock,
            opened: Instant::now(),
            recovered,
            answered: AtomicI64::new(answered),
        })
    }

    /// What was found when it was opened.
    pub const fn recovered(&self) -> Recovered {
        self.recovered
    }

    /// Waits until everything that happened so far is written, settlements too.
    pub async fn flush(&self) -> CacheResult<()> {
        Ok(self.wal.everything().kept().await?)
    }

    fn now(&self) -> Now {
        Now { wall: (self.clock)(), us: u64::try_from(self.opened.elapsed().as_micros()).unwrap_or(u64::MAX) }
    }

    fn check(&self) -> CacheResult<()> {
        self.wal.failure().map_or(Ok(()), |failure| Err(failure.into()))
    }
}

/// Takes the directory for this process alone.
fn lock_directory(directory: &Path) -> Result<File, OpenError> {
    let path = directory.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(OpenError::io(&path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            let holder = holder.trim().parse::<u32>().map_or_else(|_| String::new(), |pid| format!(" (pid {pid})"));
            return Err(OpenError::InUse { directory: directory.to_owned(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(OpenError::Io { path, source }),
    }
    // Only to be named to others; the lock itself is the file's.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

#[async_trait::async_trait]
impl LikeCache for EmbeddedCache {
    /// What there is to check was checked when it was opened; a disk that refuses is found here.
    async fn prepare(&self) -> CacheResult<()> {
        self.check()
    }

    async fn ping(&self) -> CacheResult<()> {
        self.check()
    }

    fn clock(&self) -> Option<Version> {
        Some((self.clock)().max(Version(self.answered.load(Ordering::Relaxed) + 1)))
    }

    async fn accept(&self, requests: &[AcceptRequest]) -> Vec<CacheResult<AcceptOutcome>> {
        let now = self.now();
        let mut commits: Vec<GroupCommit> = Vec::new();
        let mut outcomes: Vec<(Result<AcceptOutcome, WalError>, Option<usize>)> = Vec::with_capacity(requests.len());
        for request in requests {
            let mut shard = self.shards.of(request.intent.pair.resource);
            // Its caller may have gone on elsewhere while this waited for the shard.
            if Instant::now() >= request.until.into() {
                outcomes.push((Ok(AcceptOutcome::Expired), None));
                continue;
            }
            match shard.accept(request, &self.rules, now, &self.users, &self.wal) {
                Err(error) => outcomes.push((Err(error), None)),
                Ok((outcome, None)) => {
                    if let AcceptOutcome::Reserved { version, .. } = outcome {
                        self.answered.fetch_max(version.0, Ordering::Relaxed);
                    }
                    outcomes.push((Ok(outcome), None));
                }
                Ok((outcome, Some(commit))) => {
                    if let AcceptOutcome::Accepted(answer) = outcome {
                        self.answered.fetch_max(answer.version.0, Ordering::Relaxed);
                    }
                    let known = commits.iter().rposition(|known| known.is_same(&commit));
                    let at = known.unwrap_or_else(|| {
                        commits.push(commit);
                        commits.len() - 1
                    });
                    outcomes.push((Ok(outcome), Some(at)));
                }
            }
        }
        let mut kept = Vec::with_capacity(commits.len());
        for commit in &commits {
            kept.push(commit.kept().await);
        }
        let concluded = outcomes.into_iter().map(|(outcome, commit)| {
            let outcome = outcome?;
            commit.map_or(Ok(()), |commit| kept[commit].clone())?;
            Ok(outcome)
        });
        concluded.map(|result: Result<_, WalError>| result.map_err(Into::into)).collect()
    }

    async fn remember(&self, answers: &[FirstAnswer]) -> CacheResult<()> {
        let now = self.now();
        for first in answers {
            self.shards.of(first.pair.resource).remember(first, &self.rules, now);
        }
        Ok(())
    }

    async fn settle(&self, settlement: &Settlement) -> CacheResult<SettleReport> {
        let now = self.now();
        let mut report = SettleReport::default();
        for settled in &settlement.resources {
            report += self.shards.of(settled.resource).settle(settled, &self.rules, now, &self.wal);
        }
        for (pair, row) in &settlement.pairs {
            let mut shard = self.shards.of(pair.resource);
            report.refreshed += u64::from(shard.refresh(*pair, *row, &self.rules, now, &self.wal));
        }
        Ok(report)
    }

    async fn counts(&self, resources: &[Resource]) -> CacheResult<Vec<Option<CachedCount>>> {
        let now = self.now();
        Ok(resources.iter().map(|resource| self.shards.of(*resource).count(*resource, now)).collect())
    }

    async fn fill_counts(&self, counts: &[(Resource, StoredCount)]) -> CacheResult<()> {
        let now = self.now();
        for (resource, stored) in counts {
            self.shards.of(*resource).fill_count(*resource, *stored, &self.rules, now);
        }
        Ok(())
    }

    async fn states(&self, pairs: &[Pair]) -> CacheResult<Vec<Option<PairState>>> {
        let now = self.now();
        Ok(pairs.iter().map(|pair| self.shards.of(pair.resource).state(*pair, now)).collect())
    }

    async fn fill_states(&self, states: &[(Pair, PairState)]) -> CacheResult<()> {
        let now = self.now();
        for (pair, row) in states {
            self.shards.of(pair.resource).fill_state(*pair, *row, &self.rules, now);
        }
        Ok(())
    }

    async fn forget_states(&self, states: &[(Pair, Version)]) -> CacheResult<()> {
        for (pair, version) in states {
            self.shards.of(pair.resource).forget_state(*pair, *version);
        }
        Ok(())
    }

    async fn shard_status(&self) -> CacheResult<Vec<ShardStatus>> {
        let now = self.now();
        Ok(self.shards.each().map(|shard| shard.status(now)).collect())
    }

    async fn journal_page(&self, shard: ShardId, after: Version, limit: usize) -> CacheResult<Vec<EncodedEvent>> {
        let page = self.shards.get(shard).page(after, limit);
        let encoded = |(version, payload)| EncodedEvent { version, origin: Origin::Journal, payload };
        Ok(page.into_iter().map(encoded).collect())
    }

    async fn acquire_lease(&self, name: &str, owner: &str, ttl: Duration) -> CacheResult<Option<u64>> {
        Ok(self.leases.acquire(name, owner, ttl))
    }

    async fn release_lease(&self, name: &str, owner: &str) -> CacheResult<()> {
        self.leases.release(name, owner);
        Ok(())
    }

    async fn fence_repairs(&self, token: u64) -> CacheResult<()> {
        self.shards.each().for_each(|mut shard| shard.fence(token));
        Ok(())
    }

    async fn repair_count(&self, repair: &CountRepair, token: u64) -> CacheResult<RepairOutcome> {
        Ok(self.shards.of(repair.resource).repair_count(repair, token, &self.rules, self.now()))
    }

    async fn repair_accounting(&self, _seen: &ShardStatus, _token: u64) -> CacheResult<RepairOutcome> {
        // Nobody else writes here, and a record is whole or not there.
        Ok(RepairOutcome::Changed)
    }

    async fn repair_pair(&self, repair: &PairRepair, token: u64) -> CacheResult<RepairOutcome> {
        Ok(self.shards.of(repair.pair.resource).repair_pair(repair, token, self.now(), &self.wal))
    }
    async fn raise_clocks(&self, at_least: Version) -> CacheResult<Version> {
        let before = self.shards.each().map(|mut shard| shard.raise_clock(at_least, &self.wal)).max();
        self.answered.fetch_max(at_least.0, Ordering::Relaxed);
        // Kept with what is accepted next, at the latest: a clock that falls back would let a later like come too early.
        self.flush().await?;
        Ok(before.unwrap_or_default())
    }

    /// One shard at a time.
    async fn sweep(&self, sweep: &Sweep<'_>, cursor: u64, _about: u32) -> CacheResult<(Vec<Swept>, u64)> {
        let now = self.now();
        let at = u16::try_from(cursor).unwrap_or(0);
        let swept = self.shards.get(ShardId(at)).sweep(sweep, now);
        Ok((swept, if at + 1 < self.rules.shards.get() { u64::from(at) + 1 } else { 0 }))
    }

    async fn keep_deleted(&self, marks: &[(Resource, DeletedMark)]) -> CacheResult<()> {
        for (resource, mark) in marks {
            self.shards.of(*resource).keep_deleted(*resource, *mark);
        }
        Ok(())
    }

    /// One shard at a time.
    async fn kept_deleted(&self, cursor: u64, _about: u32) -> CacheResult<(Vec<(Resource, DeletedMark)>, u64)> {
        let at = u16::try_from(cursor).unwrap_or(0);
        let kept = self.shards.get(ShardId(at)).kept_deleted();
        Ok((kept, if at + 1 < self.rules.shards.get() { u64::from(at) + 1 } else { 0 }))
    }
}
