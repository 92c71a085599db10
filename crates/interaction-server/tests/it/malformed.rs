//! Bad inputs, from a seed: protobuf, HTTP/2, HTTP and AMQP that is random, wrong, or nearly right; and connections on which it
//! comes slowly, or never completely.
//!
//! Every input that happens to be valid is known as such: in the end the ledger holds exactly the likes that were answered
//! and the events that can be decoded, the dead letters every message that cannot, and the processes live, as small as
//! before.
//!
//! `MALFORMED_INPUTS` is how many (300), `MALFORMED_SEED` which ones (1); `scripts/fuzz.sh` runs a hundred thousand.

mod amqp;
mod generate;
mod grpc;
pub(crate) mod http2;
mod ops;
mod slow;

use crate::client::{Grpc, PATIENCE, deployed, like, started, video};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use test_support::{Random, eventually, expect_eq, try_eventually};
use tokio::sync::Mutex;

/// What memory may grow by while nothing is to be remembered; a leaked connection would need far more.
const GROWTH: u64 = 64 << 20;

/// Retention takes out of the ledger what is old by its id, as one may be that was tampered with; the history keeps it.
const WRITTEN: &str =
    "SELECT COUNT(*) FROM (SELECT id FROM sync_events UNION SELECT event_id FROM user_behaviors) AS written";

/// What became of inputs, by kind.
type Tally = BTreeMap<String, u64>;

fn count(tally: &mut Tally, what: impl Into<String>) {
    *tally.entry(what.into()).or_default() += 1;
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_falls_over_and_nothing_is_written_that_was_not_liked() {
    let (inputs, seed) = (setting("MALFORMED_INPUTS", 300), setting("MALFORMED_SEED", 1));
    let deployment = deployed().await.with("RABBITMQ__DELIVERY_LIMIT", "10");
    let (server, consumer) = started(&deployment).await;
    let (prefix, queue) = (deployment.prefix(), deployment.queue());
    let mut wire = eventually(PATIENCE, "the queue", async || {
        let mut wire = deployment.wire().await.map_err(|error| error.to_string())?;
        // Who has subscribed has bound it before.
        let consumers = wire.consumers(&queue).await.map_err(|error| error.to_string())?;
        if consumers > 0 { Ok(wire) } else { Err("nobody has subscribed".to_owned()) }
    })
    .await;

    // A tenth first, so that what every process needs once is there when memory is measured.
    let mut written = grpc::Written::default();
    let (mut events, mut undecodable) = (amqp::Events::default(), amqp::Bodies::default());
    let (mut before, mut most) = (None, 0);
    let began = Instant::now();
    let mut tally = Tally::new();
    for (round, share) in [inputs / 10, inputs - inputs / 10].into_iter().enumerate() {
        let random = |kind: u64| Random(seed ^ ((round as u64) << 40) ^ (kind << 32));
        let places = slow::Places::of(&server, deployment.rabbitmq().url());
        let (by_grpc, by_http2, by_http, by_amqp, slowly) = tokio::join!(
            grpc::throw(server.channel().await, random(1), share * 4 / 10 - share / 20),
            http2::throw(server.grpc_url(), random(2), share * 2 / 10),
            ops::throw(server.http(), random(3), share * 2 / 10),
            amqp::throw(&mut wire, prefix, random(4), share * 2 / 10),
            slow::throw(&places, random(5), share / 20, || server.resident().unwrap()),
        );
        written.extend(by_grpc.1);
        events.extend(by_amqp.1);
        for (body, number) in by_amqp.2 {
            *undecodable.entry(body).or_default() += number;
        }
        for (what, number) in by_grpc.0.into_iter().chain(by_http2).chain(by_http).chain(by_amqp.0).chain(slowly.0) {
            *tally.entry(what).or_default() += number;
        }
        most = most.max(slowly.1);
        before.get_or_insert((server.resident().unwrap(), consumer.resident().unwrap()));
    }

    // Everything arrives where it belongs.
    let accepted = written.len() + events.len();
    let patience = PATIENCE + Duration::from_millis(inputs * 5);
    let ledger = try_eventually(patience, "the ledger to hold what was liked, and nothing else", async || {
        let events = deployment.sql(WRITTEN).await.map_err(|e| e.to_string())?;
        expect_eq(events.trim().to_owned(), accepted.to_string())
    });
    if let Err(error) = ledger.await {
        let log = consumer.log();
        let end: Vec<&str> = log.lines().rev().take(20).collect();
        panic!("{error:#}; the consumer said, the last first: {end:#?}");
    }
    let (dead, expected) = (format!("{queue}.dead"), undecodable.values().sum::<u32>());
    let wire = Mutex::new(wire);
    eventually(patience, "every other message among the dead letters", async || {
        let mut wire = wire.lock().await;
        let waiting = wire.depth(&queue).await.map_err(|error| error.to_string())?;
        let dead = wire.depth(&dead).await.map_err(|error| error.to_string())?;
        if waiting == 0 && dead >= expected {
            Ok(())
        } else {
            Err(format!("{waiting} wait, {dead} of {expected} are dead"))
        }
    })
    .await;
    // Each of them, and nothing else. Some twice: the connection that an unreadable message breaks may break between a dead
    // letter and the acknowledgement of what it was.
    let (mut missing, mut twice) = (undecodable.clone(), 0);
    let mut wire = wire.into_inner();
    while let Some(body) = wire.take(&dead).await.unwrap() {
        match missing.get_mut(&body) {
            Some(0) => twice += 1,
            Some(left) => *left -= 1,
            None => panic!("{body:02x?} is dead and was not sent"),
        }
    }
    missing.retain(|_, left| *left > 0);
    assert!(missing.is_empty(), "not among the dead letters: {missing:02x?}");
    let unreadable = tally.get("amqp unreadable").copied().unwrap_or_default();
    assert!(twice == 0 || unreadable > 0, "{twice} dead letters twice for no reason");
    let odd = "SELECT status, COUNT(*) FROM sync_events WHERE status <> 'completed' GROUP BY status";
    let odd = deployment.sql(odd).await.unwrap();

    let after = (server.resident().unwrap(), consumer.resident().unwrap());
    let before = before.unwrap();
    let mib = |bytes: u64| bytes >> 20;
    println!("{inputs} inputs of seed {seed} in {:.1} s: {tally:#?}", began.elapsed().as_secs_f64());
    println!(
        "{accepted} valid likes written, {expected} dead letters, {twice} of them twice, not completed: {odd:?}; resident MiB: server {} then {}, beside slow ones at most {}, consumer {} then {}",
        mib(before.0),
        mib(after.0),
        mib(most),
        mib(before.1),
        mib(after.1)
    );
    assert!(after.0 < before.0 + GROWTH && after.1 < before.1 + GROWTH, "{before:?} then {after:?}");
    assert!(most < before.0 + GROWTH, "{before:?}, beside slow connections {most}");
    for (name, binary) in [("server", &server), ("consumer", &consumer)] {
        assert!(binary.is_running(), "{name}: {}", binary.log());
        let log = binary.log();
        let panics: Vec<&str> = log.lines().filter(|line| line.contains("panicked")).collect();
        assert!(panics.is_empty(), "{name}: {panics:?}");
    }

    // And it works as ever.
    // Of nobody above.
    let (user, id) = (777_777_777, 777_777_777);
    let answer = server.client().await.like(like(user, video(id))).await.unwrap().into_inner();
    assert!(answer.changed && !answer.degraded, "{answer:?}");
    let row = format!("SELECT COUNT(*) FROM video_likes WHERE user_id = {user} AND video_id = {id}");
    eventually(PATIENCE, "a like's row", async || {
        let rows = deployment.sql(&row).await.map_err(|error| error.to_string())?;
        expect_eq(rows.trim().to_owned(), "1".to_owned())
    })
    .await;
}

/// Whoever shows no token that is known changes nothing, whatever is sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_token_nothing_has_an_effect() {
    let (inputs, seed) = (setting("MALFORMED_INPUTS", 300) / 4, setting("MALFORMED_SEED", 1));
    let deployment = deployed().await;
    let deployment = deployment.with_tokens("writer write a-token-that-nobody-here-has\n").unwrap();
    let server = deployment.server().start().unwrap();
    eventually(PATIENCE, "a server", async || match server.health().await? {
        (200, _) => Ok(()),
        (code, health) => Err(format!("{code}: {health}")),
    })
    .await;
    let ((grpc, written), http) = tokio::join!(
        grpc::throw(server.channel().await, Random(seed ^ 1 << 50), inputs / 2),
        ops::throw(server.http(), Random(seed ^ 1 << 51), inputs / 2),
    );
    println!("{inputs} inputs of seed {seed}: {grpc:#?} {http:#?}");
    assert!(written.is_empty(), "{written:?}");
    assert!(grpc.contains_key("grpc Unauthenticated") && http.contains_key("http 401"), "{grpc:?} {http:?}");
    for table in ["sync_events", "operator_actions", "consistency_runs", "data_consistency_checks"] {
        let rows = deployment.sql(&format!("SELECT COUNT(*) FROM {table}")).await.unwrap();
        assert_eq!(rows.trim(), "0", "{table}");
    }
}
