//! The last word wins: every interleaving of a few calls about one pair, searched exhaustively.
//!
//! Two devices of a user call two servers; the second one may be unable to reach the cache, or write to the database first. A
//! client that gives up goes on with its next word, at whatever server. A call is *over* from that moment on: nobody waits for
//! it, and whatever the user says next must win against it. Time is an order of events and `give_up` is one of them, so every
//! pause of every length is covered.
//!
//! # Rules
//!
//! Each one is necessary (a bug breaks it, and the search finds a counterexample), and together they suffice within the scopes.
//!
//! **Deadlines**
//!
//! - **D1, one deadline.** It is fixed when the call arrives: the caller's timeout or the server's limit, whichever ends first.
//!   Every item carries it into the script as an argument of its own (a combined call mixes callers), and the script refuses
//!   the items that are over by the cache's own clock. The lower bound of what is known about that clock converts it, so the
//!   script never runs later than the caller waits. Nothing lengthens it: the question after EXPIRED, the question with the
//!   loaded count, the rewrite after a confirmation and the reservation of a version carry the same one. An attempt may have
//!   less time than its call, never more. A call that is over is not asked again.
//! - **D2, the database only after the cache.** A server goes over to a direct write only when the attempt at the cache can no
//!   longer run: it ran and its answer got lost, or the attempt's own deadline in the script has passed.
//! - **D3, direct writes check last.** Lock the counter, read the row, fix the version, write the row, then look whether the
//!   call is over, then commit; a call that is over rolls back. The commit may then take as long as it likes: its version is
//!   below those of all later words. A transaction that is tried again after a conflict keeps the call's deadline. The
//!   synchronous path checks, too: its version is reserved in time, but a late row contradicts what was confirmed meanwhile.
//! - **D4, clocks are waited out.** The version of a direct write comes from the upper bound of the cache's clock, so it may lie
//!   ahead of that clock. The server commits only when the lower bound has passed the version: it waits before its transaction,
//!   within the call's deadline. Otherwise the cache gives a smaller version to a later word.
//!
//! Not executing callers that are gone saves work; with D1 the order of words does not depend on it.
//!
//! **Batches**
//!
//! - **B1, rounds.** Operations of one pair in one call take turns: the next one is asked when the one before it is decided
//!   (written, confirmed or refused), so a rewrite is always the newest. What goes over to the database takes all undecided
//!   operations of its pair along, in their order, in one transaction. Different pairs of a call remain one round trip. The
//!   synchronous path needs the same: its second operation may be "unchanged" only because the first one is not written yet.
//!
//! **Unchanged**
//!
//! - **U1, confirmed or rewritten.** "Unchanged" is answered only if the row, read afterwards, does not contradict it. This is
//!   a locking read (`FOR SHARE`): it waits for a transaction that has written this row and not committed yet, because that one
//!   may have passed its check (D3) for a client that has moved on since. Whoever cannot wait writes again, which is always
//!   right. The row that the synchronous path reads first is such a read, too. A consistent read suffices only if the check and
//!   the commit of D3 are one step; there is a test for that.
//! - **U2, the newer version.** Where the row is newer than the cached pair and as wanted, the answer carries the row's version:
//!   versions that a client is told never go back.
//!
//! **Keys**
//!
//! - **K1, bound to the action.** Cache and ledger keep the action with the key; the other action with that key is refused.
//! - **K2, remembered when decided.** The script remembers what it writes, never "unchanged". The server remembers "unchanged"
//!   when it is confirmed, unless a key is there already, and answers after that. So the repetition of an unconfirmed
//!   "unchanged" finds no key and is asked and confirmed like any call. A rewrite carries its key.
//! - **K3, keys in both stores.** A direct write asks the ledger for the key under its locks; what it wrote reaches the cache's
//!   memory with the refresh of the pair.
//!
//! # Promises
//!
//! | [`Broken`] | |
//! |---|---|
//! | `LateEffect` | no effect after `give_up`: no version above the clock of that moment |
//! | `Order` | a word that begins after another one ended (answered or given up) has a larger version, or the same state |
//! | `Reversed` | the same, where an acknowledged word is undone by an earlier one |
//! | `TwoStates` | one version, one state |
//! | `BatchOrder` | the order of a call's operations is the order of their versions |
//! | `UnsoundKey` | a key answers only what was confirmed or written, for the same action |
//! | `Twice` | a word that was answered takes effect no second time when its key is repeated |
//! | `AtRest` | row = last word, count = live rows, cache = both; also between the calls, whenever nothing is under way |
//!
//! A direct write is above everything that was answered before its call (`Order`), and none counts after its limit
//! (`LateEffect`).
//!
//! # Bugs
//!
//! | bug | rule | what happens |
//! |---|---|---|
//! | `ExpiredAskedAfresh`, `CountAskedAfresh`, `RewriteAskedAfresh` | D1 | the word of a client that has moved on becomes the newest |
//! | `ClientTimeoutIgnored` | D1 | the same, without any second question |
//! | `FallbackWhileUnderWay` | D2 | the cache takes a word again that the database has: it stays wrong, and "unchanged" is a lie |
//! | `DirectUnchecked` | D3 | whoever waited for a lock takes `row + 1` over later words, or undoes what was confirmed |
//! | `ClockNotWaitedOut` | D4 | a later word at the cache is older than the row |
//! | `BatchAskedAtOnce` | B1 | the first operation, unchanged, is written again after the second |
//! | `UnchangedUnconfirmed` | U1 | the cache has not heard of a direct write yet, and a word gets lost |
//! | `ConfirmReadsSnapshot` | U1 | a commit under way for a client that is gone undoes what was confirmed meanwhile |
//! | `CachedVersionAnswered` | U2 | a later answer has a smaller version |
//! | `KeyOfAnyAction` | K1 | an unlike is answered with the version of a like |
//! | `UnconfirmedRemembered` | K2 | a retry is acknowledged, and nobody ever writes it |
//! | `ConfirmedForgotten`, `RewriteWithoutKey` | K2 | a repetition undoes what another device said since |
//! | `DirectIgnoresKeys`, `RefreshWithoutKey` | K3 | the same, through the other store |
//!
//! # Limits
//!
//! Deliberately absent: two versions in the same microsecond; clocks that are set; counts that are old when they are filled
//! (the random walk has them); repetitions of an answered key through the other store before that one has heard of it, or of an
//! "unchanged", which the cache alone remembers. A call that is cancelled before its deadline is simply open until then, like
//! that of another device.
//!
//! `cargo test -p domain --test it words -- --nocapture` prints states, depths and counterexamples; a search is the same every
//! time. `PROTOCOL_WORDS` asks for larger scopes. Four calls are searched [reduced](reduce): 34,000 to 38,000 states where the
//! count is missing; asked for, 1.0 million (9 s, 180 MB) where a server is cut off and 10.4 million (2.4 min, 1.5 GB) on the
//! synchronous path, on one core.

mod check;
mod client;
mod reduce;
mod scopes;
mod script;
mod state;
mod transactions;

use check::Broken;
use client::SIGHTS;
use scopes::{
    AHEAD, BATCHES, COUNT, CUT, DEEP, KEYS, LOSSY, SCOPES, SMALL_COUNT, SMALL_CUT, SYNCHRONOUS, SYNCHRONOUS_BATCHES,
    Scope,
};
use stateright::{Checker, HasDiscoveries, Model};
use std::collections::BTreeSet;
use std::time::Instant;

/// A rule left out or broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    /// D1: what the script refused as expired is asked again with a new deadline.
    ExpiredAskedAfresh,
    /// D1: the question with the loaded count has a new deadline.
    CountAskedAfresh,
    /// D1: the rewrite has a new deadline.
    RewriteAskedAfresh,
    /// D1: the deadline is the server's alone, and later than the caller's.
    ClientTimeoutIgnored,
    /// D2: a direct write begins while the request to the cache can still run.
    FallbackWhileUnderWay,
    /// D3: the deadline of a direct write is looked at before its transaction only.
    DirectUnchecked,
    /// D4: a direct write takes a version ahead of the cache's clock and commits at once.
    ClockNotWaitedOut,
    /// B1: all operations of a call are asked at once, and rewritten one by one.
    BatchAskedAtOnce,
    /// U1: the cache's word is enough.
    UnchangedUnconfirmed,
    /// U1: the row is read without waiting for a transaction that has written it.
    ConfirmReadsSnapshot,
    /// U2: "unchanged" is answered with the cached version although the row's is newer.
    CachedVersionAnswered,
    /// K1: a key answers whatever is asked with it.
    KeyOfAnyAction,
    /// K2: the script remembers an "unchanged" that nobody confirmed.
    UnconfirmedRemembered,
    /// K2: a confirmed "unchanged" is not remembered.
    ConfirmedForgotten,
    /// K2: the rewrite of an "unchanged" leaves the key out.
    RewriteWithoutKey,
    /// K3: the database does not know keys.
    DirectIgnoresKeys,
    /// K3: the cache does not hear of the keys of direct writes.
    RefreshWithoutKey,
}

/// A step of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// A device sends its next word, or repeats the one before; the bits are the operations' wanted states.
    Send {
        device: u8,
        server: u8,
        ops: u8,
        liked: u8,
    },
    Hear(usize),
    GiveUp(usize),
    Run {
        attempt: usize,
        heard: bool,
    },
    RunStray(usize),
    Lose(usize),
    Confirm {
        attempt: usize,
        readable: bool,
    },
    Remember(usize),
    Read(usize),
    Reserve(usize),
    Lock(usize),
    Check(usize),
    Commit(usize),
    Apply(usize),
    Settle(usize),
    Refresh,
}

/// The model: a scope, the bugs, and the promises that the search looks at.
#[derive(Debug, Clone)]
struct Words {
    scope: Scope,
    bugs: Vec<Bug>,
    /// The check of a direct write and its commit are one step.
    check_commits: bool,
    /// Calls that can only be refused are dropped when their client gives up.
    skips: bool,
    /// What to look for; everything if empty.
    watch: Vec<Broken>,
}

/// What a search saw.
struct Found {
    states: usize,
    depth: usize,
    sights: Vec<&'static str>,
    /// The shortest way to a broken promise.
    broken: Option<String>,
}

impl Words {
    fn new(scope: Scope, bugs: &[Bug]) -> Self {
        Self { scope, bugs: bugs.to_vec(), check_commits: false, skips: bugs.is_empty(), watch: Vec::new() }
    }

    fn has(&self, bug: Bug) -> bool {
        self.bugs.contains(&bug)
    }

    /// On one thread: the same search every time.
    fn search(&self) -> Found {
        let began = Instant::now();
        let checker = self.clone().checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        let (mut sights, mut broken) = (Vec::new(), None);
        for (name, path) in checker.discoveries() {
            let Some(promise) = path.last_state().broken else {
                sights.push(name);
                continue;
            };
            let steps: Vec<String> = path.into_actions().iter().map(|step| format!("  {step:?}")).collect();
            broken = Some(format!("{promise:?}\n{}", steps.join("\n")));
        }
        let (states, depth) = (checker.unique_state_count(), checker.max_depth());
        println!("{}, {:?}: {states} states, depth {depth}, {:.1?}", self.scope.name, self.bugs, began.elapsed());
        Found { states, depth, sights, broken }
    }

    fn finds_nothing(&self) -> Found {
        let found = self.search();
        assert!(found.broken.is_none(), "{}: {}", self.scope.name, found.broken.unwrap_or_default());
        assert!(found.states > 1_000 && found.depth > 5, "{}: {} states are no search", self.scope.name, found.states);
        found
    }
}

fn wanted() -> Option<String> {
    std::env::var("PROTOCOL_WORDS").ok()
}

/// `PROTOCOL_WORDS=deep` searches the larger scopes, any other value the one of that name.
#[test]
fn the_last_word_wins() {
    if let Some(wanted) = wanted() {
        for scope in SCOPES.into_iter().chain(DEEP).filter(|scope| wanted == "deep" || scope.name == wanted) {
            Words::new(scope, &[]).finds_nothing();
        }
        return;
    }
    let mut sights = BTreeSet::new();
    for scope in SCOPES {
        sights.extend(Words::new(scope, &[]).finds_nothing().sights);
    }
    let missing: Vec<_> = SIGHTS.iter().map(|(name, _)| name).filter(|name| !sights.contains(**name)).collect();
    assert!(missing.is_empty(), "never seen: {missing:?}");
}

/// U1's alternative: where the check and the commit are one step, no locking read is needed.
#[test]
fn a_consistent_read_confirms_if_the_check_commits() {
    for scope in [SMALL_CUT, SYNCHRONOUS] {
        Words { check_commits: true, ..Words::new(scope, &[Bug::ConfirmReadsSnapshot]) }.finds_nothing();
    }
}

/// The searches above drop calls that can only be refused; with all of their steps they find nothing either.
#[test]
fn steps_without_effect_are_without_effect() {
    for scope in [SMALL_COUNT, SMALL_CUT, LOSSY, SYNCHRONOUS] {
        Words { skips: false, ..Words::new(scope, &[]) }.finds_nothing();
    }
}

/// Forgetting hides nothing: where the whole search finds a bug, the reduced one does, too.
#[test]
fn a_reduced_search_finds_the_same() {
    for scope in [COUNT, CUT, AHEAD, LOSSY, BATCHES, SYNCHRONOUS, SYNCHRONOUS_BATCHES] {
        Words::new(Scope { reduced: true, ..scope }, &[]).finds_nothing();
    }
    let mut missed = Vec::new();
    for (bug, scope, promises) in BUGS.into_iter().filter(|(_, scope, _)| !scope.keys) {
        for broken in promises {
            let reduced = Scope { reduced: true, ..scope };
            if (Words { watch: vec![*broken], ..Words::new(reduced, &[bug]) }).search().broken.is_none() {
                missed.push((bug, *broken));
            }
        }
    }
    assert!(missed.is_empty(), "the reduced search does not notice {missed:?}");
}

/// Where each bug is looked for, and promises that it must be seen to break.
const BUGS: [(Bug, Scope, &[Broken]); 20] = [
    (Bug::ExpiredAskedAfresh, SMALL_COUNT, &[Broken::LateEffect, Broken::Reversed]),
    (Bug::CountAskedAfresh, SMALL_COUNT, &[Broken::LateEffect, Broken::Reversed]),
    (Bug::RewriteAskedAfresh, SMALL_CUT, &[Broken::LateEffect, Broken::Reversed]),
    (Bug::ClientTimeoutIgnored, SMALL_COUNT, &[Broken::LateEffect, Broken::Reversed]),
    (Bug::FallbackWhileUnderWay, LOSSY, &[Broken::Reversed, Broken::AtRest]),
    (Bug::DirectUnchecked, SMALL_CUT, &[Broken::LateEffect, Broken::Reversed]),
    (Bug::DirectUnchecked, SYNCHRONOUS, &[Broken::Reversed]),
    (Bug::ClockNotWaitedOut, AHEAD, &[Broken::Order, Broken::Reversed]),
    (Bug::BatchAskedAtOnce, BATCHES, &[Broken::BatchOrder]),
    (Bug::BatchAskedAtOnce, SYNCHRONOUS_BATCHES, &[Broken::BatchOrder]),
    (Bug::UnchangedUnconfirmed, SMALL_CUT, &[Broken::Reversed]),
    (Bug::ConfirmReadsSnapshot, SMALL_CUT, &[Broken::Reversed]),
    (Bug::ConfirmReadsSnapshot, SYNCHRONOUS, &[Broken::Reversed]),
    (Bug::CachedVersionAnswered, SMALL_CUT, &[Broken::Order]),
    (Bug::KeyOfAnyAction, KEYS, &[Broken::UnsoundKey, Broken::TwoStates]),
    (Bug::UnconfirmedRemembered, KEYS, &[Broken::UnsoundKey, Broken::Reversed]),
    (Bug::ConfirmedForgotten, KEYS, &[Broken::Twice]),
    (Bug::RewriteWithoutKey, KEYS, &[Broken::Twice]),
    (Bug::DirectIgnoresKeys, KEYS, &[Broken::Twice]),
    (Bug::RefreshWithoutKey, KEYS, &[Broken::Twice]),
];

#[test]
fn every_broken_rule_of_words_is_found() {
    let mut missed = Vec::new();
    for (bug, scope, promises) in BUGS {
        for broken in promises {
            match (Words { watch: vec![*broken], ..Words::new(scope, &[bug]) }).search().broken {
                Some(way) => println!("{bug:?}: {way}"),
                None => missed.push((bug, *broken)),
            }
        }
    }
    assert!(missed.is_empty(), "the search does not notice {missed:?}");
}
