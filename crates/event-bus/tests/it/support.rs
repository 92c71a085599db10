//! One installation (a prefix of its own) per test, and a side entrance to the broker.

use domain::codec::{EncodedEvent, encode_payload};
use domain::{Action, LikeIntent, Origin, Pair, ResourceType, Version};
use event_bus::{BusConfig, BusError, Consumer, Delivery, Headers, LogConfig, Publisher};
use lapin::options::{BasicPublishOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use std::time::{Duration, Instant};
use test_support::unique_name;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn config(url: &str) -> BusConfig {
    BusConfig { url: url.to_owned().into(), prefix: unique_name("bus"), ..BusConfig::default() }
}

pub(crate) async fn shared_config() -> BusConfig {
    config(test_support::shared::rabbitmq().await.unwrap().url())
}

pub(crate) fn without_log(config: BusConfig) -> BusConfig {
    let log = LogConfig { enabled: false, ..config.log };
    BusConfig { log, ..config }
}

pub(crate) fn event(version: i64) -> EncodedEvent {
    let intent = LikeIntent {
        id: uuid::Uuid::now_v7(),
        pair: Pair::new(version, ResourceType::Video, 7).unwrap(),
        action: Action::Like,
        idempotency_key: None,
        trace: None,
    };
    EncodedEvent { version: Version(version), origin: Origin::Journal, payload: encode_payload(&intent) }
}

pub(crate) async fn next(consumer: &mut Consumer) -> Delivery {
    tokio::time::timeout(PATIENCE, consumer.next()).await.expect("no delivery").unwrap()
}

/// Publishes as a caller does that keeps trying; `tolerable` says which errors may happen meanwhile.
pub(crate) async fn publish_until_taken(publisher: &mut Publisher, version: i64, tolerable: fn(&BusError) -> bool) {
    let end = Instant::now() + PATIENCE;
    while let Err(error) = publisher.publish(&[event(version)], &Headers::new()).await {
        assert!(tolerable(&error) && Instant::now() < end, "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Versions of the events in a delivery.
pub(crate) fn versions(delivery: &Delivery) -> Vec<i64> {
    let events = domain::codec::decode_batch(&delivery.body).unwrap();
    events.iter().map(|event| event.version.0).collect()
}

/// Does what no part of the system may: publishes anything, deletes queues.
pub(crate) struct Intruder {
    connection: Connection,
    prefix: String,
}

impl Intruder {
    pub(crate) async fn new(config: &BusConfig) -> Self {
        use secrecy::ExposeSecret;
        let connection =
            Connection::connect(config.url.expose_secret(), ConnectionProperties::default()).await.unwrap();
        Self { connection, prefix: config.prefix.clone() }
    }

    pub(crate) async fn publish(&self, body: &[u8]) {
        let channel = self.connection.create_channel().await.unwrap();
        let exchange = format!("{}.events", self.prefix);
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        channel.basic_publish(exchange.into(), "likes".into(), options, body, properties).await.unwrap();
    }

    /// The likes queue as somebody declared it who did not ask for refusals: the oldest gives way.
    pub(crate) async fn declare_dropping_queue(&self) {
        let channel = self.connection.create_channel().await.unwrap();
        let text = |text: String| AMQPValue::LongString(text.into());
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), text("quorum".to_owned()));
        arguments.insert("x-dead-letter-exchange".into(), text(format!("{}.dead", self.prefix)));
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        channel.queue_declare(format!("{}.likes", self.prefix).into(), options, arguments).await.unwrap();
    }

    /// The log as somebody else declared it, or something else in its place.
    pub(crate) async fn declare_log(&self, kind: &str, max_age: Option<&str>) {
        let channel = self.connection.create_channel().await.unwrap();
        let text = |text: &str| AMQPValue::LongString(text.into());
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), text(kind));
        if let Some(max_age) = max_age {
            arguments.insert("x-max-age".into(), text(max_age));
        }
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        channel.queue_declare(format!("{}.log", self.prefix).into(), options, arguments).await.unwrap();
    }

    pub(crate) async fn delete_exchange(&self, exchange: &str) {
        let channel = self.connection.create_channel().await.unwrap();
        channel.exchange_delete(format!("{}.{exchange}", self.prefix).into(), Default::default()).await.unwrap();
    }

    pub(crate) async fn delete_queue(&self) {
        self.delete("likes").await;
    }

    pub(crate) async fn delete(&self, queue: &str) {
        let channel = self.connection.create_channel().await.unwrap();
        let queue = format!("{}.{queue}", self.prefix);
        channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
    }

    /// Removes what the test declared: the broker may outlive it.
    pub(crate) async fn clean_up(self) {
        for queue in ["likes", "likes.dead", "log"] {
            let channel = self.connection.create_channel().await.unwrap();
            let queue = format!("{}.{queue}", self.prefix);
            let _ = channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await;
        }
        for exchange in ["events", "dead", "changes"] {
            let channel = self.connection.create_channel().await.unwrap();
            let exchange = format!("{}.{exchange}", self.prefix);
            let _ = channel.exchange_delete(exchange.into(), Default::default()).await;
        }
    }
}
