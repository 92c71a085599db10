//! What must be true of a world: always, and at rest.

use super::{RESOURCES, World};
use domain::{Resource, ResourceType};

impl World {
    /// Always.
    pub(in crate::protocol_model) fn check_invariants(&mut self) {
        let (cache, journal) = (&self.cache, self.cache.journal.len() as u64);
        if cache.accepted - cache.settled != journal {
            self.broken.push(format!("{} accepted - {} settled != {journal}", cache.accepted, cache.settled));
        }
        let resources: Vec<Resource> = self.cache.counters.keys().copied().collect();
        for resource in resources {
            let entries = self.in_journal(resource);
            if entries == 0 {
                self.uncounted.remove(&resource);
            }
            let count = self.cache.counters[&resource].count;
            if count.pending != entries as i64 && !self.uncounted.contains(&resource) {
                self.broken.push(format!("{resource} has {entries} entries in the journal, {} pending", count.pending));
            }
            if count.served < 0 {
                self.broken.push(format!("{resource} serves {}", count.served));
            }
        }
    }

    /// At rest.
    pub(in crate::protocol_model) fn check_convergence(&mut self) {
        let mut broken = Vec::new();
        if !self.is_quiet() {
            broken.push(format!("not quiet: journal {:?}, queue {}", self.cache.journal, self.queue.len()));
        }
        for (pair, (action, version)) in &self.acknowledged {
            let row = self.database.row(*pair);
            let given_up = self.database.discarded.contains(&(*pair, *version));
            if given_up && row.version == *version {
                broken.push(format!("{pair}: discarded at {version}, the row is {row:?}"));
            }
            if row.liked != action.liked() && !self.excused.contains(pair) && !given_up {
                broken.push(format!("{pair}: last accepted {action:?} at {version}, the row is {row:?}"));
            }
        }
        for id in 1..=RESOURCES {
            let resource = Resource::new(ResourceType::Video, id).unwrap();
            let live = self.database.rows.iter().filter(|(pair, row)| pair.resource == resource && row.liked).count();
            let stored = self.database.count(resource);
            if stored.count != live as i64 {
                broken.push(format!("{resource}: {live} live rows, stored {stored:?}"));
            }
            if let Some(held) = self.cache.counters.get(&resource)
                && (held.count.served != stored.count || held.count.pending != 0)
            {
                broken.push(format!("{resource}: stored {stored:?}, cached {held:?}"));
            }
        }
        for (pair, held) in &self.cache.pairs {
            let row = self.database.row(*pair);
            if held.state.liked != row.liked {
                broken.push(format!("{pair}: cached {held:?}, the row is {row:?}"));
            }
        }
        self.broken.append(&mut broken);
    }
}
