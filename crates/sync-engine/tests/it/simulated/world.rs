//! Two servers, one cache, one database, a consumer, and people; from the first word until everything is at rest.

use super::chance::{Chance, Clock};
use super::database::{Applied, Database, LinkedDatabase};
use super::link::{Link, LinkedCache, at_once};
use super::people::{Device, Recorder, Victim};
use domain::cache::{CacheRules, LikeCache, SettledResource, Settlement};
use domain::codec::EncodedEvent;
use domain::{LikeEvent, Origin, Pair, Resource, ShardCount, Version};
use embedded_cache::{Durability, EmbeddedCache, EmbeddedConfig};
use event_store::{DatabaseConfig, EventStore};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use sync_engine::accept::Acceptor;
use sync_engine::apply::Applier;
use sync_engine::deliver::relay::Relay;
use sync_engine::read::Reader;
use sync_engine::recover::{probe, recheck::Recheck};
use sync_engine::{CircuitConfig, RetryConfig, Stores, WritePath};
use test_support::build::video_pair;
use test_support::cache_contract::roomy_rules;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use traffic::check::{self, Options, Report, Rule, Violation};
use traffic::history::{Fault, History, Record};

/// Users and videos of the world.
const USERS: i64 = 2;
const VIDEOS: i64 = 2;

/// Ways that a server may take.
const PATHS: [WritePath; 4] =
    [WritePath::EventDriven, WritePath::EventDriven, WritePath::Percentage(50), WritePath::Synchronous];

/// Calls, circuits and unconfirmed fills have ended by then.
const AFTERMATH: Duration = Duration::from_secs(12);

/// Microseconds until the cache has been told of a write around it: a look a second, and calls that have to be repeated.
const TOLD_WITHIN: u64 = 2_500_000;

/// Longest wait for an empty journal, once nothing fails any more.
const REST: Duration = Duration::from_secs(120);

/// One server process.
pub(super) struct Server {
    pub(super) acceptor: Acceptor,
    pub(super) reader: Reader,
}

/// What became of a run.
pub(super) struct Run {
    pub(super) history: History,
    pub(super) report: Report,
    /// What is wrong, without what is a documented limit.
    pub(super) broken: Vec<Violation>,
    /// The victim's call lasted until it was dropped.
    pub(super) victim_was_dropped: bool,
}

/// Runs the world of a seed.
pub(super) fn run(seed: u64, victim: Option<Victim>) -> Run {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(simulate(seed, victim))
}

async fn simulate(seed: u64, victim: Option<Victim>) -> Run {
    let chance = Chance::new(seed, 0);
    let clock = Arc::new(Clock::new());
    let rules = CacheRules { shards: ShardCount::new(2).unwrap(), ..roomy_rules() };
    let home = home();
    let cache = Arc::new(open(&home, &rules, &clock));
    let database = Arc::new(Database::new(Chance::new(seed, 1)));
    // One world in four has no faults: there every rule holds without excuse.
    let faultless = chance.percent(25);
    let (calm, stop) = (Arc::new(AtomicBool::new(faultless)), CancellationToken::new());

    let at_rest = Arc::new(AtomicBool::new(false));

    let mut servers = Vec::new();
    for place in 0..2 {
        let link = |place| Link::new(Chance::new(seed, place), Arc::clone(&calm));
        let linked = LinkedCache::new(Arc::clone(&cache), link(10 + place), &chance, place);
        let likes = Arc::new(LinkedDatabase { database: Arc::clone(&database), link: Arc::new(link(20 + place)) });
        // Counts are exact where one way is taken.
        let path = if faultless { WritePath::EventDriven } else { chance.one_of(&PATHS) };
        servers.push(Arc::new(server(linked, likes, path, rules.shards, &stop).await));
    }
    let consumed = tokio::spawn(consume(
        (Arc::clone(&cache), Arc::clone(&database), rules.shards),
        Chance::new(seed, 2),
        (Arc::clone(&at_rest), stop.clone()),
    ));

    let recorder = Arc::new(Recorder::new(Arc::clone(&clock), seed));
    let mut people = Vec::new();
    for number in 0..2 + chance.below(2) as u32 {
        let device = Device {
            number,
            user: if number < 2 { 1 } else { USERS },
            servers: servers.clone(),
            recorder: Arc::clone(&recorder),
            chance: Chance::new(seed, 30 + u64::from(number)),
            victim: victim.filter(|_| number == 0),
        };
        people.push(tokio::spawn(device.live(4 + chance.below(5))));
    }
    for person in people {
        person.await.unwrap();
    }

    let over = clock.stamp();
    calm.store(true, Ordering::Relaxed);
    at_rest.store(true, Ordering::Relaxed);
    sleep(AFTERMATH).await;
    tokio::time::timeout(REST, rest(&cache, &database)).await.expect("the journal never became empty");
    stop.cancel();
    consumed.await.unwrap();
    drop(servers);
    let Ok(recorder) = Arc::try_unwrap(recorder) else { panic!("somebody still records") };
    let (mut history, victim_was_dropped) = recorder.into_history();
    let options = Options { drift: 2_000, version_at_zero: Some(Clock::ZERO), ..Options::default() };
    if !faultless {
        history.push_fault(Fault { name: "late, lost".into(), begin: 0, end: over });
    }
    let stores = stores(&cache, &database);
    let report = check::check(&history, &stores, &options);
    let is_limit = |violation: &&Violation| faultless || !is_known_limit(violation, &history, &stores);
    let broken = report.violations.iter().filter(is_limit).cloned().collect();
    Run { history, report, broken, victim_was_dropped }
}

/// In memory where that is possible: nothing here is about disks.
fn home() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn open(home: &tempfile::TempDir, rules: &CacheRules, clock: &Arc<Clock>) -> EmbeddedCache {
    let config = EmbeddedConfig { durability: Durability::Process, ..EmbeddedConfig::default() };
    let clock = Arc::clone(clock);
    config.open_with_clock(home.path(), rules.clone(), move || clock.version()).unwrap()
}

async fn server(
    cache: LinkedCache,
    likes: Arc<LinkedDatabase>,
    path: WritePath,
    shards: ShardCount,
    stop: &CancellationToken,
) -> Server {
    // What the simulation does not run (relay, retries) is made on a store that is never asked.
    let unused = DatabaseConfig { url: "sqlite::memory:".into(), min_connections: 0, ..DatabaseConfig::default() };
    let unused = EventStore::connect(&unused).await.unwrap();
    let circuit = CircuitConfig { failures: 2, probe_interval: Duration::from_millis(50) };
    let link = Arc::clone(&likes.link);
    let stores = Stores::new(Arc::new(cache), unused, shards, circuit).with_likes(likes);
    let (relay, _) =
        Relay::new(stores.clone(), Applier::new(stores.clone(), RetryConfig::default().into()), None, None, 1, 1);
    let (recheck, rechecking) = Recheck::new(stores.clone());
    tokio::spawn(rechecking.run(stop.clone()));
    tokio::spawn(probe::watch_cache(stores.clone(), circuit.probe_interval, stop.clone()));
    tokio::spawn(watch_database(stores.clone(), link, circuit.probe_interval, stop.clone()));
    let reader = Reader::new(stores.clone(), recheck.clone());
    Server { acceptor: Acceptor::new(stores, relay, recheck, 8, path), reader }
}

async fn watch_database(stores: Stores, link: Arc<Link>, interval: Duration, stop: CancellationToken) {
    while !stop.is_cancelled() {
        sleep(interval).await;
        if stores.database_circuit.is_open() && link.is_up() {
            stores.database_circuit.close();
        }
    }
}

/// Queue and consumer in one: what is in the journal comes to the database, late, in another order, and more than once.
async fn consume(
    (cache, database, shards): (Arc<EmbeddedCache>, Arc<Database>, ShardCount),
    chance: Chance,
    (calm, stop): (Arc<AtomicBool>, CancellationToken),
) {
    let pause = chance.one_of(&[5, 50, 400]);
    while !stop.is_cancelled() {
        sleep(chance.millis(1, pause)).await;
        for shard in shards.all() {
            let page = at_once(cache.journal_page(shard, Version::ZERO, 100)).unwrap();
            let mut events: Vec<LikeEvent> = page.iter().map(|entry: &EncodedEvent| entry.decode().unwrap()).collect();
            if !calm.load(Ordering::Relaxed) {
                events.retain(|_| chance.percent(75));
            }
            if chance.percent(50) {
                events.reverse();
            }
            if events.is_empty() {
                continue;
            }
            let applied = database.apply(&events).await;
            if chance.percent(50) {
                sleep(chance.log_millis(6)).await;
            }
            // Died before it could settle: it all comes again.
            if chance.percent(85) || calm.load(Ordering::Relaxed) {
                at_once(cache.settle(&settlement(&events, &applied))).unwrap();
            }
        }
    }
}

fn settlement(events: &[LikeEvent], applied: &Applied) -> Settlement {
    let settled = |(resource, stored): &(Resource, _)| SettledResource {
        resource: *resource,
        entries: events.iter().filter(|event| event.pair().resource == *resource).map(|event| event.version).collect(),
        stored: Some(*stored),
    };
    Settlement { resources: applied.counts.iter().map(settled).collect(), pairs: applied.pairs.clone(), commit: None }
}

/// Nothing is in the journal, and the cache has been told of every write around it.
async fn rest(cache: &EmbeddedCache, database: &Database) {
    let at_rest = || {
        let journals = at_once(cache.shard_status()).unwrap();
        journals.iter().all(|journal| journal.journal_len == 0) && database.tables().refreshes.is_empty()
    };
    while !at_rest() {
        sleep(Duration::from_millis(100)).await;
    }
}

/// Two things that a server without its cache does not promise: a key which only one store has heard of is not known where the
/// other is asked; and until the cache is told of a write around it, within a second, it shows what was before.
fn is_known_limit(violation: &Violation, history: &History, stores: &check::Stores) -> bool {
    let attempts = |one: &Record| {
        history.records().iter().filter(|record| record.pair() == one.pair() && record.key == one.key).count()
    };
    let changed_with_repeated_key = |record: &Record| {
        record.key.is_some() && record.answer().is_some_and(|answer| answer.changed) && attempts(record) > 1
    };
    if matches!(violation.rule, Rule::R1 | Rule::R2 | Rule::R4 | Rule::R5)
        && violation.records.iter().any(changed_with_repeated_key)
    {
        return true;
    }
    match (violation.rule, &violation.records[..]) {
        (Rule::R5, _) => violation.what.contains("made two changes"),
        // The database answers a word that another one overtook with what is there now.
        (Rule::R3, [overtaken]) => {
            violation.what.contains("the opposite") && overtaken.answer().is_some_and(|answer| !answer.changed)
        }
        (Rule::R6, [told, read]) => {
            let version = told.answer().map(|answer| answer.version);
            let mut ledger = stores.ledger.iter().flatten();
            let accepted = ledger.any(|entry| Some(entry.version) == version && !entry.direct);
            !accepted && read.begin.saturating_sub(told.end) < TOLD_WITHIN
        }
        _ => false,
    }
}

fn stores(cache: &EmbeddedCache, database: &Database) -> check::Stores {
    let pairs: Vec<Pair> =
        (1..=USERS).flat_map(|user| (1..=VIDEOS).map(move |video| video_pair(user, video))).collect();
    let resources: Vec<Resource> = (1..=VIDEOS).map(|video| video_pair(1, video).resource).collect();
    let states = at_once(cache.states(&pairs)).unwrap();
    let cached = at_once(cache.counts(&resources)).unwrap();
    let tables = database.tables();
    let row = |(pair, state)| check::PairRow { pair, state };
    let entry = |event: &LikeEvent| check::Entry {
        pair: event.pair(),
        action: event.intent.action,
        version: event.version,
        key: event.intent.idempotency_key.as_deref().map(Into::into),
        direct: event.origin == Origin::Direct,
        dead: false,
    };
    let served = resources.into_iter().zip(cached).filter_map(|(resource, count)| Some((resource, count?.served)));
    check::Stores {
        rows: Some(tables.rows.iter().map(|(pair, state)| row((*pair, *state))).collect()),
        ledger: Some(tables.ledger.iter().map(entry).collect()),
        cached: pairs.into_iter().zip(states).filter_map(|(pair, state)| Some(row((pair, state?)))).collect(),
        counts: tables.counts.iter().map(|(resource, count)| (*resource, count.count)).chain(served).collect(),
        ..check::Stores::default()
    }
}
