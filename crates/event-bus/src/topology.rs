//! Exchanges and queues: declared with every connect, so that nothing has to be set up by hand.
//!
//! What exists already is used as it is, whatever its arguments are: they are somebody's decision, and likes can be carried
//! all the same. So it is with what our user may not declare. Both are said once, with the broker's words, which name the
//! argument and both values.
//!
//! Known limit, of RabbitMQ 3.10: a broker killed within about half a second after it created a queue comes back with
//! the queue's name and without its storage; nothing published to it is ever confirmed. The events stay in the journal
//! and are applied directly; deleting the queue by hand heals it. Deleting it from here is deliberately absent.

use crate::error::refusal;
use crate::planted;
use crate::{BusConfig, BusError};
use lapin::options::{
    BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{Channel, Connection, ExchangeKind};

/// The one routing key: what is routed are likes; the prefix tells installations apart.
pub(crate) const ROUTING_KEY: &str = "likes";

/// What a probe publishes goes by this one.
pub(crate) const PROBE_KEY: &str = "probe";

/// What goes into the redo log beside the queue goes by this one. Who publishes chooses: what went by the other key is known
/// to lack in the log, to whoever consumes it, and no binding has to be taken away while the log does not answer.
pub(crate) const LOGGED_KEY: &str = "likes.logged";

/// What goes into the redo log alone.
pub(crate) const LOG_KEY: &str = "log";

/// Dead letters wait for an operator; RabbitMQ 4 would drop them after 20 returned deliveries without this.
const DEAD_DELIVERY_LIMIT: u32 = 1_000_000;

/// The broker's codes: the right is missing; it exists with other arguments.
pub(crate) const ACCESS_REFUSED: u16 = 403;
const PRECONDITION_FAILED: u16 = 406;

#[derive(Debug, Clone)]
pub(crate) struct Names {
    pub(crate) events: String,
    pub(crate) likes: String,
    pub(crate) dead: String,
    pub(crate) likes_dead: String,
    pub(crate) probe: String,
    pub(crate) log: String,
    pub(crate) changes: String,
}

impl Names {
    pub(crate) fn of(config: &BusConfig) -> Self {
        let prefix = &config.prefix;
        Self {
            events: format!("{prefix}.events"),
            likes: format!("{prefix}.likes"),
            dead: format!("{prefix}.dead"),
            likes_dead: format!("{prefix}.likes.dead"),
            probe: format!("{prefix}.probe"),
            log: format!("{prefix}.log"),
            changes: format!("{prefix}.changes"),
        }
    }
}

/// Declares everything; harmless when it exists.
pub(crate) async fn declare(connection: &Connection, config: &BusConfig, names: &Names) -> Result<(), BusError> {
    let mut declaring = Declaring::new(connection, config).await?;
    let dead = queue_arguments(config.queue_max_length, DEAD_DELIVERY_LIMIT);
    declaring.exchange(&names.dead, ExchangeKind::Direct).await?;
    declaring.queue(&names.likes_dead, dead).await?;
    declaring.bind(&names.likes_dead, &names.dead, ROUTING_KEY).await?;
    // A queue that somebody else declared may keep the key with which a message came.
    declaring.bind(&names.likes_dead, &names.dead, LOGGED_KEY).await?;

    let mut likes = queue_arguments(config.queue_max_length, config.delivery_limit);
    likes.insert("x-dead-letter-exchange".into(), text(&names.dead));
    likes.insert("x-dead-letter-routing-key".into(), text(ROUTING_KEY));
    // Only together with reject-publish: a dead letter is moved, never dropped.
    likes.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    declaring.exchange(&names.events, ExchangeKind::Direct).await?;
    declaring.queue(&names.likes, likes).await?;
    declaring.bind_likes(names).await?;
    declaring.end().await
}

/// Binds the likes queue, if our user may; harmless when it is bound.
pub(crate) async fn bind_likes(connection: &Connection, config: &BusConfig) -> Result<bool, BusError> {
    let mut declaring = Declaring::new(connection, config).await?;
    let may = declaring.bind_likes(&Names::of(config)).await?;
    declaring.end().await?;
    Ok(may)
}

/// Declares the redo log, and binds it beside the queue.
///
/// # Errors
/// [`BusError::Topology`]: this broker has none for us.
pub(crate) async fn declare_log(connection: &Connection, config: &BusConfig, names: &Names) -> Result<(), BusError> {
    let mut declaring = Declaring::new(connection, config).await?;
    let number = |bytes: u64| AMQPValue::LongLongInt(i64::try_from(bytes).unwrap_or(i64::MAX));
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("stream"));
    arguments.insert("x-max-age".into(), text(&format!("{}s", config.log.max_age.as_secs())));
    arguments.insert("x-max-length-bytes".into(), number(config.log.max_bytes));
    arguments.insert("x-stream-max-segment-size-bytes".into(), number(config.log.segment_bytes()));
    declaring.queue(&names.log, arguments).await?;
    // Something else of this name would take messages for good, and nobody would consume them: it says so only now.
    declaring.is_stream(&names.log).await?;
    // The queue first: what went into the log alone would be delivered by nobody.
    declaring.bind_surely(&names.likes, &names.events, LOGGED_KEY).await?;
    if !planted::log_skipped() {
        declaring.bind_surely(&names.log, &names.events, LOGGED_KEY).await?;
    }
    declaring.bind_surely(&names.log, &names.events, LOG_KEY).await?;
    declaring.end().await
}

/// Declares where changes are published; nothing of ours is bound to it.
pub(crate) async fn declare_changes(
    connection: &Connection,
    config: &BusConfig,
    names: &Names,
) -> Result<(), BusError> {
    let mut declaring = Declaring::new(connection, config).await?;
    declaring.exchange(&names.changes, ExchangeKind::Topic).await?;
    declaring.end().await
}

/// Declares where probes go: a queue that holds the last one and ends when nobody probes. Without it a probe still proves that
/// the broker takes messages, only not that it keeps them.
pub(crate) async fn declare_probe(connection: &Connection, config: &BusConfig, names: &Names) -> Result<(), BusError> {
    let mut declaring = Declaring::new(connection, config).await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(1));
    arguments.insert("x-expires".into(), AMQPValue::LongLongInt(PROBE_EXPIRES_MS));
    match declaring.queue(&names.probe, arguments).await {
        Ok(()) => drop(declaring.bind(&names.probe, &names.events, PROBE_KEY).await?),
        Err(BusError::Topology { .. }) => return Ok(()),
        Err(other) => return Err(other),
    }
    declaring.end().await
}

const PROBE_EXPIRES_MS: i64 = 3_600_000;

/// A refusal closes the channel, so there may be several, one after the other.
struct Declaring<'c> {
    connection: &'c Connection,
    config: &'c BusConfig,
    channel: Channel,
}

impl<'c> Declaring<'c> {
    async fn new(connection: &'c Connection, config: &'c BusConfig) -> Result<Self, BusError> {
        let channel = connection.create_channel().await.map_err(BusError::unavailable("opening a channel"))?;
        Ok(Self { connection, config, channel })
    }

    async fn exchange(&mut self, name: &str, kind: ExchangeKind) -> Result<(), BusError> {
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let declare = |channel: Channel, options| {
            let kind = kind.clone();
            async move { channel.exchange_declare(name.into(), kind, options, FieldTable::default()).await }
        };
        let Err(error) = declare(self.channel.clone(), durable).await else { return Ok(()) };
        if self.may_exist(&error).await? {
            let passive = ExchangeDeclareOptions { passive: true, ..durable };
            if declare(self.channel.clone(), passive).await.is_ok() {
                self.use_as_it_is(name, &error);
                return Ok(());
            }
        }
        Err(BusError::topology(name, "declaring an exchange")(error))
    }

    async fn queue(&mut self, name: &str, arguments: FieldTable) -> Result<(), BusError> {
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        let Err(error) = self.channel.queue_declare(name.into(), durable, arguments).await else { return Ok(()) };
        if self.may_exist(&error).await? {
            let passive = QueueDeclareOptions { passive: true, ..durable };
            if self.channel.queue_declare(name.into(), passive, FieldTable::default()).await.is_ok() {
                self.use_as_it_is(name, &error);
                return Ok(());
            }
        }
        Err(BusError::topology(name, "declaring a queue")(error))
    }

    /// Only a stream lets somebody consume from its beginning.
    async fn is_stream(&mut self, name: &str) -> Result<(), BusError> {
        let failed = BusError::unavailable("asking for the kind of a queue");
        let refused = BusError::topology(name, "asking for the kind of a queue");
        self.channel.basic_qos(1, BasicQosOptions::default()).await.map_err(&failed)?;
        let mut start = FieldTable::default();
        start.insert("x-stream-offset".into(), text("next"));
        let options = BasicConsumeOptions::default();
        match self.channel.basic_consume(name.into(), "".into(), options, start).await {
            Ok(consumer) => {
                let cancel = self.channel.basic_cancel(consumer.tag(), BasicCancelOptions::default());
                cancel.await.map_err(&failed)
            }
            Err(error) if is_read_elsewhere(&error.to_string()) => self.may_exist(&error).await.map(drop),
            Err(error) => Err(refused(error)),
        }
    }

    async fn bind_likes(&mut self, names: &Names) -> Result<bool, BusError> {
        // The second with or without a log here: another process may have one.
        Ok(self.bind(&names.likes, &names.events, ROUTING_KEY).await?
            && self.bind(&names.likes, &names.events, LOGGED_KEY).await?)
    }

    /// Without relying on a binding that may be there.
    async fn bind_surely(&mut self, queue: &str, exchange: &str, key: &str) -> Result<(), BusError> {
        let (options, none) = (QueueBindOptions::default(), FieldTable::default());
        let bound = self.channel.queue_bind(queue.into(), exchange.into(), key.into(), options, none).await;
        bound.map_err(BusError::topology(queue, "binding a queue"))
    }

    /// Who may not bind (false) relies on the binding that is there: a message that nobody takes comes back.
    async fn bind(&mut self, queue: &str, exchange: &str, key: &str) -> Result<bool, BusError> {
        let (options, none) = (QueueBindOptions::default(), FieldTable::default());
        match self.channel.queue_bind(queue.into(), exchange.into(), key.into(), options, none).await {
            Err(error) if refusal(&error) == Some(ACCESS_REFUSED) => {
                self.may_exist(&error).await?;
                self.use_as_it_is(&format!("binding of {queue} to {key}"), &error);
                Ok(false)
            }
            other => other.map(|()| true).map_err(BusError::topology(queue, "binding a queue")),
        }
    }

    /// Whether it can be there all the same; then with a new channel.
    async fn may_exist(&mut self, error: &lapin::Error) -> Result<bool, BusError> {
        if !matches!(refusal(error), Some(ACCESS_REFUSED | PRECONDITION_FAILED)) {
            return Ok(false);
        }
        let channel = self.connection.create_channel().await;
        self.channel = channel.map_err(BusError::unavailable("opening a channel"))?;
        Ok(true)
    }

    fn use_as_it_is(&self, name: &str, error: &lapin::Error) {
        let lapin::ErrorKind::ProtocolError(reason) = error.kind() else { return };
        let reason = reason.get_message().as_str();
        if self.config.said.is_new(format!("{name}: {reason}")) {
            tracing::warn!(name, reason, "is used as it is, not as we would declare it");
        }
    }

    async fn end(self) -> Result<(), BusError> {
        self.channel.close(200, "declared".into()).await.map_err(BusError::unavailable("closing a channel"))
    }
}

fn queue_arguments(max_length: u32, delivery_limit: u32) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(i64::from(max_length)));
    arguments.insert("x-overflow".into(), text("reject-publish"));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(i64::from(delivery_limit)));
    arguments
}

/// Only a stream is read where a replica is, and written to from everywhere. The replica on the node that was asked may be away, or
/// not made yet: the first declaration has just returned.
fn is_read_elsewhere(refusal: &str) -> bool {
    refusal.contains("replica on the local node")
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_without_a_copy_at_hand_is_a_stream() {
        for found in ["does not have a running replica on the local node", "does not have a replica on the local node"]
        {
            assert!(is_read_elsewhere(&format!(
                "PRECONDITION_FAILED - queue 'queue 'likes.log' in vhost '/'' {found}"
            )));
        }
        assert!(!is_read_elsewhere("PRECONDITION_FAILED - queue 'likes.log' in vhost '/' is in exclusive use"));
    }
}
