//! The exchange of changes: whoever listens hears what it chose, and nobody need listen.

use crate::support::{Intruder, PATIENCE, config, shared_config};
use event_bus::{BusError, ChangeListener, ChangeMessage, ChangePublisher};
use std::time::Instant;
use test_support::RabbitMq;

fn message(key: &str, body: &str) -> ChangeMessage {
    ChangeMessage { key: key.to_owned(), body: body.as_bytes().to_vec() }
}

async fn next(listener: &mut ChangeListener) -> (String, String) {
    let heard = tokio::time::timeout(PATIENCE, listener.next()).await.expect("nothing is heard").unwrap();
    (heard.key, String::from_utf8(heard.body).unwrap())
}

fn said(key: &str, body: &str) -> (String, String) {
    (key.to_owned(), body.to_owned())
}

#[tokio::test]
async fn listeners_hear_what_they_chose_in_order_and_nobody_need_listen() {
    let config = shared_config().await;
    let mut publisher = ChangePublisher::new(config.clone());
    publisher.publish(&[]).await.unwrap();
    publisher.publish(&[message("video.count", "unheard")]).await.unwrap();
    let mut all = ChangeListener::open(&config, "#").await.unwrap();
    let mut counts = ChangeListener::open(&config, "*.count").await.unwrap();
    let sent: Vec<_> =
        (0..200).map(|n| message(if n % 2 == 0 { "video.count" } else { "video.like" }, &n.to_string())).collect();
    publisher.publish(&sent).await.unwrap();
    for n in 0..200 {
        let key = if n % 2 == 0 { "video.count" } else { "video.like" };
        assert_eq!(next(&mut all).await, said(key, &n.to_string()));
        if n % 2 == 0 {
            assert_eq!(next(&mut counts).await, said(key, &n.to_string()));
        }
    }
    all.close().await;
    counts.close().await;
    publisher.close().await;
    // And on from there, by a new connection.
    publisher.publish(&[message("video.count", "unheard")]).await.unwrap();
    Intruder::new(&config).await.clean_up().await;
}

#[tokio::test]
async fn an_exchange_that_is_gone_is_declared_again() {
    let config = shared_config().await;
    let mut publisher = ChangePublisher::new(config.clone());
    publisher.publish(&[message("a.b", "1")]).await.unwrap();
    let intruder = Intruder::new(&config).await;
    intruder.delete_exchange("changes").await;
    let error = publisher.publish(&[message("a.b", "2"), message("a.b", "3")]).await.unwrap_err();
    assert!(error.to_string().contains("NOT_FOUND"), "why, not that the channel is closed: {error}");
    let mut listener = ChangeListener::open(&config, "#").await.unwrap();
    publisher.publish(&[message("a.b", "4")]).await.unwrap();
    assert_eq!(next(&mut listener).await, said("a.b", "4"));
    intruder.clean_up().await;
}

#[tokio::test]
async fn who_may_not_publish_or_waits_for_an_alarm_is_told_so() {
    let broker = RabbitMq::start().await.unwrap();
    broker.ctl(&["add_user", "likes", "secret"]).await.unwrap();
    let config = config(&broker.url().replace("guest:guest", "likes:secret"));
    let but_changes = format!("^{}\\.(events|dead|likes|likes\\.dead|probe|log)$", config.prefix);
    broker.ctl(&["set_permissions", "-p", "/", "likes", &but_changes, &but_changes, &but_changes]).await.unwrap();
    let mut publisher = ChangePublisher::new(config.clone());
    let error = publisher.publish(&[message("a.b", "1")]).await.unwrap_err();
    assert!(matches!(error, BusError::Topology { .. }), "{error:?}");
    assert!(error.to_string().contains("rabbitmqctl set_permissions"), "{error}");

    let all = format!("^{}\\.", config.prefix);
    broker.ctl(&["set_permissions", "-p", "/", "likes", &all, &all, &all]).await.unwrap();
    publisher.publish(&[message("a.b", "2")]).await.unwrap();
    broker.ctl(&["set_vm_memory_high_watermark", "0.0000001"]).await.unwrap();
    let end = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < end, "no alarm");
        match publisher.publish(&[message("a.b", "3")]).await {
            Ok(()) => {}
            Err(BusError::Blocked) => break,
            Err(other) => panic!("{other}"),
        }
    }
    let at_once = Instant::now();
    assert!(matches!(publisher.publish(&[message("a.b", "4")]).await, Err(BusError::Blocked)));
    assert!(at_once.elapsed() < config.confirm_timeout / 4, "{:?}", at_once.elapsed());
    broker.ctl(&["set_vm_memory_high_watermark", "0.6"]).await.unwrap();
    while publisher.publish(&[message("a.b", "5")]).await.is_err() {
        assert!(Instant::now() < end, "the alarm does not end");
    }
}
