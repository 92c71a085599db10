//! What is watched, and its newest counts. No I/O and no clock: rounds of reading are numbered.

use super::{LiveConfig, LiveError, LiveUpdate};
use crate::read::ReadError;
use domain::Resource;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    slots: HashMap<Resource, Slot>,
    streams: usize,
    last_stream: u64,
    /// Number of the round that began last.
    round: u64,
    /// Of streams that wait for their first counts.
    asked: HashSet<Resource>,
    failures: u64,
    last_failure: Option<ReadError>,
}

/// A count as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shown {
    count: i64,
    degraded: bool,
}

/// One resource.
#[derive(Debug, Default)]
struct Slot {
    newest: Option<Shown>,
    /// The round that read it; 0 for none.
    read_in: u64,
    /// Somebody waits for a round after this one.
    awaited: Option<u64>,
    watchers: BTreeMap<u64, Arc<Notify>>,
}

impl Slot {
    fn wake(&mut self) {
        self.watchers.values().for_each(|watcher| watcher.notify_one());
    }
}

/// A stream's place among the subscriptions: what it watches, and what it was told last.
#[derive(Debug)]
pub(super) struct Subscriber {
    id: u64,
    /// First counts come from a later round than this one: they must not be older than the stream.
    since: u64,
    failures: u64,
    told: Vec<(Resource, Option<Shown>)>,
}

impl Subscriptions {
    pub(super) const fn streams(&self) -> usize {
        self.streams
    }

    pub(super) fn resources(&self) -> usize {
        self.slots.len()
    }

    /// A new stream, which is woken through `watcher`.
    pub(super) fn join(
        &mut self,
        resources: &[Resource],
        watcher: &Arc<Notify>,
        limits: &LiveConfig,
    ) -> Result<Subscriber, LiveError> {
        let mut seen = HashSet::new();
        let distinct: Vec<Resource> = resources.iter().copied().filter(|resource| seen.insert(*resource)).collect();
        let new = distinct.iter().filter(|resource| !self.slots.contains_key(resource)).count();
        if self.streams >= limits.max_streams {
            return Err(LiveError::Streams(limits.max_streams));
        }
        if self.slots.len() + new > limits.max_resources {
            return Err(LiveError::Resources(limits.max_resources));
        }
        self.streams += 1;
        self.last_stream += 1;
        let (id, since) = (self.last_stream, self.round);
        for resource in &distinct {
            let slot = self.slots.entry(*resource).or_default();
            slot.watchers.insert(id, Arc::clone(watcher));
            slot.awaited = Some(since);
            self.asked.insert(*resource);
        }
        let told = distinct.into_iter().map(|resource| (resource, None)).collect();
        Ok(Subscriber { id, since, failures: self.failures, told })
    }

    pub(super) fn leave(&mut self, subscriber: &Subscriber) {
        self.streams = self.streams.saturating_sub(1);
        for (resource, _) in &subscriber.told {
            let Entry::Occupied(mut slot) = self.slots.entry(*resource) else { continue };
            slot.get_mut().watchers.remove(&subscriber.id);
            if slot.get().watchers.is_empty() {
                slot.remove();
                self.asked.remove(resource);
            }
        }
    }

    /// A round begins: its number, and what it is to read.
    pub(super) fn begin(&mut self, everything: bool) -> (u64, Vec<Resource>) {
        self.round += 1;
        let asked = self.asked.drain();
        let resources = if everything {
            drop(asked);
            self.slots.keys().copied().collect()
        } else {
            asked.collect()
        };
        (self.round, resources)
    }

    /// What a round read.
    pub(super) fn publish(&mut self, round: u64, resources: &[Resource], counts: &[i64], degraded: bool) {
        for (resource, count) in resources.iter().zip(counts) {
            // Nobody may be left who watches it.
            let Some(slot) = self.slots.get_mut(resource) else { continue };
            let shown = Some(Shown { count: *count, degraded });
            let awaited = slot.awaited.is_some_and(|since| round > since);
            let changed = slot.newest != shown;
            slot.newest = shown;
            slot.read_in = round;
            if awaited {
                slot.awaited = None;
            }
            if awaited || changed {
                slot.wake();
            }
        }
    }

    /// Neither store could say: who waits for first counts must not wait longer.
    pub(super) fn fail(&mut self, resources: &[Resource], error: &ReadError) {
        self.failures += 1;
        self.last_failure = Some(error.clone());
        for resource in resources {
            let Some(slot) = self.slots.get_mut(resource) else { continue };
            if slot.awaited.is_some() {
                slot.wake();
            }
        }
    }

    /// Why first counts could not be read since the stream began.
    pub(super) fn failure(&self, subscriber: &Subscriber) -> Option<ReadError> {
        self.last_failure.clone().filter(|_| self.failures != subscriber.failures)
    }

    /// What the stream was not told yet; at first everything or nothing.
    pub(super) fn news(&self, subscriber: &mut Subscriber) -> Option<LiveUpdate> {
        let since = subscriber.since;
        let newest = |resource: &Resource| self.slots.get(resource).filter(|slot| slot.read_in > since)?.newest;
        let first = subscriber.told.iter().any(|(_, told)| told.is_none());
        if first && subscriber.told.iter().any(|(resource, _)| newest(resource).is_none()) {
            return None;
        }
        let mut update = LiveUpdate { counts: Vec::new(), degraded: false };
        for (resource, told) in &mut subscriber.told {
            let now = newest(resource);
            let Some(shown) = now.filter(|_| now != *told) else { continue };
            *told = now;
            update.counts.push((*resource, shown.count));
            update.degraded |= shown.degraded;
        }
        (!update.counts.is_empty()).then_some(update)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::ResourceType;

    fn video(id: i64) -> Resource {
        Resource::new(ResourceType::Video, id).unwrap()
    }

    fn join(subscriptions: &mut Subscriptions, ids: &[i64]) -> Subscriber {
        let resources: Vec<Resource> = ids.iter().copied().map(video).collect();
        subscriptions.join(&resources, &Arc::default(), &LiveConfig::default()).unwrap()
    }

    fn read(subscriptions: &mut Subscriptions, counts: &[(i64, i64)]) {
        let (round, _) = subscriptions.begin(true);
        let resources: Vec<Resource> = counts.iter().map(|(id, _)| video(*id)).collect();
        let counts: Vec<i64> = counts.iter().map(|(_, count)| *count).collect();
        subscriptions.publish(round, &resources, &counts, false);
    }

    fn news(subscriptions: &Subscriptions, subscriber: &mut Subscriber) -> Vec<(i64, i64)> {
        let update = subscriptions.news(subscriber);
        update.map_or_else(Vec::new, |update| update.counts.iter().map(|(r, count)| (r.id.get(), *count)).collect())
    }

    #[test]
    fn who_asks_late_gets_the_newest_and_no_history() {
        let mut subscriptions = Subscriptions::default();
        let mut subscriber = join(&mut subscriptions, &[1, 2, 1]);
        assert_eq!(subscriptions.begin(false).1.len(), 2, "each resource once");
        read(&mut subscriptions, &[(1, 10), (2, 20)]);
        assert_eq!(news(&subscriptions, &mut subscriber), [(1, 10), (2, 20)]);
        assert_eq!(news(&subscriptions, &mut subscriber), []);
        (11..=99).for_each(|count| read(&mut subscriptions, &[(1, count), (2, 20)]));
        assert_eq!(news(&subscriptions, &mut subscriber), [(1, 99)]);
        read(&mut subscriptions, &[(1, 100), (2, 20)]);
        read(&mut subscriptions, &[(1, 99), (2, 20)]);
        assert_eq!(news(&subscriptions, &mut subscriber), [], "back to what was told");
    }

    #[test]
    fn first_counts_are_never_older_than_the_stream() {
        let mut subscriptions = Subscriptions::default();
        let _other = join(&mut subscriptions, &[1]);
        read(&mut subscriptions, &[(1, 5)]);
        let (round, resources) = subscriptions.begin(true);
        let mut subscriber = join(&mut subscriptions, &[1, 2]);
        subscriptions.publish(round, &resources, &[6], false);
        assert_eq!(news(&subscriptions, &mut subscriber), [], "that round had begun before the stream");
        let (round, mut asked) = subscriptions.begin(false);
        asked.sort_unstable();
        assert_eq!(asked, [video(1), video(2)]);
        subscriptions.publish(round, &asked, &[7, 0], true);
        let update = subscriptions.news(&mut subscriber).unwrap();
        assert_eq!(update, LiveUpdate { counts: vec![(video(1), 7), (video(2), 0)], degraded: true });
        // That the cache is back is news, though the counts are the same.
        read(&mut subscriptions, &[(1, 7), (2, 0)]);
        assert_eq!(
            subscriptions.news(&mut subscriber).map(|update| (update.counts.len(), update.degraded)),
            Some((2, false))
        );
    }

    #[test]
    fn nothing_is_left_of_streams_that_ended() {
        let mut subscriptions = Subscriptions::default();
        let limits = LiveConfig { max_streams: 2, max_resources: 3, ..LiveConfig::default() };
        let try_join = |subscriptions: &mut Subscriptions, ids: &[i64]| {
            let resources: Vec<Resource> = ids.iter().copied().map(video).collect();
            subscriptions.join(&resources, &Arc::default(), &limits)
        };
        let one = try_join(&mut subscriptions, &[1, 2]).unwrap();
        assert_eq!(try_join(&mut subscriptions, &[3, 4]).unwrap_err(), LiveError::Resources(3));
        let other = try_join(&mut subscriptions, &[2, 3]).unwrap();
        assert_eq!(try_join(&mut subscriptions, &[1]).unwrap_err(), LiveError::Streams(2));
        subscriptions.leave(&one);
        assert_eq!((subscriptions.streams(), subscriptions.resources()), (1, 2));
        subscriptions.leave(&other);
        assert_eq!((subscriptions.streams(), subscriptions.resources(), subscriptions.asked.len()), (0, 0, 0));
    }

    #[test]
    fn a_failure_ends_the_wait_for_first_counts() {
        let mut subscriptions = Subscriptions::default();
        let subscriber = join(&mut subscriptions, &[1]);
        assert!(subscriptions.failure(&subscriber).is_none());
        let (_, asked) = subscriptions.begin(false);
        subscriptions.fail(&asked, &ReadError("both are unreachable".to_owned()));
        assert_eq!(subscriptions.failure(&subscriber).unwrap().to_string(), "unavailable: both are unreachable");
        let later = join(&mut subscriptions, &[1]);
        assert!(subscriptions.failure(&later).is_none(), "that was before this one began");
    }
}
