//! Calls that overlap in every way: what is shown against what the cache held. Nobody takes a like back here, so a count that lacks
//! an answered like is one that is lower than the count with it.

use super::*;
use domain::ResourceType;

const TTL: u64 = 60;
const RESOURCES: u64 = 16;
const STEPS: u64 = 4_000;

/// Small and repeatable.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Like,
    /// Finds what another server accepted.
    Unchanged,
    /// A write around the cache, which is told of it.
    Around,
}

#[derive(Debug, Clone, Copy)]
struct Call {
    kind: Kind,
    resource: usize,
    asked: u64,
    /// What the cache said; none before it did.
    said: Option<(i64, Version)>,
    /// When it was read that the answer is there.
    answered: Option<u64>,
    /// Of the one who reads again and again.
    mine: bool,
}

/// What the cache holds of one resource.
#[derive(Debug, Default)]
struct Truth {
    count: i64,
    /// From when on it held each count; the first one from the beginning.
    since: Vec<u64>,
    /// The highest count with a like that was answered here.
    answered: i64,
    /// What the one reader saw last.
    seen: i64,
}

struct World {
    near: NearCache,
    random: Random,
    time: u64,
    version: i64,
    truths: Vec<Truth>,
    calls: Vec<Call>,
    shown: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        // One set, which not all of them fit in.
        let config = NearCacheConfig { enabled: true, ttl: Duration::from_micros(TTL), max_bytes: 1 };
        let truths = (0..RESOURCES).map(|_| Truth { since: vec![0], ..Truth::default() }).collect();
        let near = NearCache::new(&config).unwrap();
        Self { near, random: Random(seed), time: 1, version: 0, truths, calls: Vec::new(), shown: 0 }
    }

    fn at(micros: u64) -> Moment {
        Moment(TTL + micros)
    }

    fn likes(&mut self, resource: usize) {
        self.version += 1;
        let truth = &mut self.truths[resource];
        truth.count += 1;
        truth.since.push(self.time);
    }

    fn begin(&mut self, kind: Kind, mine: bool) {
        // Some are hot.
        let most = 1 + self.random.below(RESOURCES);
        let resource = self.random.below(most) as usize;
        self.calls.push(Call { kind, resource, asked: self.time, said: None, answered: None, mine });
    }

    fn resource(at: usize) -> Resource {
        Resource::new(ResourceType::Video, at as i64 + 1).unwrap()
    }

    fn shows(&mut self, resource: usize) -> Option<i64> {
        let shown = self.near.show(&[Self::resource(resource)], Version::ZERO, Self::at(self.time))[0]?;
        let truth = &self.truths[resource];
        assert!(shown >= truth.answered, "{shown} at {}: {truth:?}", self.time);
        assert!(shown <= truth.count, "{shown} at {}: {truth:?}", self.time);
        let over = truth.since.get(shown as usize + 1);
        assert!(over.is_none_or(|over| over + TTL > self.time), "{shown} at {}: {truth:?}", self.time);
        self.shown += 1;
        Some(shown)
    }

    /// The next thing that happens to a call: the cache does it, its answer is here, it is noted and told.
    fn go_on(&mut self, at: usize) {
        let call = self.calls[at];
        let (resource, asked) = (call.resource, Self::at(call.asked));
        match (call.said, call.answered) {
            (None, _) => {
                if matches!(call.kind, Kind::Like | Kind::Around) {
                    self.likes(resource);
                }
                self.calls[at].said = Some((self.truths[resource].count, Version(self.version)));
            }
            (Some(_), None) => self.calls[at].answered = Some(self.time),
            (Some((count, version)), Some(answered)) => {
                self.calls.swap_remove(at);
                let (name, now) = (Self::resource(resource), Self::at(answered));
                match call.kind {
                    Kind::Read => self.near.learn(name, count, asked, now),
                    Kind::Like => self.near.accepted(name, count, version, asked, now),
                    Kind::Unchanged => self.near.told(name, count, asked, now),
                    Kind::Around => self.near.forget(name, now),
                }
                let truth = &mut self.truths[resource];
                if call.kind != Kind::Read {
                    truth.answered = truth.answered.max(count);
                }
                if call.mine {
                    assert!(count >= truth.seen, "read {count} at {}: {truth:?}", self.time);
                    truth.seen = count;
                }
            }
        }
    }

    /// Reads one after the other; the count of a read does not go down for who does nothing else.
    fn read_again(&mut self) {
        if self.calls.iter().any(|call| call.mine) {
            return;
        }
        let resource = self.random.below(3) as usize;
        match self.shows(resource) {
            Some(shown) => {
                let truth = &mut self.truths[resource];
                assert!(shown >= truth.seen, "{shown} at {}: {truth:?}", self.time);
                truth.seen = shown;
            }
            None => {
                let asked = self.time;
                self.calls.push(Call { kind: Kind::Read, resource, asked, said: None, answered: None, mine: true });
            }
        }
    }

    fn step(&mut self, kinds: &[Kind], alone: bool) {
        self.time += self.random.below(3);
        match self.random.below(12) {
            0..=3 if self.calls.len() < if alone { 10 } else { 24 } => {
                let kind = kinds[self.random.below(kinds.len() as u64) as usize];
                self.begin(kind, false);
            }
            4 => {
                let resource = self.random.below(RESOURCES) as usize;
                self.likes(resource);
            }
            5 if alone => self.read_again(),
            5 => drop(self.shows((self.time % RESOURCES) as usize)),
            _ if !self.calls.is_empty() => {
                let at = self.random.below(self.calls.len() as u64) as usize;
                self.go_on(at);
            }
            _ => {}
        }
    }
}

fn run(kinds: &[Kind], alone: bool) {
    let mut shown = 0;
    for seed in 0..400 {
        println!("seed {seed}");
        let mut world = World::new(seed);
        (0..STEPS).for_each(|_| world.step(kinds, alone));
        shown += world.shown;
    }
    assert!(shown > 400, "{shown} counts were shown");
}

#[test]
fn nobody_is_shown_a_count_without_an_answered_like_or_one_that_is_too_old() {
    run(&[Kind::Read, Kind::Read, Kind::Read, Kind::Like, Kind::Unchanged, Kind::Around], false);
}

#[test]
fn counts_do_not_go_down_for_the_only_reader() {
    run(&[Kind::Like, Kind::Unchanged, Kind::Around], true);
}
