//! The redo log: it has what was published, and likes never wait for it.

use crate::support::{Intruder, PATIENCE, config, event, next, publish_until_taken, shared_config, versions};
use event_bus::{BusConfig, BusError, Consumer, Headers, LogMessage, LogReader, LogStart, LogState, Publisher};
use std::time::{Duration, Instant};
use test_support::RabbitMq;

async fn read(config: &BusConfig, start: LogStart) -> Vec<LogMessage> {
    let mut reader = LogReader::open(config, start).await.unwrap();
    let mut messages = Vec::new();
    while let Some(message) = reader.next().await.unwrap() {
        messages.push(message);
    }
    assert!(reader.end().is_some());
    reader.close().await;
    messages
}

fn versions_in(messages: &[LogMessage]) -> Vec<i64> {
    let events = messages.iter().flat_map(|message| domain::codec::decode_batch(&message.body).unwrap());
    events.map(|event| event.version.0).collect()
}

/// Publishes and consumes; whether the consumer was told that the log has it.
async fn go_through(publisher: &mut Publisher, consumer: &mut Consumer, version: i64) -> bool {
    publisher.publish(&[event(version)], &Headers::new()).await.unwrap();
    let delivery = next(consumer).await;
    assert_eq!(versions(&delivery), [version]);
    consumer.ack([&delivery]).await.unwrap();
    delivery.logged
}

#[tokio::test]
async fn what_was_published_is_in_the_log_after_it_was_consumed() {
    let config = shared_config().await;
    let mut publisher = Publisher::new(config.clone());
    let mut consumer = Consumer::connect(&config).await.unwrap();
    for version in 1..=20 {
        assert!(go_through(&mut publisher, &mut consumer, version).await, "the log is up: {:?}", config.log_state());
    }
    assert_eq!(publisher.queue_depth().await.unwrap().ready, 0);
    let all = read(&config, LogStart::First).await;
    assert_eq!(versions_in(&all), (1..=20).collect::<Vec<_>>());
    assert!(all.is_sorted_by_key(|message| message.offset) && all.is_sorted_by_key(|message| message.at));

    // More than is read ahead at once, and on from any message.
    let little = BusConfig { prefetch: 3, ..config.clone() };
    assert_eq!(versions_in(&read(&little, LogStart::Offset(all[12].offset)).await), (13..=20).collect::<Vec<_>>());
    // By time it begins early enough, and the future holds nothing.
    let at = all[12].at.unwrap();
    assert!(versions_in(&read(&config, LogStart::At(at)).await).ends_with(&(13..=20).collect::<Vec<_>>()));
    assert_eq!(versions_in(&read(&config, LogStart::At(at + 3_600_000)).await), [0; 0]);
    // Readers mark the end: the newest message is none of their marks.
    let newest = LogReader::newest(&config).await.unwrap().unwrap();
    assert_eq!(versions_in(&[newest]), [20]);
    // What is written to the log alone is nobody's delivery.
    publisher.append(&[event(21)]).await.unwrap();
    assert_eq!(versions_in(&read(&config, LogStart::First).await), (1..=21).collect::<Vec<_>>());
    assert!(consumer.try_next().unwrap().is_none());
    Intruder::new(&config).await.clean_up().await;
}

#[tokio::test]
async fn a_log_with_other_arguments_is_used_and_said() {
    let config = shared_config().await;
    let intruder = Intruder::new(&config).await;
    intruder.declare_log("stream", Some("7D")).await;
    let mut publisher = Publisher::new(config.clone());
    publisher.publish(&[event(1)], &Headers::new()).await.unwrap();
    assert_eq!(config.log_state(), LogState::Up);
    assert_eq!(versions_in(&read(&config, LogStart::First).await), [1]);
    let said = config.said.all();
    assert!(said.iter().any(|said| said.contains(".log: ") && said.contains("inequivalent arg")), "{said:?}");
    intruder.clean_up().await;
}

/// Something else in its place would hold what nobody consumes, until the broker has no room.
#[tokio::test]
async fn what_is_no_stream_is_no_log() {
    for kind in ["quorum", "classic"] {
        let config = shared_config().await;
        let intruder = Intruder::new(&config).await;
        intruder.declare_log(kind, None).await;
        let mut publisher = Publisher::new(config.clone());
        let mut consumer = Consumer::connect(&config).await.unwrap();
        assert!(!go_through(&mut publisher, &mut consumer, 1).await);
        assert!(matches!(config.log_state(), LogState::Absent(_)), "{kind}: {:?}", config.log_state());
        let said = config.said.all();
        assert!(said.iter().any(|said| said.starts_with("log: ")), "{said:?}");
        // Gone, the log takes its place.
        intruder.delete("log").await;
        assert_eq!(publisher.check_log().await.unwrap(), LogState::Up);
        assert!(go_through(&mut publisher, &mut consumer, 2).await);
        assert_eq!(versions_in(&read(&config, LogStart::First).await), [2]);
        intruder.clean_up().await;
    }
}

#[tokio::test]
async fn who_may_not_have_a_log_goes_on_without() {
    let broker = RabbitMq::start().await.unwrap();
    broker.ctl(&["add_user", "likes", "secret"]).await.unwrap();
    let config = config(&broker.url().replace("guest:guest", "likes:secret"));
    let rights = format!("^{}\\.(events|dead|likes|likes\\.dead|probe)$", config.prefix);
    broker.ctl(&["set_permissions", "-p", "/", "likes", &rights, &rights, &rights]).await.unwrap();
    let mut publisher = Publisher::new(config.clone());
    let mut consumer = Consumer::connect(&config).await.unwrap();
    assert!(!go_through(&mut publisher, &mut consumer, 1).await);
    let LogState::Absent(reason) = config.log_state() else { panic!("{:?}", config.log_state()) };
    assert!(reason.contains("rabbitmqctl set_permissions"), "{reason}");
    let error = LogReader::open(&config, LogStart::First).await.unwrap_err();
    assert!(matches!(error, BusError::Topology { .. }), "{error}");

    let all = format!("^{}\\..*", config.prefix);
    broker.ctl(&["set_permissions", "-p", "/", "likes", &all, &all, &all]).await.unwrap();
    assert_eq!(publisher.check_log().await.unwrap(), LogState::Up);
    assert!(go_through(&mut publisher, &mut consumer, 2).await);
}

/// The stream's process stands still, as one does whose replicas are lost: it confirms nothing.
#[tokio::test]
async fn likes_go_on_without_a_log_that_is_silent() {
    let broker = RabbitMq::start().await.unwrap();
    let mut config = config(broker.url());
    config.log.confirm_timeout = Duration::from_secs(1);
    let mut publisher = Publisher::new(config.clone());
    let mut consumer = Consumer::connect(&config).await.unwrap();
    assert!(go_through(&mut publisher, &mut consumer, 1).await);
    let hold = format!(
        "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, <<\"{}.log\">>)), \
         spawn(fun() -> register(holder, self()), true = erlang:suspend_process(amqqueue:get_pid(Q)), \
         receive stop -> ok end end), ok.",
        config.prefix
    );
    broker.ctl(&["eval", &hold]).await.unwrap();

    // One wait for it, and no more; the queue has what waited twice.
    let started = Instant::now();
    publisher.publish(&[event(2)], &Headers::new()).await.unwrap();
    assert!(started.elapsed() >= config.log.confirm_timeout, "{:?}", started.elapsed());
    assert!(matches!(config.log_state(), LogState::Down(_)), "{:?}", config.log_state());
    for logged in [true, false] {
        let delivery = next(&mut consumer).await;
        assert_eq!((versions(&delivery), delivery.logged), (vec![2], logged));
        consumer.ack([&delivery]).await.unwrap();
    }
    let started = Instant::now();
    for version in 3..=20 {
        assert!(!go_through(&mut publisher, &mut consumer, version).await);
    }
    assert!(started.elapsed() < 18 * config.log.confirm_timeout, "{:?}", started.elapsed());
    let mut keeper = Publisher::new(BusConfig { confirm_timeout: Duration::from_secs(1), ..config.clone() });
    assert!(matches!(keeper.check_log().await.unwrap(), LogState::Down(_)));
    assert!(keeper.append(&[event(3)]).await.is_err());

    broker.ctl(&["eval", "holder ! stop."]).await.unwrap();
    let end = Instant::now() + PATIENCE;
    while keeper.check_log().await.unwrap() != LogState::Up {
        assert!(Instant::now() < end, "{:?}", config.log_state());
    }
    assert!(go_through(&mut publisher, &mut consumer, 21).await);
    let logged = versions_in(&read(&config, LogStart::First).await);
    assert!(logged.starts_with(&[1]) && logged.ends_with(&[21]), "{logged:?}");
}

/// With a log a message comes back no more if only the queue is gone: who looks after the log finds that.
#[tokio::test]
async fn what_is_deleted_is_declared_again_by_the_next_look() {
    let config = shared_config().await;
    let mut publisher = Publisher::new(config.clone());
    publisher.publish(&[event(1)], &Headers::new()).await.unwrap();
    let intruder = Intruder::new(&config).await;
    let mut keeper = Publisher::new(config.clone());
    assert_eq!(keeper.check_log().await.unwrap(), LogState::Up);
    for (gone, version) in [("likes", 2), ("log", 3)] {
        intruder.delete(gone).await;
        assert_eq!(keeper.check_log().await.unwrap(), LogState::Up, "{gone}");
        publish_until_taken(&mut publisher, version, |_| false).await;
        let mut consumer = Consumer::connect(&config).await.unwrap();
        let delivery = next(&mut consumer).await;
        assert_eq!((versions(&delivery), delivery.logged), (vec![version], true), "{gone}");
        consumer.ack([&delivery]).await.unwrap();
        consumer.close().await;
    }
    assert_eq!(versions_in(&read(&config, LogStart::First).await), [3]);
    intruder.clean_up().await;
}

/// Somebody deletes the queue between connecting and the first look at the log: that is no reason to give up the log.
#[tokio::test]
async fn a_queue_that_is_gone_at_the_first_look_is_declared_again() {
    let config = shared_config().await;
    let mut publisher = Publisher::new(config.clone());
    publisher.connect().await.unwrap();
    let intruder = Intruder::new(&config).await;
    intruder.delete("likes").await;
    publisher.publish(&[event(1)], &Headers::new()).await.unwrap();
    assert!(matches!(config.log_state(), LogState::Down(_)), "{:?}", config.log_state());
    let mut consumer = Consumer::connect(&config).await.unwrap();
    let delivery = next(&mut consumer).await;
    assert_eq!((versions(&delivery), delivery.logged), (vec![1], false));
    consumer.ack([&delivery]).await.unwrap();
    assert_eq!(publisher.check_log().await.unwrap(), LogState::Up);
    assert!(go_through(&mut publisher, &mut consumer, 2).await);
    intruder.clean_up().await;
}
