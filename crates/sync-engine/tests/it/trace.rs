//! A real trace, every message delivered twice and in shuffled order.
//!
//! The trace is MovieLens's `ratings.csv` where somebody put it (`MOVIELENS_RATINGS`, or `shared/data` beside the
//! checkout): in time order, 4.0 or more is a like, less an unlike. Elsewhere a seeded one takes its place.

use crate::rig::{Rig, like, unlike, video};
use domain::{Action, LikeIntent, Resource};
use event_bus::Consumer;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use sync_engine::accept::Call;
use test_support::{Random, eventually, expect_eq};

const PATIENCE: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_of_a_real_trace_twice_and_shuffled() {
    let mut rig = Rig::new().await;
    // All messages are taken from the queue at once below.
    rig.bus.prefetch = u16::MAX;
    let intents = trace();
    let oracle: BTreeMap<_, _> = intents.iter().map(|intent| (intent.pair, intent.action)).collect();

    let process = rig.process().await;
    let server = process.server();
    let mut accepted = 0;
    for chunk in intents.chunks(500) {
        for answer in server.accept(chunk.to_vec(), Call::arriving_now()).await {
            accepted += u64::from(answer.unwrap().changed);
        }
    }
    assert_eq!(process.journal_len().await, accepted, "an accepted like is not in the journal");

    // Takes every message away from the broker, and gives it back twice and in another order.
    let mut bodies = Vec::new();
    let mut consumer = Consumer::connect(&rig.bus).await.unwrap();
    let mut events = 0;
    while events < accepted {
        let delivery = tokio::time::timeout(PATIENCE, consumer.next()).await.expect("a message is missing").unwrap();
        events += domain::codec::decode_batch(&delivery.body).unwrap().len() as u64;
        bodies.extend([delivery.body.clone(), delivery.body.clone()]);
        consumer.ack([&delivery]).await.unwrap();
    }
    consumer.close().await;
    Random(11).shuffle(&mut bodies);
    let mut wire = rig.wire().await;
    for body in &bodies {
        wire.publish(&rig.deployment.exchange(), body).await.unwrap();
    }

    process.consume();
    let gauge = rig.queue_gauge();
    eventually(PATIENCE, "an empty journal and queue", async || {
        expect_eq((process.journal_len().await, gauge.ready().await), (0, 0))
    })
    .await;
    process.stop().await;

    let expected: String = oracle
        .iter()
        .filter(|(_, action)| **action == Action::Like)
        .map(|(pair, _)| (pair.user.get(), pair.resource.id.get()))
        .collect::<BTreeSet<_>>()
        .into_iter()
        .map(|(user, video)| format!("{user}\t{video}\n"))
        .collect();
    let rows = rig.sql("SELECT user_id, video_id FROM video_likes WHERE deleted_at IS NULL ORDER BY 1, 2").await;
    assert!(rows == expected, "{} live rows, expected {}", rows.lines().count(), expected.lines().count());
    rig.assert_counts_are_live_rows().await;
    let behaviours = rig.number("SELECT COUNT(*) FROM user_behaviors").await;
    assert_eq!(u64::try_from(behaviours), Ok(accepted), "behaviours are not the accepted changes");
    let resources: Vec<Resource> =
        oracle.keys().map(|pair| pair.resource).collect::<BTreeSet<_>>().into_iter().collect();
    rig.process().await.assert_cache_agrees(&resources).await;
    rig.end().await;
}

fn trace() -> Vec<LikeIntent> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/movielens/ratings.csv");
    let path = std::env::var("MOVIELENS_RATINGS").unwrap_or_else(|_| beside.to_owned());
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("{path} is not here: a seeded trace takes its place");
        let mut random = Random(5);
        return (0..20_000)
            .map(|_| {
                let (user, movie) = (1 + random.below(600), 1 + random.below(3_000));
                if random.below(2) == 0 { like(user, movie) } else { unlike(user, movie) }
            })
            .collect();
    };
    let mut ratings: Vec<(i64, usize, LikeIntent)> = text
        .lines()
        .skip(1)
        .enumerate()
        .map(|(line, rating)| {
            let fields: Vec<&str> = rating.split(',').collect();
            let number = |i: usize| fields[i].parse::<f64>().unwrap() as i64;
            let action = if fields[2].parse::<f64>().unwrap() >= 4.0 { like } else { unlike };
            (number(3), line, action(number(0), video(number(1)).id.get()))
        })
        .collect();
    ratings.sort_by_key(|(time, line, _)| (*time, *line));
    ratings.into_iter().map(|(_, _, intent)| intent).collect()
}
