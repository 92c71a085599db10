//! Counts in the memory of a server, for a moment: a hot count is read from Redis ten times a second, not ten thousand times.
//!
//! - **No count is shown later than `ttl` after it was asked for.** So what others change (likes at other servers, settlements,
//!   repairs, another primary) is seen within `ttl`, and nothing has to tell this memory of it.
//! - **Whoever has an answer to a like from this server is never shown a count without it.** What was accepted here is put here
//!   before it is answered, and only what was asked for after that answer came replaces it: an older read that is still on its
//!   way may not know of the like. Of two likes the newer version counts, whichever answer comes first. What was written
//!   around the cache, accepted without a count, or is the repeated answer to a like that another server may accept meanwhile,
//!   leaves a mark that nothing older is to be shown.
//! - **Counts do not go back and forth**, but for reads that overlap: what was on its way together and differs is asked for again.
//! - **It hides no unreachable store**: it is not asked while the cache, or the shard, counts as unreachable, and fills again only
//!   from answers of the cache.
//! - **Its memory is fixed.** A resource has a place among a few; the oldest of them makes room. What older reads may bring
//!   after that is refused for the whole set, or the like that made room would be forgotten.
//!
//! Order is that of this process's clock, not that of versions: a version lost in a failover, or a count that was repaired,
//! must not keep what is true now out. Deliberately absent: states of pairs, which a user must see as they are.

use ::metrics::{Counter, counter, gauge};
use domain::{Resource, Version};
use serde::Deserialize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Section `cache_management.near_cache`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NearCacheConfig {
    /// Without it every count is asked for.
    pub enabled: bool,
    /// No count is shown longer after it was asked for.
    #[serde(with = "humantime_serde")]
    pub ttl: Duration,
    /// Memory, taken when the server starts.
    pub max_bytes: usize,
}

impl Default for NearCacheConfig {
    fn default() -> Self {
        Self { enabled: true, ttl: Duration::from_millis(100), max_bytes: 4 << 20 }
    }
}

/// Microseconds of this process's steady clock; at 0 everything is long over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

/// Places that a resource can have.
const WAYS: usize = 8;

/// What is known of one resource.
#[derive(Clone, Copy)]
struct Entry {
    /// None in a place that is free.
    key: Option<Resource>,
    count: i64,
    /// It contains every like that the cache accepted of the resource up to this version.
    version: Version,
    /// When it was asked for: from then on it is shown for `ttl`.
    asked: Moment,
    /// When all that is known of it was here: a read that was asked for later is newer.
    since: Moment,
    /// When the last read was here, whatever became of it: a like that was asked for later is newer.
    heard: Moment,
    /// It is the count of a like of [`version`](Self::version), not of a read.
    accepted: bool,
}

const EMPTY: Entry = Entry {
    key: None,
    count: 0,
    version: Version::ZERO,
    asked: Moment(0),
    since: Moment(0),
    heard: Moment(0),
    accepted: false,
};

impl Entry {
    /// What was asked for later is newer.
    fn over(self) -> Moment {
        self.since.max(self.heard)
    }
}

struct Set {
    ways: [Entry; WAYS],
    /// When the last of what had to make room was [over](Entry::over).
    floor: Moment,
}

impl Set {
    fn find(&self, key: Option<Resource>) -> Option<Entry> {
        self.ways.iter().find(|entry| entry.key == key).copied()
    }

    /// What is known of this resource: of one that has no place, that it may have had one.
    fn known(&self, key: Option<Resource>) -> Entry {
        self.find(key).unwrap_or(Entry { since: self.floor, ..EMPTY })
    }

    /// The place of this resource, or that of the oldest one.
    fn place(&mut self, key: Option<Resource>) -> &mut Entry {
        let known = self.ways.iter().position(|entry| entry.key == key);
        let at = known.unwrap_or_else(|| {
            let oldest = (0..WAYS).min_by_key(|at| self.ways[*at].over()).unwrap_or(0);
            self.floor = self.floor.max(self.ways[oldest].over());
            self.ways[oldest] = EMPTY;
            oldest
        });
        &mut self.ways[at]
    }
}

/// See the head of the module.
pub(crate) struct NearCache {
    sets: Box<[Mutex<Set>]>,
    started: Instant,
    ttl_us: u64,
    hits: Counter,
    misses: Counter,
}

impl NearCache {
    /// None if it is switched off.
    pub(crate) fn new(config: &NearCacheConfig) -> Option<Self> {
        if !config.enabled {
            return None;
        }
        let sets = (config.max_bytes / size_of::<Mutex<Set>>()).max(1);
        gauge!("interaction_near_cache_bytes").set((sets * size_of::<Mutex<Set>>()) as f64);
        Some(Self {
            sets: (0..sets).map(|_| Mutex::new(Set { ways: [EMPTY; WAYS], floor: Moment(0) })).collect(),
            started: Instant::now(),
            ttl_us: micros(config.ttl),
            hits: counter!("interaction_near_cache_hits_total"),
            misses: counter!("interaction_near_cache_misses_total"),
        })
    }

    /// Now; later than `ttl` after 0.
    pub(crate) fn now(&self) -> Moment {
        self.at(Instant::now())
    }

    /// This moment of the same clock.
    pub(crate) fn at(&self, moment: Instant) -> Moment {
        Moment(micros(moment.saturating_duration_since(self.started)).saturating_add(self.ttl_us))
    }

    /// What may be shown now of each; the others are none. Whoever names a version that counts must contain is shown nothing: it may
    /// be that of a like which was written around the cache, and then newer ones are no sign that it is known.
    pub(crate) fn show(&self, resources: &[Resource], least: Version, now: Moment) -> Vec<Option<i64>> {
        let shown: Vec<Option<i64>> = if least > Version::ZERO {
            vec![None; resources.len()]
        } else {
            resources.iter().map(|resource| self.show_one(*resource, now)).collect()
        };
        let hits = shown.iter().flatten().count();
        self.hits.increment(hits as u64);
        self.misses.increment((shown.len() - hits) as u64);
        shown
    }

    /// How many of these would not be shown now.
    pub(crate) fn unknown(&self, resources: &[Resource], least: Version, now: Moment) -> usize {
        if least > Version::ZERO {
            return resources.len();
        }
        resources.iter().filter(|resource| self.show_one(**resource, now).is_none()).count()
    }

    fn show_one(&self, resource: Resource, now: Moment) -> Option<i64> {
        let entry = self.set(resource).find(Some(resource))?;
        (now.0.saturating_sub(entry.asked.0) < self.ttl_us).then_some(entry.count)
    }

    /// The cache says this count; `asked` is from before it was asked, `now` from after it answered.
    pub(crate) fn learn(&self, resource: Resource, count: i64, asked: Moment, now: Moment) {
        let key = Some(resource);
        let mut set = self.set(resource);
        let known = set.known(key);
        let heard = now.max(known.heard);
        *set.place(key) = if known.since < asked {
            Entry { key, count, version: known.version, asked, since: now, heard, accepted: false }
        } else if known.asked > Moment(0) && known.count != count {
            Entry { key, version: known.version, since: now.max(known.since), heard, ..EMPTY }
        } else {
            Entry { key, heard, ..known }
        };
    }

    /// The cache accepted a change of this version, was asked to after `asked`, has answered by `now`, and says the count with it.
    pub(crate) fn accepted(&self, resource: Resource, count: i64, version: Version, asked: Moment, now: Moment) {
        let key = Some(resource);
        let mut set = self.set(resource);
        let known = set.known(key);
        let older = known.over() < asked;
        // Of two likes versions decide, whichever answer was here first, unless the one was known before the other was asked for: then
        // the cache has lost what it accepted. What is no like is newer if it began after this answer.
        if !older && (known.version >= version || known.asked > now) {
            return;
        }
        let since = now.max(known.since);
        *set.place(key) = if known.accepted || older {
            Entry { key, count, version, asked, since, heard: known.heard, accepted: true }
        } else {
            // Neither is known to contain the other: who asks next learns both.
            Entry { key, version, since, heard: known.heard, ..EMPTY }
        };
    }

    /// The cache says this count with a like that somebody is told of and that may have been accepted elsewhere, whenever that was.
    pub(crate) fn told(&self, resource: Resource, count: i64, asked: Moment, now: Moment) {
        let key = Some(resource);
        let mut set = self.set(resource);
        let known = set.known(key);
        let Entry { version, heard, .. } = known;
        let since = now.max(known.since);
        *set.place(key) = if known.over() < asked {
            Entry { key, count, version, asked, since, heard, accepted: false }
        } else {
            // What came meanwhile may not know of it.
            Entry { key, version, since, heard, ..EMPTY }
        };
    }

    /// Something changed that nobody can say the count of: nothing is shown that was asked for before.
    pub(crate) fn forget(&self, resource: Resource, now: Moment) {
        let key = Some(resource);
        let mut set = self.set(resource);
        let known = set.known(key);
        if known.asked <= now {
            let Entry { version, heard, .. } = known;
            *set.place(key) = Entry { key, version, since: now.max(known.since), heard, ..EMPTY };
        }
    }

    fn set(&self, resource: Resource) -> MutexGuard<'_, Set> {
        // Ids that follow each other are spread.
        let id = resource.id.get().unsigned_abs() ^ (u64::from(resource.kind as u8) << 56);
        let spread = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let at = (u128::from(spread) * self.sets.len() as u128) >> 64;
        self.sets[at as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod interleavings;

#[cfg(test)]
mod tests;
