//! Exchanges and queues: declared with every connect, so that nothing has to be set up by hand.
//!
//! Known limit, of RabbitMQ 3.10: a broker killed within about half a second after it created a queue comes back with
//! the queue's name and without its storage; nothing published to it is ever confirmed. The events stay in the journal
//! and are applied directly; deleting the queue by hand heals it. Deleting it from here is deliberately absent.

use crate::{BusConfig, BusError};
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{Channel, ExchangeKind};

/// The one routing key: what is routed are likes; the prefix tells installations apart.
pub(crate) const ROUTING_KEY: &str = "likes";

/// Dead letters wait for an operator; RabbitMQ 4 would drop them after 20 returned deliveries without this.
const DEAD_DELIVERY_LIMIT: u32 = 1_000_000;

#[derive(Debug, Clone)]
pub(crate) struct Names {
    pub(crate) events: String,
    pub(crate) likes: String,
    pub(crate) dead: String,
    pub(crate) likes_dead: String,
}

impl Names {
    pub(crate) fn of(config: &BusConfig) -> Self {
        let prefix = &config.prefix;
        Self {
            events: format!("{prefix}.events"),
            likes: format!("{prefix}.likes"),
            dead: format!("{prefix}.dead"),
            likes_dead: format!("{prefix}.likes.dead"),
        }
    }
}

/// Declares everything; harmless when it exists alike. A refusal closes the channel.
pub(crate) async fn declare(channel: &Channel, config: &BusConfig, names: &Names) -> Result<(), BusError> {
    let dead = queue_arguments(config.queue_max_length, DEAD_DELIVERY_LIMIT);
    declare_one(channel, &names.dead, &names.likes_dead, dead).await?;

    let mut likes = queue_arguments(config.queue_max_length, config.delivery_limit);
    likes.insert("x-dead-letter-exchange".into(), text(&names.dead));
    likes.insert("x-dead-letter-routing-key".into(), text(ROUTING_KEY));
    // Only together with reject-publish: a dead letter is moved, never dropped.
    likes.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    declare_one(channel, &names.events, &names.likes, likes).await
}

async fn declare_one(channel: &Channel, exchange: &str, queue: &str, arguments: FieldTable) -> Result<(), BusError> {
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel
        .exchange_declare(exchange.into(), ExchangeKind::Direct, durable, FieldTable::default())
        .await
        .map_err(BusError::topology(exchange, "declaring an exchange"))?;
    channel
        .queue_declare(queue.into(), QueueDeclareOptions { durable: true, ..Default::default() }, arguments)
        .await
        .map_err(BusError::topology(queue, "declaring a queue"))?;
    channel
        .queue_bind(
            queue.into(),
            exchange.into(),
            ROUTING_KEY.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
        .map_err(BusError::topology(queue, "binding a queue"))
}

fn queue_arguments(max_length: u32, delivery_limit: u32) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(i64::from(max_length)));
    arguments.insert("x-overflow".into(), text("reject-publish"));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(i64::from(delivery_limit)));
    arguments
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value))
}
