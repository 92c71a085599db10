//! The dead-letter queue at the broker. A letter that is not acknowledged goes back to where it was.

use super::{DeadRow, QueueArgs};
use crate::output::{Format, counted, print};
use crate::{UsageError, Verdict};
use anyhow::Context;
use chrono::{DateTime, SecondsFormat, Utc};
use domain::LikeEvent;
use domain::codec::decode_batch;
use event_bus::{BusConfig, Consumer, Delivery, REASON_HEADER};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// Nothing more comes.
const IDLE: Duration = Duration::from_secs(1);

/// Most letters that are held at once; what is beyond them is shown by the next call.
const HELD: u16 = 10_000;

/// A letter as the file has it.
#[derive(Serialize)]
struct Written<'a> {
    reason: &'a str,
    headers: &'a BTreeMap<String, String>,
    body: String,
}

impl QueueArgs {
    fn config(&self, longest_body: Option<usize>) -> anyhow::Result<BusConfig> {
        let Some(url) = self.amqp_url.clone() else {
            return Err(UsageError("--amqp-url: the dead-letter queue is read at the broker".to_owned()).into());
        };
        let ca_file = self.amqp_ca_file.clone();
        let prefix = self.amqp_prefix.clone();
        let default = BusConfig::default();
        let longest_body = longest_body.unwrap_or(default.longest_body);
        let bus = BusConfig { url: url.into(), ca_file, prefix, prefetch: HELD, longest_body, ..default };
        bus.validate().map_err(|error| UsageError(format!("--amqp-url or --amqp-prefix: {error}")))?;
        Ok(bus)
    }

    /// Letters that the ledger does not know: likes that the broker moved there, and what is no event of ours. All of them stay.
    pub(super) async fn letters(&self) -> anyhow::Result<Vec<DeadRow>> {
        let mut rows = Vec::new();
        self.each(None, async |place, delivery, _| {
            rows.extend(rows_of(place, delivery));
            Ok(())
        })
        .await?;
        Ok(rows)
    }

    /// Takes them out, each after it is in the file.
    pub(super) async fn drain(&self, file: &Path, dry_run: bool, format: Format) -> anyhow::Result<Verdict> {
        let open = || OpenOptions::new().create(true).append(true).open(file);
        let mut file = if dry_run { None } else { Some(open().with_context(|| file.display().to_string())?) };
        let mut rows = Vec::new();
        // Whole: what is taken out is in the file alone.
        self.each(Some(usize::MAX), async |place, delivery, consumer| {
            if !events_of(delivery).is_empty() {
                return Ok(());
            }
            rows.extend(rows_of(place, delivery));
            let Some(file) = &mut file else { return Ok(()) };
            let reason = reason_of(delivery);
            let written = Written { reason: &reason, headers: &delivery.headers, body: hex(&delivery.body) };
            writeln!(file, "{}", serde_json::to_string(&written)?)
                .and_then(|()| file.sync_data())
                .context("could not write the letter")?;
            consumer.ack([delivery]).await.context("a letter could not be taken out")
        })
        .await?;
        print(format, &rows)?;
        if format == Format::Table {
            println!(
                "{} {}",
                counted(rows.len(), "letter", "letters"),
                if dry_run { "would be taken out" } else { "taken out" }
            );
        }
        Ok(Verdict::Fine)
    }

    async fn each(
        &self,
        longest_body: Option<usize>,
        mut take: impl AsyncFnMut(usize, &Delivery, &mut Consumer) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let unread = "the dead-letter queue cannot be read";
        let mut consumer = Consumer::connect_dead(&self.config(longest_body)?).await.context(unread)?;
        let mut held = 0;
        let taken = loop {
            if held == usize::from(HELD) {
                break Ok(());
            }
            let delivery = match tokio::time::timeout(IDLE, consumer.next()).await {
                Err(_) => break Ok(()),
                Ok(Err(error)) => break Err(error).context(unread),
                Ok(Ok(delivery)) => delivery,
            };
            held += 1;
            if let Err(error) = take(held, &delivery, &mut consumer).await {
                break Err(error);
            }
        };
        consumer.close().await;
        taken
    }
}

/// None if it is no event of ours.
fn events_of(delivery: &Delivery) -> Vec<LikeEvent> {
    decode_batch(&delivery.body).unwrap_or_default()
}

/// What there is to see of a letter: the ledger has those that were given up.
fn rows_of(place: usize, delivery: &Delivery) -> Vec<DeadRow> {
    let events = events_of(delivery);
    if events.is_empty() {
        return vec![DeadRow {
            kind: "letter",
            id: place.to_string(),
            user: None,
            resource: None,
            action: None,
            accepted_at: None,
            error: format!(
                "{} ({}{} bytes)",
                reason_of(delivery),
                if delivery.cut { "at least " } else { "" },
                delivery.body.len()
            ),
        }];
    }
    if delivery.moved.is_none() {
        return Vec::new();
    }
    let of = |event: LikeEvent| DeadRow {
        kind: "moved",
        id: event.intent.id.to_string(),
        user: Some(event.pair().user.get()),
        resource: Some(event.pair().resource.to_string()),
        action: Some(event.intent.action.name().to_owned()),
        accepted_at: DateTime::from_timestamp_micros(event.version.0)
            .map(|time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Micros, true)),
        error: format!("{}; a consumer applies it", reason_of(delivery)),
    };
    events.into_iter().map(of).collect()
}

fn reason_of(delivery: &Delivery) -> String {
    let said = delivery.headers.get(REASON_HEADER).cloned();
    let moved = || delivery.moved.as_ref().map(|reason| format!("the broker moved it: {reason}"));
    said.or_else(moved).unwrap_or_else(|| "no reason is given".to_owned())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
