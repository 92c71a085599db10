//! What a shard holds: filled from the database, and read.

use super::{Counter, HeldPair, Now, Shard};
use bytes::Bytes;
use domain::cache::{CacheRules, CachedCount, ShardStatus, UNCONFIRMED_TTL};
use domain::{Pair, PairState, Resource, ShardId, StoredCount, Version};

impl Shard {
    pub(crate) fn fill_count(&mut self, resource: Resource, stored: StoredCount, rules: &CacheRules, now: Now) {
        self.accounting.clock = self.accounting.clock.max(stored.last_version.if_possible().0);
        if self.counter(resource, now).is_none() {
            let ttl = rules.counter_ttl.min(UNCONFIRMED_TTL);
            let expires = now.after_confirmed(stored.revision > 0, ttl, rules);
            self.counters.insert(resource, Counter::filled(stored, expires));
        }
    }

    pub(crate) fn fill_state(&mut self, pair: Pair, row: PairState, rules: &CacheRules, now: Now) {
        let row = PairState { version: row.version.if_possible(), ..row };
        match self.pairs.get(&pair).filter(|held| held.is_live(now.us)) {
            Some(held) if held.state().order() < row.order() => held.set_state(row),
            Some(_) => {}
            None => {
                let ttl = rules.pair_ttl.min(UNCONFIRMED_TTL);
                let expires = now.after_confirmed(row.order() > PairState::UNTOUCHED.order(), ttl, rules);
                self.pairs.insert(pair, HeldPair::new(row, false, expires));
            }
        }
    }

    pub(crate) fn count(&mut self, resource: Resource, now: Now) -> Option<CachedCount> {
        self.counter(resource, now).map(|counter| counter.count)
    }

    pub(crate) fn state(&mut self, pair: Pair, now: Now) -> Option<PairState> {
        self.pairs.get(&pair).filter(|held| held.is_live(now.us)).map(|held| held.state())
    }

    pub(super) fn counter(&mut self, resource: Resource, now: Now) -> Option<&mut Counter> {
        self.counters.get(&resource).filter(|counter| counter.count.pending > 0 || counter.expires > now.us)
    }

    pub(crate) fn status(&self, now: Now) -> ShardStatus {
        let oldest = self.journal.first_key_value();
        // Ages must grow also where the wall clock was set back.
        let by_oldest = oldest.map_or(0, |(version, entry)| {
            version.saturating_add(i64::try_from(now.us.saturating_sub(entry.since)).unwrap_or(0))
        });
        ShardStatus {
            shard: ShardId(self.id),
            accepted: self.accounting.accepted,
            settled: self.accounting.settled,
            journal_len: self.journal.len() as u64,
            oldest: oldest.map(|(version, _)| Version(*version)),
            settled_up_to: Version(self.accounting.settled_up_to),
            now: now.wall.max(Version(by_oldest.max(self.accounting.clock))),
        }
    }

    pub(crate) fn page(&self, after: Version, limit: usize) -> Vec<(Version, Bytes)> {
        let later = self.journal.range(after.0.saturating_add(1)..);
        later.take(limit).map(|(version, entry)| (Version(*version), entry.payload.clone())).collect()
    }

    /// Whether no unsettled entry is as old as that clock.
    pub(crate) fn is_settled_up_to(&self, clock: i64) -> bool {
        self.journal.first_key_value().is_none_or(|(oldest, _)| *oldest > clock)
    }
}
