//! One shard: pairs, counters, journal, clock. The rules are those of the Redis scripts `accept.lua` and `settle.lua`.

mod deleted;
mod erase;
mod held;
mod held_pair;
mod repair;

use crate::EmbeddedConfig;
use crate::error::WalError;
use crate::generations::{Forgettable, Generations};
use crate::recovery::KeptEntry;
use crate::segment::Accounting;
use crate::users::Users;
use crate::wal::{GroupCommit, Wal};
use bytes::Bytes;
use domain::cache::{
    AcceptOutcome, AcceptRequest, Answer, CacheRules, CachedCount, FirstAnswer, MissingCount, SettleReport,
    SettledResource, UNCONFIRMED_TTL,
};
use domain::codec::decode_payload;
use domain::{DeletedMark, Pair, PairState, Resource, StoredCount, Version};
use held_pair::HeldPair;
use planted_bugs::is_planted;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// The time, read once per call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// For versions.
    pub(crate) wall: Version,
    /// For lifetimes: microseconds since the cache was opened.
    pub(crate) us: u64,
}

impl Now {
    fn after(self, ttl: Duration) -> u64 {
        self.us.saturating_add(u64::try_from(ttl.as_micros()).unwrap_or(u64::MAX))
    }

    fn after_unconfirmed(self, ttl: Duration) -> u64 {
        self.after(ttl.min(UNCONFIRMED_TTL))
    }

    /// Of what the database knows, or does not know either.
    fn after_confirmed(self, known: bool, ttl: Duration, rules: &CacheRules) -> u64 {
        self.after(if known { ttl } else { ttl.min(rules.unknown_ttl) })
    }
}

#[derive(Debug, Clone, Copy)]
struct Counter {
    count: CachedCount,
    /// Does not apply while likes are pending.
    expires: u64,
}

impl Forgettable for Counter {
    fn is_pinned(&self) -> bool {
        self.count.pending > 0
    }
}

impl Counter {
    fn filled(stored: StoredCount, expires: u64) -> Self {
        let count = CachedCount {
            served: stored.count,
            pending: 0,
            last_version: Version::ZERO,
            stored: stored.count,
            stored_revision: stored.revision,
        };
        Self { count, expires }
    }
}

#[derive(Debug, Clone, Copy)]
struct HeldAnswer {
    /// What was asked: the key belongs to it.
    liked: bool,
    answer: Answer,
    changed: bool,
    expires: u64,
}

impl Forgettable for HeldAnswer {}

#[derive(Debug)]
struct Entry {
    payload: Bytes,
    /// Whether it is in its counter's pending number.
    counted: bool,
    /// When it was accepted (or recovered), in microseconds since the cache was opened.
    since: u64,
}

pub(crate) struct Shard {
    id: u16,
    pairs: Generations<Pair, HeldPair>,
    counters: Generations<Resource, Counter>,
    answers: Generations<(Pair, Box<str>), HeldAnswer>,
    journal: BTreeMap<i64, Entry>,
    deleted: HashMap<Resource, DeletedMark>,
    accounting: Accounting,
    /// Largest token of a repairer.
    fence: u64,
    /// Of the last record: whoever is told what it changed waits for it, too.
    last_commit: Option<GroupCommit>,
}

/// What one like came to, and the record that must be kept before that is said.
pub(crate) type Accepted = Result<(AcceptOutcome, Option<GroupCommit>), WalError>;

impl Shard {
    pub(crate) fn new(id: u16, config: &EmbeddedConfig, rules: &CacheRules, accounting: Accounting) -> Self {
        let shards = usize::from(rules.shards.get());
        Self {
            id,
            pairs: Generations::new(config.max_pairs / shards),
            counters: Generations::new(config.max_counters / shards),
            answers: Generations::new(config.max_keys / shards),
            journal: BTreeMap::new(),
            deleted: HashMap::new(),
            accounting,
            fence: 0,
            last_commit: None,
        }
    }

    /// Takes back an unsettled entry. Its counter is not cached, so it is in no pending number; it is the newest state of
    /// its pair that this cache knows of, but perhaps not the newest there is.
    pub(crate) fn take_back(&mut self, version: i64, kept: KeptEntry, rules: &CacheRules) {
        let now = Now { wall: Version::ZERO, us: 0 };
        match decode_payload(&kept.payload) {
            Ok(intent) => {
                let state = PairState { liked: intent.action.liked(), version: Version(version) };
                self.pairs.insert(intent.pair, HeldPair::new(state, false, now.after(rules.pair_ttl)));
                if let Some(key) = intent.idempotency_key {
                    let answer = Answer { count: (kept.count >= 0).then_some(kept.count), version: Version(version) };
                    let liked = intent.action.liked();
                    let expires = now.after(rules.idempotency_ttl);
                    let first = HeldAnswer { liked, answer, changed: true, expires };
                    self.answers.insert((intent.pair, key.into()), first);
                }
            }
            Err(error) => tracing::error!(%error, version, shard = self.id, "a journal entry cannot be decoded"),
        }
        self.journal.insert(version, Entry { payload: kept.payload, counted: false, since: 0 });
    }

    pub(crate) fn accept(
        &mut self,
        request: &AcceptRequest,
        rules: &CacheRules,
        now: Now,
        users: &Users,
        wal: &Wal,
    ) -> Accepted {
        let pair = request.intent.pair;
        // Before everything that costs or tells something.
        if self.is_deleted(pair.resource) {
            return Ok((AcceptOutcome::Deleted, None));
        }
        let wanted = request.intent.action.liked();
        let key = request.intent.idempotency_key.as_deref().map(|key| (pair, Box::<str>::from(key)));
        if let Some(key) = &key
            && let Some(first) = self.answers.get(key).filter(|first| first.expires > now.us)
        {
            if first.liked != wanted && !is_planted("key_of_any_action") {
                return Ok((AcceptOutcome::KeyReused, None));
            }
            let outcome = AcceptOutcome::Repeated { answer: first.answer, changed: first.changed };
            return Ok((outcome, self.last_commit.clone()));
        }

        let served = self.counter(pair.resource, now).map(|counter| counter.count.served);
        let fill = match (served, request.missing) {
            _ if request.reserve.is_some() => None,
            (None, MissingCount::Report) => return Ok((AcceptOutcome::CountMissing, None)),
            (None, MissingCount::Fill(stored)) => Some(stored),
            _ => None,
        };

        let token = match rules.user_limit.filter(|_| request.limited) {
            Some(limit) => match users.token(pair.user, limit, now.us) {
                Ok(token) => Some(token),
                Err(retry_after) => return Ok((AcceptOutcome::RateLimited { retry_after }, None)),
            },
            None => None,
        };

        let held = self.pairs.get(&pair).filter(|held| held.is_live(now.us)).copied();
        if let Some(above) = request.reserve {
            let version = (self.accounting.clock.max(above.if_possible().0) + 1).max(now.wall.0);
            // The record keeps the clock from falling behind a row that is about to be written.
            self.hear(version, 0, &[], wal);
            if let Some(token) = token {
                token.take();
            }
            let held = held.filter(HeldPair::is_ours).map(|held| held.state());
            return Ok((AcceptOutcome::Reserved { version: Version(version), held }, None));
        }
        let same = held.is_some_and(|held| held.state().liked == wanted);
        let unchanged = held.filter(|held| same && held.is_ours() && !request.rewrite).map(|held| held.state().version);
        if unchanged.is_none() && self.journal.len() as u64 >= rules.journal_limit {
            return Ok((AcceptOutcome::Overloaded, None));
        }

        // The clock must not fall behind what the database already holds, or this like would lose against an older row.
        let heard = fill.map_or(0, |stored| stored.last_version.if_possible().0);
        let before = served.or(fill.map(|stored| stored.count));
        let (answer, commit) = if let Some(version) = unchanged {
            self.accounting.clock = self.accounting.clock.max(heard);
            if let Some(stored) = fill {
                let expires = now.after_unconfirmed(rules.counter_ttl);
                self.counters.insert(pair.resource, Counter::filled(stored, expires));
            }
            (Answer { count: before, version }, self.last_commit.clone())
        } else {
            let version = Version((self.accounting.clock.max(heard) + 1).max(now.wall.0));
            let step = if wanted { 1 } else { -1 };
            let count = before.map(|count| if same { count } else { (count + step).max(0) });
            let commit = match wal.append_accepted(self.id, version.0, count.unwrap_or(-1), &request.payload) {
                Ok(commit) => commit,
                Err(WalError::Full) => return Ok((AcceptOutcome::Overloaded, None)),
                Err(error) => return Err(error),
            };
            self.write(request, version, count, fill, rules, now);
            self.last_commit = Some(commit.clone());
            (Answer { count, version }, Some(commit))
        };
        if let Some(token) = token {
            token.take();
        }
        let changed = unchanged.is_none();
        // "Unchanged" is remembered only once the caller has confirmed it.
        if let Some(key) = key.filter(|_| changed || is_planted("unconfirmed_remembered")) {
            let expires = now.after(rules.idempotency_ttl);
            self.answers.insert(key, HeldAnswer { liked: wanted, answer, changed, expires });
        }
        let outcome = if changed { AcceptOutcome::Accepted(answer) } else { AcceptOutcome::Unchanged(answer) };
        Ok((outcome, commit))
    }

    /// The change itself, whose record is appended: journal, pair and counter together.
    fn write(
        &mut self,
        request: &AcceptRequest,
        version: Version,
        served: Option<i64>,
        fill: Option<StoredCount>,
        rules: &CacheRules,
        now: Now,
    ) {
        let pair = request.intent.pair;
        self.accounting.clock = version.0;
        self.accounting.accepted += 1;
        let entry = Entry { payload: request.payload.clone(), counted: served.is_some(), since: now.us };
        if !is_planted("accept_without_journal") {
            self.journal.insert(version.0, entry);
        }
        let state = PairState { liked: request.intent.action.liked(), version };
        self.pairs.insert(pair, HeldPair::new(state, true, now.after(rules.pair_ttl)));
        let Some(served) = served else { return };
        let counter = match fill {
            Some(stored) => Some(self.counters.insert(pair.resource, Counter::filled(stored, u64::MAX))),
            None => self.counters.get(&pair.resource),
        };
        if let Some(counter) = counter {
            counter.count.served = served;
            counter.count.pending += 1;
            counter.count.last_version = version;
        }
    }

    pub(crate) fn settle(
        &mut self,
        settled: &SettledResource,
        rules: &CacheRules,
        now: Now,
        wal: &Wal,
    ) -> SettleReport {
        let mut removed = Vec::with_capacity(settled.entries.len());
        let mut counted = 0;
        for version in &settled.entries {
            if let Some(entry) = self.journal.remove(&version.0) {
                removed.push(version.0);
                counted += i64::from(entry.counted);
            }
        }
        let up_to = settled.entries.iter().map(|version| version.0).max().unwrap_or(0);
        self.hear(settled.stored.map_or(0, |stored| stored.last_version.if_possible().0), up_to, &removed, wal);

        let mut report = SettleReport { removed: removed.len() as u64, ..SettleReport::default() };
        if removed.is_empty() && settled.stored.is_none() {
            return report;
        }
        // A counter that is not cached is not created: its next reader fills it from the database.
        if let Some(counter) = self.counter(settled.resource, now) {
            let before = counter.count.pending;
            let count = &mut counter.count;
            count.pending = (before - counted).max(0);
            let mut confirmed = false;
            if let Some(stored) = settled.stored {
                confirmed = stored.revision >= count.stored_revision;
                if stored.revision > count.stored_revision {
                    (count.stored, count.stored_revision) = (stored.count, stored.revision);
                }
            }
            // Readers see no flicker: what is served moves only as far as it is proven wrong. Every pending like can have
            // changed the count by one since the stored one was counted, and nothing else can.
            let possible = count.served.clamp(count.stored - count.pending, count.stored + count.pending).max(0);
            if possible != count.served {
                count.served = possible;
                report.corrections = 1;
            }
            if count.pending == 0 && (confirmed || before > 0) {
                let (known, ttl) = (counter.count.stored_revision > 0, rules.counter_ttl);
                counter.expires =
                    if confirmed { now.after_confirmed(known, ttl, rules) } else { now.after_unconfirmed(ttl) };
            }
        }
        report
    }

    /// A pair's row: a cached pair that is older follows it. True if it did.
    pub(crate) fn refresh(&mut self, pair: Pair, row: PairState, rules: &CacheRules, now: Now, wal: &Wal) -> bool {
        let row = PairState { version: row.version.if_possible(), ..row };
        self.hear(row.version.0, 0, &[], wal);
        let Some(held) = self.pairs.get(&pair).filter(|held| held.is_live(now.us)) else { return false };
        let (seen, order) = (!held.is_ours(), held.state().order());
        let older = order < row.order();
        if seen && order <= row.order() {
            held.set_expires(now.after_confirmed(row.order() > PairState::UNTOUCHED.order(), rules.pair_ttl, rules));
        }
        if older {
            held.set_state(row);
        }
        older
    }

    /// Remembers the first answer of a key, unless it has one, of this version or a newer one.
    pub(crate) fn remember(&mut self, first: &FirstAnswer, rules: &CacheRules, now: Now) {
        let key = (first.pair, Box::<str>::from(first.key.as_str()));
        let left = rules.idempotency_ttl.saturating_sub(first.age);
        if !left.is_zero()
            && self
                .answers
                .get(&key)
                .is_none_or(|held| held.expires <= now.us || held.answer.version < first.answer.version)
        {
            let FirstAnswer { liked, answer, changed, .. } = *first;
            let expires = now.after(left);
            self.answers.insert(key, HeldAnswer { liked, answer, changed, expires });
        }
    }

    /// Notes what a settlement says about clock and accounting.
    fn hear(&mut self, heard: i64, up_to: i64, removed: &[i64], wal: &Wal) {
        let accounting = &mut self.accounting;
        if heard <= accounting.clock && up_to <= accounting.settled_up_to && removed.is_empty() {
            return;
        }
        accounting.clock = accounting.clock.max(heard);
        accounting.settled_up_to = accounting.settled_up_to.max(up_to);
        accounting.settled += removed.len() as u64;
        wal.append_settled(self.id, accounting.clock, accounting.settled_up_to, removed);
    }
}
