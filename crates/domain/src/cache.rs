//! What a cache must be able to do: the port between the protocol and its two caches (Redis, embedded).
//!
//! Both implementations pass the same contract tests. The cache is where a like is accepted, so the rules here carry
//! the promise "no accepted like is lost":
//!
//! - **Accept is atomic**: pair, counter, journal entry and shard clock change together or not at all.
//! - **A journal entry is removed by [`LikeCache::settle`] only**, that is after the database has it.
//! - **Versions are strictly increasing per shard**, and a journal entry's id *is* its version.
//! - **While a counter has pending entries its served count is never overwritten**, and it does not expire.

mod commits;
mod erasure;
mod journal_pages;
mod repairs;
mod rules;
mod settlement;
mod status;

use crate::codec::EncodedEvent;
use crate::{DeletedMark, LikeIntent, Pair, PairState, Resource, ShardId, StoredCount, UserId, Version};
use bytes::Bytes;
use std::time::{Duration, Instant};

pub use commits::{CommitNumber, ToldCommit};
pub use erasure::{Sweep, SweepIndex, Swept};
pub use journal_pages::JournalPages;
pub use repairs::{CountRepair, PairRepair, RepairOutcome, Unsupported};
pub use rules::{CacheRules, UserLimit};
pub use settlement::{SettleReport, SettledResource, Settlement};
pub use status::{Durability, Replicas, ShardStanding, ShardStatus};

/// Longest life of what was filled and never confirmed. A fill can carry an old value, and whoever filled it may die before
/// reading the database again; then it is wrong for this long at most.
pub const UNCONFIRMED_TTL: Duration = Duration::from_secs(10);

/// Where accept takes a counter from that is not cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingCount {
    /// Answer [`AcceptOutcome::CountMissing`] and write nothing: the caller loads the count and calls again.
    Report,
    /// Fill the counter with what the database said, if it is still missing.
    Fill(StoredCount),
    /// Accept without a count: the database is unreachable.
    Without,
}

/// One like to accept.
#[derive(Debug, Clone)]
pub struct AcceptRequest {
    /// What is asked.
    pub intent: LikeIntent,
    /// The same, encoded once for journal and queue.
    pub payload: Bytes,
    /// What to do about an unknown counter.
    pub missing: MissingCount,
    /// Whether this request uses one of the user's tokens.
    pub limited: bool,
    /// Write even if the pair is as wanted: somebody may have changed the row around this cache.
    pub rewrite: bool,
    /// Write nothing but the clock: only take a version, larger than this one and than any that the shard ever gave, for a
    /// row that is about to be written. Key, limit and deadline hold as for a like.
    pub reserve: Option<Version>,
    /// The call takes effect by then, on the caller's steady clock, or never: its user may have gone on elsewhere. It holds
    /// for everything that is asked for one like, however often it is asked.
    pub until: Instant,
}

/// What became of one like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptOutcome {
    /// A journal entry exists: the change will reach the database.
    Accepted(Answer),
    /// The pair was already in the wanted state; nothing was written.
    Unchanged(Answer),
    /// The idempotency key was seen before, for the same action; nothing was written. Only what was accepted or
    /// [remembered](LikeCache::remember) counts as seen.
    Repeated {
        /// The first answer.
        answer: Answer,
        /// Whether the first call changed something.
        changed: bool,
    },
    /// Not as many copies of the cache as were asked for are known to have what the answer says. It may be lost with this one,
    /// or take effect.
    Unconfirmed {
        /// The version of the journal entry, if this call has written one.
        written: Option<Version>,
    },
    /// The idempotency key belongs to the other action on this pair; nothing was written.
    KeyReused,
    /// The call came after [`AcceptRequest::until`]; nothing was written.
    Expired,
    /// A version was taken ([`AcceptRequest::reserve`]); nothing else was written.
    Reserved {
        /// The version.
        version: Version,
        /// The pair as cached, if it was accepted here: nothing newer of it was accepted, then.
        held: Option<PairState>,
    },
    /// The resource is deleted; nothing was written, and no token used.
    Deleted,
    /// The counter is not cached; nothing was written.
    CountMissing,
    /// The journal is at its limit; nothing was written.
    Overloaded,
    /// The user is over the limit; nothing was written.
    RateLimited {
        /// When the next action will be allowed.
        retry_after: Duration,
    },
}

/// What the caller of a like is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Served count, if known.
    pub count: Option<i64>,
    /// Version of the pair's state.
    pub version: Version,
}

/// What the first call with an idempotency key was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstAnswer {
    /// Whose key: each pair has its own.
    pub pair: Pair,
    /// The key.
    pub key: String,
    /// What was asked: the key belongs to it.
    pub liked: bool,
    /// The answer.
    pub answer: Answer,
    /// Whether that call changed something.
    pub changed: bool,
    /// How long ago that call was: the key has the rest of its lifetime left.
    pub age: Duration,
}

/// A counter as the cache holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct CachedCount {
    /// Count that readers get.
    pub served: i64,
    /// Accepted entries of this resource that are not settled.
    pub pending: i64,
    /// Version of the last accepted change.
    pub last_version: Version,
    /// Count that the database last reported.
    pub stored: i64,
    /// Revision of that report.
    pub stored_revision: i64,
}

/// Why a cache did not do what it was asked.
///
/// Cheap to clone: one broken connection fails every like of a batch.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CacheError {
    /// No answer: whether the call took effect is unknown, so calls must be safe to repeat.
    #[error("cache is unavailable: {0}")]
    Unavailable(#[source] std::sync::Arc<dyn std::error::Error + Send + Sync>),
    /// It answered, with an error.
    #[error("cache refused: {0}")]
    Rejected(#[source] std::sync::Arc<dyn std::error::Error + Send + Sync>),
    /// The cache's data was written with another number of shards.
    #[error("cache holds data of {stored} shards, configured are {configured}")]
    ShardMismatch {
        /// Found in the cache.
        stored: u16,
        /// In the configuration.
        configured: u16,
    },
    /// The data was resharded since this process learnt its number of shards.
    #[error(transparent)]
    Resharded(#[from] crate::Resharded),
    /// The cache could lose journal entries as it is configured.
    #[error("cache is not safe for the journal: {0}")]
    Unsafe(String),
}

impl CacheError {
    /// Whether the cache is unreachable, as opposed to unhappy with this call.
    pub const fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// Result of a cache call.
pub type CacheResult<T> = Result<T, CacheError>;

/// The cache. Vectors of answers have the order and length of their questions.
#[async_trait::async_trait]
pub trait LikeCache: Send + Sync + 'static {
    /// Checks the connection, that the journal cannot be evicted, and that the data has the configured number of shards
    /// (stored on first use).
    async fn prepare(&self) -> CacheResult<()>;

    /// Answers if the cache does, and measures its clock.
    async fn ping(&self) -> CacheResult<()>;

    /// Whether it is several servers that have some of the shards each: one can be lost and the others go on.
    fn is_partitioned(&self) -> bool {
        false
    }

    /// [`ping`](Self::ping), that fails only where no server answers: else it tells which shards are away, and why.
    async fn ping_shards(&self) -> CacheResult<Vec<(ShardId, CacheError)>> {
        self.ping().await.map(|()| Vec::new())
    }

    /// The same for who asks again and again: while all is well, it may be what another process has found a moment ago.
    async fn watch_shards(&self) -> CacheResult<Vec<(ShardId, CacheError)>> {
        self.ping_shards().await
    }

    /// Whether it answered the last [`ping`](Self::ping) and had no room for what a like needs, in its memory or in a journal:
    /// leases, reads and settlements go on, and make room.
    fn is_full(&self) -> bool {
        false
    }

    /// Not below the cache's clock, as far as it was measured, and above what this cache answered; `None` if it was never
    /// reached. Whoever writes around the cache takes versions from here, so that clocks of different machines cannot
    /// reorder a user's actions.
    fn clock(&self) -> Option<Version>;

    /// How far [`clock`](Self::clock) may be ahead of the cache's own: whoever writes around the cache with a version from
    /// there waits for so long before it commits, or the cache would give a later word a smaller version.
    fn clock_uncertainty(&self) -> Duration {
        Duration::ZERO
    }

    /// [`clock`](Self::clock) and [`clock_uncertainty`](Self::clock_uncertainty) as far as these resources are concerned: one
    /// shard may be ahead of the others.
    fn clock_for(&self, resources: &[Resource]) -> Option<(Version, Duration)> {
        let _ = resources;
        self.clock().map(|now| (now, self.clock_uncertainty()))
    }

    /// The cache's own clock now, by what was measured: between these; `None` if it was never reached, or has no clock of its
    /// own.
    fn own_clock(&self) -> Option<(Version, Version)> {
        None
    }

    /// Another clock, which shows this now: the cache dates no version much later than the clocks that it knows.
    fn learn_clock(&self, time: Version) {
        let _ = time;
    }

    /// How safe accepted likes are on the disk of the cache; `None` if it has no say in that.
    async fn durability(&self) -> CacheResult<Option<Durability>> {
        Ok(None)
    }

    /// Accepts likes; each one succeeds or fails on its own.
    ///
    /// An unavailable cache leaves open whether the like was accepted, but once this has answered it either was or never
    /// will be: a call stuck on its way expires. Repeating it is safe. Requests of one pair take effect in their order.
    async fn accept(&self, requests: &[AcceptRequest]) -> Vec<CacheResult<AcceptOutcome>>;

    /// Remembers first answers of idempotency keys: after what was reserved is committed, or "unchanged" is confirmed. A key
    /// that is known keeps its answer, unless that is older: a call that was accepted here unheard is then written around the
    /// cache, and that is what its caller was told.
    async fn remember(&self, answers: &[FirstAnswer]) -> CacheResult<()> {
        let _ = answers;
        Err(Unsupported.into())
    }

    /// Removes settled entries, learns the stored counts, heals what is wrong.
    async fn settle(&self, settlement: &Settlement) -> CacheResult<SettleReport>;

    /// Counters as cached.
    async fn counts(&self, resources: &[Resource]) -> CacheResult<Vec<Option<CachedCount>>>;

    /// Only what readers get of them.
    async fn served_counts(&self, resources: &[Resource]) -> CacheResult<Vec<Option<i64>>> {
        let counts = self.counts(resources).await?;
        Ok(counts.into_iter().map(|count| count.map(|count| count.served)).collect())
    }

    /// Caches counters that are not cached. The caller must afterwards read the store once more and
    /// [`settle`](Self::settle) what changed meanwhile: a fill can carry an old count.
    async fn fill_counts(&self, counts: &[(Resource, StoredCount)]) -> CacheResult<()>;

    /// Pairs as cached.
    async fn states(&self, pairs: &[Pair]) -> CacheResult<Vec<Option<PairState>>>;

    /// Some pairs that are cached, about so many, and where to go on: 0 is beginning and end. A pair that is cached all the
    /// time comes at least once. A cache that does not list its pairs gives none.
    async fn cached_pairs(&self, _cursor: u64, _about: u32) -> CacheResult<(Vec<Pair>, u64)> {
        Ok((Vec::new(), 0))
    }

    /// The same of pairs that were cached while the data had another number of shards, with what was known of them then: nobody is
    /// answered from that, but it may be all that has a like.
    async fn pairs_of_before(&self, _cursor: u64, _about: u32) -> CacheResult<(Vec<(Pair, PairState)>, u64)> {
        Ok((Vec::new(), 0))
    }

    /// Caches pairs that are not cached, or cached in an older state.
    async fn fill_states(&self, states: &[(Pair, PairState)]) -> CacheResult<()>;

    /// Forgets cached pairs that are still as this version left them: its event was discarded, and the database answers for
    /// the pair. Whatever was accepted or refreshed since stays.
    async fn forget_states(&self, states: &[(Pair, Version)]) -> CacheResult<()> {
        let _ = states;
        Err(Unsupported.into())
    }

    /// Every shard's accounting.
    async fn shard_status(&self) -> CacheResult<Vec<ShardStatus>>;

    /// The same as it was a few seconds ago, if that costs less.
    async fn shard_status_lately(&self) -> CacheResult<Vec<ShardStatus>> {
        self.shard_status().await
    }

    /// What every shard still knows of what it answered this process: a cache that lives elsewhere may have become what it
    /// once was.
    async fn standings(&self) -> CacheResult<Vec<ShardStanding>> {
        Err(Unsupported.into())
    }

    /// The last commit of each lane that was settled, as far as that is remembered: the newest ones are.
    async fn commits(&self) -> CacheResult<Vec<ToldCommit>> {
        Ok(Vec::new())
    }

    /// Unsettled entries of a shard after a version, oldest first.
    async fn journal_page(&self, shard: ShardId, after: Version, limit: usize) -> CacheResult<Vec<EncodedEvent>>;

    /// Takes or renews a named lease; the token grows with every change of owner.
    async fn acquire_lease(&self, name: &str, owner: &str, ttl: Duration) -> CacheResult<Option<u64>>;

    /// Gives a lease back, if `owner` still holds it.
    async fn release_lease(&self, name: &str, owner: &str) -> CacheResult<()>;

    /// From now on repairs with a smaller fencing token are refused, in every shard.
    async fn fence_repairs(&self, token: u64) -> CacheResult<()> {
        let _ = token;
        Err(Unsupported.into())
    }

    /// Makes a cached counter what the database said, if it is still as it was seen, nothing of it is pending (or all of
    /// that was abandoned) and no larger token repairs.
    async fn repair_count(&self, repair: &CountRepair, token: u64) -> CacheResult<RepairOutcome> {
        let _ = (repair, token);
        Err(Unsupported.into())
    }

    /// Makes what a shard says it accepted agree with its journal, if both are still as they were seen and no larger token
    /// repairs.
    async fn repair_accounting(&self, seen: &ShardStatus, token: u64) -> CacheResult<RepairOutcome> {
        let _ = (seen, token);
        Err(Unsupported.into())
    }

    /// Makes a cached pair what its row says, if it is still as it was seen and no larger token repairs.
    async fn repair_pair(&self, repair: &PairRepair, token: u64) -> CacheResult<RepairOutcome> {
        let _ = (repair, token);
        Err(Unsupported.into())
    }
    /// Raises every shard's clock to at least this: what is accepted afterwards has a higher version. Gives the highest clock
    /// of all, as it was before: nothing that was accepted has a higher version.
    async fn raise_clocks(&self, at_least: Version) -> CacheResult<Version> {
        let _ = at_least;
        Err(Unsupported.into())
    }

    /// Looks at some keys, about so many, for what is of users or resources, and where to go on: 0 is beginning and end. Gives what
    /// was found behind each fence, in their order. What is there all the time is found at least once.
    async fn sweep(&self, sweep: &Sweep<'_>, cursor: u64, about: u32) -> CacheResult<(Vec<Swept>, u64)> {
        let _ = (sweep, cursor, about);
        Err(Unsupported.into())
    }

    /// Keeps fences of users beside the database, whose copies may be older than they are; a lower one than is kept changes
    /// nothing.
    async fn keep_fences(&self, fences: &[(UserId, Version)]) -> CacheResult<()> {
        let _ = fences;
        Ok(())
    }

    /// Some of the fences that are kept, about so many, and where to go on: 0 is beginning and end. A cache that is lost together
    /// with its database keeps none.
    async fn kept_fences(&self, _cursor: u64, _about: u32) -> CacheResult<(Vec<(UserId, Version)>, u64)> {
        Ok((Vec::new(), 0))
    }

    /// From here on no likes of these resources are accepted, or again, and their fences are kept. Of each resource the newest word
    /// counts, and the highest fence.
    async fn keep_deleted(&self, marks: &[(Resource, DeletedMark)]) -> CacheResult<()> {
        let _ = marks;
        Err(Unsupported.into())
    }

    /// Some of the marks that are kept, about so many, and where to go on: 0 is beginning and end.
    async fn kept_deleted(&self, cursor: u64, about: u32) -> CacheResult<(Vec<(Resource, DeletedMark)>, u64)> {
        let _ = (cursor, about);
        Err(Unsupported.into())
    }
}
