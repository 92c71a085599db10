//! The world: what clients do, and how servers and the cache answer.

use super::super::world::Dice;
use super::state::{
    CONSUMERS, Consumer, Counter, Direct, Event, Message, Mysql, PAIRS, Recovery, Redis, SERVERS, Server, Settlement,
    State, Version, Waiting, Writer, resource_of,
};
use super::{Bug, Rules};
use std::collections::{BTreeMap, VecDeque};

/// What a relay's queue holds; the rest is left to the journal.
const MEMORY: usize = 2;
/// How far a server's idea of the cache's clock may be off, either way.
pub(super) const UNSURE: i64 = 1;

/// Why a word was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Accepted,
    Directly,
    Found,
}

/// The last word of a pair that was acknowledged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word {
    pub(super) state: State,
    /// The process that knows it from its own doing, and how often such processes had died by then.
    pub(super) server: usize,
    pub(super) life: u32,
    /// It was lost with every store and process that had it, and nobody promised otherwise.
    pub(super) excused: bool,
    pub(super) direct: bool,
    /// Answered "unchanged" for a word that was not answered itself.
    pub(super) found: bool,
}

pub(super) struct World {
    pub(super) dice: Dice,
    pub(super) rules: Rules,
    pub(super) bug: Option<Bug>,
    pub(super) clock: Version,
    // The cache and what it was; the front is what the replicas have.
    pub(super) redis: Redis,
    pub(super) redis_past: VecDeque<Redis>,
    pub(super) primary: u32,
    pub(super) offset: i64,
    // The database, likewise.
    pub(super) mysql: Mysql,
    pub(super) mysql_past: VecDeque<Mysql>,
    pub(super) mysql_offset: i64,
    pub(super) direct: Option<Direct>,
    // The broker. Places in the log are never given twice.
    pub(super) broker_up: bool,
    pub(super) queue: VecDeque<Message>,
    /// Settlements on their way, from processes that are slow or gone.
    pub(super) late: Vec<Settlement>,
    pub(super) log: VecDeque<Message>,
    pub(super) log_end: usize,
    // The processes.
    pub(super) servers: Vec<Server>,
    pub(super) lives: [u32; SERVERS],
    pub(super) consumers: Vec<Consumer>,
    pub(super) lanes: usize,
    pub(super) recovery_wanted: bool,
    pub(super) recovery: Option<Recovery>,
    pub(super) recovered: u32,
    pub(super) recovery_backs: u32,
    pub(super) reapplied: Vec<Event>,
    pub(super) excused: u32,
    // What nobody in the world knows.
    pub(super) words: [Option<Word>; PAIRS],
    pub(super) issued: BTreeMap<Version, Event>,
    pub(super) answered: Version,
    /// What the rows were when the database went back, until they are so again.
    pub(super) lost: [Version; PAIRS],
    pub(super) stored_once: [Version; PAIRS],
    pub(super) redis_backs: u32,
    pub(super) mysql_backs: u32,
    pub(super) calm: bool,
    pub(super) steps: u64,
    pub(super) broken: Vec<String>,
    pub(super) trail: Option<Vec<String>>,
}

impl World {
    pub(super) fn new(seed: u64, rules: Rules, bug: Option<Bug>) -> Self {
        let mut world = Self {
            dice: Dice(seed),
            rules,
            bug,
            clock: 1_000,
            redis: Redis::default(),
            redis_past: VecDeque::new(),
            primary: 0,
            offset: 0,
            mysql: Mysql::default(),
            mysql_past: VecDeque::new(),
            mysql_offset: 0,
            direct: None,
            broker_up: true,
            queue: VecDeque::new(),
            late: Vec::new(),
            log: VecDeque::new(),
            log_end: 0,
            servers: Vec::new(),
            lives: [0; SERVERS],
            consumers: Vec::new(),
            lanes: 0,
            recovery_wanted: false,
            recovery: None,
            recovered: 0,
            recovery_backs: 0,
            reapplied: Vec::new(),
            excused: 0,
            words: [None; PAIRS],
            issued: BTreeMap::new(),
            answered: 0,
            lost: [0; PAIRS],
            stored_once: [0; PAIRS],
            redis_backs: 0,
            mysql_backs: 0,
            calm: false,
            steps: 0,
            broken: Vec::new(),
            trail: None,
        };
        for _ in 0..SERVERS {
            let server = world.new_server();
            world.servers.push(server);
        }
        for _ in 0..CONSUMERS {
            let writer = world.new_writer();
            world.consumers.push(Consumer { writer, hand: Vec::new() });
            world.register(world.consumers.len() - 1);
        }
        world.save_redis();
        world.save_mysql();
        world
    }

    pub(super) fn new_server(&mut self) -> Server {
        Server {
            writer: self.new_writer(),
            cut: false,
            floor: 0,
            primary: self.primary,
            offset: self.offset,
            memory: VecDeque::new(),
            kept: Vec::new(),
            looked: None,
            waiting: Vec::new(),
            unlogged: Vec::new(),
        }
    }

    pub(super) fn new_writer(&mut self) -> Writer {
        let lane = self.lanes;
        self.lanes += 1;
        Writer { lane, number: 0, latched: false }
    }

    pub(super) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trail) = &mut self.trail {
            trail.push(what());
        }
    }

    pub(super) fn breaks(&mut self, invariant: u8, what: String) {
        self.broken.push(format!("invariant {invariant}: {what}"));
    }

    /// The cache's clock.
    pub(super) fn redis_time(&self) -> Version {
        self.clock + self.offset
    }

    pub(super) fn like(&mut self) {
        let (server, pair) = (self.dice.below(SERVERS), self.dice.below(PAIRS));
        // A user's next word begins after the answer to the one before, or after giving up on it.
        let waits = self.servers.iter().any(|one| one.waiting.iter().any(|waiting| waiting.event.pair == pair));
        let writes = self.direct.is_some_and(|direct| direct.event.pair == pair && direct.gave_up.is_none());
        if waits || writes {
            return;
        }
        let liked = self.dice.chance(55);
        if self.servers[server].cut {
            return self.begin_direct(server, pair, liked);
        }
        if self.dice.chance(10) {
            return self.repeat(pair, liked);
        }
        let batch: &[bool] = if self.dice.chance(10) { &[!liked, liked] } else { &[liked] };
        let mut before = 0;
        for &liked in batch {
            let version = self.accept(server, pair, liked);
            if version <= before {
                self.breaks(5, format!("{version} follows {before} in one call"));
            }
            before = version;
        }
    }

    /// A client repeats its call with the key of an earlier one.
    fn repeat(&mut self, pair: usize, liked: bool) {
        let Some(first) = self.redis.keys[pair].filter(|first| first.liked == liked) else { return };
        if self.issued.get(&first.version).is_none_or(|event| *event != (Event { pair, state: first })) {
            self.breaks(6, format!("a key of pair {pair} answers {first:?}, which nobody wrote"));
        }
    }

    /// The script, and what the server does with its answer: the version of the word.
    fn accept(&mut self, server: usize, pair: usize, liked: bool) -> Version {
        self.ask(server);
        let resource = resource_of(pair);
        let held = self.redis.pairs[pair];
        if let Some(held) = held.filter(|held| held.liked == liked)
            && self.is_confirmed(pair, held)
        {
            self.note(|| format!("server {server}: pair {pair} is {liked} already, {held:?}"));
            let version = held.version.max(self.mysql.rows[pair].version);
            let event = Event { pair, state: State { version, liked } };
            // Replicas have what the question wrote after they have the word that it found.
            if self.rules.confirm && !self.has(Bug::UnchangedUnconfirmed) {
                self.servers[server].waiting.push(Waiting { event, primary: self.primary, how: How::Found });
            } else {
                self.acknowledge(server, event, How::Found);
            }
            return version;
        }
        // The rewrite must not lose against the row that contradicted.
        let row = self.mysql.rows[pair];
        if held.is_some_and(|held| held.liked == liked) {
            self.redis.last = self.redis.last.max(row.version);
        }
        if self.redis.counters[resource].is_none() {
            let stored = self.mysql.counts[resource];
            let counter = Counter { served: stored.live, pending: 0, stored: stored.live, revision: stored.revision };
            self.redis.counters[resource] = Some(counter);
        }
        let version = self.redis_time().max(self.redis.last + 1);
        let event = Event { pair, state: State { version, liked } };
        self.redis.last = version;
        self.redis.marks[server] = version;
        self.redis.journal.insert(version, event);
        self.redis.pairs[pair] = Some(event.state);
        self.redis.keys[pair] = Some(event.state);
        if let Some(counter) = &mut self.redis.counters[resource] {
            let step = if held.is_some_and(|held| held.liked == liked) { 0 } else { i64::from(liked) * 2 - 1 };
            counter.served = (counter.served + step).max(0);
            counter.pending += 1;
        }
        self.note(|| format!("server {server} accepts {event:?}"));
        self.issue(event, self.answered);
        let one = &mut self.servers[server];
        one.floor = one.floor.max(version);
        if one.memory.len() < MEMORY {
            one.memory.push_back(event);
        }
        one.kept.push(event);
        if self.rules.confirm {
            self.servers[server].waiting.push(Waiting { event, primary: self.primary, how: How::Accepted });
        }
        if !self.rules.confirm || self.has(Bug::AnswerBeforeWait) {
            self.acknowledge(server, event, How::Accepted);
        }
        self.save_redis();
        version
    }

    /// Every question to the cache says what the server knows, and hears whether the cache knows it, too.
    pub(super) fn ask(&mut self, server: usize) {
        let one = &self.servers[server];
        let compares = self.rules.floor && !self.has(Bug::FloorIgnored);
        let mut floor = if compares { one.floor } else { 0 };
        if self.rules.clock_kept && !self.has(Bug::ClockFollowsPromoted) {
            // Whoever meets a new primary waits until its lower bound has passed what the old one can have answered.
            if one.primary != self.primary {
                self.clock += 2 * UNSURE + 1;
            }
            floor = floor.max(self.clock + self.servers[server].offset - UNSURE);
        }
        // Lower than any promoted clock may be: the shard's clock never slows down.
        let kept = self.servers[server].offset;
        let offset = if self.rules.clock_kept { kept.max(self.offset) } else { self.offset };
        (self.servers[server].primary, self.servers[server].offset) = (self.primary, offset);
        let own = if self.has(Bug::ShardComparedNotServer) { self.redis.last } else { self.redis.marks[server] };
        let went_back = compares && own < self.servers[server].floor;
        self.redis.last = self.redis.last.max(floor);
        if self.redis.met != self.primary {
            (self.redis.met, self.redis.since) = (self.primary, self.redis.last);
        }
        if went_back {
            self.note(|| format!("server {server} sees that the cache went back"));
            self.redis.marks[server] = self.servers[server].floor;
            if !self.has(Bug::ReofferForgotten) {
                self.servers[server].memory = self.servers[server].kept.iter().copied().collect();
            }
        }
        self.save_redis();
    }

    /// Whether "unchanged" may be answered: no row contradicts, and the word is somewhere it can reach the row from.
    fn is_confirmed(&self, pair: usize, held: State) -> bool {
        let row = self.mysql.rows[pair];
        let locked = self.direct.is_some_and(|direct| resource_of(direct.event.pair) == resource_of(pair));
        let contradicts = row.version > held.version && row.liked != held.liked;
        let on_its_way = self.redis.journal.contains_key(&held.version);
        let reached = row.version >= held.version;
        // What was said since may be in some server's memory alone.
        let older = self.rules.floor && held.version <= self.redis.since && !self.has(Bug::OldPairsBelieved);
        // Nor is a new database asked before every writer has found its number in it.
        let older = older || !self.is_met();
        let believed = !self.rules.unchanged_reaches || self.has(Bug::UnchangedUnreached);
        !locked && !contradicts && !older && (reached || on_its_way || believed)
    }

    /// A new version.
    pub(super) fn issue(&mut self, event: Event, answered: Version) {
        let version = event.state.version;
        if version <= answered {
            let which = if self.redis_backs + self.mysql_backs > 0 { 9 } else { 3 };
            self.breaks(which, format!("{event:?} is not above {answered}, which was answered before"));
        }
        if let Some(other) = self.issued.insert(version, event).filter(|other| *other != event) {
            self.breaks(4, format!("{version} stands for {other:?} and {event:?}"));
        }
    }

    pub(super) fn acknowledge(&mut self, server: usize, event: Event, how: How) {
        let (direct, found) = (how == How::Directly, how == How::Found);
        let Event { pair, state } = event;
        self.answered = self.answered.max(state.version);
        if self.words[pair].is_some_and(|word| word.state.version > state.version && !word.excused && !direct) {
            self.breaks(3, format!("pair {pair}: {state:?} was answered after {:?}", self.words[pair]));
        }
        // Who finds a word only answers for it; who wrote it keeps it.
        let same = self.words[pair].filter(|word| word.state == state);
        self.words[pair] =
            Some(same.unwrap_or(Word { state, server, life: self.lives[server], excused: false, direct, found }));
    }

    /// The replicas have it: answered. Whoever still waits when the primary changes hears nothing.
    pub(super) fn confirm(&mut self) {
        let server = self.dice.below(SERVERS);
        let replicated = self.redis_past.front().map_or(0, |replica| replica.last);
        for one in std::mem::take(&mut self.servers[server].waiting) {
            let Waiting { event, primary, how } = one;
            let older = self.words[event.pair].is_some_and(|word| word.state.version > event.state.version);
            if primary != self.primary {
                continue;
            } else if replicated < event.state.version {
                self.servers[server].waiting.push(one);
            } else if !older {
                self.acknowledge(server, event, how);
            }
        }
    }
}
