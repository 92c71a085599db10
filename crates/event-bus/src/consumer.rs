//! Consuming with explicit acknowledgement.

use crate::connection::{Link, within};
use crate::headers::{delivery_count, from_table, moved};
use crate::topology::{LOGGED_KEY, Names, bind_likes};
use crate::{BusConfig, BusError, Delivery, QueueDepth};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use std::collections::BTreeSet;
use std::time::Duration;
use uuid::Uuid;

/// Receives messages over a connection of its own, at most `prefetch` of them unacknowledged.
///
/// Ends with its first error: the caller makes a new one. What was not acknowledged is then delivered again, to
/// whoever comes first; deliveries of an old consumer given to a new one are ignored.
pub struct Consumer {
    config: BusConfig,
    link: Link,
    stream: lapin::Consumer,
    queue: String,
    /// Tells deliveries of this connection from those of an earlier one: their tags mean nothing here.
    session: Uuid,
    /// Handed out and not yet acknowledged; bounded by the prefetch.
    outstanding: BTreeSet<u64>,
    deadline: Duration,
    /// Not known to be refused.
    may_bind: bool,
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("Consumer");
        debug.field("queue", &self.queue).field("outstanding", &self.outstanding.len()).finish_non_exhaustive()
    }
}

impl Consumer {
    /// Connects, declares the topology and starts to consume the likes queue; one attempt.
    pub async fn connect(config: &BusConfig) -> Result<Self, BusError> {
        let names = Names::of(config);
        let link = Box::pin(Link::open(config, &names, "consumer")).await?;
        Self::consume(config, link, names.likes).await
    }

    /// The same right after such a connection broke: nothing is declared anew.
    pub async fn connect_again(config: &BusConfig) -> Result<Self, BusError> {
        let names = Names::of(config);
        let link = Box::pin(Link::open_again(config, &names, "consumer")).await?;
        Self::consume(config, link, names.likes).await
    }

    /// The same for the dead-letter queue.
    pub async fn connect_dead(config: &BusConfig) -> Result<Self, BusError> {
        let names = Names::of(config);
        let link = Box::pin(Link::open(config, &names, "consumer")).await?;
        Self::consume(config, link, names.likes_dead).await
    }

    async fn consume(config: &BusConfig, link: Link, queue: String) -> Result<Self, BusError> {
        let stream = within(config.connect_timeout, "starting to consume", async {
            let qos = link.channel.basic_qos(config.prefetch, BasicQosOptions::default());
            qos.await.map_err(BusError::unavailable("setting the prefetch"))?;
            subscribe(&link, &queue).await
        })
        .await?;
        let (deadline, config) = (config.confirm_timeout, config.clone());
        Ok(Self {
            config,
            link,
            stream,
            queue,
            session: Uuid::now_v7(),
            outstanding: BTreeSet::new(),
            deadline,
            may_bind: true,
        })
    }

    /// Waits for the next message. Cancel-safe: a dropped call loses nothing.
    pub async fn next(&mut self) -> Result<Delivery, BusError> {
        let item = self.stream.next().await;
        self.take(item)
    }

    /// A message that is here already, or `None`: lets the caller gather what load has piled up, without waiting.
    pub fn try_next(&mut self) -> Result<Option<Delivery>, BusError> {
        match self.stream.next().now_or_never() {
            None => Ok(None),
            Some(item) => self.take(item).map(Some),
        }
    }

    /// Why the connection broke, after something else failed for it; what was delivered before is passed over.
    pub fn cause(&mut self) -> Option<BusError> {
        loop {
            match self.try_next() {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(error) => return Some(error),
            }
        }
    }

    /// What the broker says of the queue that this one consumes.
    pub async fn depth(&self) -> Result<QueueDepth, BusError> {
        within(self.deadline, "asking for the queue", async {
            let options = QueueDeclareOptions { passive: true, ..Default::default() };
            let queue = self.link.channel.queue_declare(self.queue.as_str().into(), options, FieldTable::default());
            let declared = queue.await.map_err(BusError::topology(&self.queue, "asking for the queue"))?;
            let (ready, consumers) = (declared.message_count(), declared.consumer_count());
            Ok(QueueDepth { ready, consumers, known: ready > 0 || consumers > 0 })
        })
        .await
    }

    /// Binds the likes queue again, as far as our user may. Where somebody took a binding away, likes go into the redo log alone,
    /// which confirms them: nobody but an idle consumer has a reason to look.
    pub async fn bind_again(&mut self) -> Result<(), BusError> {
        if self.may_bind {
            let bound = bind_likes(&self.link.connection, &self.config);
            self.may_bind = within(self.deadline, "binding the queue", bound).await?;
        }
        Ok(())
    }

    /// Tells the broker that these are done. In few frames where they are in order; those of an earlier connection, or
    /// acknowledged before, are passed over.
    pub async fn ack<'a>(&mut self, deliveries: impl IntoIterator<Item = &'a Delivery>) -> Result<(), BusError> {
        let tags = self.claim(deliveries);
        let (up_to, singles) = plan(&self.outstanding, &tags);
        within(self.deadline, "acknowledging", async {
            let failed = BusError::unavailable("acknowledging");
            if let Some(tag) = up_to {
                self.link.channel.basic_ack(tag, BasicAckOptions { multiple: true }).await.map_err(&failed)?;
            }
            for tag in singles {
                self.link.channel.basic_ack(tag, BasicAckOptions { multiple: false }).await.map_err(&failed)?;
            }
            Ok(())
        })
        .await?;
        self.outstanding.retain(|tag| !tags.contains(tag));
        Ok(())
    }

    /// Gives these back: with `requeue` they are delivered again, without they are dead-lettered by the broker.
    pub async fn nack<'a>(
        &mut self,
        deliveries: impl IntoIterator<Item = &'a Delivery>,
        requeue: bool,
    ) -> Result<(), BusError> {
        let tags = self.claim(deliveries);
        self.nack_tags(&tags, requeue).await?;
        self.outstanding.retain(|tag| !tags.contains(tag));
        Ok(())
    }

    /// Messages handed out and not yet acknowledged.
    pub fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// Stops receiving. What was received and not handed out goes back to the queue; what was handed out can still
    /// be acknowledged, and goes back too if it is not when the consumer falls.
    pub async fn stop(&mut self) -> Result<(), BusError> {
        let cancel = self.link.channel.basic_cancel(self.stream.tag(), BasicCancelOptions::default());
        within(self.deadline, "cancelling the consumer", async {
            cancel.await.map_err(BusError::unavailable("cancelling the consumer"))
        })
        .await?;
        let mut unseen = BTreeSet::new();
        while let Some(Some(item)) = self.stream.next().now_or_never() {
            unseen.insert(item.map_err(BusError::unavailable("cancelling the consumer"))?.delivery_tag);
        }
        self.nack_tags(&unseen, true).await
    }

    /// Receives what is behind the messages in hand, however many the prefetch allows: they stay in hand, and what is not
    /// acknowledged goes back when the consumer falls.
    pub async fn go_on(&mut self) -> Result<(), BusError> {
        self.stop().await?;
        self.stream = within(self.deadline, "starting to consume", subscribe(&self.link, &self.queue)).await?;
        Ok(())
    }

    /// Ends the connection in good order; unacknowledged messages go back to the queue.
    pub async fn close(self) {
        let Self { link, deadline, .. } = self;
        link.close(deadline).await;
    }

    fn take(&mut self, item: Option<lapin::Result<lapin::message::Delivery>>) -> Result<Delivery, BusError> {
        let delivery = match item {
            Some(Ok(delivery)) => delivery,
            Some(Err(error)) => return Err(BusError::unavailable("consuming")(error)),
            None => return Err(BusError::Cancelled { queue: self.queue.clone() }),
        };
        self.outstanding.insert(delivery.delivery_tag);
        let headers = delivery.properties.headers().as_ref();
        Ok(Delivery {
            redelivered: delivery.redelivered,
            delivery_count: headers.and_then(delivery_count),
            moved: headers.and_then(moved),
            logged: delivery.routing_key.as_str() == LOGGED_KEY,
            message_id: delivery.properties.message_id().as_ref().map(ToString::to_string),
            headers: headers.map(from_table).unwrap_or_default(),
            tag: (self.session, delivery.delivery_tag),
            cut: delivery.data.len() > self.config.longest_body,
            body: Bytes::from(delivery.data),
        })
    }

    fn claim<'a>(&self, deliveries: impl IntoIterator<Item = &'a Delivery>) -> BTreeSet<u64> {
        let own = deliveries.into_iter().filter(|delivery| delivery.tag.0 == self.session);
        own.map(|delivery| delivery.tag.1).filter(|tag| self.outstanding.contains(tag)).collect()
    }

    async fn nack_tags(&self, tags: &BTreeSet<u64>, requeue: bool) -> Result<(), BusError> {
        within(self.deadline, "giving messages back", async {
            for &tag in tags {
                let options = BasicNackOptions { multiple: false, requeue };
                let nack = self.link.channel.basic_nack(tag, options);
                nack.await.map_err(BusError::unavailable("giving messages back"))?;
            }
            Ok(())
        })
        .await
    }
}

async fn subscribe(link: &Link, queue: &str) -> Result<lapin::Consumer, BusError> {
    let options = BasicConsumeOptions::default();
    let consume = link.channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
    consume.await.map_err(BusError::topology(queue, "starting to consume"))
}

/// Splits tags into one "all up to here", valid only while nothing else below it is outstanding, and single ones.
///
/// Messages received but not handed out have higher tags than those handed out, so they are never covered.
fn plan(outstanding: &BTreeSet<u64>, tags: &BTreeSet<u64>) -> (Option<u64>, Vec<u64>) {
    let in_order = outstanding.iter().zip(tags).take_while(|(a, b)| a == b).count();
    let up_to = (in_order > 1).then(|| tags.iter().nth(in_order - 1).copied()).flatten();
    let singles = tags.iter().skip(if up_to.is_some() { in_order } else { 0 }).copied().collect();
    (up_to, singles)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(tags: &[u64]) -> BTreeSet<u64> {
        tags.iter().copied().collect()
    }

    #[test]
    fn multiple_never_covers_a_message_that_was_not_named() {
        assert_eq!(plan(&set(&[1, 2, 3]), &set(&[1, 2, 3])), (Some(3), vec![]));
        assert_eq!(plan(&set(&[4, 5, 6]), &set(&[4, 5])), (Some(5), vec![]));
        assert_eq!(plan(&set(&[1, 2, 3]), &set(&[2, 3])), (None, vec![2, 3]));
        assert_eq!(plan(&set(&[1, 2, 3, 4]), &set(&[1, 2, 4])), (Some(2), vec![4]));
        assert_eq!(plan(&set(&[7, 9]), &set(&[7])), (None, vec![7]));
        assert_eq!(plan(&set(&[1]), &set(&[])), (None, vec![]));
    }
}
