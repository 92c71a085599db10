//! A slot with many keys moves to another primary of a Redis Cluster while likes of its shard come.
//!
//! `SLOT_KEYS=100000` for a large one. Whoever moves it decides how long its keys are on two nodes: `SLOT_STEP` of them go at a time,
//! as with `redis-cli --cluster reshard --cluster-pipeline`.

use crate::running::PATIENCE;
use domain::{ResourceType, ShardCount};
use std::time::{Duration, Instant};
use test_support::build::video_pair;
use test_support::{Deployment, RedisCluster, RedisOptions};
use traffic::history::{History, Kind, Outcome};

const KEYS_PER_STEP: usize = 5_000;

/// One of them is the slot's, and each takes its share of the words.
const RESOURCES: &str = "6";

/// Whoever was degraded because keys were on two nodes is so no longer than this after the move, on a busy machine.
const AFTER: Duration = Duration::from_secs(2);

/// A like waits for its keys for half of `redis.response_timeout`, and is then written to the database.
const LONGEST_WAIT: Duration = Duration::from_secs(4);

/// Of an environment variable.
fn number(variable: &str, usual: usize) -> usize {
    std::env::var(variable).ok().and_then(|number| number.parse().ok()).unwrap_or(usual)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_slot_moves_on_a_cluster_and_nobody_is_refused() {
    let cluster = RedisCluster::start(RedisOptions::default(), 3, false).await.unwrap();
    let url = format!("redis://{}", cluster.addrs().unwrap()[0]);
    let deployment = Deployment::build("slot")
        .redis_at(url)
        .start()
        .await
        .unwrap()
        .with_all(&[("REDIS__CLUSTER", "true"), ("RATE_LIMITING__USER_ACTION__ENABLED", "false")]);
    let server = deployment.server().start_connected().await.unwrap();
    let consumer = deployment.consumer().start_connected().await.unwrap();

    let shard = ShardCount::default().of(video_pair(1, 1).resource);
    let tag = format!("{}{{s{}}}", deployment.prefix(), shard.0);
    let from = cluster.primary_of(&tag).await.unwrap();
    let keys = number("SLOT_KEYS", 2_000);
    let fill = "for i = 1, tonumber(ARGV[1]) do redis.call('SET', KEYS[1] .. i, i) end return 'filled'";
    let said = cluster.node(from).unwrap().cli(&["EVAL", fill, "1", &format!("{tag}:x"), &keys.to_string()]).await;
    assert_eq!(said.unwrap(), "filled");

    let history = deployment.dir().join("history");
    // Nobody goes away by intention, or says the opposite under the same key: every word is to be answered.
    let patient = ["abandon=0", "cancel=0", "large_batch=0", "opposite_key=0"].map(|share| ["--share", share]);
    let args = ["--rate", "100", "--resources", RESOURCES, "--timeout", "5", "--connections", "4"];
    let args = [&args[..], patient.as_flattened()].concat();
    let load = deployment.people(&server.grpc(), 64, &args, history.clone()).unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;

    let to = (from + 1) % 3;
    let step = number("SLOT_STEP", KEYS_PER_STEP);
    let began = Instant::now();
    cluster.begin_move(&tag, from, to).await.unwrap();
    while cluster.move_some(&tag, from, to, step).await.unwrap() {}
    cluster.end_move(&tag, from, to).await.unwrap();
    let took = began.elapsed();
    tokio::time::sleep(Duration::from_secs(3)).await;
    load.terminate().unwrap();
    load.wait_exit(PATIENCE).await.unwrap();

    let seen = Seen::of(&History::read(&history).unwrap(), shard.0);
    eprintln!("{keys} keys moved in {took:?}: {seen:?}");
    assert!(seen.words > 40, "{seen:?}");
    assert_eq!((seen.refused, seen.unanswered), (0, 0), "{seen:?}");
    assert!(seen.degraded_for <= took + AFTER, "{seen:?} of {took:?}");
    assert!(seen.longest <= LONGEST_WAIT, "{seen:?}");
    assert_eq!(cluster.primary_of(&tag).await.unwrap(), to);
    let args = ["--wait", "60"];
    let judged = deployment.judge([history.as_path()], &args, 3 * PATIENCE).await.unwrap();
    assert!(judged.good, "{}", judged.report);
    for process in [server, consumer] {
        assert!(!process.log().contains("panicked"), "{}", process.log());
    }
}

/// How the words of a shard were answered.
#[derive(Debug, Default)]
struct Seen {
    words: u64,
    refused: u64,
    /// Neither an answer nor a refusal.
    unanswered: u64,
    degraded: u64,
    degraded_for: Duration,
    longest: Duration,
}

impl Seen {
    fn of(history: &History, shard: u16) -> Self {
        let (mut seen, mut first, mut last) = (Self::default(), u64::MAX, 0);
        for record in history.records() {
            let is_its = ShardCount::default().of(record.resource).0 == shard;
            if !matches!(record.kind, Kind::Word(_)) || !is_its || record.resource.kind != ResourceType::Video {
                continue;
            }
            seen.words += 1;
            seen.longest = seen.longest.max(Duration::from_micros(record.end - record.begin));
            match record.outcome {
                Outcome::Answered(answer) if answer.degraded => {
                    seen.degraded += 1;
                    (first, last) = (first.min(record.begin), last.max(record.end));
                }
                Outcome::Answered(_) => {}
                Outcome::Refused => seen.refused += 1,
                _ => seen.unanswered += 1,
            }
        }
        seen.degraded_for = Duration::from_micros(last.saturating_sub(first));
        seen
    }
}
