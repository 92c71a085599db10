//! Servers, broker, consumers, and everything that happens to them.

mod checks;
mod faults;
mod flow;

use super::cache::ModelCache;
use super::database::{Database, Event};
use super::{Bug, Faults};
use domain::cache::{AcceptOutcome, MissingCount, Settlement};
use domain::{Action, Pair, PairState, Resource, ResourceType, StoredCount, Version};
use std::collections::{BTreeMap, BTreeSet};

const SERVERS: usize = 2;
const USERS: u64 = 4;
const RESOURCES: i64 = 2;
/// Bound of a server's memory queue; what does not fit is left to the rescuer.
const QUEUE_LIMIT: usize = 8;
const REPUBLISH_AFTER: i64 = 40;

/// Deterministic randomness (SplitMix64).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.roll() % bound.max(1) as u64) as usize
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.roll() % 100 < percent
    }
}

/// A step of a server that has read the database and not yet told the cache.
#[derive(Debug, Clone, Copy)]
enum Errand {
    /// A like whose counter was missing: loaded, to be accepted with the fill.
    Accept { pair: Pair, action: Action, stored: StoredCount },
    /// A read whose counter was missing: loaded, to be filled.
    FillCount { resource: Resource, stored: StoredCount },
    /// Filled; the database must be read once more.
    RereadCount { resource: Resource },
    /// A read whose pair was missing: loaded, to be filled.
    FillState { pair: Pair, row: PairState },
    /// Filled; the database must be read once more.
    RereadState { pair: Pair },
}

#[derive(Default)]
struct Server {
    memory: Vec<Event>,
    errands: Vec<Errand>,
}

pub(super) struct World {
    pub(super) dice: Dice,
    pub(super) faults: Faults,
    bug: Option<Bug>,
    clock: i64,
    cache: ModelCache,
    pub(super) cache_up: bool,
    pub(super) broker_up: bool,
    database: Database,
    servers: Vec<Server>,
    queue: Vec<Vec<Event>>,
    /// Settlements of consumers that acknowledged first and are slow.
    late: Vec<Settlement>,
    /// Last acknowledged action of each pair, with the version that carries it.
    acknowledged: BTreeMap<Pair, (Action, Version)>,
    /// Highest version that the cache ever answered: what is written around the cache must be above it.
    seen: Version,
    /// Highest version in the cache when it last lost everything.
    flushed_up_to: Version,
    /// Pairs whose last change existed only in stores that were lost: nobody promised those.
    excused: BTreeSet<Pair>,
    /// Resources with journal entries that no counter counts (accepted while the database was unreachable).
    uncounted: BTreeSet<Resource>,
    pub(super) broken: Vec<String>,
    /// What happened, when it was asked for.
    pub(super) trail: Option<Vec<String>>,
}

impl World {
    pub(super) fn new(seed: u64, faults: Faults, bug: Option<Bug>) -> Self {
        Self {
            dice: Dice(seed),
            faults,
            bug,
            clock: 1_000,
            cache: ModelCache { bug, ..ModelCache::default() },
            cache_up: true,
            broker_up: true,
            database: Database { bug, ..Database::default() },
            servers: (0..SERVERS).map(|_| Server::default()).collect(),
            queue: Vec::new(),
            late: Vec::new(),
            acknowledged: BTreeMap::new(),
            seen: Version::ZERO,
            flushed_up_to: Version::ZERO,
            excused: BTreeSet::new(),
            uncounted: BTreeSet::new(),
            broken: Vec::new(),
            trail: None,
        }
    }

    fn now(&mut self) -> Version {
        self.clock += 1 + self.dice.below(3) as i64;
        Version(self.clock)
    }

    fn random_resource(&mut self) -> Resource {
        let id = 1 + self.dice.below(RESOURCES as usize) as i64;
        Resource::new(ResourceType::Video, id).unwrap()
    }

    fn random_pair(&mut self) -> Pair {
        let user = 1 + self.dice.below(USERS as usize) as i64;
        Pair { resource: self.random_resource(), user: domain::UserId::new(user).unwrap() }
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trail) = &mut self.trail {
            trail.push(what());
        }
    }

    // --- likes and reads

    pub(super) fn like(&mut self) {
        let (pair, server) = (self.random_pair(), self.dice.below(SERVERS));
        let action = Action::from_liked(self.dice.chance(55));
        // A user's second action on a pair starts after the answer to the first.
        let busy = |errand: &Errand| matches!(errand, Errand::Accept { pair: open, .. } if *open == pair);
        if self.servers.iter().any(|server| server.errands.iter().any(busy)) {
            return;
        }
        let missing = if self.dice.chance(self.faults.database_unreachable) {
            MissingCount::Without
        } else {
            MissingCount::Report
        };
        self.ask(server, pair, action, missing);
    }

    fn ask(&mut self, server: usize, pair: Pair, action: Action, missing: MissingCount) {
        if !self.cache_up {
            return self.write_directly(pair, action);
        }
        let now = self.now();
        let counted = self.cache.counters.contains_key(&pair.resource);
        let outcome = self.cache.accept(pair, action, missing, now);
        self.note(|| format!("accept {pair}: {action:?}, {missing:?}: {outcome:?}"));
        match outcome {
            AcceptOutcome::CountMissing => {
                let stored = self.database.count(pair.resource);
                self.servers[server].errands.push(Errand::Accept { pair, action, stored });
            }
            AcceptOutcome::Accepted(answer) => {
                if answer.count.is_none() {
                    self.uncounted.insert(pair.resource);
                }
                let event = Event { pair, action, version: answer.version };
                if self.servers[server].memory.len() < QUEUE_LIMIT {
                    self.servers[server].memory.push(event);
                }
                self.acknowledge(pair, action, answer.version);
            }
            AcceptOutcome::Unchanged(answer) => self.acknowledge(pair, action, answer.version),
            other => self.broken.push(format!("unexpected outcome {other:?}")),
        }
        if !counted && matches!(missing, MissingCount::Fill(_)) {
            self.servers[server].errands.push(Errand::RereadCount { resource: pair.resource });
        }
    }

    fn write_directly(&mut self, pair: Pair, action: Action) {
        let ahead = self.dice.below(1 + self.faults.clock_skew as usize) as i64;
        let floor = self.database.row(pair).version.max(self.seen).0 + 1;
        let version = Version(floor.max(self.now().0 + ahead));
        self.note(|| format!("direct {pair} {action:?} {version}"));
        self.database.apply(&[Event { pair, action, version }]);
        self.database.dirty.insert((pair, version));
        self.acknowledge(pair, action, version);
    }

    fn acknowledge(&mut self, pair: Pair, action: Action, version: Version) {
        self.seen = self.seen.max(version);
        self.acknowledged.insert(pair, (action, version));
        self.excused.remove(&pair);
    }

    pub(super) fn read(&mut self) {
        let (pair, server) = (self.random_pair(), self.dice.below(SERVERS));
        if !self.cache_up {
            return;
        }
        let errand = if self.dice.chance(50) {
            if self.cache.counters.contains_key(&pair.resource) {
                return;
            }
            Errand::FillCount { resource: pair.resource, stored: self.database.count(pair.resource) }
        } else {
            if self.cache.pairs.contains_key(&pair) {
                return;
            }
            Errand::FillState { pair, row: self.database.row(pair) }
        };
        self.note(|| format!("read {errand:?}"));
        self.servers[server].errands.push(errand);
    }

    pub(super) fn run_errand(&mut self) {
        let server = self.dice.below(SERVERS);
        let open = self.servers[server].errands.len();
        if open == 0 {
            return;
        }
        let pick = self.dice.below(open);
        let errand = self.servers[server].errands.swap_remove(pick);
        self.note(|| format!("errand {errand:?}"));
        match errand {
            Errand::Accept { pair, action, stored } => self.ask(server, pair, action, MissingCount::Fill(stored)),
            Errand::FillCount { resource, stored } if self.cache_up => {
                self.cache.fill_count(resource, stored);
                self.servers[server].errands.push(Errand::RereadCount { resource });
            }
            Errand::RereadCount { resource } if self.bug != Some(Bug::CountFillTrusted) => {
                let settlement = self.database.reread(resource, &[]);
                self.settle_now_or_late(settlement);
            }
            Errand::FillState { pair, row } if self.cache_up => {
                self.cache.fill_state(pair, row);
                self.servers[server].errands.push(Errand::RereadState { pair });
            }
            Errand::RereadState { pair } if self.bug != Some(Bug::StateFillTrusted) => {
                let settlement =
                    Settlement { resources: Vec::new(), pairs: vec![(pair, self.database.row(pair))], commit: None };
                self.settle_now_or_late(settlement);
            }
            _ => {}
        }
    }

    /// Stops faults and lets everything run until nothing is left to do; how many rounds that may take is bounded.
    pub(super) fn come_to_rest(&mut self) {
        self.broker_up = true;
        self.restore_cache();
        self.faults = Faults::default();
        for _ in 0..400 {
            self.clock += REPUBLISH_AFTER;
            for _ in 0..4 {
                self.run_errand();
                self.relay();
                self.consume();
                self.settle_late();
                self.retry_parked();
            }
            self.refresh();
            self.rescue();
            if self.is_quiet() {
                break;
            }
        }
        // What was filled and not confirmed lives for seconds only.
        self.cache.pairs.retain(|_, held| held.confirmed);
        self.cache.counters.retain(|_, held| held.confirmed || held.count.pending > 0);
    }

    fn is_quiet(&self) -> bool {
        self.cache.journal.is_empty()
            && self.queue.is_empty()
            && self.late.is_empty()
            && self.database.parked.is_empty()
            && self.database.dirty.is_empty()
            && self.servers.iter().all(|server| server.memory.is_empty() && server.errands.is_empty())
    }
}
