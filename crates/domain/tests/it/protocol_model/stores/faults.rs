//! What goes wrong, and the stores' past.

use super::Bug;
use super::state::{CONSUMERS, Direct, PAIRS, SERVERS};
use super::world::World;

/// How far behind a replica can be.
const PAST: usize = 24;

impl World {
    pub(super) fn save_redis(&mut self) {
        self.redis_past.push_back(self.redis.clone());
        if self.redis_past.len() > PAST {
            self.redis_past.pop_front();
        }
    }

    pub(super) fn save_mysql(&mut self) {
        for (once, row) in self.stored_once.iter_mut().zip(&self.mysql.rows) {
            *once = (*once).max(row.version);
        }
        self.mysql_past.push_back(self.mysql.clone());
        if self.mysql_past.len() > PAST {
            self.mysql_past.pop_front();
        }
    }

    /// Replicas catch up.
    pub(super) fn replicate(&mut self) {
        let (redis, mysql) = (self.redis_past.len(), self.mysql_past.len());
        let (redis, mysql) = (self.dice.below(redis), self.dice.below(mysql));
        self.redis_past.drain(..redis);
        self.mysql_past.drain(..mysql);
    }

    /// A replica that is `k` states behind becomes the primary; its host's clock may be behind, too.
    pub(super) fn redis_back(&mut self) {
        if self.redis_backs >= self.rules.redis_backs {
            return;
        }
        let k = self.dice.below(self.redis_past.len());
        self.redis_past.truncate(self.redis_past.len() - k);
        self.redis = self.redis_past.back().cloned().unwrap_or_default();
        self.redis_backs += 1;
        self.primary += 1;
        self.offset = -(self.dice.below(40) as i64);
        let offset = self.offset;
        self.note(|| format!("the cache goes back by {k}, its clock by {offset}"));
        self.check_held();
    }

    pub(super) fn mysql_back(&mut self) {
        if self.mysql_backs >= self.rules.mysql_backs {
            return;
        }
        let k = self.dice.below(self.mysql_past.len());
        self.mysql_past.truncate(self.mysql_past.len() - k);
        let before = std::mem::replace(&mut self.mysql, self.mysql_past.back().cloned().unwrap_or_default());
        self.lost = before.rows.map(|row| row.version);
        self.direct = None;
        self.mysql_backs += 1;
        self.mysql_offset = -(self.dice.below(400) as i64);
        self.note(|| format!("the database goes back by {k}"));
        self.check_held();
    }

    pub(super) fn kill_server(&mut self) {
        let server = self.dice.below(SERVERS);
        self.note(|| format!("kill server {server}"));
        self.lives[server] += 1;
        self.servers[server] = self.new_server();
        // It has its own clock to begin with.
        self.servers[server].offset = 0;
        self.redis.marks[server] = 0;
        self.direct = self.direct.filter(|direct: &Direct| direct.server != server);
        self.check_held();
    }

    /// What it held is delivered again, before everything else.
    pub(super) fn kill_consumer(&mut self) {
        let consumer = self.dice.below(CONSUMERS);
        self.note(|| format!("kill consumer {consumer}"));
        let hand = std::mem::take(&mut self.consumers[consumer].hand);
        self.queue.extend(hand.into_iter().map(|delivery| delivery.message));
        self.queue.make_contiguous().sort_by_key(|message| message.offset);
        self.consumers[consumer].writer = self.new_writer();
        self.register(consumer);
        // It has no number to compare: whether the database lacks something, the log alone can say.
        self.recovery_wanted |= self.rules.numbers && self.rules.log && !self.has(Bug::StartedWithoutReplay);
        self.check_held();
    }

    pub(super) fn cut(&mut self) {
        let server = self.dice.below(SERVERS);
        self.servers[server].cut = !self.servers[server].cut;
    }

    pub(super) fn toggle_broker(&mut self) {
        self.broker_up = !self.broker_up;
    }

    /// Faults stop, and everybody goes on until nothing is left to do.
    pub(super) fn come_to_rest(&mut self) {
        self.calm = true;
        self.broker_up = true;
        self.servers.iter_mut().for_each(|server| server.cut = false);
        for _ in 0..400 {
            self.clock += 20;
            for _ in 0..4 {
                self.go_on_directly();
                self.relay();
                self.deliver();
                self.consume();
                self.look_for_kept();
                self.forget_kept();
                self.log_later();
                self.settle_late();
                self.patrol();
            }
            self.replicate();
            self.confirm();
            self.rescue();
            self.refresh();
            self.recover();
            self.check_held();
            if self.is_quiet() && self.checked_twice() {
                break;
            }
        }
        self.check_rest();
    }

    /// The checker finds nothing that somebody must do.
    fn checked_twice(&mut self) -> bool {
        for _ in 0..20 {
            self.patrol();
        }
        self.check();
        self.is_quiet()
    }

    pub(super) fn evict(&mut self) {
        let (pair, resource) = (self.dice.below(PAIRS), self.dice.below(super::state::RESOURCES));
        self.redis.pairs[pair] = None;
        if self.redis.counters[resource].is_some_and(|counter| counter.pending == 0) {
            self.redis.counters[resource] = None;
        }
        self.check_held();
    }

    /// The log forgets what every database that may be promoted has.
    pub(super) fn retain(&mut self) {
        let Some(horizon) = self.mysql_past.front() else { return };
        let rows = horizon.rows;
        while let Some(first) = self.log.front() {
            let safe = first.events.iter().all(|event| rows[event.pair].version >= event.state.version);
            if !safe && !self.has(Bug::RetentionIgnoresHorizon) {
                return;
            }
            self.log.pop_front();
        }
    }
}
