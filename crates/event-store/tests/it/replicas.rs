//! Reads from replicas: nearly all that may be a little old, and nothing that is older than it may be.

use crate::support::{at, like};
use domain::{Resource, ResourceType, ShardCount};
use event_store::{DatabaseConfig, EventStore, Within};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use test_support::{MariaDbGroup, MariaDbOptions, eventually, expect_eq};

const PATIENCE: Duration = Duration::from_secs(30);
const LAG: Duration = Duration::from_secs(2);
const VIDEO: i64 = 7;

/// A schema on a primary with two replicas, all of which write down what they are asked.
async fn group() -> MariaDbGroup {
    let options = MariaDbOptions { durable: false, ..MariaDbOptions::default() };
    let group = MariaDbGroup::start(options, 2).await.unwrap();
    group.sql(0, "CREATE DATABASE likes").await.unwrap();
    let store = EventStore::connect(&config(&group, &[])).await.unwrap();
    store.migrate().await.unwrap();
    store.bind_shards(ShardCount::default()).await.unwrap();
    for number in 0..3 {
        group.caught_up(number.max(1), 0).await.unwrap();
        group.sql(number, "SET GLOBAL log_output = 'TABLE', GLOBAL general_log = ON").await.unwrap();
    }
    group
}

fn config(group: &MariaDbGroup, replicas: &[String]) -> DatabaseConfig {
    let url = group.node(0).unwrap().url().replace("root@", MariaDbGroup::APP).replace("/test", "/likes");
    DatabaseConfig {
        url: url.into(),
        replicas: replicas.to_vec(),
        replica_max_lag: LAG,
        max_connections: 8,
        connect_timeout: Duration::from_secs(1),
        ..DatabaseConfig::default()
    }
}

/// Lists that a server was asked for.
async fn lists(group: &MariaDbGroup, node: usize) -> u32 {
    let count = "SELECT COUNT(*) FROM mysql.general_log WHERE argument LIKE '%FROM video_likes WHERE%ORDER BY version DESC%' \
                 AND argument NOT LIKE '%general_log%'";
    group.sql(node, count).await.unwrap().trim().parse().unwrap()
}

/// How many like the video, by a list that may be a little old, and how old it says that it is.
async fn likers(store: &EventStore) -> (i64, Duration) {
    let late = store.on_replicas();
    let video = Resource::new(ResourceType::Video, VIDEO).unwrap();
    let page = late.list_likers(video, Within::default(), 1, None).await.unwrap();
    (page.likes.first().map_or(0, |liked| liked.pair.user.get()), late.age())
}

async fn writes(store: &EventStore, user: i64) {
    store.apply(&[like(user, VIDEO, user)], at(1_000)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nearly_all_lists_come_from_replicas_and_none_is_older_than_it_may_be() {
    let group = group().await;
    group.sql(2, "STOP SLAVE; CHANGE MASTER TO MASTER_DELAY = 10; START SLAVE").await.unwrap();
    let store = EventStore::connect(&config(&group, &group.addrs().unwrap()[1..])).await.unwrap();
    // The first ones come from the primary: nobody has looked at the replicas yet.
    eventually(PATIENCE, "a list from a replica", async || expect_eq(likers(&store).await.1.is_zero(), false)).await;
    let before = lists(&group, 0).await + lists(&group, 1).await;
    let first = lists(&group, 0).await;
    // The newest commit that was answered, by time.
    let (newest, stop) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicI64::new(0)));
    let writer = tokio::spawn({
        let (store, newest, stop) = (store.clone(), Arc::clone(&newest), Arc::clone(&stop));
        async move {
            let mut user = 0;
            while stop.load(Ordering::Acquire) == 0 {
                user += 1;
                writes(&store, user).await;
                newest.store(user, Ordering::Release);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    });
    let mut committed: Vec<(Instant, i64)> = Vec::new();
    let (began, mut reads, mut behind) = (Instant::now(), 0, 0);
    // Longer than the slow one is behind: until then it has nothing to show.
    while began.elapsed() < Duration::from_secs(16) {
        committed.push((Instant::now(), newest.load(Ordering::Acquire)));
        let (seen, age) = likers(&store).await;
        let answered = Instant::now();
        reads += 1;
        assert!(age <= LAG, "{age:?}");
        let since = answered - age;
        let must = committed.iter().rev().find(|(when, _)| *when <= since).map_or(0, |(_, user)| *user);
        assert!(seen >= must, "a page that is at most {age:?} old shows {seen}, {must} were committed before");
        let (_, latest) = committed.last().unwrap();
        behind += i64::from(seen < *latest);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.store(1, Ordering::Release);
    writer.await.unwrap();
    let primary = lists(&group, 0).await - first;
    let (fresh, slow) = (lists(&group, 1).await + first - before, lists(&group, 2).await);
    assert_eq!(primary + fresh + slow, reads, "{primary} {fresh} {slow}");
    assert!(f64::from(fresh) >= 0.95 * f64::from(reads), "{fresh} of {reads} lists from the replica, {primary} not");
    assert_eq!(slow, 0, "lists from a replica that is 10 s behind");
    println!(
        "{reads} lists: {fresh} on the replica, {primary} on the primary; {behind} did not show the latest commit"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_stops_dies_or_says_nothing_is_done_without_and_used_again() {
    let group = group().await;
    let link = test_support::Proxy::start(group.node(1).unwrap().addr().unwrap()).await.unwrap();
    let store = EventStore::connect(&config(&group, &[link.addr().to_string()])).await.unwrap();
    let user = AtomicI64::new(0);
    // What was committed is seen: by the replica as soon as it may, by the primary at once.
    let served = async |by_replica: bool| {
        let user = user.fetch_add(1, Ordering::Relaxed) + 1;
        writes(&store, user).await;
        let before = lists(&group, 0).await;
        let (seen, age) = likers(&store).await;
        let asked = lists(&group, 0).await - before;
        if by_replica {
            expect_eq((age.is_zero(), asked), (false, 0))
        } else {
            let found = (age.is_zero(), asked);
            expect_eq(seen, user).and_then(|_| expect_eq(found, (true, 1)))
        }
    };
    eventually(PATIENCE, "a list from the replica", || served(true)).await;

    group.sql(1, "STOP SLAVE SQL_THREAD").await.unwrap();
    eventually(PATIENCE, "lists without a replica that has stopped", || served(false)).await;
    served(false).await.unwrap();
    group.sql(1, "START SLAVE").await.unwrap();
    eventually(PATIENCE, "a list from the replica that caught up", || served(true)).await;

    // Nobody waits for it longer than a probe would.
    link.freeze();
    let began = Instant::now();
    let (seen, _) = likers(&store).await;
    assert_eq!(seen, user.load(Ordering::Relaxed));
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    served(false).await.unwrap();
    link.restore().await.unwrap();
    eventually(PATIENCE, "a list from the replica that speaks again", || served(true)).await;

    // It copies another database: what it shows may be as fresh as it likes.
    group.sql(1, "STOP SLAVE; SET GLOBAL read_only = OFF; UPDATE likes.sync_meta SET value = 'fresh' WHERE name = 'replica_beat'")
        .await
        .unwrap();
    eventually(PATIENCE, "lists without a replica of something else", || served(false)).await;

    group.node(1).unwrap().kill9().unwrap();
    for _ in 0..20 {
        served(false).await.unwrap();
    }
}

/// Whoever decides what the cache believes, or what a row becomes, is shown the latest commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_must_not_be_late_is_not_read_from_replicas() {
    let group = group().await;
    let store = EventStore::connect(&config(&group, &group.addrs().unwrap()[1..])).await.unwrap();
    eventually(PATIENCE, "a list from a replica", async || expect_eq(likers(&store).await.1.is_zero(), false)).await;
    group.sql(1, "STOP SLAVE SQL_THREAD").await.unwrap();
    group.sql(2, "STOP SLAVE SQL_THREAD").await.unwrap();
    let event = like(1, VIDEO, 1);
    store.apply(std::slice::from_ref(&event), at(1_000)).await.unwrap();
    let late = store.on_replicas();
    let (pair, video) = (event.pair(), event.pair().resource);
    // By either of both: only who asks for what may be old gets it.
    assert!(store.load_states(&[pair]).await.unwrap()[0].liked);
    assert_eq!(store.load_counts(&[video]).await.unwrap()[0].count, 1);
    for store in [&store, &late] {
        assert!(
            matches!(store.load_free_states(&[pair]).await.unwrap()[0], event_store::FreeState::Row(row) if row.liked)
        );
        assert_eq!(store.audit_counts(&[video]).await.unwrap()[0].live, 1);
        assert_eq!(store.in_ledger(&[event.intent.id]).await.unwrap(), [true]);
    }
    assert!(late.age().is_zero());
    assert_eq!(late.load_counts(&[video]).await.unwrap()[0].count, 0, "the replicas have it already");
    assert!(!late.age().is_zero());
}
