//! Reference: events through RabbitMQ and nothing else.

use anyhow::{Context, Result};
use domain::Action;
use domain::codec::EncodedEvent;
use event_bus::{BusConfig, Consumer, Headers, LogConfig, Publisher};
use std::time::Duration;
use test_support::{build, unique_name};
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(30);

/// Publishes `messages` messages of `events` likes each, one confirm at a time, then consumes and acknowledges them; with the redo
/// log beside the queue or without.
pub(crate) async fn pass(amqp_url: &str, messages: u32, events: i64, logged: bool) -> Result<()> {
    let log = LogConfig { enabled: logged, ..LogConfig::default() };
    let (url, prefix) = (amqp_url.to_owned().into(), unique_name("bench"));
    let config = BusConfig { url, prefix, log, ..BusConfig::default() };
    let batch: Vec<EncodedEvent> =
        (1..=events).map(|n| EncodedEvent::from_event(&build::event(n, n, Action::Like, n))).collect();
    let mut publisher = Publisher::new(config.clone());
    for _ in 0..messages {
        publisher.publish(&batch, &Headers::new()).await?;
    }
    publisher.close().await;
    let mut consumer = Consumer::connect(&config).await?;
    let mut left = messages;
    while left > 0 {
        let first = timeout(LIMIT, consumer.next()).await.context("a message is missing")??;
        let mut deliveries = vec![first];
        while let Some(delivery) = consumer.try_next()? {
            deliveries.push(delivery);
        }
        consumer.ack(&deliveries).await?;
        left = left.saturating_sub(u32::try_from(deliveries.len())?);
    }
    consumer.close().await;
    Ok(())
}
