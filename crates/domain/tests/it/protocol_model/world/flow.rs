//! From the servers' memory and the journal to the database, and back to the cache.

use super::super::Bug;
use super::super::database::Event;
use super::{REPUBLISH_AFTER, SERVERS, World};
use domain::cache::Settlement;
use domain::{Resource, Version};
use std::collections::BTreeMap;

impl World {
    pub(in crate::protocol_model) fn relay(&mut self) {
        let server = self.dice.below(SERVERS);
        let size = (1 + self.dice.below(5)).min(self.servers[server].memory.len());
        if size == 0 {
            return;
        }
        let batch: Vec<Event> = self.servers[server].memory.drain(..size).collect();
        if !self.publish_or_apply(&batch) {
            // The confirm got lost: published, and published again later.
            self.servers[server].memory.splice(0..0, batch);
        }
    }

    /// Entries that the consumers passed, or that no queue holds, are published again.
    pub(in crate::protocol_model) fn rescue(&mut self) {
        if !self.cache_up || self.bug == Some(Bug::NoRescuer) {
            return;
        }
        self.clock += 1;
        let (now, reached, idle) = (self.clock.max(self.cache.last.0), self.cache.settled_up_to, self.queue.is_empty());
        let due = self.cache.journal.iter().filter(|(version, _)| {
            now - version.0 > REPUBLISH_AFTER && (idle || reached.0 - version.0 > REPUBLISH_AFTER)
        });
        let batch: Vec<Event> = due
            .take(5)
            .map(|(version, (pair, action))| Event { pair: *pair, action: *action, version: *version })
            .collect();
        if !batch.is_empty() {
            self.note(|| format!("rescue {} from {}", batch.len(), batch[0].version));
            self.publish_or_apply(&batch);
        }
    }

    /// Whether the batch is known to be published or applied.
    fn publish_or_apply(&mut self, batch: &[Event]) -> bool {
        if !self.broker_up {
            let settlement = self.database.apply(batch);
            self.note(|| format!("apply directly {}", names(batch)));
            self.settle(&settlement);
            return true;
        }
        self.note(|| format!("publish {}", names(batch)));
        self.queue.push(batch.to_vec());
        if self.bug == Some(Bug::JournalDeletedAtPublish) {
            for event in batch {
                self.cache.settled += u64::from(self.cache.journal.remove(&event.version).is_some());
            }
        }
        if self.dice.chance(self.faults.duplicate) {
            self.queue.push(batch.to_vec());
        }
        !self.dice.chance(self.faults.crash)
    }

    pub(in crate::protocol_model) fn consume(&mut self) {
        if self.queue.is_empty() || !self.broker_up {
            return;
        }
        let out_of_order = self.dice.chance(self.faults.reorder);
        let pick = if out_of_order { self.dice.below(self.queue.len()) } else { 0 };
        let mut batch = self.queue[pick].clone();
        if self.dice.chance(self.faults.crash) {
            return;
        }
        if self.bug == Some(Bug::SettledBeforeCommit) {
            let early = batch.iter().map(|event| self.early_settlement(*event)).collect::<Vec<_>>();
            early.iter().for_each(|settlement| self.settle(settlement));
            self.queue.remove(pick);
            if self.dice.chance(self.faults.crash) {
                return;
            }
            self.database.apply(&batch);
            return;
        }
        let mut settlements = Vec::new();
        if self.dice.chance(self.faults.poison) {
            let bad = batch.remove(self.dice.below(batch.len()));
            settlements.push(self.database.park(bad));
        }
        settlements.push(self.database.apply(&batch));
        self.note(|| format!("commit {}", names(&batch)));
        if self.dice.chance(self.faults.crash) {
            return;
        }
        if self.dice.chance(self.faults.slow_settle) {
            self.late.append(&mut settlements);
        }
        settlements.iter().for_each(|settlement| self.settle(settlement));
        if !self.dice.chance(self.faults.crash) {
            self.queue.remove(pick);
        }
    }

    fn early_settlement(&self, event: Event) -> Settlement {
        let mut settlement = self.database.reread(event.pair.resource, &[]);
        settlement.resources[0].entries.push(event.version);
        settlement
    }

    pub(in crate::protocol_model) fn retry_parked(&mut self) {
        if !self.database.parked.is_empty() {
            let pick = self.dice.below(self.database.parked.len());
            let event = self.database.parked.swap_remove(pick);
            let settlement = self.database.apply(&[event]);
            self.note(|| format!("retry {}", names(&[event])));
            self.settle(&settlement);
        }
    }

    pub(in crate::protocol_model) fn discard(&mut self) {
        if !self.database.parked.is_empty() {
            let pick = self.dice.below(self.database.parked.len());
            let event = self.database.discard(pick);
            self.note(|| format!("discard {}", names(&[event])));
        }
    }

    pub(super) fn settle_now_or_late(&mut self, settlement: Settlement) {
        if self.dice.chance(self.faults.slow_settle) {
            self.late.push(settlement);
        } else {
            self.settle(&settlement);
        }
    }

    pub(in crate::protocol_model) fn settle_late(&mut self) {
        if !self.late.is_empty() {
            let pick = self.dice.below(self.late.len());
            let settlement = self.late.swap_remove(pick);
            self.settle(&settlement);
        }
    }

    /// Nothing happens while the cache is unreachable: the entries are still in the journal.
    pub(super) fn settle(&mut self, settlement: &Settlement) {
        if !self.cache_up {
            return;
        }
        self.note(|| format!("settle {}", told(settlement)));
        let before: BTreeMap<_, _> = self.cache.counters.iter().map(|(r, held)| (*r, held.count.served)).collect();
        self.cache.settle(settlement);
        for (resource, served) in before {
            let after = self.cache.counters.get(&resource).map(|held| held.count.served);
            if self.in_journal(resource) > 0 && !self.uncounted.contains(&resource) && after != Some(served) {
                self.broken.push(format!("{resource} went from {served} to {after:?} while it had pending entries"));
            }
        }
    }

    pub(super) fn in_journal(&self, resource: Resource) -> usize {
        self.cache.journal.values().filter(|(pair, _)| pair.resource == resource).count()
    }
}

fn names(events: &[Event]) -> String {
    let name = |event: &Event| format!("{} of {} at {}", event.action.name(), event.pair, event.version);
    events.iter().map(name).collect::<Vec<_>>().join(", ")
}

fn told(settlement: &Settlement) -> String {
    let counts = settlement.resources.iter().map(|settled| {
        let entries: Vec<String> = settled.entries.iter().map(Version::to_string).collect();
        let stored = settled.stored.map(|stored| format!("{} at revision {}", stored.count, stored.revision));
        format!("{} entries [{}] count {stored:?}", settled.resource, entries.join(" "))
    });
    let pairs = settlement.pairs.iter().map(|(pair, row)| format!("{pair} is {} at {}", row.liked, row.version));
    counts.chain(pairs).collect::<Vec<_>>().join(", ")
}
