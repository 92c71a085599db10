//! The script of one person: the same seed gives the same scenes. When they happen is up to the servers.

use super::knobs::Knobs;
use super::scene::{Act, Deed, Leaves, Retry, Scene, Word, Words};
use crate::generate::Random;
use domain::{Action, Pair, Resource, ResourceId, ResourceType, UserId};
use std::collections::VecDeque;
use std::time::Duration;

const HOT_USERS: u64 = 16;
const HOT_RESOURCES: u64 = 4;

/// Words with keys that may be repeated late.
const REMEMBERED: usize = 64;

/// Pairs that a person comes back to.
const FAVOURITES: u64 = 6;

/// Longest time that a call takes effect in after its arrival, as servers promise.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(3);

/// What all scripts have in common.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) seed: u64,
    /// First user id: those of the hot set, then one per person, then those of batches.
    pub(super) first_user: i64,
    pub(super) people: u32,
    /// Per type.
    pub(super) resources: u64,
    pub(super) servers: usize,
    /// Start of every key.
    pub(super) key_prefix: String,
    pub(super) knobs: Knobs,
}

/// Endless scenes of a person.
pub(super) struct Script {
    world: World,
    person: u32,
    random: Random,
    devices: u64,
    made: u64,
    remembered: VecDeque<Word>,
}

/// Devices that a person may have.
pub(super) const DEVICES: u32 = 3;

impl Script {
    pub(super) fn new(world: &World, person: u32) -> Self {
        // Neighbours in number must not be neighbours in the sequence.
        let mut random = Random::new(world.seed ^ u64::from(person).wrapping_mul(0x9E6C_63D0_876A_68EE));
        let draw = random.unit();
        let three = world.knobs.get("three_devices");
        let devices = match draw {
            draw if draw < three => 3,
            draw if draw < three + world.knobs.get("two_devices") => 2,
            _ => 1,
        };
        Self { world: world.clone(), person, random, devices, made: 0, remembered: VecDeque::new() }
    }

    fn chance(&mut self, knob: &str) -> bool {
        let share = self.world.knobs.get(knob);
        self.random.unit() < share
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.below(bound.max(1))
    }

    /// The same chance for every order of magnitude.
    fn log_uniform(&mut self, least: f64, most: f64) -> f64 {
        least * (most / least).powf(self.random.unit())
    }

    fn time(&mut self, least_ms: f64, most_ms: f64) -> Duration {
        Duration::from_secs_f64(self.log_uniform(least_ms, most_ms) / 1e3)
    }

    fn server(&mut self) -> usize {
        self.below(self.world.servers as u64) as usize
    }

    fn another_server(&mut self, server: usize) -> usize {
        let others = (self.world.servers as u64).saturating_sub(1);
        if others == 0 { server } else { (server + 1 + self.below(others) as usize) % self.world.servers }
    }

    fn action(&mut self) -> Action {
        Action::from_liked(self.chance("likes"))
    }

    fn user(&self, number: u64) -> i64 {
        self.world.first_user.saturating_add(number.cast_signed())
    }

    fn resource(number: u64) -> Option<Resource> {
        let kind = if number % 4 == 3 { ResourceType::Comment } else { ResourceType::Video };
        ResourceId::new((number + 1).cast_signed()).ok().map(|id| Resource { kind, id })
    }

    /// A pair that this person has something to say about.
    fn pair(&mut self) -> Option<Pair> {
        let (user, resource) = if self.chance("hot") {
            (self.below(HOT_USERS), self.below(HOT_RESOURCES))
        } else {
            let own = HOT_USERS + u64::from(self.person);
            let favourite = self.below(2) == 0;
            let resource = if favourite {
                (u64::from(self.person) * FAVOURITES + self.below(FAVOURITES)) % self.world.resources.max(1)
            } else {
                self.below(self.world.resources)
            };
            (own, resource)
        };
        self.pair_of(user, resource)
    }

    fn pair_of(&self, user: u64, resource: u64) -> Option<Pair> {
        let user = UserId::new(self.user(user)).ok()?;
        Self::resource(resource).map(|resource| Pair { resource, user })
    }

    /// A pair for a batch that is about many users.
    fn any_pair(&mut self) -> Option<Pair> {
        if self.below(4) == 0 {
            return self.pair();
        }
        let user = HOT_USERS + u64::from(self.world.people) + self.below(256);
        let resource = self.below(self.world.resources);
        self.pair_of(user, resource)
    }

    fn word(&mut self, pair: Pair, action: Action, key: bool) -> Word {
        self.made += 1;
        let logical = u64::from(self.person) << 32 | self.made;
        let key = key.then(|| format!("{}-{}-{}", self.world.key_prefix, self.person, self.made));
        Word { pair, action, key, logical }
    }

    fn leaves(&mut self) -> Leaves {
        if self.chance("abandon") {
            Leaves::Deadline(self.time(1.0, 3_000.0))
        } else if self.chance("cancel") {
            Leaves::Drops(Duration::from_micros(self.below(50_000)))
        } else {
            Leaves::Never
        }
    }

    fn retry(&mut self) -> Retry {
        if !self.chance("retry") {
            return Retry::Never;
        }
        [Retry::SameKey, Retry::WithoutKey, Retry::Elsewhere][self.below(3) as usize]
    }

    fn words(&mut self, words: Vec<Word>, what: &'static str) -> Words {
        let (leaves, retry) = (self.leaves(), self.retry());
        let pause = self.time(20.0, 500.0);
        Words { words, leaves, retry, pause, answered: Vec::new(), left: Vec::new(), what }
    }

    fn patient(words: Vec<Word>, what: &'static str) -> Words {
        let pause = Duration::from_millis(50);
        Words {
            words,
            leaves: Leaves::Never,
            retry: Retry::SameKey,
            pause,
            answered: Vec::new(),
            left: Vec::new(),
            what,
        }
    }

    fn scene(&mut self) -> Option<Scene> {
        let device = self.below(self.devices) as u32;
        let server = self.server();
        if self.chance("reads") {
            let deed = self.reads()?;
            return Some(Scene { acts: vec![Act { after: Duration::ZERO, device, server, deed }] });
        }
        let draw = self.random.unit();
        let (small, large) = (self.world.knobs.get("small_batch"), self.world.knobs.get("large_batch"));
        if draw < large {
            let length = self.log_uniform(64.0, 500.99) as usize;
            self.batch(device, server, length, "large_batches")
        } else if draw < large + small {
            let length = 2 + self.below(7) as usize;
            self.batch(device, server, length, "small_batches")
        } else {
            self.single(device, server)
        }
    }

    fn reads(&mut self) -> Option<Deed> {
        let number = 1 + self.below(4);
        if self.below(2) == 0 {
            // One user's states are asked for in one call.
            let first = self.pair()?;
            let mut pairs = vec![first];
            for _ in 1..number {
                let other = self.pair()?;
                pairs.push(Pair { user: first.user, ..other });
            }
            pairs.sort_unstable();
            pairs.dedup();
            return Some(Deed::States(pairs));
        }
        let mut resources = Vec::new();
        for _ in 0..number {
            resources.push(self.pair()?.resource);
        }
        resources.sort_unstable();
        resources.dedup();
        Some(Deed::Counts(resources))
    }

    fn batch(&mut self, device: u32, server: usize, length: usize, what: &'static str) -> Option<Scene> {
        let mut words = Vec::with_capacity(length);
        while words.len() < length {
            let pair = if length > 8 { self.any_pair()? } else { self.pair()? };
            let (action, key) = (self.action(), self.chance("fresh_key"));
            words.push(self.word(pair, action, key));
        }
        if self.chance("alternating") {
            let pair = words[self.below(length as u64) as usize].pair;
            let (mut action, times) = (self.action(), 2 + self.below(3).min(length as u64 - 2));
            for turn in 0..times {
                // In order, at any distance.
                let from = turn * length as u64 / times;
                let to = (turn + 1) * length as u64 / times;
                let at = (from + self.below(to - from)) as usize;
                let key = self.chance("fresh_key");
                words[at] = self.word(pair, action, key);
                action = opposite(action);
            }
        }
        let mut words = self.words(words, what);
        if let Some(first) = words.words.first().cloned() {
            words.left = self.go_on(device, server, &first, words.leaves)?;
        }
        let deed = Deed::Words(words);
        Some(Scene { acts: vec![Act { after: Duration::ZERO, device, server, deed }] })
    }

    fn single(&mut self, device: u32, server: usize) -> Option<Scene> {
        if self.chance("late_repeat")
            && let Some(word) = self.remembered.pop_front()
        {
            let deed = Deed::Words(Self::patient(vec![word], "late_repeats"));
            let server = self.server();
            return Some(Scene { acts: vec![Act { after: Duration::ZERO, device, server, deed }] });
        }
        let (pair, action) = (self.pair()?, self.action());
        let draw = self.random.unit();
        let [fresh, repeated, other] =
            ["fresh_key", "repeated_key", "opposite_key"].map(|name| self.world.knobs.get(name));
        let repeats = draw >= fresh && draw < fresh + repeated;
        let reverses = draw >= fresh + repeated && draw < fresh + repeated + other;
        let word = self.word(pair, action, draw < fresh + repeated + other);
        let mut words = self.words(vec![word.clone()], "single_words");
        words.left = self.go_on(device, server, &word, words.leaves)?;
        if repeats {
            words.answered.push(self.again(device, server, word.clone(), "repeats"));
        }
        if reverses {
            let mut turned = self.word(pair, opposite(action), false);
            turned.key.clone_from(&word.key);
            words.answered.push(self.again(device, server, turned, "opposite_keys"));
        } else if word.key.is_some() {
            if self.remembered.len() == REMEMBERED {
                self.remembered.pop_front();
            }
            self.remembered.push_back(word);
        }
        if self.chance("look_after") {
            let server = if self.below(2) == 0 { server } else { self.another_server(server) };
            words.answered.push(Act { after: Duration::ZERO, device, server, deed: Deed::States(vec![pair]) });
        }
        let mut acts = vec![Act { after: Duration::ZERO, device, server, deed: Deed::Words(words) }];
        if self.devices > 1 && self.chance("together") {
            for other in (0..self.devices as u32).filter(|other| *other != device) {
                let action = if self.below(4) == 0 { action } else { opposite(action) };
                let key = self.chance("fresh_key");
                let word = self.word(pair, action, key);
                let mut words = self.words(vec![word.clone()], "words_of_other_devices");
                let server = if self.chance("elsewhere") { self.another_server(server) } else { server };
                words.left = self.go_on(other, server, &word, words.leaves)?;
                let after = self.time(1.0, 4_000.0);
                acts.push(Act { after, device: other, server, deed: Deed::Words(words) });
            }
        }
        Some(Scene { acts })
    }

    fn again(&mut self, device: u32, server: usize, word: Word, what: &'static str) -> Act {
        let after = self.time(1.0, 2_000.0);
        let server = if self.below(2) == 0 { server } else { self.another_server(server) };
        Act { after, device, server, deed: Deed::Words(Self::patient(vec![word], what)) }
    }

    /// What a caller does who got no answer: the last word is said elsewhere.
    fn go_on(&mut self, device: u32, server: usize, word: &Word, leaves: Leaves) -> Option<Vec<Act>> {
        let after = match leaves {
            Leaves::Never => return Some(Vec::new()),
            _ if self.chance("at_once") => Duration::ZERO,
            Leaves::Deadline(_) => Duration::from_micros(self.below(1_000_000)),
            Leaves::Drops(_) => CALL_LIMIT + Duration::from_micros(self.below(1_000_000)),
        };
        let server = self.another_server(server);
        let act = |after, words| Act { after, device, server, deed: Deed::Words(words) };
        if word.key.is_some() && self.below(4) == 0 {
            return Some(vec![act(after, Self::patient(vec![word.clone()], "retries_after_leaving"))]);
        }
        // First the same, then the opposite, or only one of them.
        let same = self.word(word.pair, word.action, false);
        let other = self.word(word.pair, opposite(word.action), false);
        let words = match self.below(3) {
            0 => vec![same],
            1 => vec![other],
            _ => vec![same, other],
        };
        let mut acts: Vec<Act> = Vec::new();
        for word in words.into_iter().rev() {
            let mut words = Self::patient(vec![word], "words_after_leaving");
            words.answered = std::mem::take(&mut acts);
            acts.push(act(Duration::ZERO, words));
        }
        if let Some(first) = acts.first_mut() {
            first.after = after;
        }
        Some(acts)
    }
}

impl Iterator for Script {
    type Item = Scene;

    fn next(&mut self) -> Option<Scene> {
        // All ids are valid.
        self.scene()
    }
}

const fn opposite(action: Action) -> Action {
    Action::from_liked(!action.liked())
}

/// Resources that everybody watches.
pub(super) fn hot_resources() -> Vec<Resource> {
    (0..HOT_RESOURCES).filter_map(Script::resource).collect()
}
