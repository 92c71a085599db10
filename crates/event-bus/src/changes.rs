//! The exchange of changes: what others are told of likes after they are committed, and a listener of our own.
//!
//! Nobody need listen: a message that no queue is bound for is confirmed like any other, and is gone.

use crate::connection::{Link, within};
use crate::topology::{self, Names};
use crate::{BusConfig, BusError, ChangeMessage, NotConfirmed};
use futures::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Confirmation, ExchangeKind, PublisherConfirm};
use std::time::Duration;
use uuid::Uuid;

/// As CloudEvents calls its batches in JSON.
const CONTENT_TYPE: &str = "application/cloudevents-batch+json";

const PERSISTENT: u8 = 2;

/// What a listener that does not keep up may leave waiting: then the oldest gives way.
const TAIL_BYTES: i64 = 64 << 20;

/// Publishes changes over a connection of its own, which it makes when it is used first and again after an error.
pub struct ChangePublisher {
    config: BusConfig,
    names: Names,
    link: Option<Link>,
}

impl std::fmt::Debug for ChangePublisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let connected = self.link.as_ref().is_some_and(Link::is_open);
        f.debug_struct("ChangePublisher").field("exchange", &self.names.changes).field("connected", &connected).finish()
    }
}

impl ChangePublisher {
    /// One that is not connected yet.
    pub fn new(config: BusConfig) -> Self {
        Self { names: Names::of(&config), config, link: None }
    }

    /// Connects now, unless connected, so that the exchange is there: one attempt.
    pub async fn connect(&mut self) -> Result<(), BusError> {
        let link = self.take_link().await?;
        self.link = Some(link);
        Ok(())
    }

    /// Publishes all of these, one behind the other, and waits for all confirms, within `confirm_timeout`; connecting has
    /// `connect_timeout`. One attempt.
    ///
    /// `Ok` means that the broker has put each into every queue that wants it. After an error it may have any of them.
    pub async fn publish(&mut self, messages: &[ChangeMessage]) -> Result<(), BusError> {
        if messages.is_empty() {
            return Ok(());
        }
        let link = self.take_link().await?;
        if link.is_blocked() {
            self.link = Some(link);
            return Err(BusError::Blocked);
        }
        let confirmed = within(self.config.confirm_timeout, "publishing changes", send(&link, &self.names, messages));
        let confirmed = tokio::select! {
            biased;
            confirmed = confirmed => confirmed,
            // It has said that there will be no confirm.
            () = link.blocked() => Err(BusError::Blocked),
        };
        match confirmed {
            Err(BusError::Blocked) => {
                // An alarm ends; this connection hears of it.
                self.link = Some(link);
                Err(BusError::Blocked)
            }
            Err(BusError::TimedOut { after, .. }) => Err(BusError::NotConfirmed(NotConfirmed::Timeout(after))),
            Err(error) => Err(error),
            Ok(()) => {
                self.link = Some(link);
                Ok(())
            }
        }
    }

    /// Ends the connection in good order.
    pub async fn close(&mut self) {
        if let Some(link) = self.link.take() {
            link.close(self.config.confirm_timeout).await;
        }
    }

    /// Out of `self`: a call that fails or is cancelled leaves no link behind.
    async fn take_link(&mut self) -> Result<Link, BusError> {
        match self.link.take().filter(Link::is_open) {
            Some(link) => Ok(link),
            None => self.open().await,
        }
    }

    async fn open(&self) -> Result<Link, BusError> {
        let link = Box::pin(Link::open_again(&self.config, &self.names, "changes")).await?;
        within(self.config.connect_timeout, "declaring the exchange of changes", async {
            topology::declare_changes(&link.connection, &self.config, &self.names).await?;
            let select = link.channel.confirm_select(ConfirmSelectOptions::default());
            select.await.map_err(BusError::unavailable("asking for confirms"))
        })
        .await
        .map_err(|error| error.naming(&self.config.prefix))?;
        Ok(link)
    }
}

async fn send(link: &Link, names: &Names, messages: &[ChangeMessage]) -> Result<(), BusError> {
    let failed = BusError::topology(&names.changes, "publishing changes");
    let mut confirms = Vec::with_capacity(messages.len());
    for message in messages {
        let properties =
            BasicProperties::default().with_delivery_mode(PERSISTENT).with_content_type(CONTENT_TYPE.into());
        let (exchange, key) = (names.changes.as_str().into(), message.key.as_str().into());
        let options = BasicPublishOptions::default();
        match link.channel.basic_publish(exchange, key, options, &message.body, properties).await {
            Ok(confirm) => confirms.push(confirm),
            // The channel may be closed because the one before was refused: that says why.
            Err(error) => return Err(confirmed(confirms, &failed).await.err().unwrap_or_else(|| failed(error))),
        }
    }
    fail::fail_point!("changes.sent");
    confirmed(confirms, &failed).await
}

async fn confirmed(
    confirms: Vec<PublisherConfirm>,
    failed: &impl Fn(lapin::Error) -> BusError,
) -> Result<(), BusError> {
    for confirm in confirms {
        match confirm.await.map_err(failed)? {
            Confirmation::Ack(_) => {}
            Confirmation::Nack(_) => return Err(BusError::NotConfirmed(NotConfirmed::Nack)),
            Confirmation::NotRequested => return Err(BusError::NotConfirmed(NotConfirmed::NotRequested)),
        }
    }
    Ok(())
}

/// Listens from now on, by a queue of its own that ends with it.
pub struct ChangeListener {
    link: Link,
    stream: lapin::Consumer,
    queue: String,
    exchange: String,
    pattern: String,
    deadline: Duration,
}

impl std::fmt::Debug for ChangeListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChangeListener").field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl ChangeListener {
    /// Hears what is published with a key like this: words, `*` for one word, `#` for any number. Makes the exchange, as who
    /// publishes there does.
    pub async fn open(config: &BusConfig, pattern: &str) -> Result<Self, BusError> {
        Self::open_with(config, pattern, ExchangeDeclareOptions { durable: true, ..Default::default() }).await
    }

    /// The same where somebody publishes, or has.
    ///
    /// # Errors
    /// [`BusError::Topology`] where the exchange is not there.
    pub async fn open_existing(config: &BusConfig, pattern: &str) -> Result<Self, BusError> {
        Self::open_with(config, pattern, ExchangeDeclareOptions { passive: true, ..Default::default() }).await
    }

    async fn open_with(config: &BusConfig, pattern: &str, declare: ExchangeDeclareOptions) -> Result<Self, BusError> {
        let names = Names::of(config);
        let queue = format!("{}.tail.{}", names.changes, Uuid::now_v7());
        let link = Box::pin(Link::open_again(config, &names, "listener")).await?;
        let stream = within(config.connect_timeout, "listening to changes", async {
            let refused = BusError::topology(&names.changes, "listening to changes");
            let (exchange, kind) = (names.changes.as_str().into(), ExchangeKind::Topic);
            link.channel.exchange_declare(exchange, kind, declare, FieldTable::default()).await.map_err(&refused)?;
            let mut arguments = FieldTable::default();
            arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(TAIL_BYTES));
            let own = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
            link.channel.queue_declare(queue.as_str().into(), own, arguments).await.map_err(&refused)?;
            let (name, exchange) = (queue.as_str().into(), names.changes.as_str().into());
            let bound = link.channel.queue_bind(
                name,
                exchange,
                pattern.into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            );
            bound.await.map_err(&refused)?;
            let qos = link.channel.basic_qos(config.prefetch, BasicQosOptions::default());
            qos.await.map_err(&refused)?;
            let options = BasicConsumeOptions { exclusive: true, ..Default::default() };
            let consume = link.channel.basic_consume(queue.as_str().into(), "".into(), options, FieldTable::default());
            consume.await.map_err(&refused)
        })
        .await
        .map_err(|error| error.naming(&config.prefix))?;
        let (exchange, pattern) = (names.changes, pattern.to_owned());
        Ok(Self { link, stream, queue, exchange, pattern, deadline: config.confirm_timeout })
    }

    /// The next message, as long as it takes. Cancel-safe.
    pub async fn next(&mut self) -> Result<ChangeMessage, BusError> {
        let delivery = match self.stream.next().await {
            Some(Ok(delivery)) => delivery,
            Some(Err(error)) => return Err(BusError::unavailable("listening to changes")(error)),
            None => return Err(BusError::Cancelled { queue: self.queue.clone() }),
        };
        let ack = self.link.channel.basic_ack(delivery.delivery_tag, BasicAckOptions::default());
        let acknowledged = within(self.deadline, "listening to changes", async {
            ack.await.map_err(BusError::unavailable("listening to changes"))
        });
        acknowledged.await?;
        Ok(ChangeMessage { key: delivery.routing_key.to_string(), body: delivery.data })
    }

    /// Binds again, which changes nothing where it is bound: an exchange that somebody deleted, and a publisher made anew, has no
    /// bindings, and tells a listener neither of it nor of changes. Those in between are lost to it.
    ///
    /// # Errors
    /// [`BusError::Topology`] while the exchange is not there.
    pub async fn bind_again(&self) -> Result<(), BusError> {
        let (queue, exchange, pattern) = (self.queue.as_str(), self.exchange.as_str(), self.pattern.as_str());
        within(self.deadline, "listening to changes", async {
            let options = QueueBindOptions::default();
            let bound = self.link.channel.queue_bind(
                queue.into(),
                exchange.into(),
                pattern.into(),
                options,
                FieldTable::default(),
            );
            bound.await.map_err(BusError::topology(exchange, "listening to changes"))
        })
        .await
    }

    /// Ends the connection, and the queue with it.
    pub async fn close(self) {
        self.link.close(self.deadline).await;
    }
}
