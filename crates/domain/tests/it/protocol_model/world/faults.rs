//! What goes wrong, and what comes back.

use super::{Bug, Event, SERVERS, Server, World};

impl World {
    pub(in crate::protocol_model) fn kill_server(&mut self) {
        let server = self.dice.below(SERVERS);
        self.note(|| format!("kill server {server}"));
        self.servers[server] = Server::default();
        self.excuse_lost();
    }

    pub(in crate::protocol_model) fn flush_cache(&mut self) {
        self.note(|| "flush".to_owned());
        self.flushed_up_to = self.flushed_up_to.max(self.cache.last);
        self.cache.flush();
        self.uncounted.clear();
        self.excuse_lost();
    }

    pub(in crate::protocol_model) fn wipe_broker(&mut self) {
        self.note(|| "wipe broker".to_owned());
        self.queue.clear();
        self.excuse_lost();
    }

    /// Pairs are evicted or expire at any time, counters only with nothing pending.
    pub(in crate::protocol_model) fn expire(&mut self) {
        let (pair, resource) = (self.random_pair(), self.random_resource());
        if self.dice.chance(50) {
            self.cache.pairs.remove(&pair);
            self.note(|| format!("expire {pair}"));
        }
        let idle = self.cache.counters.get(&resource).is_some_and(|held| held.count.pending == 0);
        if self.dice.chance(50) && (idle || self.bug == Some(Bug::PendingCounterExpires)) {
            self.cache.counters.remove(&resource);
            self.note(|| format!("expire {resource}"));
        }
    }

    pub(in crate::protocol_model) fn step_clock_back(&mut self) {
        self.clock -= self.dice.below(60) as i64;
    }

    /// The link is back: the cache hears of direct writes before it serves again.
    pub(in crate::protocol_model) fn restore_cache(&mut self) {
        if self.cache_up {
            return;
        }
        self.cache_up = true;
        self.refresh();
    }

    /// The cache hears what is on the list.
    pub(in crate::protocol_model) fn refresh(&mut self) {
        if !self.cache_up {
            return;
        }
        for (pair, version) in std::mem::take(&mut self.database.dirty) {
            // The row has what was written directly, or something newer; what was discarded it never has.
            if self.database.row(pair).version < version && self.bug != Some(Bug::DiscardUntold) {
                self.note(|| format!("forget {pair} at {version}"));
                self.cache.forget(pair, version);
            }
            let settlement = self.database.reread(pair.resource, &[pair]);
            self.settle(&settlement);
        }
    }

    /// After a loss: a change that the journal lost in a flush, and now every other store too.
    fn excuse_lost(&mut self) {
        for (pair, (action, version)) in &self.acknowledged {
            let here = |event: &Event| event.pair == *pair && event.version == *version;
            let known = self.database.row(*pair).order() >= (*version, *action)
                || self.cache.journal.get(version).is_some_and(|(held, _)| held == pair)
                || self.queue.iter().flatten().any(here)
                || self.servers.iter().any(|server| server.memory.iter().any(here))
                || self.database.parked.iter().any(here);
            if !known && *version <= self.flushed_up_to {
                self.excused.insert(*pair);
            }
        }
    }
}
