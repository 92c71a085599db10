//! From the servers' memory and the journal to the database, and back to the cache.

use super::Bug;
use super::state::{CONSUMERS, Count, Delivery, Event, Lane, Message, RESOURCES, SERVERS, Settlement, resource_of};
use super::world::World;

/// Messages in one consumer's hands.
const PREFETCH: usize = 2;
/// Entries older than this are looked after.
const REPUBLISH_AFTER: i64 = 60;

impl World {
    pub(super) fn relay(&mut self) {
        let server = self.dice.below(SERVERS);
        let size = (1 + self.dice.below(2)).min(self.servers[server].memory.len());
        if size == 0 {
            return;
        }
        let batch: Vec<Event> = self.servers[server].memory.drain(..size).collect();
        if self.broker_up {
            self.publish(batch.clone());
            if !self.calm && self.dice.chance(10) {
                // The confirm got lost: published again.
                self.servers[server].memory.extend(batch);
            } else {
                self.servers[server].kept.retain(|event| !batch.contains(event));
            }
            return;
        }
        let Some(settlement) = self.write(server, &batch) else {
            self.servers[server].memory.extend(batch);
            return;
        };
        self.note(|| format!("server {server} applies {batch:?}"));
        if self.rules.log && !self.has(Bug::DirectlyAppliedUnlogged) {
            // The entries stay in the journal until the log has them.
            self.servers[server].unlogged.extend(batch);
            if self.is_met() {
                self.tell(&Settlement { entries: Vec::new(), ..settlement });
            }
        } else {
            self.servers[server].kept.retain(|event| !batch.contains(event));
            self.tell(&settlement);
        }
    }

    fn publish(&mut self, events: Vec<Event>) {
        self.note(|| format!("publish {events:?}"));
        let message = Message { offset: self.log_end, events };
        self.log_end += 1;
        self.append_to_log(&message);
        self.queue.push_back(message);
    }

    fn append_to_log(&mut self, message: &Message) {
        if self.rules.log && !self.has(Bug::LogSkipped) {
            self.log.push_back(message.clone());
        }
    }

    /// What was applied directly or degraded joins the log; then its entries may go.
    pub(super) fn log_later(&mut self) {
        let server = self.dice.below(SERVERS);
        if !self.broker_up || !self.rules.log || self.servers[server].unlogged.is_empty() {
            return;
        }
        let events = std::mem::take(&mut self.servers[server].unlogged);
        self.note(|| format!("server {server} logs {events:?}"));
        // The database may have gone back since; who sees that applies these again, and so does the queue.
        self.publish(events);
    }

    /// Old entries are published again, unless the queue merely has a backlog.
    pub(super) fn rescue(&mut self) {
        if !self.broker_up || !self.queue.is_empty() {
            return;
        }
        let due = self.redis_time() - REPUBLISH_AFTER;
        let batch: Vec<Event> = self.redis.journal.range(..due).take(3).map(|(_, event)| *event).collect();
        if !batch.is_empty() {
            self.publish(batch);
        }
    }

    /// A server asks which of the events it keeps are still in the journal.
    pub(super) fn look_for_kept(&mut self) {
        let server = self.dice.below(SERVERS);
        if self.servers[server].cut || self.servers[server].kept.is_empty() {
            return;
        }
        self.ask(server);
        let journal = self.redis.journal.keys().copied().collect();
        let one = &mut self.servers[server];
        one.looked = Some((one.floor, journal));
    }

    /// What was not there was settled, unless the cache went back; and unless it came after the look.
    pub(super) fn forget_kept(&mut self) {
        let server = self.dice.below(SERVERS);
        let later = !self.has(Bug::LookCoversLater);
        let one = &mut self.servers[server];
        let Some((up_to, journal)) = one.looked.take() else { return };
        let memory = one.memory.clone();
        one.kept.retain(|event| {
            let version = event.state.version;
            later && version > up_to || journal.contains(&version) || memory.contains(event)
        });
    }

    // --- consumers

    pub(super) fn deliver(&mut self) {
        let consumer = self.dice.below(CONSUMERS);
        if !self.broker_up || self.consumers[consumer].hand.len() >= PREFETCH {
            return;
        }
        if let Some(message) = self.queue.pop_front() {
            self.consumers[consumer].hand.push(Delivery { message, committed: None });
        }
    }

    pub(super) fn consume(&mut self) {
        let consumer = self.dice.below(CONSUMERS);
        let held = self.consumers[consumer].hand.len();
        if held == 0 {
            return;
        }
        let pick = self.dice.below(held);
        if self.consumers[consumer].hand[pick].committed.is_some() {
            return self.settle_and_acknowledge(consumer, pick);
        }
        let events = self.consumers[consumer].hand[pick].message.events.clone();
        if let Some(settlement) = self.write(SERVERS + consumer, &events) {
            self.note(|| format!("consumer {consumer} commits {events:?}"));
            self.consumers[consumer].hand[pick].committed = Some(settlement);
        }
    }

    fn settle_and_acknowledge(&mut self, consumer: usize, pick: usize) {
        // A writer that lost nothing finds its number and still reads what others have lost: it waits for all of them.
        if self.is_latched(SERVERS + consumer) && !self.has(Bug::UnlatchedSettle) || !self.is_met() {
            return;
        }
        let delivery = self.consumers[consumer].hand.remove(pick);
        // The cache may be out of reach: the entries are still in the journal.
        if let Some(settlement) = delivery.committed
            && (self.calm || !self.dice.chance(10))
        {
            if !self.calm && self.dice.chance(15) {
                self.late.push(settlement);
                return;
            }
            self.note(|| format!("consumer {consumer} settles {:?}", settlement.entries));
            self.tell(&settlement);
        }
    }

    pub(super) fn settle_late(&mut self) {
        if !self.late.is_empty() {
            let pick = self.dice.below(self.late.len());
            let settlement = self.late.swap_remove(pick);
            self.note(|| format!("a late settlement of {:?}: {:?}", settlement.entries, settlement.counts));
            self.tell(&settlement);
        }
    }

    // --- the database

    /// Every writer has found its number in this primary.
    pub(super) fn is_met(&self) -> bool {
        !self.rules.numbers || self.mysql.met == self.mysql_backs || self.has(Bug::NewDatabaseBelieved)
    }

    pub(super) fn is_latched(&self, process: usize) -> bool {
        self.recovery.is_some() || self.writer(process).latched
    }

    fn writer(&self, process: usize) -> &super::state::Writer {
        match process.checked_sub(SERVERS) {
            None => &self.servers[process].writer,
            Some(consumer) => &self.consumers[consumer].writer,
        }
    }

    fn writer_mut(&mut self, process: usize) -> &mut super::state::Writer {
        match process.checked_sub(SERVERS) {
            None => &mut self.servers[process].writer,
            Some(consumer) => &mut self.consumers[consumer].writer,
        }
    }

    /// The number that the database has of this writer is the writer's own; otherwise the database went back.
    pub(super) fn number_is_known(&mut self, process: usize) -> bool {
        let writer = *self.writer(process);
        let stored = self.mysql.lanes.get(&writer.lane).map_or(0, |lane| lane.number);
        if !self.rules.numbers || stored == writer.number || self.has(Bug::WentBackIgnored) {
            return true;
        }
        self.note(|| format!("process {process} sees that the database went back, {stored} not {}", writer.number));
        self.writer_mut(process).latched = !self.has(Bug::UnlatchedSettle);
        self.recovery_wanted = true;
        self.has(Bug::UnlatchedSettle)
    }

    /// One transaction of a process; what it read, if it committed.
    pub(super) fn write(&mut self, process: usize, events: &[Event]) -> Option<Settlement> {
        let locked =
            |event: &Event| self.direct.is_some_and(|direct| resource_of(direct.event.pair) == resource_of(event.pair));
        if events.iter().any(locked) || (self.is_latched(process) && !self.has(Bug::UnlatchedSettle)) {
            return None;
        }
        if !self.number_is_known(process) {
            return None;
        }
        let hand = process.checked_sub(SERVERS).map(|consumer| &self.consumers[consumer].hand);
        let oldest = hand.into_iter().flatten().map(|delivery| delivery.message.offset).min();
        let (end, lane) = (self.log_end, self.writer(process).lane);
        let stored = self.mysql.lanes.get(&lane).copied().unwrap_or_default();
        let number = stored.number.max(self.writer(process).number) + 1;
        self.writer_mut(process).number = number;
        let oldest = oldest.unwrap_or(if process < SERVERS { usize::MAX } else { end });
        // A database that not everybody has met keeps saying where the log is to be read from.
        let met = self.is_met() || self.has(Bug::LaneAdvancedUnmet);
        self.mysql.lanes.insert(lane, Lane { number, oldest: if met { oldest } else { stored.oldest.min(oldest) } });
        self.mysql.log_end = end;
        let mut settlement = self.apply(events);
        settlement.lane = Some((lane, number));
        self.save_mysql();
        Some(settlement)
    }

    /// Folds events into their rows; versions decide.
    pub(super) fn apply(&mut self, events: &[Event]) -> Settlement {
        let mut touched = [false; RESOURCES];
        let mut settlement =
            Settlement { entries: events.to_vec(), pairs: vec![], counts: vec![], lane: None, lacking: self.lacks() };
        for event in events {
            let row = self.mysql.rows[event.pair];
            let resource = resource_of(event.pair);
            touched[resource] = true;
            if event.state.version > row.version {
                self.mysql.rows[event.pair] = event.state;
                let step = i64::from(event.state.liked) - i64::from(row.liked);
                if step != 0 {
                    let revision = self.next_revision(resource);
                    let count = &mut self.mysql.counts[resource];
                    (count.live, count.revision) = (count.live + step, revision);
                }
            }
        }
        settlement.pairs = events.iter().map(|event| (event.pair, self.mysql.rows[event.pair])).collect();
        let counts = (0..RESOURCES).filter(|resource| touched[*resource]);
        settlement.counts = counts.map(|resource| (resource, self.mysql.counts[resource])).collect();
        settlement
    }

    /// Later than every revision before, also one that a database which went back has forgotten.
    pub(super) fn next_revision(&self, resource: usize) -> i64 {
        let next = self.mysql.counts[resource].revision + 1;
        let clock = if self.has(Bug::RevisionByDatabaseClock) { self.clock + self.mysql_offset } else { self.clock };
        if self.rules.numbers && !self.has(Bug::RevisionPlusOne) { next.max(clock) } else { next }
    }

    // --- the cache hears

    /// `settle.lua`.
    pub(super) fn tell(&mut self, settlement: &Settlement) {
        let mut removed = [0; RESOURCES];
        for event in &settlement.entries {
            if self.redis.journal.remove(&event.state.version).is_some() {
                removed[resource_of(event.pair)] += 1;
                self.check_left_journal(*event);
            }
        }
        for (resource, removed) in removed.into_iter().enumerate() {
            let stored = settlement.counts.iter().find(|(told, _)| *told == resource).map(|(_, count)| *count);
            self.tell_count(resource, removed, stored, settlement.lacking);
        }
        for (pair, row) in &settlement.pairs {
            if let Some(held) = &mut self.redis.pairs[*pair]
                && held.version < row.version
            {
                *held = *row;
            }
            self.redis.last = self.redis.last.max(row.version);
        }
        if let Some((lane, number)) = settlement.lane {
            let known = self.redis.lanes.entry(lane).or_default();
            *known = (*known).max(number);
        }
        self.save_redis();
    }

    fn tell_count(&mut self, resource: usize, removed: i64, stored: Option<Count>, lacking: bool) {
        let Some(before) = self.redis.counters[resource] else { return };
        if let Some(told) = stored.filter(|told| told.revision > self.mysql.counts[resource].revision && self.is_met())
        {
            let own = self.mysql.counts[resource];
            self.breaks(
                11,
                format!("resource {resource} is told {told:?}, which the database's own {own:?} cannot beat"),
            );
        }
        let mut counter = before;
        counter.pending = (counter.pending - removed).max(0);
        if let Some(stored) = stored.filter(|stored| stored.revision > counter.revision) {
            (counter.stored, counter.revision) = (stored.live, stored.revision);
        }
        // Each pending entry can have changed the count by one, and nothing else can.
        let (low, high) = (counter.stored - counter.pending, counter.stored + counter.pending);
        counter.served = counter.served.min(high).max(low).max(0);
        self.redis.counters[resource] = Some(counter);
        if lacking {
            self.check_not_believed(resource, before.served, counter.served);
        }
    }

    /// The cache hears of what was written around it.
    pub(super) fn refresh(&mut self) {
        if !self.is_met() {
            return;
        }
        for pair in 0..self.mysql.dirty.len() {
            if std::mem::take(&mut self.mysql.dirty[pair]) {
                let settlement = self.reread(pair);
                self.tell(&settlement);
                self.save_mysql();
            }
        }
    }

    /// What the cache is told of one pair outside of any batch.
    pub(super) fn reread(&self, pair: usize) -> Settlement {
        let resource = resource_of(pair);
        Settlement {
            entries: Vec::new(),
            pairs: vec![(pair, self.mysql.rows[pair])],
            counts: vec![(resource, self.mysql.counts[resource])],
            lane: None,
            lacking: self.lacks(),
        }
    }
}
