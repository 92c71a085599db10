//! Counts in the memory of a server, for a moment: a hot count is read from Redis ten times a second, not ten thousand times.
//!
//! - **No count is shown later than `ttl` after it was asked for.** So what others change (likes at other servers, settlements,
//!   repairs, another primary) is seen within `ttl`, and nothing has to tell this memory of it.
//! - **Whoever has an answer to a like from this server is never shown a count without it.** What was accepted here is put here
//!   before it is answered, and only what was asked for after that answer came replaces it: an older read that is still on its
//!   way may not know of the like. Of two likes the newer version counts, whichever answer comes first. What was written
//!   around the cache, or accepted without a count, leaves a mark that nothing older is to be shown.
//! - **It hides no unreachable store**: it is not asked while the cache, or the shard, counts as unreachable, and fills again only
//!   from answers of the cache.
//! - **Its memory is fixed.** A resource has a place among a few; the oldest of them makes room. What older reads may bring
//!   after that is refused for the whole set, or the like that made room would be forgotten.
//!
//! Order is that of this process's clock, not that of versions: a version lost in a failover, or a count that was repaired,
//! must not keep what is true now out. Deliberately absent: states of pairs, which a user must see as they are.

use ::metrics::{Counter, counter, gauge};
use domain::{Resource, ResourceType, Version};
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
    /// [`key`] of the resource; 0 is nobody's.
    key: u64,
    count: i64,
    /// It contains this version, and so every older one of the resource.
    version: Version,
    /// When it was asked for: from then on it is shown for `ttl`.
    asked: Moment,
    /// What was asked for before or at this moment is not newer.
    since: Moment,
    /// It is the count of a like of [`version`](Self::version), not of a read.
    accepted: bool,
}

const EMPTY: Entry =
    Entry { key: 0, count: 0, version: Version::ZERO, asked: Moment(0), since: Moment(0), accepted: false };

struct Set {
    ways: [Entry; WAYS],
    /// The largest `since` that had to make room.
    floor: Moment,
}

impl Set {
    fn find(&mut self, key: u64) -> Option<&mut Entry> {
        self.ways.iter_mut().find(|entry| entry.key == key)
    }

    /// The place of this resource, or that of the oldest one.
    fn place(&mut self, key: u64) -> &mut Entry {
        let known = self.ways.iter().position(|entry| entry.key == key);
        let at = known.unwrap_or_else(|| {
            let oldest = (0..WAYS).min_by_key(|at| self.ways[*at].since).unwrap_or(0);
            self.floor = self.floor.max(self.ways[oldest].since);
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
        let set = || Mutex::new(Set { ways: [EMPTY; WAYS], floor: Moment(0) });
        gauge!("interaction_near_cache_bytes").set((sets * size_of::<Mutex<Set>>()) as f64);
        Some(Self {
            sets: (0..sets).map(|_| set()).collect(),
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

    /// What may be shown now, and contains this version, of each; the others are none.
    pub(crate) fn show(&self, resources: &[Resource], least: Version, now: Moment) -> Vec<Option<i64>> {
        let shown: Vec<Option<i64>> = resources.iter().map(|resource| self.show_one(*resource, least, now)).collect();
        let hits = shown.iter().flatten().count();
        self.hits.increment(hits as u64);
        self.misses.increment((shown.len() - hits) as u64);
        shown
    }

    fn show_one(&self, resource: Resource, least: Version, now: Moment) -> Option<i64> {
        let key = key(resource);
        let mut set = self.set(key);
        let entry = set.find(key)?;
        let fresh = now.0.saturating_sub(entry.asked.0) < self.ttl_us;
        (fresh && entry.version >= least).then_some(entry.count)
    }

    /// The cache says this count; `asked` is from before it was asked.
    pub(crate) fn learn(&self, resource: Resource, count: i64, asked: Moment) {
        let key = key(resource);
        let mut set = self.set(key);
        let known = set.find(key).map_or(Moment(0), |entry| entry.since);
        if asked <= known.max(set.floor) {
            return;
        }
        let entry = set.place(key);
        // What it contained before was known before this was asked for.
        *entry = Entry { key, count, version: entry.version, asked, since: asked, accepted: false };
    }

    /// The cache accepted a change of this version, was asked to after `asked`, has answered by `now`, and says the count with it.
    pub(crate) fn accepted(&self, resource: Resource, count: i64, version: Version, asked: Moment, now: Moment) {
        let key = key(resource);
        let mut set = self.set(key);
        let known = set.find(key).copied().unwrap_or(EMPTY);
        // Of two likes versions decide, whichever answer was here first. What is no like is newer if it began after this answer.
        if known.version >= version || !known.accepted && known.since > now {
            return;
        }
        let since = now.max(known.since);
        *set.place(key) = if known.accepted || known.since < asked {
            Entry { key, count, version, asked, since, accepted: true }
        } else {
            // Neither is known to contain the other: who asks next learns both.
            Entry { key, version, since, ..EMPTY }
        };
    }

    /// Something changed that nobody can say the count of: nothing is shown that was asked for before.
    pub(crate) fn forget(&self, resource: Resource, now: Moment) {
        let key = key(resource);
        let mut set = self.set(key);
        if set.find(key).is_none_or(|entry| entry.since <= now) {
            *set.place(key) = Entry { key, since: now, ..EMPTY };
        }
    }

    fn set(&self, key: u64) -> MutexGuard<'_, Set> {
        // Ids that follow each other are spread.
        let spread = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let at = (u128::from(spread) * self.sets.len() as u128) >> 64;
        self.sets[at as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Never 0: ids are greater than 0.
fn key(resource: Resource) -> u64 {
    resource.id.get().unsigned_abs() << 1 | u64::from(resource.kind == ResourceType::Comment)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: u64 = 100;

    fn near(max_bytes: usize) -> NearCache {
        let ttl = Duration::from_micros(TTL);
        NearCache::new(&NearCacheConfig { enabled: true, ttl, max_bytes }).unwrap()
    }

    fn video(id: i64) -> Resource {
        Resource::new(ResourceType::Video, id).unwrap()
    }

    fn at(micros: u64) -> Moment {
        Moment(TTL + micros)
    }

    fn shown(near: &NearCache, id: i64, now: u64) -> Option<i64> {
        near.show(&[video(id)], Version::ZERO, at(now))[0]
    }

    fn accept(near: &NearCache, count: i64, version: i64, (asked, answered): (u64, u64)) {
        near.accepted(video(1), count, Version(version), at(asked), at(answered));
    }

    #[test]
    fn a_count_is_shown_for_its_time_and_no_longer() {
        let near = near(1 << 16);
        assert_eq!(shown(&near, 1, 0), None);
        near.learn(video(1), 7, at(1));
        assert_eq!(shown(&near, 1, TTL), Some(7));
        assert_eq!(shown(&near, 1, 1 + TTL), None, "its time is over");
        let comment = Resource::new(ResourceType::Comment, 1).unwrap();
        assert_eq!(near.show(&[comment, video(2)], Version::ZERO, at(2)), [None, None]);
    }

    #[test]
    fn a_read_from_before_a_like_does_not_hide_it() {
        let near = near(1 << 16);
        near.learn(video(1), 5, at(1));
        accept(&near, 6, 1_000, (10, 12));
        near.learn(video(1), 5, at(9));
        near.learn(video(1), 5, at(12));
        assert_eq!(shown(&near, 1, 20), Some(6), "an older read, or one that may be older");
        near.learn(video(1), 9, at(13));
        assert_eq!(shown(&near, 1, 20), Some(9), "a newer one");
        // Older reads stay out when the like's own time is over.
        let slow = 14 + TTL;
        accept(&near, 10, 1_001, (14, slow));
        near.learn(video(1), 9, at(slow - 1));
        assert_eq!(shown(&near, 1, slow), None);
    }

    #[test]
    fn of_two_likes_the_newer_one_counts_whichever_answer_comes_first() {
        for order in [[0, 1], [1, 0]] {
            let near = near(1 << 16);
            let likes = [(6, 1_000, (10, 14)), (7, 1_001, (11, 13))];
            order.into_iter().for_each(|i| accept(&near, likes[i].0, likes[i].1, likes[i].2));
            assert_eq!(shown(&near, 1, 20), Some(7));
        }
        // Back from a lock that it waited for, meanwhile somebody read what it had done.
        let near = near(1 << 16);
        near.learn(video(1), 8, at(15));
        accept(&near, 6, 1_000, (10, 14));
        assert_eq!(shown(&near, 1, 20), Some(8));
    }

    #[test]
    fn a_lower_count_replaces_a_higher_one() {
        // An unlike, a repair, a failover that lost the newest likes.
        let near = near(1 << 16);
        accept(&near, 6, 1_000, (10, 12));
        accept(&near, 5, 1_001, (13, 14));
        assert_eq!(shown(&near, 1, 20), Some(5));
        near.learn(video(1), 3, at(15));
        assert_eq!(shown(&near, 1, 20), Some(3));
        accept(&near, 4, 900, (16, 17));
        assert_eq!(shown(&near, 1, 20), Some(3), "an older version");
    }

    #[test]
    fn what_was_written_elsewhere_is_asked_for() {
        let near = near(1 << 16);
        near.learn(video(1), 5, at(1));
        near.forget(video(1), at(4));
        near.learn(video(1), 5, at(3));
        assert_eq!(shown(&near, 1, 5), None);
        near.learn(video(1), 6, at(5));
        near.forget(video(1), at(4));
        assert_eq!(shown(&near, 1, 6), Some(6), "asked for afterwards");
        near.forget(video(2), at(4));
        near.learn(video(2), 1, at(4));
        assert_eq!(shown(&near, 2, 6), None, "nothing was known");
    }

    #[test]
    fn a_like_that_does_not_know_of_what_came_meanwhile_does_not_hide_it() {
        for meanwhile in
            [|near: &NearCache| near.forget(video(1), at(11)), |near: &NearCache| near.learn(video(1), 8, at(11))]
        {
            let near = near(1 << 16);
            meanwhile(&near);
            accept(&near, 6, 1_000, (10, 12));
            assert_eq!(shown(&near, 1, 13), None);
            near.learn(video(1), 8, at(12));
            assert_eq!(shown(&near, 1, 13), None, "it may not know of the like");
            near.learn(video(1), 9, at(13));
            assert_eq!(near.show(&[video(1)], Version(1_000), at(14)), [Some(9)]);
        }
    }

    #[test]
    fn a_caller_may_name_the_least_version() {
        let near = near(1 << 16);
        let shown = |least| near.show(&[video(1)], Version(least), at(20))[0];
        near.learn(video(1), 5, at(1));
        assert_eq!((shown(0), shown(1)), (Some(5), None));
        accept(&near, 6, 1_000, (10, 12));
        assert_eq!((shown(1_000), shown(1_001)), (Some(6), None));
        near.learn(video(1), 7, at(13));
        assert_eq!((shown(1_000), shown(1_001)), (Some(7), None), "it was read after that one");
    }

    /// Whatever is asked for: memory is what was allowed, and a like that made room is not forgotten.
    #[test]
    fn it_is_bounded_and_what_makes_room_is_remembered() {
        let near = near(3 * size_of::<Mutex<Set>>());
        assert_eq!(near.sets.len(), 3);
        accept(&near, 6, 1_000, (10, 12));
        (2..1_000).for_each(|id| near.learn(video(id), id, at(20)));
        assert_eq!(shown(&near, 1, 21), None, "the oldest one has made room");
        near.learn(video(1), 5, at(11));
        assert_eq!(shown(&near, 1, 21), None, "a read from before the like");
        near.learn(video(1), 6, at(21));
        assert_eq!(shown(&near, 1, 22), Some(6));
        let kept = (2..1_000).filter(|id| shown(&near, *id, 22).is_some()).count();
        assert_eq!(kept, 3 * WAYS - 1);
    }

    #[test]
    fn it_can_be_switched_off() {
        assert!(NearCache::new(&NearCacheConfig { enabled: false, ..NearCacheConfig::default() }).is_none());
        assert!(near(1).sets.len() == 1, "no room is as little as possible");
    }
}
