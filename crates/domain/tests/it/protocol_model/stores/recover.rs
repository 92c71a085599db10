//! Noticing that the database went back, and telling it again.

use super::Bug;
use super::state::{CONSUMERS, Event, Lane, PAIRS, RESOURCES, Recovery, SERVERS, Settlement, resource_of};
use super::world::World;

impl World {
    /// A consumer writes down its lane before it takes its first message: whatever it will get is not older than what others had.
    pub(super) fn register(&mut self, consumer: usize) {
        if self.has(Bug::LaneRegisteredLate) {
            return;
        }
        let oldest = self.oldest();
        let lane = self.consumers[consumer].writer.lane;
        self.consumers[consumer].writer.number = 1;
        self.mysql.lanes.insert(lane, Lane { number: 1, oldest });
        self.save_mysql();
    }

    /// Everything before this place in the log is in this database, whatever point in time it is from.
    fn oldest(&self) -> usize {
        let oldest = self.mysql.lanes.values().map(|lane| lane.oldest).min().filter(|oldest| *oldest != usize::MAX);
        oldest.unwrap_or(0)
    }

    /// Writers without work look at their numbers, and whoever has the lease at those that were settled.
    pub(super) fn patrol(&mut self) {
        if !self.rules.numbers || self.has(Bug::WentBackIgnored) {
            return;
        }
        let process = self.dice.below(SERVERS + CONSUMERS);
        self.number_is_known(process);
        let behind = |lane: &usize, number: &u32| self.mysql.lanes.get(lane).is_none_or(|lane| lane.number < *number);
        self.recovery_wanted |= self.redis.lanes.iter().any(|(lane, number)| behind(lane, number));
        if self.mysql.met != self.mysql_backs && self.recovery.is_none() && !self.recovery_wanted {
            // A new primary: everybody is asked.
            let known = (0..SERVERS + CONSUMERS).all(|process| self.number_is_known(process));
            if known {
                self.mysql.met = self.mysql_backs;
                self.save_mysql();
            }
        }
    }

    /// One step of a recovery; it may stop after each, and begin again.
    pub(super) fn recover(&mut self) {
        let Some(stage) = self.recovery else {
            if self.recovery_wanted {
                self.note(|| "recovery begins".to_owned());
                self.recovery = Some(Recovery::Memory);
                self.recovery_backs = self.mysql_backs;
            }
            return;
        };
        // The recovery is a writer, too, and sees when the database goes back under it.
        let again = self.recovery_backs != self.mysql_backs || (!self.calm && self.dice.chance(5));
        if again {
            self.reapplied.clear();
            self.recovery_backs = self.mysql_backs;
            self.recovery = Some(Recovery::Memory);
            return;
        }
        let pointed = if self.has(Bug::ReplayFromPointOfReturn) { self.mysql.log_end } else { self.oldest() };
        self.recovery = match stage {
            Recovery::Memory => {
                let events = if self.has(Bug::MemoryForgotten) { Vec::new() } else { self.remembered() };
                self.reapply(&events);
                Some(Recovery::Log(pointed))
            }
            Recovery::Log(from) => {
                let next = self.log.iter().find(|message| message.offset >= from).cloned();
                match next {
                    Some(message) => {
                        self.reapply(&message.events);
                        Some(Recovery::Log(message.offset + 1))
                    }
                    None => Some(Recovery::Scan),
                }
            }
            Recovery::Scan => {
                let events = if self.has(Bug::ScanSkipped) { Vec::new() } else { self.scanned() };
                self.reapply(&events);
                Some(Recovery::Recount)
            }
            Recovery::Recount => {
                self.recount();
                self.unlatch();
                None
            }
        };
    }

    /// What living processes know that the log may lack.
    fn remembered(&self) -> Vec<Event> {
        self.servers.iter().flat_map(|server| server.unlogged.iter().chain(&server.kept)).copied().collect()
    }

    /// Cached pairs that are newer than their rows, and in no journal.
    fn scanned(&self) -> Vec<Event> {
        // Words can wait for any time before their commit, so the newest row says nothing of what was lost.
        let newest = self.mysql.rows.iter().map(|row| row.version).max().unwrap_or(0);
        let least = if self.has(Bug::ScanFromNewestRow) { newest } else { 0 };
        let held = |pair: usize| self.redis.pairs[pair].map(|state| Event { pair, state });
        let held = |pair: usize| held(pair).filter(|event| event.state.version > least);
        let lost = |event: &Event| {
            event.state.version > self.mysql.rows[event.pair].version
                && !self.redis.journal.contains_key(&event.state.version)
        };
        (0..PAIRS).filter_map(held).filter(lost).collect()
    }

    fn reapply(&mut self, events: &[Event]) {
        let before = self.mysql.rows;
        if self.has(Bug::RecoveredBlindly) {
            events.iter().for_each(|event| self.mysql.rows[event.pair] = event.state);
        } else {
            self.apply(events);
        }
        self.reapplied.extend_from_slice(events);
        self.check_not_lowered(&before);
        self.save_mysql();
    }

    fn recount(&mut self) {
        for resource in 0..RESOURCES {
            let live = (0..PAIRS).filter(|pair| resource_of(*pair) == resource && self.mysql.rows[*pair].liked).count();
            // Above what the cache was told by the database as it was, whatever the clocks say.
            let told = self.redis.counters[resource].map_or(0, |counter| counter.revision);
            let wrong = self.has(Bug::RevisionPlusOne) || self.has(Bug::RevisionByDatabaseClock);
            let revision = self.next_revision(resource).max(if wrong { 0 } else { told + 1 });
            self.mysql.counts[resource] = super::state::Count { live: live as i64, revision };
        }
    }

    fn unlatch(&mut self) {
        let reapplied = std::mem::take(&mut self.reapplied);
        self.check_recovered(&reapplied);
        let known = |lane: usize| self.redis.lanes.get(&lane).copied().unwrap_or(0);
        let mut lanes = self.mysql.lanes.clone();
        for (lane, stored) in &mut lanes {
            stored.number = stored.number.max(known(*lane));
        }
        for lane in self.redis.lanes.keys() {
            lanes.entry(*lane).or_insert(Lane { number: known(*lane), oldest: usize::MAX });
        }
        let writers = self.servers.iter_mut().map(|server| &mut server.writer);
        for writer in writers.chain(self.consumers.iter_mut().map(|consumer| &mut consumer.writer)) {
            let stored = lanes.entry(writer.lane).or_insert(Lane { number: 0, oldest: usize::MAX });
            writer.number = stored.number.max(writer.number);
            stored.number = writer.number;
            writer.latched = false;
        }
        self.mysql.lanes = lanes;
        self.mysql.met = self.mysql_backs;
        // What was committed and not settled is done again.
        for delivery in self.consumers.iter_mut().flat_map(|consumer| &mut consumer.hand) {
            delivery.committed = None;
        }
        (self.recovery_wanted, self.lost) = (false, [0; PAIRS]);
        self.recovered += 1;
        self.save_mysql();
        self.note(|| "recovered".to_owned());
        for pair in 0..PAIRS {
            let settlement = self.reread(pair);
            self.tell(&settlement);
        }
    }

    /// Cached against stored.
    pub(super) fn check(&mut self) {
        let backwards = !self.rules.numbers || self.has(Bug::RepairsCacheBackwards);
        if !backwards && (self.recovery.is_some() || !self.is_met()) {
            return;
        }
        for pair in 0..PAIRS {
            let (row, resource) = (self.mysql.rows[pair], resource_of(pair));
            let stored = self.mysql.counts[resource];
            let idle = self.redis.counters[resource].filter(|counter| counter.pending == 0);
            let lost = self.redis.pairs[pair].is_some_and(|held| held.version > row.version) && self.nothing_open(pair);
            match idle {
                Some(counter) if counter.revision > stored.revision && !backwards => self.recovery_wanted = true,
                Some(counter) if counter.revision >= stored.revision => {
                    if let Some(held) = &mut self.redis.counters[resource] {
                        (held.served, held.stored, held.revision) = (stored.live, stored.live, stored.revision);
                    }
                    if self.lacks() {
                        self.check_not_believed(resource, counter.served, stored.live);
                    }
                }
                _ => {
                    let settlement: Settlement = self.reread(pair);
                    self.tell(&settlement);
                }
            }
            match lost {
                true if backwards => self.redis.pairs[pair] = Some(row),
                true => self.recovery_wanted = true,
                false => {
                    let settlement: Settlement = self.reread(pair);
                    self.tell(&settlement);
                }
            }
        }
        self.save_redis();
    }

    /// No journal entry of this pair.
    fn nothing_open(&self, pair: usize) -> bool {
        self.redis.journal.values().all(|event| event.pair != pair)
    }
}
