//! The table of errors, row by row, each produced by a real broker: of no use now, with what is missing, and when the cause is
//! gone the same publisher works again.

use crate::support::{Intruder, PATIENCE, config, event, next, publish_until_taken, versions};
use event_bus::{BusConfig, BusError, Consumer, Headers, Publisher};
use std::time::{Duration, Instant};
use test_support::{RabbitMq, eventually};

async fn probed(publisher: &mut Publisher) {
    let end = Instant::now() + PATIENCE;
    while let Err(error) = publisher.probe().await {
        assert!(error.is_unavailable() && Instant::now() < end, "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn as_user(broker: &RabbitMq, login: &str) -> BusConfig {
    config(&broker.url().replace("guest:guest", login))
}

/// An alarm holds back publishers and answers everything else: only a publish notices it, at once, and it passes.
async fn blocked_by(alarm: &str, spoil: &[&str], mend: &[&str]) {
    let broker = RabbitMq::start().await.unwrap();
    let config = config(broker.url());
    let mut publisher = Publisher::new(config.clone());
    probed(&mut publisher).await;
    publisher.publish(&[event(1)], &Headers::new()).await.unwrap();

    broker.ctl(spoil).await.unwrap();
    eventually(PATIENCE, "an alarm", async || {
        let said = broker.ctl(&["eval", "rabbit_alarm:get_alarms()."]).await.map_err(|error| error.to_string())?;
        if said.contains(alarm) { Ok(()) } else { Err(said) }
    })
    .await;
    let started = Instant::now();
    let error = publisher.publish(&[event(2)], &Headers::new()).await.unwrap_err();
    assert!(matches!(error, BusError::Blocked) && error.is_unavailable(), "{error}");
    // Long before a confirm is given up.
    assert!(started.elapsed() < config.confirm_timeout / 2, "{:?}", started.elapsed());
    for _ in 0..3 {
        assert!(matches!(publisher.probe().await, Err(BusError::Blocked)));
        assert!(matches!(publisher.queue_depth().await, Err(BusError::Blocked)));
    }
    // A new connection finds out as soon.
    let error = Publisher::new(config.clone()).probe().await.unwrap_err();
    assert!(matches!(error, BusError::Blocked), "{error}");
    // Consumers go on.
    let mut consumer = Consumer::connect(&config).await.unwrap();
    let delivery = next(&mut consumer).await;
    assert_eq!(versions(&delivery), [1]);
    consumer.ack([&delivery]).await.unwrap();

    broker.ctl(mend).await.unwrap();
    probed(&mut publisher).await;
    publisher.publish(&[event(3)], &Headers::new()).await.unwrap();
    let mut seen = Vec::new();
    while !seen.contains(&3) {
        seen.extend(versions(&next(&mut consumer).await));
    }
    assert!(seen.iter().all(|version| [2, 3].contains(version)), "{seen:?}");
}

#[tokio::test]
async fn an_alarm_blocks_publishing_and_is_noticed_at_once() {
    let watermark = |bytes| ["set_vm_memory_high_watermark", "absolute", bytes];
    blocked_by("memory", &watermark("1MB"), &watermark("1GB")).await;
}

#[tokio::test]
async fn a_disk_alarm_is_one_too() {
    blocked_by("disk", &["set_disk_free_limit", "1000000GB"], &["set_disk_free_limit", "50MB"]).await;
}

/// An administrator closes all connections (320), and deletes what the connections use (404): both are new again with the next
/// call, and nobody is blamed.
#[tokio::test]
async fn closed_connections_and_deleted_exchanges_are_replaced() {
    let broker = RabbitMq::start().await.unwrap();
    let config = config(broker.url());
    let intruder = Intruder::new(&config).await;
    let mut publisher = Publisher::new(config.clone());
    publisher.publish(&[event(1)], &Headers::new()).await.unwrap();
    let mut consumer = Consumer::connect(&config).await.unwrap();
    let delivery = next(&mut consumer).await;
    consumer.ack([&delivery]).await.unwrap();

    intruder.delete_exchange("events").await;
    let error = publisher.publish(&[event(2)], &Headers::new()).await.unwrap_err();
    assert!(error.is_unavailable() && error.to_string().contains("NOT_FOUND"), "{error}");
    publish_until_taken(&mut publisher, 2, BusError::is_unavailable).await;
    assert_eq!(versions(&next(&mut consumer).await), [2]);

    broker.ctl(&["close_all_connections", "--global", "maintenance"]).await.unwrap();
    let error = tokio::time::timeout(PATIENCE, consumer.next()).await.expect("it waits").unwrap_err();
    assert!(error.is_unavailable() && error.to_string().contains("CONNECTION_FORCED"), "{error}");
    publish_until_taken(&mut publisher, 3, BusError::is_unavailable).await;
    let mut consumer = Consumer::connect(&config).await.unwrap();
    let mut seen = Vec::new();
    while !seen.contains(&3) {
        seen.extend(versions(&next(&mut consumer).await));
    }
}

#[tokio::test]
async fn missing_rights_are_named_and_what_exists_is_used() {
    let broker = RabbitMq::start().await.unwrap();
    broker.ctl(&["add_user", "likes", "secret"]).await.unwrap();
    let config = as_user(&broker, "likes:secret");
    let mut publisher = Publisher::new(config.clone());
    let refused = |error: BusError, says: &str| {
        assert!(error.is_unavailable() && error.to_string().contains(says), "{error} does not say {says}");
    };
    // Not even the virtual host: 530.
    refused(publisher.probe().await.unwrap_err(), "rabbitmqctl set_permissions");
    refused(Consumer::connect(&config).await.unwrap_err(), "rabbitmqctl set_permissions");

    // Nothing may be declared, and nothing is there: 403.
    let own = format!("^{}\\..*", config.prefix);
    broker.ctl(&["set_permissions", "-p", "/", "likes", "^$", &own, &own]).await.unwrap();
    refused(publisher.probe().await.unwrap_err(), "rabbitmqctl set_permissions");

    // Somebody else has declared it: nothing more is needed, not even the probe's own queue.
    let admin = BusConfig { url: broker.url().to_owned().into(), ..config.clone() };
    Publisher::new(admin).connect().await.unwrap();
    probed(&mut publisher).await;
    publisher.publish(&[event(1)], &Headers::new()).await.unwrap();
    let mut consumer = Consumer::connect(&config).await.unwrap();
    let delivery = next(&mut consumer).await;
    consumer.ack([&delivery]).await.unwrap();

    // Who may not write is refused, and who may not read, whatever they are connected with.
    broker.ctl(&["set_permissions", "-p", "/", "likes", "^$", "^$", &own]).await.unwrap();
    eventually(PATIENCE, "a refusal", async || {
        match Publisher::new(config.clone()).publish(&[event(2)], &Headers::new()).await {
            Err(error) if error.to_string().contains("rabbitmqctl set_permissions") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    broker.ctl(&["set_permissions", "-p", "/", "likes", "^$", &own, "^$"]).await.unwrap();
    eventually(PATIENCE, "a refusal", async || match Consumer::connect(&config).await {
        Err(error) if error.is_unavailable() && error.to_string().contains("set_permissions") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    // Nor does who may not read know that a queue is empty.
    drop(consumer);
    eventually(PATIENCE, "a depth that is not known", async || {
        match Publisher::new(config.clone()).queue_depth().await {
            Ok(depth) if (depth.ready, depth.consumers, depth.known) == (0, 0, false) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    // With what the advice says, all is well.
    let advised = format!("^{}\\.", config.prefix);
    broker.ctl(&["set_permissions", "-p", "/", "likes", &advised, &advised, &advised]).await.unwrap();
    probed(&mut publisher).await;
    assert!(publisher.queue_depth().await.unwrap().known);
    Consumer::connect(&config).await.unwrap();
}

#[tokio::test]
async fn a_login_that_is_refused_says_why() {
    let broker = RabbitMq::start().await.unwrap();
    for (url, says) in [
        (broker.url().replace("guest:guest", "guest:wrong"), "password"),
        (broker.url().replace("%2f", "nowhere"), "rabbitmqctl add_vhost"),
    ] {
        let error = Publisher::new(config(&url)).probe().await.unwrap_err();
        assert!(error.is_unavailable() && error.to_string().contains(says), "{error} does not say {says}");
    }
}
