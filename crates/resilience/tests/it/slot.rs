//! A slot with many keys moves to another primary of a Redis Cluster while likes of its shard come.
//!
//! `SLOT_KEYS=100000` for a large one. Whoever moves it decides how long its keys are on two nodes: here a thousand go at a time
//! (`redis-cli --cluster reshard --cluster-pipeline 1000`).

use crate::running::PATIENCE;
use domain::{ResourceType, ShardCount};
use std::time::{Duration, Instant};
use test_support::build::video_pair;
use test_support::{Deployment, RedisCluster, RedisOptions};
use traffic::history::{History, Kind, Outcome};

const KEYS_PER_STEP: usize = 1_000;

/// Users of one resource, and of others beside it.
const VIDEOS: &str = "2";

/// From the first degraded answer of a move to its last one.
const LONGEST_DEGRADED: Duration = Duration::from_secs(2);

/// A like that waits for its keys.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

fn slot_keys() -> usize {
    std::env::var("SLOT_KEYS").ok().and_then(|keys| keys.parse().ok()).unwrap_or(2_000)
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
    let keys = slot_keys();
    let fill = "for i = 1, tonumber(ARGV[1]) do redis.call('SET', KEYS[1] .. i, i) end return 'filled'";
    let said = cluster.node(from).unwrap().cli(&["EVAL", fill, "1", &format!("{tag}:x"), &keys.to_string()]).await;
    assert_eq!(said.unwrap(), "filled");

    let history = deployment.dir().join("history");
    // Nobody goes away by intention: every word is answered or refused.
    let patient = ["--share", "abandon=0", "--share", "cancel=0", "--share", "large_batch=0"];
    let args = ["--rate", "100", "--resources", VIDEOS, "--timeout", "5", "--connections", "4"];
    let args = [&args[..], &patient].concat();
    let load = deployment.people(&server.grpc(), 64, &args, history.clone()).unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;

    let to = (from + 1) % 3;
    let began = Instant::now();
    cluster.begin_move(&tag, from, to).await.unwrap();
    while cluster.move_some(&tag, from, to, KEYS_PER_STEP).await.unwrap() {}
    cluster.end_move(&tag, from, to).await.unwrap();
    let took = began.elapsed();
    tokio::time::sleep(Duration::from_secs(3)).await;
    load.terminate().unwrap();
    load.wait_exit(PATIENCE).await.unwrap();

    let seen = Seen::of(&History::read(&history).unwrap(), shard.0);
    eprintln!("{keys} keys moved in {took:?}: {seen:?}");
    assert!(seen.words > 100, "{seen:?}");
    assert_eq!(seen.refused, 0, "{seen:?}");
    assert!(seen.degraded_for <= LONGEST_DEGRADED, "{seen:?}");
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
                _ => seen.refused += 1,
            }
        }
        seen.degraded_for = Duration::from_micros(last.saturating_sub(first));
        seen
    }
}
