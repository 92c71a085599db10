//! Reading the redo log.

use crate::connection::{Link, within};
use crate::topology::{LOG_KEY, Names};
use crate::{BusConfig, BusError, LogMessage, LogStart};
use futures::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel};
use std::time::Duration;
use uuid::Uuid;

/// Reading by time begins so much earlier: the clocks of publishers and broker differ.
const SLACK_MS: i64 = 60_000;

/// How far back a message is looked for that is somebody's; the others are marks.
const FAR_BACK: u64 = 4_096;

/// Reads what is in the log now, in order, over a connection of its own, at most `prefetch` messages ahead.
///
/// Where the end is says a mark: an empty message of its own, after which nothing is read. So it needs the right to write.
pub struct LogReader {
    link: Link,
    stream: lapin::Consumer,
    queue: String,
    /// The id of the mark.
    mark: String,
    /// Its number, once it was met.
    end: Option<u64>,
    deadline: Duration,
}

impl std::fmt::Debug for LogReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogReader").field("queue", &self.queue).field("end", &self.end).finish_non_exhaustive()
    }
}

impl LogReader {
    /// Begins to read; one attempt.
    ///
    /// # Errors
    /// [`BusError::Topology`] also if there is no log.
    pub async fn open(config: &BusConfig, start: LogStart) -> Result<Self, BusError> {
        Self::open_at(config, offset_of(start)).await
    }

    async fn open_at(config: &BusConfig, start: AMQPValue) -> Result<Self, BusError> {
        let names = Names::of(config);
        let link = Box::pin(Link::open(config, &names, "log reader")).await?;
        let mark = Uuid::now_v7().to_string();
        let stream = within(config.connect_timeout, "opening the redo log", async {
            let qos = link.channel.basic_qos(config.prefetch, BasicQosOptions::default());
            qos.await.map_err(BusError::unavailable("setting the prefetch"))?;
            let mut arguments = FieldTable::default();
            arguments.insert("x-stream-offset".into(), start);
            let options = BasicConsumeOptions::default();
            let consume = link.channel.basic_consume(names.log.as_str().into(), "".into(), options, arguments);
            let stream = consume.await.map_err(BusError::topology(&names.log, "opening the redo log"))?;
            let marking = link.connection.create_channel().await.map_err(BusError::unavailable("opening a channel"))?;
            set_mark(&marking, &names, &mark).await?;
            Ok(stream)
        })
        .await?;
        Ok(Self { link, stream, queue: names.log, mark, end: None, deadline: config.confirm_timeout })
    }

    /// The next message; none at what was the end when this was opened. Waits for the broker no longer than
    /// `confirm_timeout`. After an error, open it again behind the last message.
    pub async fn next(&mut self) -> Result<Option<LogMessage>, BusError> {
        while self.end.is_none() {
            let next = within(self.deadline, "reading the redo log", async { Ok(self.stream.next().await) });
            let delivery = match next.await? {
                Some(Ok(delivery)) => delivery,
                Some(Err(error)) => return Err(BusError::unavailable("reading the redo log")(error)),
                None => return Err(BusError::Cancelled { queue: self.queue.clone() }),
            };
            // Nothing leaves a stream by that: it asks for more.
            let ack = self.link.channel.basic_ack(delivery.delivery_tag, BasicAckOptions::default());
            ack.await.map_err(BusError::unavailable("reading the redo log"))?;
            let id = delivery.properties.message_id().as_ref().map(ToString::to_string);
            let offset = number_of(&delivery);
            if id.as_deref() == Some(self.mark.as_str()) {
                self.end = Some(offset);
            } else if !delivery.data.is_empty() {
                let at = id.and_then(|id| published_at(&id));
                return Ok(Some(LogMessage { offset, at, body: delivery.data.into() }));
            }
        }
        Ok(None)
    }

    /// The number of the end, once it was reached.
    pub const fn end(&self) -> Option<u64> {
        self.end
    }

    /// The newest message; none if there is none close to the end.
    pub async fn newest(config: &BusConfig) -> Result<Option<LogMessage>, BusError> {
        // What was written last, with what was written together with it.
        let (mut start, mut back) = (AMQPValue::LongString("last".into()), 1);
        loop {
            let mut reader = Self::open_at(config, start).await?;
            let mut newest = None;
            while let Some(message) = reader.next().await? {
                newest = Some(message);
            }
            let end = reader.end.unwrap_or(0);
            reader.close().await;
            if newest.is_some() || back > FAR_BACK.min(end) {
                return Ok(newest);
            }
            start = offset_of(LogStart::Offset(end.saturating_sub(back)));
            back *= 16;
        }
    }

    /// Ends the connection in good order.
    pub async fn close(self) {
        self.link.close(self.deadline).await;
    }
}

async fn set_mark(channel: &Channel, names: &Names, mark: &str) -> Result<(), BusError> {
    let failed = BusError::unavailable("marking the end of the redo log");
    channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(&failed)?;
    let properties = BasicProperties::default().with_delivery_mode(2).with_message_id(mark.into());
    let (exchange, options) = (names.events.as_str(), BasicPublishOptions::default());
    let sent = channel.basic_publish(exchange.into(), LOG_KEY.into(), options, b"", properties).await;
    sent.map_err(&failed)?.await.map_err(&failed)?;
    Ok(())
}

fn offset_of(start: LogStart) -> AMQPValue {
    match start {
        LogStart::First => AMQPValue::LongString("first".into()),
        LogStart::At(ms) => AMQPValue::Timestamp(u64::try_from((ms - SLACK_MS) / 1_000).unwrap_or(0)),
        LogStart::Offset(offset) => AMQPValue::LongLongInt(i64::try_from(offset).unwrap_or(i64::MAX)),
    }
}

fn number_of(delivery: &Delivery) -> u64 {
    let headers = delivery.properties.headers().as_ref();
    match headers.and_then(|headers| headers.inner().get("x-stream-offset")) {
        Some(AMQPValue::LongLongInt(offset)) => u64::try_from(*offset).unwrap_or(0),
        Some(AMQPValue::LongInt(offset)) => u64::try_from(*offset).unwrap_or(0),
        Some(AMQPValue::LongUInt(offset)) => u64::from(*offset),
        _ => 0,
    }
}

/// The publisher's clock, out of the id that it gave.
fn published_at(id: &str) -> Option<i64> {
    let (seconds, nanos) = Uuid::parse_str(id).ok()?.get_timestamp()?.to_unix();
    i64::try_from(seconds * 1_000 + u64::from(nanos) / 1_000_000).ok()
}
