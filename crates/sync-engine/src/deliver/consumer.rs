//! The consumer's loop: deliveries to batches, batches to the applier, then acknowledge.
//!
//! While the cache is told of one batch the next is committed: two stores at work instead of one after the other. Each
//! batch by itself still goes commit, tell listeners (where there are to be any), settle, acknowledge; settlements are
//! compared by revision and version, so it does not matter to one what was committed meanwhile. Never more than one batch
//! is committed and not acknowledged.
//!
//! One error policy: database unreachable: keep the deliveries and wait; undecodable: dead letter at once, by the broker itself
//! where a body is so long that only its beginning was taken in; broker unreachable: reconnect, what was not acknowledged comes again. A message that not even the client library can read breaks the
//! connection with every delivery, until the broker gives it up (`delivery_limit`) as a dead letter: meanwhile messages are
//! taken one by one, so that this does not count against the ones beside it, nor hold up the ones before it. What went back
//! with it comes first and is done with before more than one is taken again, so it goes back once and no more.

use super::changes::ChangeFeed;
use crate::apply::Applier;
use crate::metrics;
use crate::planted;
use crate::stores::{Stores, faults};
use domain::LikeEvent;
use domain::codec::{MAX_BODY_LEN, decode_batch};
use event_bus::{BusConfig, BusError, Consumer, Delivery, Headers, Publisher};
use event_store::Applied;
use futures::FutureExt;
use futures::future::BoxFuture;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const RECONNECT_PAUSE: Duration = Duration::from_millis(250);
/// The pause doubles with every attempt that fails, up to this.
const LONGEST_RECONNECT_PAUSE: Duration = Duration::from_secs(2);
/// A consumer that hears nothing for this long asks the broker whether it ought to.
const IDLE: Duration = Duration::from_secs(1);

/// After so many times in a row of being passed over it subscribes anew: once may be chance.
const IGNORED: u32 = 2;

/// How long messages are taken one by one at most after one that cannot be read.
const ONE_BY_ONE_FOR: Duration = Duration::from_secs(10);

const DATABASE_PAUSE: Duration = Duration::from_millis(50);

/// Consumes the likes queue.
pub struct ConsumerLoop {
    stores: Stores,
    applier: Applier,
    applier_of_logged: Applier,
    bus: BusConfig,
    dead_letters: Publisher,
    changes: Option<ChangeFeed>,

    batch_size: usize,
}

impl ConsumerLoop {
    /// Applies up to `batch_size` events per transaction (more only if one message carries more).
    pub fn new(stores: Stores, applier: Applier, bus: BusConfig, batch_size: usize) -> Self {
        let dead_letters = Publisher::new(bus.clone());
        let changes = ChangeFeed::wanted(&stores, &bus);
        let applier_of_logged = applier.of_logged();
        Self { stores, applier, applier_of_logged, bus, dead_letters, changes, batch_size }
    }

    /// Runs until `soft`: then finishes and acknowledges what is in hand and gives the rest back.
    pub fn run(self, soft: CancellationToken) -> BoxFuture<'static, ()> {
        self.run_inner(soft).boxed()
    }

    async fn run_inner(mut self, soft: CancellationToken) {
        let mut failures: u32 = 0;
        let bus_one_by_one = BusConfig { prefetch: 1, ..self.bus.clone() };
        let mut one_by_one: Option<OneByOne> = None;
        // Connections in a row that broke before anything was read.
        let mut broke: u32 = 0;
        while !soft.is_cancelled() {
            let mut pause = RECONNECT_PAUSE.saturating_mul(1 << failures.min(8)).min(LONGEST_RECONNECT_PAUSE);
            one_by_one = one_by_one.filter(|one_by_one| !one_by_one.is_over());
            let bus = if one_by_one.is_some() { &bus_one_by_one } else { &self.bus };
            let connected = if broke > 0 { Consumer::connect_again(bus).await } else { Consumer::connect(bus).await };
            match connected {
                Ok(consumer) => {
                    failures = 0;
                    self.stores.consuming.close();
                    match self.consume(consumer, &mut one_by_one, &soft).await {
                        Ok(()) => {
                            broke = 0;
                            if one_by_one.take().is_some() {
                                pause = Duration::ZERO;
                            }
                        }
                        Err(error) if error.is_unreadable() => {
                            let next = OneByOne::of(2 * usize::from(self.bus.prefetch));
                            let before = one_by_one.replace(next);
                            if before.is_none()
                                && let Some(times) = faults::again("message cannot be read")
                            {
                                tracing::warn!(%error, times, "a message cannot be read, taking them one by one");
                            }
                            let again = before.is_some_and(|before| before.has_taken_none());
                            broke = if again { broke.saturating_add(1) } else { 1 };
                            // Each attempt brings its end nearer, unless somebody's queue has no such limit.
                            if broke <= self.bus.delivery_limit.saturating_mul(2) {
                                pause = Duration::ZERO;
                            }
                        }
                        Err(error) => {
                            broke = 0;
                            faults::tell("consuming", &error);
                            self.stores.consuming.failure(&error);
                        }
                    }
                }
                Err(error) => {
                    failures += 1;
                    broke = 0;
                    self.stores.consuming.trip(&error);
                    faults::tell("consuming", &error);
                }
            }
            tokio::select! {
                () = soft.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.dead_letters.close().await;
        if let Some(changes) = self.changes {
            changes.close().await;
        }
    }

    /// Until `soft`, or until messages need not be taken one by one any more.
    async fn consume(
        &mut self,
        mut consumer: Consumer,
        one_by_one: &mut Option<OneByOne>,
        soft: &CancellationToken,
    ) -> Result<(), BusError> {
        let forgotten = planted::is_forgotten(&mut consumer).await?;
        let mut ignored = 0;
        let mut committed: Option<Settling> = None;
        while one_by_one.as_ref().is_none_or(|one_by_one| !one_by_one.is_over()) {
            let first = tokio::select! {
                biased;
                () = soft.cancelled() => break,
                () = settled(&mut committed), if committed.is_some() => {
                    acknowledge(&mut consumer, &mut committed).await?;
                    continue;
                }
                delivery = consumer.next(), if !forgotten => delivery?,
                () = tokio::time::sleep(IDLE) => {
                    // RabbitMQ 3.10 can forget to say that a deleted queue is gone when it is declared again at once: the
                    // subscription is then to nothing. Messages that wait although we are idle say so.
                    let depth = consumer.depth().await?;
                    ignored = if depth.consumers == 0 || depth.ready > 0 { ignored + 1 } else { 0 };
                    if ignored < IGNORED {
                        consumer.bind_again().await?;
                        continue;
                    }
                    if let Some(times) = faults::again("nothing is delivered") {
                        let (waiting, consumers) = (depth.ready, depth.consumers);
                        tracing::warn!(waiting, consumers, times, "nothing is delivered, subscribing anew");
                    }
                    break;
                }
            };
            ignored = 0;
            if let Some(one_by_one) = one_by_one {
                one_by_one.took_one();
            }
            let mut gathered = Gathered::default();
            gathered.add(first);
            while gathered.events.len() < self.batch_size {
                match consumer.try_next()? {
                    Some(delivery) => gathered.add(delivery),
                    None => break,
                }
            }
            for (delivery, reason) in std::mem::take(&mut gathered.undecodable) {
                let buried = self.dead_letter(&mut consumer, delivery, &reason).await;
                buried.map_err(|error| consumer.cause().unwrap_or(error))?;
            }
            planted::ack_before_commit(&mut consumer, &gathered.deliveries).await?;
            let Gathered { deliveries, events, .. } = gathered;
            // Twice in the log is harmless: one that lacks there is enough.
            let logged = deliveries.iter().all(|delivery| delivery.logged);
            let (applied, ()) = tokio::join!(self.apply(&events, logged, soft), settled(&mut committed));
            acknowledge(&mut consumer, &mut committed).await?;
            let Some(applied) = applied else { break };
            let (applier, changes) = (self.applier.clone(), self.changes.clone());
            committed = Some(Settling::new(applier, changes, events, applied, deliveries, soft.clone()));
        }
        settled(&mut committed).await;
        acknowledge(&mut consumer, &mut committed).await?;
        let _ = consumer.stop().await;
        consumer.close().await;
        Ok(())
    }

    /// Applies, waiting for the database as long as it takes; none if the process is to end first. What is left to settle
    /// is the answer.
    async fn apply(&self, events: &[LikeEvent], logged: bool, soft: &CancellationToken) -> Option<Option<Applied>> {
        let applier = if logged { &self.applier_of_logged } else { &self.applier };
        loop {
            match applier.apply_unsettled(events).await {
                Ok(applied) => return Some(applied),
                Err(error) => self.stores.database_circuit.trip(&error),
            }
            while self.stores.database_circuit.is_open() {
                tokio::select! {
                    () = soft.cancelled() => return None,
                    () = tokio::time::sleep(DATABASE_PAUSE) => {}
                }
            }
        }
    }

    /// Bytes that are no events go to the dead letters with their reason. Events that were in such a message are still
    /// in the journal and are published again from there.
    async fn dead_letter(&mut self, consumer: &mut Consumer, delivery: Delivery, reason: &str) -> Result<(), BusError> {
        if let Some(times) = faults::again("message cannot be decoded") {
            let (bytes, id) = (delivery.body.len(), &delivery.message_id);
            tracing::warn!(reason, times, bytes, id, "message cannot be decoded");
        }
        metrics::dead("undecodable", 1);
        if delivery.cut {
            // Only the broker has the whole.
            return consumer.nack([&delivery], false).await;
        }
        match self.dead_letters.publish_dead(&delivery.body, reason, &Headers::new()).await {
            Ok(()) => consumer.ack([&delivery]).await,
            // The broker's own dead-lettering takes it, without our reason.
            Err(error) => {
                faults::tell("publishing a dead letter, which is rejected instead,", &error);
                consumer.nack([&delivery], false).await
            }
        }
    }
}

/// Messages are taken one by one for so long and so many of them.
struct OneByOne {
    until: Instant,
    messages: usize,
    left: usize,
}

impl OneByOne {
    fn of(messages: usize) -> Self {
        Self { until: Instant::now() + ONE_BY_ONE_FOR, messages, left: messages }
    }

    fn has_taken_none(&self) -> bool {
        self.left == self.messages
    }

    fn is_over(&self) -> bool {
        self.left == 0 || Instant::now() >= self.until
    }

    fn took_one(&mut self) {
        self.left = self.left.saturating_sub(1);
    }
}

/// A batch that is committed, and of which listeners and the cache are being told.
struct Settling {
    /// None once they know. False: the process is to end, and listeners do not.
    settlement: Option<BoxFuture<'static, bool>>,
    told: bool,
    deliveries: Vec<Delivery>,
}

impl Settling {
    fn new(
        applier: Applier,
        changes: Option<ChangeFeed>,
        events: Vec<LikeEvent>,
        applied: Option<Applied>,
        deliveries: Vec<Delivery>,
        soft: CancellationToken,
    ) -> Self {
        let settle = |applied: Applied| async move {
            // First: with what is settled the journal would forget what listeners do not know, and the queue can be lost.
            if let Some(changes) = changes
                && !changes.tell(&applied, &soft).await
            {
                return false;
            }
            applier.settle(&events, Some(&applied)).await;
            true
        };
        Self { settlement: applied.map(|applied| settle(applied).boxed()), told: true, deliveries }
    }
}

/// Waits for what is being settled. Cancel-safe: goes on where it was.
async fn settled(committed: &mut Option<Settling>) {
    let Some(Settling { settlement, told, .. }) = committed else { return };
    if let Some(under_way) = settlement {
        *told = under_way.await;
        *settlement = None;
    }
}

/// Acknowledges what is settled: only now may the broker forget it.
async fn acknowledge(consumer: &mut Consumer, committed: &mut Option<Settling>) -> Result<(), BusError> {
    let Some(Settling { deliveries, told, .. }) = committed.take() else { return Ok(()) };
    if !told {
        // They go back to the queue with the connection.
        return Ok(());
    }
    fail::fail_point!("consume.applied");
    let acknowledged = consumer.ack(&deliveries).await;
    acknowledged.map_err(|error| consumer.cause().unwrap_or(error))
}

/// Deliveries in hand and what they say.
#[derive(Default)]
struct Gathered {
    deliveries: Vec<Delivery>,
    events: Vec<LikeEvent>,
    undecodable: Vec<(Delivery, String)>,
}

impl Gathered {
    fn add(&mut self, delivery: Delivery) {
        match decode_batch(&delivery.body) {
            Ok(events) => {
                self.events.extend(events);
                self.deliveries.push(delivery);
            }
            Err(_) if delivery.cut => self.undecodable.push((delivery, format!("longer than {MAX_BODY_LEN} bytes"))),
            Err(error) => self.undecodable.push((delivery, error.to_string())),
        }
    }
}
