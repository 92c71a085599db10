use crate::fake_server::{Behaviour, FakeServer};
use domain::{Action, Pair, Resource, ResourceType};
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;
use syncctl::Operation;
use syncctl::credentials::Credentials;
use syncctl::generate::{Generator, Shape};
use syncctl::load::{self, BulkOptions, LoadOptions, LoadReport};
use syncctl::oplog::{self, Entry, OplogWriter, Outcome};
use tokio_util::sync::CancellationToken;
use tonic::Code;

fn options(server: &FakeServer) -> LoadOptions {
    LoadOptions {
        addrs: vec![server.addr.clone()],
        credentials: Credentials::default(),
        connections: 2,
        concurrency: 32,
        rate: None,
        batch: 1,
        timeout: Duration::from_secs(10),
        retry_for: Duration::from_secs(20),
        duration: None,
        expected_interval: None,
        key_prefix: None,
        watch: None,
        bulk: None,
    }
}

/// Few pairs, so that many operations of one pair are near each other.
fn crowded() -> Shape {
    Shape { seed: 3, first_user: 1, users: 8, resources: 4, zipf: 0.8, unlikes: 0.4, comments: 0.3, fresh_users: false }
}

fn operations(shape: Shape, number: usize) -> Vec<Operation> {
    Generator::new(shape).unwrap().take(number).collect()
}

async fn run(options: &LoadOptions, operations: Vec<Operation>, oplog: Option<&Path>) -> LoadReport {
    let oplog = oplog.map(|path| OplogWriter::create(path).unwrap());
    let limit = operations.len() as u64;
    let source = Box::new(operations.into_iter());
    let interrupt = CancellationToken::new();
    load::run(options, source, limit, oplog, |_, _| {}, interrupt).await.unwrap()
}

fn by_pair(operations: &[Operation]) -> HashMap<Pair, Vec<Action>> {
    let mut orders: HashMap<Pair, Vec<Action>> = HashMap::new();
    for operation in operations {
        orders.entry(operation.pair).or_default().push(operation.action);
    }
    orders
}

fn read_log(path: &Path) -> Vec<Entry> {
    let mut entries = Vec::new();
    oplog::read(path, |entry| entries.push(entry)).unwrap();
    entries
}

/// Runs against a failing server and checks order, overlap, and the log against what the server holds.
async fn keeps_pairs_in_order(batch: usize, fail_every: Option<(u64, Code)>) {
    let delay = Duration::from_millis(1);
    let server = FakeServer::start(Behaviour { fail_every, delay, ..Behaviour::default() }).await;
    let log = tempfile::NamedTempFile::new().unwrap();
    let operations = operations(crowded(), 3_000);
    let report = run(&LoadOptions { batch, ..options(&server) }, operations.clone(), Some(log.path())).await;

    assert!(report.is_fine(), "{report:?}");
    assert_eq!(report.totals.acknowledged, 3_000);
    let entries = read_log(log.path());
    let logged: Vec<Operation> = entries.iter().map(|entry| entry.operation).collect();
    assert_eq!(by_pair(&logged), by_pair(&operations), "the log has another order than the source");
    let mut seen = server.seen.lock().unwrap();
    assert_eq!(seen.overlaps, 0, "operations of a pair overlapped");
    assert_eq!(std::mem::take(&mut seen.orders), by_pair(&operations), "the server saw another order");
    let mut last = HashMap::new();
    for entry in &entries {
        let Outcome::Acknowledged { version, .. } = entry.outcome else { panic!("unknown: {entry:?}") };
        last.insert(entry.operation.pair, (entry.operation.action.liked(), version.0));
    }
    assert_eq!(last, seen.states);
    if fail_every.is_some() {
        assert!(report.totals.retried > 50, "{report:?}");
        assert!(entries.iter().filter(|entry| entry.doubtful > 0).count() > 50);
    }
    assert_eq!(seen.batches > 0, batch > 1);
}

#[tokio::test]
async fn unary_calls_of_a_pair_never_overlap() {
    keeps_pairs_in_order(1, None).await;
}

#[tokio::test]
async fn retried_unary_calls_keep_their_order() {
    keeps_pairs_in_order(1, Some((13, Code::Unavailable))).await;
}

#[tokio::test]
async fn retried_items_of_batches_keep_their_order() {
    keeps_pairs_in_order(20, Some((13, Code::Unavailable))).await;
}

#[tokio::test]
async fn what_stays_unavailable_is_logged_as_unknown_and_what_is_refused_is_not() {
    for (code, unknown) in [(Code::Unavailable, true), (Code::ResourceExhausted, false), (Code::InvalidArgument, false)]
    {
        for batch in [1, 4] {
            let server = FakeServer::start(Behaviour { refuse_user: Some((1, code)), ..Behaviour::default() }).await;
            let log = tempfile::NamedTempFile::new().unwrap();
            let all = operations(Shape { unlikes: 0.0, ..crowded() }, 60);
            let refused = all.iter().filter(|o| o.pair.user.get() == 1).count() as u64;
            let options = LoadOptions { batch, retry_for: Duration::from_millis(50), ..options(&server) };
            let report = run(&options, all, Some(log.path())).await;
            assert!(refused > 0 && !report.is_fine());
            assert_eq!(report.totals.acknowledged, 60 - refused);
            assert_eq!(report.totals.unknown, if unknown { refused } else { 0 }, "{code:?}");
            assert_eq!(report.totals.failed.values().sum::<u64>(), if unknown { 0 } else { refused }, "{code:?}");
            let logged = read_log(log.path());
            assert_eq!(logged.iter().filter(|e| e.outcome == Outcome::Unknown).count() as u64, report.totals.unknown);
        }
    }
}

#[tokio::test]
async fn open_loop_counts_from_the_intended_start() {
    // Two calls in flight of 20 ms each are 100 a second at most; 1,000 are due, so the queue grows by 9 ms per call.
    let delay = Duration::from_millis(20);
    let server = FakeServer::start(Behaviour { delay, ..Behaviour::default() }).await;
    let all = operations(Shape { users: 1_000_000, ..crowded() }, 40);
    let options = LoadOptions { rate: Some(1_000.0), concurrency: 2, ..options(&server) };
    let report = run(&options, all.clone(), None).await;
    assert_eq!(report.latency_from, "intended_start");
    assert!(report.latency_us.max > 250_000, "{report:?}");
    let closed = LoadOptions { rate: None, ..options };
    let report = run(&closed, all, None).await;
    assert!(report.latency_us.p50 < 200_000, "{report:?}");
}

#[tokio::test]
async fn the_rate_is_kept() {
    let server = FakeServer::start(Behaviour::default()).await;
    let all = operations(Shape { users: 1_000_000, ..crowded() }, 500);
    let report = run(&LoadOptions { rate: Some(1_000.0), ..options(&server) }, all, None).await;
    assert!(report.elapsed_s >= 0.499, "faster than asked: {report:?}");
    assert_eq!(report.totals.acknowledged, 500);
}

#[tokio::test]
async fn a_duration_ends_the_run() {
    let server = FakeServer::start(Behaviour { delay: Duration::from_millis(1), ..Behaviour::default() }).await;
    let options = LoadOptions { duration: Some(Duration::from_millis(300)), ..options(&server) };
    let source = Box::new(Generator::new(crowded()).unwrap());
    let report = load::run(&options, source, u64::MAX, None, |_, _| {}, CancellationToken::new()).await.unwrap();
    assert!(report.elapsed_s >= 0.3 && report.totals.acknowledged > 0 && !report.interrupted, "{report:?}");
}

#[tokio::test]
async fn an_interrupt_leaves_a_usable_log() {
    let refuse_user = Some((1, Code::Unavailable));
    let server = FakeServer::start(Behaviour { refuse_user, ..Behaviour::default() }).await;
    let log = tempfile::NamedTempFile::new().unwrap();
    let oplog = OplogWriter::create(log.path()).unwrap();
    let interrupt = CancellationToken::new();
    let progress = |totals: &load::Totals, _: Duration| {
        if totals.acknowledged > 100 {
            interrupt.cancel();
        }
    };
    let source = Box::new(Generator::new(crowded()).unwrap());
    let options = LoadOptions { retry_for: Duration::from_secs(600), ..options(&server) };
    let report = load::run(&options, source, u64::MAX, Some(oplog), progress, interrupt.clone()).await.unwrap();
    assert!(report.interrupted);
    let entries = read_log(log.path());
    assert_eq!(entries.len() as u64, report.totals.operations);
    assert!(report.totals.unknown > 0, "the operations being retried are not in the log: {report:?}");
}

#[tokio::test]
async fn idempotency_keys_are_unique() {
    let server = FakeServer::start(Behaviour::default()).await;
    let options = LoadOptions { key_prefix: Some("run".into()), batch: 7, ..options(&server) };
    run(&options, operations(crowded(), 500), None).await;
    assert_eq!(server.seen.lock().unwrap().keys.len(), 500);
}

#[tokio::test]
async fn a_falling_count_is_reported() {
    for (flicker_every, fine) in [(None, true), (Some(10), false)] {
        let server = FakeServer::start(Behaviour { flicker_every, ..Behaviour::default() }).await;
        let fresh = Shape { fresh_users: true, unlikes: 0.0, comments: 0.0, ..crowded() };
        let watched = (1..=4).map(|id| Resource::new(ResourceType::Video, id).unwrap()).collect();
        let options =
            LoadOptions { watch: Some((watched, Duration::from_millis(1))), rate: Some(1_000.0), ..options(&server) };
        let report = run(&options, operations(fresh, 300), None).await;
        let watch = report.watch.clone().unwrap();
        assert!(watch.samples > 40, "{watch:?}");
        assert_eq!(watch.flicker == 0, fine, "{watch:?}");
        assert_eq!(report.is_fine(), fine);
    }
}

#[tokio::test]
async fn counts_are_read_beside_the_likes() {
    let server = FakeServer::start(Behaviour::default()).await;
    let resources: Vec<_> = (1..=4).map(|id| Resource::new(ResourceType::Video, id).unwrap()).collect();
    let bulk = Some(BulkOptions { calls: 8, resources: resources.into() });
    let options = LoadOptions { bulk, rate: Some(1_000.0), ..options(&server) };
    let report = run(&options, operations(crowded(), 300), None).await;
    assert!(report.is_fine());
    let bulk = report.bulk_reads.unwrap();
    assert!(bulk.answered > 8 && bulk.bulk_latency_us.p99 > 0, "{bulk:?}");
    assert_eq!((bulk.refused, bulk.errors), (0, 0));
}

#[tokio::test]
async fn a_dead_server_is_named() {
    let error = syncctl::client::connect("127.0.0.1:1", &Credentials::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "could not connect to 127.0.0.1:1");
}
