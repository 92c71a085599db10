//! A seeded simulation of accept, relay, rescue, apply and settle under faults.
//!
//! One shard, two servers, four users, two resources. Every step is atomic, as scripts and transactions are; anything may
//! happen between two steps. After a few hundred random steps the faults stop, everything comes to rest, and cache and
//! database must agree with what users were told last. The same run with a planted bug must not.
//!
//! What happens to single words (deadlines, batches, keys, direct writes that wait) is searched exhaustively in [`words`];
//! what happens when a store goes back in time is the walk of [`stores`].
//!
//! A failing run prints its trail, faults and seed.
//!
//! Losses are excused only where the cache lost everything after the like was accepted, and then every other store that
//! had it lost it too. Deliberately absent: a cache that lost all its data and whose clock is behind versions it gave before.
//! Its versions may then repeat ones that are still in flight, and settling the old event would remove the new entry.

mod cache;
mod database;
mod stores;
mod words;
mod world;

use world::{Dice, World};

/// Percentages, or switches where 0 is off.
#[derive(Debug, Clone, Copy, Default)]
struct Faults {
    /// A process dies at one of its steps.
    crash: u64,
    /// A message is delivered twice.
    duplicate: u64,
    /// A message is taken out of order.
    reorder: u64,
    /// A settlement is told long after the acknowledgement.
    slow_settle: u64,
    /// An event fails for a reason of its own.
    poison: u64,
    /// A server cannot load a count.
    database_unreachable: u64,
    /// Servers die with their memory.
    kill: bool,
    /// Pairs and counters expire or are evicted.
    expire: bool,
    /// The cache loses everything.
    flush: bool,
    /// The broker loses everything.
    wipe: bool,
    /// The cache is unreachable for a while.
    cache_down: bool,
    /// The broker is unreachable for a while.
    broker_down: bool,
    /// The cache's clock goes back.
    clock_back: bool,
    /// An operator gives failed events up.
    discard: bool,
    /// How far clocks of servers that write directly are ahead of the cache's.
    clock_skew: u64,
}

const USUAL: Faults = Faults {
    crash: 10,
    duplicate: 20,
    reorder: 50,
    slow_settle: 20,
    poison: 0,
    database_unreachable: 0,
    kill: true,
    expire: false,
    flush: false,
    wipe: false,
    cache_down: false,
    broker_down: false,
    clock_back: false,
    discard: false,
    clock_skew: 0,
};

const PROFILES: [(&str, Faults); 11] = [
    ("usual", USUAL),
    ("poison", Faults { poison: 15, ..USUAL }),
    ("discard", Faults { poison: 30, discard: true, expire: true, cache_down: true, ..USUAL }),
    ("expire", Faults { expire: true, ..USUAL }),
    ("flush", Faults { flush: true, ..USUAL }),
    ("wipe", Faults { wipe: true, ..USUAL }),
    ("cache down", Faults { cache_down: true, clock_skew: 20, ..USUAL }),
    ("broker down", Faults { broker_down: true, ..USUAL }),
    ("database unreachable", Faults { database_unreachable: 30, expire: true, ..USUAL }),
    ("clock", Faults { clock_back: true, expire: true, ..USUAL }),
    (
        "all",
        Faults {
            poison: 5,
            discard: true,
            database_unreachable: 10,
            expire: true,
            flush: true,
            wipe: true,
            cache_down: true,
            broker_down: true,
            ..USUAL
        },
    ),
];

/// A rule left out or broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    /// Rows take whatever arrives last.
    NoVersionCheck,
    /// A stored count is taken from any settlement, however old.
    NoRevisionGuard,
    /// Journal entries go when they are published.
    JournalDeletedAtPublish,
    /// The served count follows the stored one while entries are pending.
    ServedOverwrittenWhilePending,
    /// Settling lowers the pending number for entries that were not in the journal.
    SettleCountsAbsentEntries,
    /// A filled counter is believed for long, and not compared with the database afterwards.
    CountFillTrusted,
    /// The same of a filled pair.
    StateFillTrusted,
    /// A fill replaces a cached counter.
    FillOverwrites,
    /// A pair filled from the database is enough to answer "unchanged".
    FilledPairTrusted,
    /// A cached pair follows the row, even to an older version.
    RefreshWithOlderRow,
    /// Rows ahead of the cache's clock do not raise it.
    ClockNotRaised,
    /// A counter expires while entries are pending.
    PendingCounterExpires,
    /// The counter's delta comes from the message.
    DeltaFromMessage,
    /// An unlike deletes its row.
    NoTombstone,
    /// A batch that changed no row tells the cache no count.
    NoReadback,
    /// The consumer settles and acknowledges before it commits.
    SettledBeforeCommit,
    /// Nobody looks after journal entries whose server died.
    NoRescuer,
    /// The cache does not hear of a discarded event.
    DiscardUntold,
    /// A second copy of a discarded event is applied.
    DiscardedApplied,
}

const BUGS: [Bug; 19] = [
    Bug::NoVersionCheck,
    Bug::NoRevisionGuard,
    Bug::JournalDeletedAtPublish,
    Bug::ServedOverwrittenWhilePending,
    Bug::SettleCountsAbsentEntries,
    Bug::CountFillTrusted,
    Bug::StateFillTrusted,
    Bug::FillOverwrites,
    Bug::FilledPairTrusted,
    Bug::RefreshWithOlderRow,
    Bug::ClockNotRaised,
    Bug::PendingCounterExpires,
    Bug::DeltaFromMessage,
    Bug::NoTombstone,
    Bug::NoReadback,
    Bug::SettledBeforeCommit,
    Bug::NoRescuer,
    Bug::DiscardUntold,
    Bug::DiscardedApplied,
];

const STEPS: usize = 300;

type Step = fn(&mut World);

fn steps(faults: &Faults, dice: &mut Dice) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut add = |step: Step, times: usize| steps.extend(std::iter::repeat_n(step, times));
    add(World::like, 6);
    add(World::read, 2);
    add(World::run_errand, 3);
    add(World::relay, 3);
    add(World::consume, 3);
    add(World::rescue, 1);
    add(World::settle_late, 1);
    add(World::retry_parked, 1);
    add(World::discard, usize::from(faults.discard));
    add(World::refresh, usize::from(faults.discard));
    add(World::kill_server, usize::from(faults.kill));
    add(World::expire, usize::from(faults.expire) * 2);
    add(World::flush_cache, usize::from(faults.flush && dice.chance(30)));
    add(World::wipe_broker, usize::from(faults.wipe && dice.chance(30)));
    add(|world| world.cache_up = false, usize::from(faults.cache_down));
    add(World::restore_cache, usize::from(faults.cache_down));
    add(|world| world.broker_up = false, usize::from(faults.broker_down));
    add(|world| world.broker_up = true, usize::from(faults.broker_down));
    add(World::step_clock_back, usize::from(faults.clock_back));
    steps
}

fn run(faults: Faults, seed: u64, bug: Option<Bug>) -> World {
    run_in(World::new(seed, faults, bug))
}

fn run_in(mut world: World) -> World {
    let faults = world.faults;
    let steps = steps(&faults, &mut world.dice);
    for _ in 0..STEPS {
        let pick = world.dice.below(steps.len());
        steps[pick](&mut world);
        world.check_invariants();
        if !world.broken.is_empty() {
            return world;
        }
    }
    world.come_to_rest();
    world.check_invariants();
    world.check_convergence();
    world
}

fn explain(name: &str, faults: Faults, seed: u64, bug: Option<Bug>) -> String {
    let mut world = World::new(seed, faults, bug);
    world.trail = Some(Vec::new());
    let world = run_in(world);
    let trail = world.trail.unwrap_or_default().join("\n");
    format!("{trail}\nfaults {name:?}, seed {seed}, bug {bug:?}:\n{}", world.broken.join("\n"))
}

/// 5,500 runs; `PROTOCOL_SEEDS` asks for another number per kind of faults.
#[test]
fn the_protocol_converges() {
    let seeds = std::env::var("PROTOCOL_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(500);
    for (name, faults) in PROFILES {
        for seed in 0..seeds {
            assert!(run(faults, seed, None).broken.is_empty(), "{}", explain(name, faults, seed, None));
        }
    }
}

#[test]
fn every_planted_bug_is_found() {
    let mut missed = Vec::new();
    for bug in BUGS {
        let found = (0..300).find_map(|seed| {
            let profile = PROFILES.iter().find(|(_, faults)| !run(*faults, seed, Some(bug)).broken.is_empty());
            profile.map(|(name, faults)| (*name, seed, run(*faults, seed, Some(bug)).broken))
        });
        match found {
            Some((name, seed, broken)) => println!("{bug:?}: faults {name:?}, seed {seed}: {}", broken[0]),
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "the model does not notice {missed:?}");
}
