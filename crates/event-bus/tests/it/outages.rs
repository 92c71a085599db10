use crate::support::{
    Intruder, PATIENCE, config, event, next, publish_until_taken, shared_config, versions, without_log,
};
use event_bus::{BusConfig, BusError, Consumer, Headers, NotConfirmed, Publisher};
use std::time::{Duration, Instant};
use test_support::{Proxy, RabbitMq, eventually};

const SHORT: Duration = Duration::from_millis(700);

/// A configuration that reaches the shared broker through a link that can fail.
async fn through_proxy() -> (Proxy, BusConfig, BusConfig) {
    let direct = shared_config().await;
    let broker = test_support::shared::rabbitmq().await.unwrap();
    let proxy = Proxy::start(broker.addr().unwrap()).await.unwrap();
    let url = proxy.url_of(broker.url()).into();
    let proxied = BusConfig { url, confirm_timeout: SHORT, connect_timeout: SHORT * 2, ..direct.clone() };
    (proxy, proxied, direct)
}

#[tokio::test]
async fn a_missing_confirm_is_an_error_in_time_and_heals() {
    let (proxy, proxied, direct) = through_proxy().await;
    let mut publisher = Publisher::new(without_log(proxied));
    publisher.publish(&[event(1)], &Headers::new()).await.unwrap();

    proxy.freeze();
    let started = Instant::now();
    let error = publisher.publish(&[event(2)], &Headers::new()).await.unwrap_err();
    assert!(matches!(error, BusError::NotConfirmed(NotConfirmed::Timeout(_))), "{error}");
    assert!(error.is_unavailable());
    assert!(started.elapsed() < PATIENCE / 4, "{:?}", started.elapsed());
    // A link that accepts and says nothing: connecting is bounded, too.
    let error = publisher.publish(&[event(3)], &Headers::new()).await.unwrap_err();
    assert!(matches!(error, BusError::TimedOut { .. }) && error.is_unavailable(), "{error}");

    proxy.restore().await.unwrap();
    publish_until_taken(&mut publisher, 4, BusError::is_unavailable).await;
    let mut consumer = Consumer::connect(&direct).await.unwrap();
    let mut seen = Vec::new();
    while !seen.contains(&4) {
        seen.extend(versions(&next(&mut consumer).await));
    }
    assert_eq!(seen[0], 1, "{seen:?}");
    Intruder::new(&direct).await.clean_up().await;
}

#[tokio::test]
async fn silent_brokers_cost_no_threads() {
    let (proxy, proxied, direct) = through_proxy().await;
    let proxied = BusConfig { connect_timeout: Duration::from_millis(50), ..proxied };
    proxy.freeze();
    let mut publisher = Publisher::new(proxied);
    for _ in 0..20 {
        assert!(publisher.connect().await.unwrap_err().is_unavailable());
    }
    // Other tests' connections are among them, the twenty of this one must not stay.
    eventually(PATIENCE, "the client library's threads to end", async || {
        let threads = io_threads();
        if threads < 15 { Ok(()) } else { Err(threads) }
    })
    .await;
    drop(proxy);
    Intruder::new(&direct).await.clean_up().await;
}

fn io_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let name = |task: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(task.ok()?.path().join("comm")).ok();
    tasks.filter_map(name).filter(|name| name.starts_with("lapin-io")).count()
}

#[tokio::test]
async fn a_cut_link_ends_the_consumer_and_its_messages_come_again() {
    let (proxy, proxied, direct) = through_proxy().await;
    Publisher::new(direct.clone()).publish(&[event(1)], &Headers::new()).await.unwrap();
    let mut consumer = Consumer::connect(&proxied).await.unwrap();
    let in_hand = next(&mut consumer).await;
    proxy.cut().await;
    let error = tokio::time::timeout(PATIENCE, consumer.next()).await.expect("not noticed").unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    assert!(consumer.ack([&in_hand]).await.unwrap_err().is_unavailable());
    assert!(Consumer::connect(&proxied).await.unwrap_err().is_unavailable());

    proxy.restore().await.unwrap();
    let mut consumer = Consumer::connect(&proxied).await.unwrap();
    let again = next(&mut consumer).await;
    assert_eq!((versions(&again), again.redelivered), (vec![1], true));
    Intruder::new(&direct).await.clean_up().await;
}

#[tokio::test]
async fn a_frozen_link_is_noticed_by_missing_heartbeats() {
    let (proxy, proxied, direct) = through_proxy().await;
    let config = BusConfig { heartbeat: Duration::from_secs(1), ..proxied };
    let mut consumer = Consumer::connect(&config).await.unwrap();
    proxy.freeze();
    let error = tokio::time::timeout(PATIENCE, consumer.next()).await.expect("not noticed").unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    Intruder::new(&direct).await.clean_up().await;
}

#[tokio::test]
async fn a_cancelled_publish_leaves_a_publisher_that_works() {
    let (proxy, proxied, direct) = through_proxy().await;
    let mut publisher = Publisher::new(proxied);
    publisher.publish(&[event(1)], &Headers::new()).await.unwrap();
    proxy.freeze();
    let events = [event(2)];
    let headers = Headers::new();
    let given_up = tokio::time::timeout(Duration::from_millis(50), publisher.publish(&events, &headers)).await;
    assert!(given_up.is_err());
    proxy.restore().await.unwrap();
    publisher.publish(&[event(3)], &Headers::new()).await.unwrap();
    let mut consumer = Consumer::connect(&direct).await.unwrap();
    let mut seen = Vec::new();
    while !seen.contains(&3) {
        seen.extend(versions(&next(&mut consumer).await));
    }
    // 2 may have arrived: nobody was told that it did not.
    assert!(seen == [1, 3] || seen == [1, 2, 3], "{seen:?}");
    Intruder::new(&direct).await.clean_up().await;
}

#[tokio::test]
async fn everything_confirmed_survives_a_killed_broker_and_both_sides_come_back() {
    let broker = RabbitMq::start().await.unwrap();
    let config = config(broker.url());
    let mut publisher = Publisher::new(config.clone());
    let mut consumer = Consumer::connect(&config).await.unwrap();
    publisher.publish(&[event(1)], &Headers::new()).await.unwrap();
    let first = next(&mut consumer).await;
    consumer.ack([&first]).await.unwrap();
    publisher.publish(&[event(2)], &Headers::new()).await.unwrap();

    // The broker writes a new queue's registration down within half a second or so; one that is younger when the broker
    // is killed stays behind without its storage. There is nothing to look at, and this is not what is tested here.
    tokio::time::sleep(Duration::from_secs(2)).await;
    broker.kill9().unwrap();
    let error = publisher.publish(&[event(3)], &Headers::new()).await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    let error = loop {
        match consumer.next().await {
            Ok(_delivered_before_the_kill) => {}
            Err(error) => break error,
        }
    };
    assert!(error.is_unavailable(), "{error}");

    broker.restart().await.unwrap();
    publish_until_taken(&mut publisher, 4, BusError::is_unavailable).await;
    let mut consumer = Consumer::connect(&config).await.unwrap();
    let mut seen = Vec::new();
    while !seen.contains(&4) {
        seen.extend(versions(&next(&mut consumer).await));
    }
    assert!(seen.contains(&2), "a confirmed message was lost: {seen:?}");

    // The broker comes back without any of its data: the topology is declared anew.
    broker.wipe_and_restart().await.unwrap();
    publish_until_taken(&mut publisher, 5, |_| true).await;
    let mut consumer = Consumer::connect(&config).await.unwrap();
    assert_eq!(versions(&next(&mut consumer).await), [5]);
}

/// Nobody listens at the first one, the second one accepts connections and says nothing.
#[tokio::test]
async fn of_several_hosts_one_that_answers_is_enough() {
    let (_proxy, _, direct) = through_proxy().await;
    let addr = test_support::shared::rabbitmq().await.unwrap().addr().unwrap();
    let (nobody, silent) = (test_support::lease_port().unwrap(), Proxy::start(addr.clone()).await.unwrap());
    silent.freeze();
    let link = Proxy::start(addr).await.unwrap();
    let hosts = vec![nobody.addr(), silent.addr().to_string(), link.addr().to_string()];
    let config = BusConfig { hosts, connect_timeout: Duration::from_secs(6), ..direct.clone() };
    let mut publisher = Publisher::new(config.clone());
    publisher.publish(&[event(1)], &Headers::new()).await.unwrap();
    // Whoever connects next begins where somebody answered: there is not even the time to look elsewhere.
    let mut consumer = Consumer::connect(&config).await.unwrap();
    assert_eq!(versions(&next(&mut consumer).await), [1]);

    // Lost, and one of the others is back.
    link.cut().await;
    silent.restore().await.unwrap();
    publish_until_taken(&mut publisher, 2, BusError::is_unavailable).await;
    assert!(publisher.queue_depth().await.unwrap().known);
    Intruder::new(&direct).await.clean_up().await;
}
