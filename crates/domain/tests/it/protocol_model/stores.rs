//! No store goes back in time unnoticed: a random walk in which the cache, the database, or both become what they once were.
//!
//! One shard, two servers, two consumers, four pairs of two resources. Both stores keep a snapshot per step; a step back takes
//! one of them, as far back as the replicas are behind (`replicate` lets them catch up). What nobody in the world knows (who was
//! answered what, which versions were given) checks it. [`TODAY`] promises nothing when a store goes back: so are the programs
//! as to the database. As to the cache they have F1, F2 and F4, F3 by the upper bound instead of a wait, and F5 where it is asked for. [`DESIGNED`] is the
//! whole.
//!
//! # Rules
//!
//! The cache:
//!
//! - **F1, own marks.** The script keeps the last version of *each server* and says what it found. Less than the server was
//!   answered: the shard went back. The shard's own clock does not tell: another server's like raises it first, and whoever
//!   had more never sees it (`ShardComparedNotServer`).
//! - **F2, offered again.** What a server was answered and does not know to be in the journal's past (settled, published,
//!   confirmed) it keeps; when the shard went back, all of it goes to the broker. A question whether entries are still there
//!   carries the mark, too, so an idle server notices as well, and "not there" means "settled" only if the mark is right, and
//!   only of what was answered before the question (`LookCoversLater`).
//! - **F3, the shard's clock never slows down.** A server takes the lower bound of the clock it knew along, also to a promoted
//!   host whose clock is behind; who meets a new primary waits, once, until its lower bound has passed what the old one can
//!   have answered. A server that starts begins with its own clock, which is enough as long as no primary's is ahead of it by more
//!   than a failover takes, or answers are confirmed: then the new primary has the version. One server's highest answer is not enough: another one was
//!   answered more (`ClockFollowsPromoted`).
//! - **F4, old pairs prove nothing.** The script writes down the primary it met and the clock of that moment. A cached pair from
//!   before is never a reason for "unchanged", even if row and journal agree with it: a newer word may be in some server's
//!   memory alone, and it wins when it is offered again (`OldPairsBelieved`). It is written again, which is always right.
//! - **F5, confirmed.** With `WAIT`, whoever still waits when the primary changes is not answered. "Unchanged" waits, too, after
//!   a write of its own: `WAIT` speaks of what its own connection wrote and of all before that, so also of the word that was
//!   found (`UnchangedUnconfirmed`).
//!
//! The database:
//!
//! - **N1, numbers.** Each instance of a writer has a lane. A transaction writes its next number and compares the one before;
//!   the settlement tells the cache, so that others see what a dead writer lost.
//! - **N2, roll call.** A writer that lost nothing finds its number and still reads what *others* have lost. So a new primary
//!   (another server or another start of it) is met only when all writers have found their numbers in it. Until then nothing
//!   that was read in it is settled, acknowledged, used for repairs or for "unchanged" (`NewDatabaseBelieved`).
//! - **N3, the log is read from the oldest message in anybody's hands**, which each transaction writes down in its lane. Not
//!   from the time of the point of return: what is committed after it may have been published long before
//!   (`ReplayFromPointOfReturn`). A consumer registers its lane, with the oldest of all, before its first message
//!   (`LaneRegisteredLate`), and no lane moves on in a database that is not met (`LaneAdvancedUnmet`).
//! - **N4, who starts has no number**, and if cache and database went back together nobody may be left who has: a starting
//!   consumer has the log read from that place, which is nothing as a rule (`StartedWithoutReplay`).
//! - **N5, revisions** are `max(revision + 1, now)` by a clock that does not go back with the database: a promoted host's may be
//!   behind (`RevisionByDatabaseClock`). A recount is above what the cache was told, besides.
//! - **N6, into the log before it leaves the journal.** What was applied directly stays in the journal until it is published,
//!   or else the database has the only copy (`DirectlyAppliedUnlogged`). The log forgets what every database that may be
//!   promoted has (`RetentionIgnoresHorizon`).
//! - **N7, recovery**: memory of living processes, log, cached pairs that are newer than their rows and in no journal, recount,
//!   unlatch. By version, so it may stop anywhere and begin again; one look at each pair is enough, and none is too old for it
//!   (`ScanFromNewestRow`). What was committed and not settled is done again.
//!
//! # Invariants
//!
//! | | |
//! |---|---|
//! | 1 | an acknowledged word is in journal, memory, queue, log, row or cached pair, unless every store and process that had it is gone |
//! | 2 | no direct write counts after its client gave up |
//! | 3 | later words of a pair have larger versions |
//! | 4 | one version, one state |
//! | 5 | batch order is version order |
//! | 6 | a key answers only what was written |
//! | 7 | a direct write is above everything answered before its call |
//! | 8 | what leaves the journal is in the log, or wherever the database can go back to |
//! | 9 | after a store went back, new versions exceed all that were answered |
//! | 10 | recovery lowers no row, can be repeated, ends with everything that was stored once, and the cache believes it |
//! | 11 | at rest row = last word, count = live rows, cache = both; and no reader is served what a database says that lacks something |
//!
//! # Limits
//!
//! Lost for good are, and the walk counts them: a like in the cache alone whose server dies before it is published, if the cache
//! goes back and answers are not confirmed; a direct write whose server dies before the broker is back, if the database goes
//! back; an "unchanged" of a word that its own client was never answered. Each store goes back once in a run. Deliberately
//! absent: a bound of what servers keep, retries of parked events, counts that are old when they are filled (the other walk has them), lanes of dead writers
//! being purged (not before the log has forgotten their oldest message).
//!
//! 40,000,000 steps (190,591 steps back, 163,380 recoveries) take about two minutes on one core.

mod check;
mod direct;
mod faults;
mod pipeline;
mod recover;
mod state;
mod world;

use world::World;

/// The rules of a protocol, and what it is put through.
#[derive(Debug, Clone, Copy)]
struct Rules {
    name: &'static str,
    /// F1, F2, F4.
    floor: bool,
    /// F3.
    clock_kept: bool,
    /// F5: answers wait for the replicas.
    confirm: bool,
    /// "Unchanged" only if the word is in the row, or in the journal on its way there.
    unchanged_reaches: bool,
    /// N1 to N5, N7.
    numbers: bool,
    /// N6: the redo log.
    log: bool,
    /// How often the cache goes back.
    redis_backs: u32,
    /// How often the database goes back.
    mysql_backs: u32,
    /// Processes die.
    kills: bool,
    /// How often the cache evicts.
    evicts: usize,
}

/// As the programs are; nothing goes back.
const TODAY: Rules = Rules {
    name: "as it is",
    floor: false,
    clock_kept: false,
    confirm: false,
    unchanged_reaches: false,
    numbers: false,
    log: false,
    redis_backs: 0,
    mysql_backs: 0,
    kills: true,
    evicts: 1,
};

/// As they shall be; [`WORLDS`] says what goes back.
const DESIGNED: Rules = Rules {
    name: "as designed",
    floor: true,
    clock_kept: true,
    unchanged_reaches: true,
    numbers: true,
    log: true,
    kills: false,
    ..TODAY
};

const WORLDS: [Rules; 10] = [
    TODAY,
    Rules { name: "the cache goes back", redis_backs: 1, ..DESIGNED },
    Rules { name: "the database goes back", mysql_backs: 1, ..DESIGNED },
    Rules { name: "both go back", redis_backs: 1, mysql_backs: 1, ..DESIGNED },
    Rules { name: "the cache goes back, processes die", redis_backs: 1, kills: true, ..DESIGNED },
    Rules { name: "the database goes back, processes die", mysql_backs: 1, kills: true, ..DESIGNED },
    Rules { name: "both go back, processes die", redis_backs: 1, mysql_backs: 1, kills: true, ..DESIGNED },
    Rules { name: "confirmed, the cache goes back", confirm: true, redis_backs: 1, kills: true, ..DESIGNED },
    Rules { name: "the database goes back, a small cache", mysql_backs: 1, evicts: 6, ..DESIGNED },
    Rules { name: "confirmed, both go back", confirm: true, redis_backs: 1, mysql_backs: 1, kills: true, ..DESIGNED },
];

/// A rule left out or broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    /// F5: the answer does not wait for the replicas.
    AnswerBeforeWait,
    /// F1: nobody compares.
    FloorIgnored,
    /// F2: noticed, and nothing offered again.
    ReofferForgotten,
    /// F2: what came after the look at the journal is taken for settled.
    LookCoversLater,
    /// F1: the shard's clock is compared.
    ShardComparedNotServer,
    /// F3: versions follow whatever clock the new host has.
    ClockFollowsPromoted,
    /// A direct write commits with a version ahead of the cache's clock.
    ClockNotWaitedOut,
    /// A direct write does not look at its deadline again.
    DirectUnchecked,
    /// The cache's word is enough for "unchanged".
    UnchangedUnreached,
    /// F4: pairs from before the new primary are believed.
    OldPairsBelieved,
    /// N2: a database is believed before the roll call.
    NewDatabaseBelieved,
    /// F5: "unchanged" does not wait, and relies on somebody else's unconfirmed entry.
    UnchangedUnconfirmed,
    /// N1: nobody compares.
    WentBackIgnored,
    /// N5: revisions count on from where the database went back to.
    RevisionPlusOne,
    /// N5: `now` is the promoted host's.
    RevisionByDatabaseClock,
    /// The checker makes the cache what an older database says.
    RepairsCacheBackwards,
    /// N6: published batches are not in the log.
    LogSkipped,
    /// N6: what was applied directly leaves the journal at once.
    DirectlyAppliedUnlogged,
    /// N1: who sees that the database went back settles all the same.
    UnlatchedSettle,
    /// N6: the log forgets by itself.
    RetentionIgnoresHorizon,
    /// N3: the log is read from the time the database went back to.
    ReplayFromPointOfReturn,
    /// N3: a lane begins with its first commit.
    LaneRegisteredLate,
    /// N3: lanes move on in a database that is not met.
    LaneAdvancedUnmet,
    /// N4: who starts reads nothing.
    StartedWithoutReplay,
    /// N7: recovery does not look at versions.
    RecoveredBlindly,
    /// N7: cached pairs are not looked at.
    ScanSkipped,
    /// N7: cached pairs are looked at that are newer than what is left.
    ScanFromNewestRow,
    /// N7: processes do not say what they remember.
    MemoryForgotten,
}

/// With the seed where the search begins: three are rare.
const BUGS: [(Bug, u64); 28] = [
    (Bug::AnswerBeforeWait, 0),
    (Bug::FloorIgnored, 0),
    (Bug::ReofferForgotten, 0),
    (Bug::ShardComparedNotServer, 0),
    (Bug::ClockFollowsPromoted, 0),
    (Bug::ClockNotWaitedOut, 0),
    (Bug::DirectUnchecked, 0),
    (Bug::UnchangedUnreached, 12700),
    (Bug::OldPairsBelieved, 0),
    (Bug::NewDatabaseBelieved, 0),
    (Bug::UnchangedUnconfirmed, 0),
    (Bug::WentBackIgnored, 0),
    (Bug::RevisionPlusOne, 0),
    (Bug::RevisionByDatabaseClock, 0),
    (Bug::RepairsCacheBackwards, 0),
    (Bug::LogSkipped, 0),
    (Bug::DirectlyAppliedUnlogged, 0),
    (Bug::UnlatchedSettle, 0),
    (Bug::RetentionIgnoresHorizon, 0),
    (Bug::ReplayFromPointOfReturn, 0),
    (Bug::LaneRegisteredLate, 11300),
    (Bug::LaneAdvancedUnmet, 5700),
    (Bug::StartedWithoutReplay, 0),
    (Bug::RecoveredBlindly, 0),
    (Bug::ScanSkipped, 0),
    (Bug::ScanFromNewestRow, 0),
    (Bug::MemoryForgotten, 0),
    (Bug::LookCoversLater, 0),
];

/// Steps of a run before it comes to rest.
const STEPS: u64 = 250;

type Step = fn(&mut World);

const ALWAYS: [(Step, usize); 17] = [
    (World::like, 8),
    (World::relay, 4),
    (World::deliver, 4),
    (World::consume, 8),
    (World::go_on_directly, 3),
    (World::confirm, 3),
    (World::look_for_kept, 2),
    (World::forget_kept, 2),
    (World::log_later, 1),
    (World::rescue, 1),
    (World::refresh, 1),
    (World::patrol, 1),
    (World::recover, 4),
    (World::check, 1),
    (World::replicate, 1),
    (World::retain, 1),
    (World::settle_late, 1),
];

const FAULTS: [(Step, usize); 5] =
    [(World::give_up, 1), (World::cut, 1), (World::toggle_broker, 1), (World::redis_back, 1), (World::mysql_back, 1)];

const KILLS: [(Step, usize); 2] = [(World::kill_server, 1), (World::kill_consumer, 1)];

fn run(mut world: World) -> World {
    let kills = if world.rules.kills { KILLS.as_slice() } else { &[] };
    let steps: Vec<Step> = ALWAYS
        .iter()
        .chain(&FAULTS)
        .chain(kills)
        .chain(&[(World::evict as Step, world.rules.evicts)])
        .flat_map(|(step, times)| std::iter::repeat_n(*step, *times))
        .collect();
    for _ in 0..STEPS {
        world.clock += 1 + world.dice.below(3) as i64;
        world.steps += 1;
        let pick = world.dice.below(steps.len());
        steps[pick](&mut world);
        world.check_held();
        if !world.broken.is_empty() {
            return world;
        }
    }
    world.come_to_rest();
    world
}

fn explain(rules: Rules, seed: u64, bug: Option<Bug>) -> String {
    let mut world = World::new(seed, rules, bug);
    world.trail = Some(Vec::new());
    let world = run(world);
    let trail = world.trail.unwrap_or_default().join("\n");
    format!("{trail}\n{}, seed {seed}, bug {bug:?}:\n{}", rules.name, world.broken.join("\n"))
}

/// 100,000 steps; `PROTOCOL_STEPS` asks for another number.
#[test]
fn stores_that_go_back_are_told_again() {
    let wanted = std::env::var("PROTOCOL_STEPS").ok().and_then(|steps| steps.parse().ok()).unwrap_or(100_000);
    let (mut steps, mut seed) = (0, 0);
    let (mut backs, mut recovered, mut excused) = (0, 0, 0);
    while steps < wanted {
        for rules in WORLDS {
            let world = run(World::new(seed, rules, None));
            assert!(world.broken.is_empty(), "{}", explain(rules, seed, None));
            steps += world.steps;
            backs += world.redis_backs + world.mysql_backs;
            recovered += world.recovered;
            excused += world.excused;
        }
        seed += 1;
    }
    println!("{steps} steps in {seed} seeds: {backs} steps back, {recovered} recoveries, {excused} words excused");
    assert!(backs > 0 && recovered > 0, "nothing went back");
}

#[test]
fn every_broken_rule_of_stores_is_found() {
    let mut missed = Vec::new();
    for (bug, first) in BUGS {
        let found = (first..first + 3_000).find_map(|seed| {
            let world = |rules: &Rules| !run(World::new(seed, *rules, Some(bug))).broken.is_empty();
            WORLDS.iter().find(|rules| world(rules)).map(|rules| (*rules, seed))
        });
        match found {
            Some((rules, seed)) => println!("{bug:?}: {}", explain(rules, seed, Some(bug))),
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "the walk does not notice {missed:?}");
}
