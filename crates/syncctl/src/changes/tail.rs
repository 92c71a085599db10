//! Listening, with the client of the broker.

use crate::Verdict;
use crate::cli::interrupt_on_signal;
use crate::output::{Format, Row, Updates};
use anyhow::Context;
use event_bus::{BusConfig, BusError, ChangeListener};
use serde::Serialize;
use serde_json::Value;
use std::time::Duration;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// How often a binding is looked after that may have gone with its exchange.
const BIND_AGAIN: Duration = Duration::from_secs(1);

/// One event; as JSON it is printed as it came.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Change {
    event: Value,
    #[serde(skip)]
    key: String,
}

impl Row for Change {
    const HEADERS: &'static [&'static str] = &["KEY", "SUBJECT", "STATE", "NUMBER", "TIME"];

    fn cells(&self) -> Vec<String> {
        let (event, data) = (&self.event, &self.event["data"]);
        let words = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let either = |one: &str, other: &str| words(data.get(one).unwrap_or(&data[other]));
        let (state, number) = (either("liked", "count"), either("version", "revision"));
        vec![self.key.clone(), words(&event["subject"]), state, number, words(&event["time"])]
    }
}

/// Prints what has such a key, until it is interrupted or has printed so many.
pub(super) async fn tail(bus: &BusConfig, key: &str, events: Option<u64>, format: Format) -> anyhow::Result<Verdict> {
    let stop = CancellationToken::new();
    tokio::spawn(interrupt_on_signal(stop.clone()));
    let mut listener = ChangeListener::open_existing(bus, key).await.map_err(|error| {
        if matches!(error, BusError::Topology { .. }) {
            let maker = "consumers with rabbitmq.changes.enabled make it, below their rabbitmq.prefix (--amqp-prefix)";
            return anyhow::anyhow!("changes cannot be heard: {error}; {maker}");
        }
        anyhow::Error::new(error).context("changes cannot be heard")
    })?;
    // From here on nothing is missed.
    eprintln!("listening");
    let mut printed = Updates::new(format);
    let mut left = events.unwrap_or(u64::MAX);
    let mut bound = tokio::time::interval(BIND_AGAIN);
    bound.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while left > 0 {
        let message = tokio::select! {
            () = stop.cancelled() => break,
            _ = bound.tick() => {
                listener.bind_again().await.context("changes cannot be heard any more")?;
                continue;
            }
            message = listener.next() => message.context("changes cannot be heard any more")?,
        };
        let batch: Vec<Value> = serde_json::from_slice(&message.body).context("a message is no batch of events")?;
        for event in batch.into_iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
            printed.print(&Change { event, key: message.key.clone() })?;
            left -= 1;
        }
    }
    listener.close().await;
    Ok(Verdict::Fine)
}
