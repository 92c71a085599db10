//! What must be true: always, and at rest.

use super::state::{Event, Message, PAIRS, RESOURCES, State, resource_of};
use super::world::{Word, World};

impl World {
    fn logged(&self, event: &Event) -> bool {
        self.log.iter().any(|message: &Message| message.events.contains(event))
    }

    /// 1: whoever was answered is somewhere; after a fault, unless every store and process that had the word is gone.
    pub(super) fn check_held(&mut self) {
        for pair in 0..PAIRS {
            let Some(word) = self.words[pair].filter(|word| !word.excused) else { continue };
            let event = Event { pair, state: word.state };
            if self.is_held(&event) {
                continue;
            }
            // What others were told of a word that its own client was not told is worth what the row is worth.
            let died = word.found || self.lives[word.server] > word.life;
            let went_back = match word.found || word.direct {
                true => self.mysql_backs > 0,
                false => self.redis_backs > 0 && !self.rules.confirm,
            };
            if died && went_back && !self.logged(&event) {
                self.words[pair] = Some(Word { excused: true, ..word });
                // The database lacks nothing that anybody could tell it.
                self.lost[pair] = 0;
                self.excused += 1;
            } else {
                self.breaks(1, format!("{event:?} was acknowledged, and nobody has it"));
            }
        }
    }

    fn is_published(&self, event: &Event) -> bool {
        let in_hand = self.consumers.iter().flat_map(|consumer| &consumer.hand).map(|held| &held.message);
        self.queue.iter().chain(in_hand).any(|message| message.events.contains(event))
    }

    fn is_held(&self, event: &Event) -> bool {
        let Event { pair, state } = *event;
        let in_memory = || {
            self.servers.iter().any(|server| {
                server.memory.contains(event) || server.kept.contains(event) || server.unlogged.contains(event)
            })
        };
        self.mysql.rows[pair].version >= state.version
            || self.redis.journal.get(&state.version) == Some(event)
            || self.is_published(event)
            || in_memory()
            || self.logged(event)
            || (self.rules.numbers && self.redis.pairs[pair].is_some_and(|held| held.version >= state.version))
    }

    /// 8: what leaves the journal is in the log, or wherever the database can go back to.
    pub(super) fn check_left_journal(&mut self, event: Event) {
        let row = |rows: &[State; PAIRS]| rows[event.pair].version >= event.state.version;
        let stored = row(&self.mysql.rows);
        let safe = self.mysql_past.front().is_some_and(|horizon| row(&horizon.rows));
        let kept = if self.rules.log { safe || self.logged(&event) } else { stored || self.mysql_backs > 0 };
        if !kept {
            self.breaks(8, format!("{event:?} left the journal and is not in the log"));
        }
    }

    /// 10, the first half.
    pub(super) fn check_not_lowered(&mut self, before: &[State; PAIRS]) {
        for (pair, before) in before.iter().enumerate() {
            let after = self.mysql.rows[pair];
            if after.version < before.version {
                self.breaks(10, format!("recovery lowered pair {pair} from {before:?} to {after:?}"));
            }
        }
    }

    /// 10, the other half: what recovery would do again changes nothing, and what was in the database once is there again.
    pub(super) fn check_recovered(&mut self, reapplied: &[Event]) {
        for event in reapplied {
            let row = self.mysql.rows[event.pair];
            if event.state.version > row.version {
                self.breaks(10, format!("recovery ended without {event:?}, the row is {row:?}"));
            }
        }
        for resource in 0..RESOURCES {
            let (cached, stored) = (self.redis.counters[resource], self.mysql.counts[resource]);
            if let Some(cached) = cached.filter(|cached| cached.revision > stored.revision) {
                self.breaks(10, format!("resource {resource}: the cache, at {cached:?}, does not believe {stored:?}"));
            }
        }
        for pair in 0..PAIRS {
            let (row, once) = (self.mysql.rows[pair], self.stored_once[pair]);
            let coming = |word: &Word| {
                let event = Event { pair, state: word.state };
                // A word that came after it and was not answered supersedes it, too.
                let open = |entry: &Event| entry.pair == pair && entry.state.version >= word.state.version;
                self.redis.journal.values().any(open) || self.is_published(&event)
            };
            let word = self.words[pair].filter(|word| !word.excused && word.state.version <= once);
            if let Some(word) = word.filter(|word| row.version < word.state.version && !coming(word)) {
                self.breaks(10, format!("recovery ended without {word:?} of pair {pair}, the row is {row:?}"));
            }
        }
    }

    /// Whether the database lacks what it had before it went back.
    pub(super) fn lacks(&self) -> bool {
        self.lost.iter().zip(&self.mysql.rows).any(|(lost, row)| row.version < *lost)
    }

    /// How many likes of a resource the users were told.
    pub(super) fn truth(&self, resource: usize) -> i64 {
        let liked = |pair: &usize| self.words[*pair].is_some_and(|word| word.state.liked);
        (0..PAIRS).filter(|pair| resource_of(*pair) == resource).filter(liked).count() as i64
    }

    /// 11, meanwhile: what a database that lacks something says does not reach the readers.
    pub(super) fn check_not_believed(&mut self, resource: usize, before: i64, after: i64) {
        if before == self.truth(resource) && before != after {
            self.breaks(11, format!("resource {resource} serves {after}, which a database that went back said"));
        }
    }

    /// 11.
    pub(super) fn check_rest(&mut self) {
        if !self.is_quiet() {
            let journal = self.redis.journal.len();
            let (messages, recovery) = (self.queue.len(), self.recovery);
            let what = format!("no rest: {journal} entries, {messages} messages, recovery {recovery:?}");
            return self.breaks(11, what);
        }
        let mut wrong = Vec::new();
        for pair in 0..PAIRS {
            let row = self.mysql.rows[pair];
            if let Some(word) = self.words[pair].filter(|word| !word.excused) {
                // A word that nobody answered may have come after it.
                let unanswered = row.version > word.state.version
                    && self.issued.get(&row.version) == Some(&Event { pair, state: row });
                if row != word.state && !unanswered {
                    wrong.push(format!("pair {pair}: last word {:?}, row {row:?}", word.state));
                }
            }
            if let Some(held) = self.redis.pairs[pair].filter(|held| held.liked != row.liked) {
                wrong.push(format!("pair {pair}: cached {held:?}, row {row:?}"));
            }
        }
        for resource in 0..RESOURCES {
            let live = (0..PAIRS).filter(|pair| resource_of(*pair) == resource && self.mysql.rows[*pair].liked).count();
            let stored = self.mysql.counts[resource];
            if stored.live != live as i64 {
                wrong.push(format!("resource {resource}: {live} live rows, stored {stored:?}"));
            }
            if let Some(held) = self.redis.counters[resource]
                && (held.served != stored.live || held.pending != 0)
            {
                wrong.push(format!("resource {resource}: stored {stored:?}, cached {held:?}"));
            }
        }
        wrong.into_iter().for_each(|what| self.breaks(11, what));
    }

    pub(super) fn is_quiet(&self) -> bool {
        let idle = self.servers.iter().all(|one| {
            one.memory.is_empty() && one.kept.is_empty() && one.unlogged.is_empty() && one.waiting.is_empty()
        });
        let empty = self.consumers.iter().all(|consumer| consumer.hand.is_empty()) && self.late.is_empty();
        let stores = self.redis.journal.is_empty() && self.queue.is_empty() && !self.mysql.dirty.contains(&true);
        idle && empty && stores && self.direct.is_none() && self.recovery.is_none() && !self.recovery_wanted
    }
}
