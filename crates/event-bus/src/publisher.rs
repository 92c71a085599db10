//! Publishing with confirms: one message at a time, success only when the broker has it.

use crate::connection::{Link, within};
use crate::error::refusal;
use crate::headers::{clipped, to_table};
use crate::planted;
use crate::topology::{self, ACCESS_REFUSED, LOGGED_KEY, Names, PROBE_KEY, ROUTING_KEY};
use crate::{BusConfig, BusError, Headers, LogState, NotConfirmed, QueueDepth, REASON_HEADER};
use domain::codec::{self, EncodedEvent, MAX_BATCH};
use lapin::options::{
    BasicGetOptions, BasicNackOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation};
use std::time::{Duration, Instant};
use uuid::Uuid;

const CONTENT_TYPE: &str = "application/vnd.interaction.likes";
const PERSISTENT: u8 = 2;

/// How long an election of the queue's leader may take. A channel that was opened meanwhile looks for the old one, whose node is
/// down, and refuses every message for good, as if the queue were full. One that took a message follows the leader.
const ELECTION: Duration = Duration::from_secs(2);

/// Between two channels then.
const ELECTION_POLL: Duration = Duration::from_millis(100);

/// Publishes event batches over a connection of its own.
///
/// Not shared: one task owns it, so at most one message is unconfirmed, and a confirm or return cannot be taken for
/// another message's. Connects with the first call and again after an error; a call makes one attempt and returns,
/// but for [`publish`](Self::publish), which does not wait for the redo log for long.
/// Cancelling a call (dropping its future) leaves the outcome open and drops the connection.
pub struct Publisher {
    pub(crate) config: BusConfig,
    pub(crate) names: Names,
    pub(crate) link: Option<Link>,
    probe_declared: bool,
    opened: Instant,
    /// The queue has taken something over this link.
    taken: bool,
    /// The first refusal since the queue took something.
    refused_since: Option<Instant>,
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").field("config", &self.config).field("connected", &self.is_connected()).finish()
    }
}

impl Publisher {
    /// A publisher that is not connected yet.
    pub fn new(config: BusConfig) -> Self {
        Self {
            names: Names::of(&config),
            config,
            link: None,
            probe_declared: false,
            opened: Instant::now(),
            taken: false,
            refused_since: None,
        }
    }

    /// Connects now, unless connected: within `connect_timeout`, one attempt.
    pub async fn connect(&mut self) -> Result<(), BusError> {
        let link = self.open().await?;
        self.link = Some(link);
        Ok(())
    }

    /// Whether the connection was alive when last looked at.
    pub fn is_connected(&self) -> bool {
        self.link.as_ref().is_some_and(Link::is_open)
    }

    /// Publishes 1 to [`MAX_BATCH`] events as one persistent message; an empty slice is done already.
    ///
    /// `Ok` means that the broker has it: the queue, and the redo log where it is up, because a confirm waits for all that a
    /// message is routed to. Any error means that it may or may not have it. A log that confirms nothing costs
    /// `log.confirm_timeout`, once: the message goes again without it, by a new connection, and so does what comes next.
    pub async fn publish(&mut self, events: &[EncodedEvent], headers: &Headers) -> Result<(), BusError> {
        if events.is_empty() {
            return Ok(());
        }
        if events.len() > MAX_BATCH {
            return Err(BusError::BatchTooLarge { len: events.len(), max: MAX_BATCH });
        }
        let (body, headers) = (codec::encode_batch(events), to_table(headers));
        loop {
            match self.publish_once(&body, &headers).await {
                Ok(()) => {
                    (self.taken, self.refused_since) = (true, None);
                    return Ok(());
                }
                Err(BusError::NotConfirmed(NotConfirmed::Nack)) if self.may_be_an_election() => {
                    tokio::time::sleep(ELECTION_POLL).await;
                }
                failed => return failed,
            }
        }
    }

    /// Whether a refusal can be one of this channel only, which is given up then. A queue that is full refuses by every one.
    fn may_be_an_election(&mut self) -> bool {
        let refused = self.refused_since.get_or_insert_with(Instant::now).elapsed();
        let again = !self.taken && refused < ELECTION;
        if again || refused.min(self.opened.elapsed()) >= ELECTION {
            self.link = None;
        }
        again
    }

    async fn publish_once(&mut self, body: &[u8], headers: &FieldTable) -> Result<(), BusError> {
        let exchange = self.names.events.clone();
        // Looked at once for the process; from then on by whoever looks after the log.
        if self.config.log_state() == LogState::Unknown {
            self.check_log().await?;
        }
        let logged = self.config.log_state() == LogState::Up;
        let mut deadline = self.config.confirm_timeout;
        if logged {
            let patience = self.config.log_confirm_timeout();
            let fresh = !self.is_connected();
            self.connect().await?;
            match self.send_within(patience, &exchange, LOGGED_KEY, body, headers.clone()).await {
                Err(BusError::NotConfirmed(NotConfirmed::Timeout(_))) => {
                    self.log_is_down("a message that went there too was not confirmed in time");
                }
                // An old connection breaks with its node; a new one with what a broker says that cannot find its streams.
                Err(error @ BusError::Unavailable { .. }) if fresh => self.log_is_down(&error.to_string()),
                sent => return sent,
            }
            deadline -= patience;
        }
        self.send_within(deadline, &exchange, ROUTING_KEY, body, headers.clone()).await
    }

    /// Publishes any body to the dead-letter exchange, with the reason in the header [`REASON_HEADER`].
    pub async fn publish_dead(&mut self, body: &[u8], reason: &str, headers: &Headers) -> Result<(), BusError> {
        let mut table = to_table(headers);
        table.insert(REASON_HEADER.into(), lapin::types::AMQPValue::LongString(clipped(reason).into()));
        let exchange = self.names.dead.clone();
        self.send(&exchange, ROUTING_KEY, body, table).await
    }

    /// Publishes a message that is nobody's, and waits for the confirm: what every like needs. A broker under a resource alarm
    /// answers all other questions.
    pub async fn probe(&mut self) -> Result<(), BusError> {
        let fresh = !self.is_connected();
        let link = self.open().await?;
        if !self.probe_declared && !link.is_blocked() {
            let deadline = self.config.connect_timeout;
            within(deadline, "declaring", topology::declare_probe(&link.connection, &self.config, &self.names)).await?;
            self.probe_declared = true;
        }
        self.link = Some(link);
        let exchange = self.names.events.clone();
        let mut probed = self.send(&exchange, PROBE_KEY, b"", FieldTable::default()).await;
        if fresh && probed.is_ok() {
            // The broker holds back a connection after its first message, which it takes whatever the alarm.
            probed = self.send(&exchange, PROBE_KEY, b"", FieldTable::default()).await;
        }
        // It may have been deleted, or have ended.
        self.probe_declared &= probed.is_ok();
        probed
    }

    /// How much waits in the likes queue.
    pub async fn queue_depth(&mut self) -> Result<QueueDepth, BusError> {
        let queue = self.names.likes.clone();
        self.depth_of(&queue).await
    }

    /// How much waits in the dead-letter queue.
    pub async fn dead_depth(&mut self) -> Result<QueueDepth, BusError> {
        let queue = self.names.likes_dead.clone();
        self.depth_of(&queue).await
    }

    /// Ends the connection in good order.
    pub async fn close(mut self) {
        if let Some(link) = self.link.take() {
            link.close(self.config.confirm_timeout).await;
        }
    }

    /// Takes the link out of `self`, so that a call that fails or is cancelled leaves none behind.
    pub(crate) async fn open(&mut self) -> Result<Link, BusError> {
        if let Some(link) = self.link.take().filter(Link::is_open) {
            return Ok(link);
        }
        let link = Box::pin(Link::open(&self.config, &self.names, "publisher")).await?;
        (self.opened, self.taken) = (Instant::now(), false);
        within(self.config.connect_timeout, "asking for confirms", async {
            let select = link.channel.confirm_select(ConfirmSelectOptions::default());
            select.await.map_err(BusError::unavailable("asking for confirms"))
        })
        .await?;
        Ok(link)
    }

    pub(crate) async fn send(
        &mut self,
        exchange: &str,
        key: &str,
        body: &[u8],
        headers: FieldTable,
    ) -> Result<(), BusError> {
        self.send_within(self.config.confirm_timeout, exchange, key, body, headers).await
    }

    /// Sends one message and waits for its confirm; connecting has a deadline of its own.
    pub(crate) async fn send_within(
        &mut self,
        deadline: Duration,
        exchange: &str,
        key: &str,
        body: &[u8],
        headers: FieldTable,
    ) -> Result<(), BusError> {
        let link = self.open().await?;
        if link.is_blocked() {
            self.link = Some(link);
            return Err(BusError::Blocked);
        }
        let confirmed = within(deadline, "publishing", async {
            let properties = BasicProperties::default()
                .with_delivery_mode(PERSISTENT)
                .with_message_id(Uuid::now_v7().to_string().into())
                .with_content_type(CONTENT_TYPE.into())
                .with_headers(headers);
            // Nobody need take a probe.
            let options = BasicPublishOptions { mandatory: key != PROBE_KEY, immediate: false };
            let failed = BusError::unavailable("publishing");
            let sent = link.channel.basic_publish(exchange.into(), key.into(), options, body, properties);
            let confirmation = sent.await.map_err(&failed)?;
            // The message is written to the connection; whether the broker has it is not known.
            fail::fail_point!("bus.sent");
            confirmation.await.map_err(&failed)
        });
        // Not as long as a confirm may take: the broker has said that there will be none.
        let confirmed = tokio::select! {
            biased;
            confirmed = confirmed => confirmed,
            () = link.blocked() => Err(BusError::Blocked),
        };
        let confirmation = confirmed.map_err(|error| match error {
            BusError::TimedOut { after, .. } => BusError::NotConfirmed(NotConfirmed::Timeout(after)),
            other => other,
        });
        // An alarm ends; this connection hears of it, and a new one would be told only after its first message.
        if matches!(confirmation, Err(BusError::Blocked)) {
            self.link = Some(link);
            return Err(BusError::Blocked);
        }
        let confirmation = confirmation?;
        match planted::ignore_nack(confirmation) {
            Confirmation::Ack(None) => {
                self.link = Some(link);
                Ok(())
            }
            // The channel may be sound, and the next attempt as likely to be refused.
            Confirmation::Nack(None) => {
                self.link = Some(link);
                Err(BusError::NotConfirmed(NotConfirmed::Nack))
            }
            // The queue is gone: reconnecting declares it again.
            Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned)) => {
                Err(BusError::NotConfirmed(NotConfirmed::Returned {
                    code: returned.reply_code,
                    text: returned.reply_text.to_string(),
                }))
            }
            Confirmation::NotRequested => Err(BusError::NotConfirmed(NotConfirmed::NotRequested)),
        }
    }

    /// On a channel of its own: asking for a queue that does not exist closes the channel.
    async fn depth_of(&mut self, queue: &str) -> Result<QueueDepth, BusError> {
        let link = self.open().await?;
        if link.is_blocked() {
            self.link = Some(link);
            return Err(BusError::Blocked);
        }
        let depth = within(self.config.confirm_timeout, "asking for a queue's depth", async {
            let failed = BusError::unavailable("asking for a queue's depth");
            let channel = link.connection.create_channel().await.map_err(&failed)?;
            let options = QueueDeclareOptions { passive: true, ..Default::default() };
            let declared = channel.queue_declare(queue.into(), options, FieldTable::default()).await;
            let declared = declared.map_err(BusError::topology(queue, "asking for a queue's depth"))?;
            let (ready, consumers) = (declared.message_count(), declared.consumer_count());
            if ready == 0 && consumers == 0 {
                return confirm_empty(&channel, queue).await;
            }
            channel.close(200, "done".into()).await.map_err(&failed)?;
            Ok(QueueDepth { ready, consumers, known: true })
        })
        .await?;
        self.link = Some(link);
        Ok(depth)
    }
}

/// A queue says that it is empty and has no consumer, which it also says while its leader is unknown. Only the leader gives a
/// message, or says that there is none.
async fn confirm_empty(channel: &Channel, queue: &str) -> Result<QueueDepth, BusError> {
    let depth = |ready, known| QueueDepth { ready, consumers: 0, known };
    let failed = BusError::unavailable("asking the leader of a queue");
    match channel.basic_get(queue.into(), BasicGetOptions { no_ack: false }).await {
        Ok(None) => {
            channel.close(200, "done".into()).await.map_err(&failed)?;
            Ok(depth(0, true))
        }
        Ok(Some(message)) => {
            let back = BasicNackOptions { multiple: false, requeue: true };
            channel.basic_nack(message.delivery_tag, back).await.map_err(&failed)?;
            channel.close(200, "done".into()).await.map_err(&failed)?;
            Ok(depth(message.message_count.saturating_add(1), true))
        }
        // The channel is gone, the connection is not: who may not read cannot know.
        Err(error) if refusal(&error) == Some(ACCESS_REFUSED) => Ok(depth(0, false)),
        Err(error) => Err(failed(error)),
    }
}
