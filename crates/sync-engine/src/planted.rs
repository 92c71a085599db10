//! Wrong versions, for tests that must find them (see [`planted_bugs`]).

use crate::apply::Applier;
use crate::clock::wall_clock;
use chrono::{DateTime, TimeDelta, Utc};
use domain::LikeEvent;
use domain::codec::EncodedEvent;
use event_bus::{BusError, Consumer, Delivery};
use planted_bugs::is_planted;

/// Retention goes by this process's clock, which is 31 days ahead.
pub(crate) fn retention_by_own_clock(now: DateTime<Utc>) -> DateTime<Utc> {
    if is_planted("retention_by_own_clock") { wall_clock() + TimeDelta::days(31) } else { now }
}

/// Journal entries go before the transaction.
pub(crate) async fn settle_before_commit(applier: &Applier, batch: &[LikeEvent]) {
    if is_planted("settle_before_commit") {
        applier.settle(batch, None).await;
    }
}

/// Deliveries are acknowledged before the transaction.
pub(crate) async fn ack_before_commit(consumer: &mut Consumer, deliveries: &[Delivery]) -> Result<(), BusError> {
    if is_planted("ack_before_commit") {
        consumer.ack(deliveries).await?;
    }
    Ok(())
}

/// Journal entries go when the broker confirms.
pub(crate) async fn delete_at_publish(applier: &Applier, batch: &[EncodedEvent]) {
    if is_planted("delete_at_publish") {
        settle_unapplied(applier, batch).await;
    }
}

/// Stuck entries are settled instead of published. True if that was done.
pub(crate) async fn rescuer_drops(applier: &Applier, entries: &[EncodedEvent]) -> bool {
    let planted = is_planted("rescuer_drops");
    if planted {
        settle_unapplied(applier, entries).await;
    }
    planted
}

/// Entries leave the journal although no row has them.
async fn settle_unapplied(applier: &Applier, entries: &[EncodedEvent]) {
    let events: Vec<LikeEvent> = entries.iter().filter_map(|entry| entry.decode().ok()).collect();
    applier.settle(&events, None).await;
}

/// No bug of ours: the broker forgets this subscription without a word. True if it has; waiting for messages is then in vain.
pub(crate) async fn is_forgotten(consumer: &mut Consumer) -> Result<bool, BusError> {
    let forgotten = is_planted("unsubscribed_consumer");
    if forgotten {
        consumer.stop().await?;
    }
    Ok(forgotten)
}
