//! The work of both commands, with the clients of the stores.

use super::{BrokerArgs, RedoLogArgs};
use crate::cli::interrupt_on_signal;
use crate::output::{Format, Row, Updates, counted, print_one};
use crate::progress;
use crate::{UsageError, Verdict};
use anyhow::Context;
use chrono::{DateTime, Utc};
use domain::LikeEvent;
use domain::codec::decode_batch;
use domain::fence::decode_fences;
use event_bus::{BusConfig, LogMessage, LogReader, LogStart};
use serde::Serialize;
use sync_engine::apply::Applier;
use sync_engine::recover::replay::{Replay, ReplayOptions, ReplayReport};
use sync_engine::{RecoveryConfig, RetryConfig, Stores};
use tokio_util::sync::CancellationToken;

impl BrokerArgs {
    pub(crate) fn config(&self) -> anyhow::Result<BusConfig> {
        let (url, ca_file) = (self.amqp_url.clone().into(), self.amqp_ca_file.clone());
        let bus = BusConfig { url, ca_file, prefix: self.amqp_prefix.clone(), ..BusConfig::default() };
        bus.validate().map_err(|error| UsageError(format!("--amqp-url or --amqp-prefix: {error}")))?;
        Ok(bus)
    }
}

/// One end of the log.
#[derive(Debug, Clone, Copy, Serialize)]
struct End {
    offset: u64,
    at: Option<DateTime<Utc>>,
}

impl End {
    fn of(message: &LogMessage) -> Self {
        Self { offset: message.offset, at: message.at.and_then(DateTime::from_timestamp_millis) }
    }
}

/// What the log has.
#[derive(Debug, Serialize)]
struct Range {
    oldest: Option<End>,
    newest: Option<End>,
    /// Messages between both, those included; a few of them are marks of readers.
    messages: u64,
}

async fn range(bus: &BusConfig) -> anyhow::Result<Range> {
    let mut reader = LogReader::open(bus, LogStart::First).await.context("the redo log cannot be read")?;
    let oldest = reader.next().await.context("the redo log cannot be read")?;
    reader.close().await;
    let Some(oldest) = oldest else { return Ok(Range { oldest: None, newest: None, messages: 0 }) };
    let newest = LogReader::newest(bus).await.context("the redo log cannot be read")?;
    let newest = newest.unwrap_or_else(|| oldest.clone());
    let messages = newest.offset.saturating_sub(oldest.offset) + 1;
    Ok(Range { oldest: Some(End::of(&oldest)), newest: Some(End::of(&newest)), messages })
}

/// What was published since a time.
#[derive(Debug, Default, Serialize)]
struct Since {
    messages: u64,
    events: u64,
    bytes: u64,
    unreadable: u64,
}

#[derive(Debug, Serialize)]
struct Summary {
    #[serde(flatten)]
    range: Range,
    since: Option<Since>,
}

/// An event of the log.
#[derive(Serialize)]
struct Line {
    published_at: Option<DateTime<Utc>>,
    version: i64,
    id: uuid::Uuid,
    user: i64,
    resource: String,
    action: &'static str,
}

impl Row for Line {
    const HEADERS: &'static [&'static str] = &["PUBLISHED", "VERSION", "ID", "USER", "RESOURCE", "ACTION"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.published_at.map_or_else(|| "-".to_owned(), |at| at.to_rfc3339()),
            self.version.to_string(),
            self.id.to_string(),
            self.user.to_string(),
            self.resource.clone(),
            self.action.to_owned(),
        ]
    }
}

impl RedoLogArgs {
    pub(crate) async fn run(self, format: Format) -> anyhow::Result<Verdict> {
        let format = format.or_json(self.json);
        let bus = self.broker.config()?;
        let range = range(&bus).await?;
        let since = match self.since {
            Some(since) => Some(self.count(&bus, since, format).await?),
            None => None,
        };
        // After the events of a list its fields would be more lines of the same table.
        if format == Format::Tsv && self.list {
            return Ok(Verdict::Fine);
        }
        let summary = Summary { range, since };
        print_one(format, &summary, || summary.say())?;
        Ok(Verdict::Fine)
    }

    async fn count(&self, bus: &BusConfig, since: DateTime<Utc>, format: Format) -> anyhow::Result<Since> {
        let mut list = Updates::new(format);
        let start = LogStart::At(since.timestamp_millis());
        let mut reader = LogReader::open(bus, start).await.context("the redo log cannot be read")?;
        let mut counted = Since::default();
        while let Some(message) = reader.next().await.context("the redo log cannot be read")? {
            // Reading begins a little before.
            if message.at.is_some_and(|at| at < since.timestamp_millis()) {
                continue;
            }
            counted.messages += 1;
            counted.bytes += message.body.len() as u64;
            let Ok(events) = decode_batch(&message.body) else {
                // Of erased users and deleted resources.
                let is_fences = matches!(decode_fences(&message.body), Ok(Some(_)));
                counted.unreadable += u64::from(!is_fences);
                continue;
            };
            counted.events += events.len() as u64;
            if self.list {
                for event in &events {
                    list.print(&line(End::of(&message).at, event))?;
                }
            }
        }
        reader.close().await;
        Ok(counted)
    }
}

impl Summary {
    fn say(&self) {
        let Self { range, since } = self;
        match (range.oldest, range.newest) {
            (Some(oldest), Some(newest)) => {
                let messages = counted(range.messages, "message", "messages");
                println!("{} to {}: {messages}", place(oldest), place(newest));
            }
            _ => println!("the redo log is empty"),
        }
        if let Some(Since { messages, events, bytes, unreadable }) = since {
            let (events, messages) = (counted(*events, "event", "events"), counted(*messages, "message", "messages"));
            let unreadable = counted(*unreadable, "message is no event", "messages are no events");
            println!("since then: {events} in {messages}, {bytes} bytes, {unreadable}");
        }
    }
}

fn line(published_at: Option<DateTime<Utc>>, event: &LikeEvent) -> Line {
    let pair = event.pair();
    let (version, id, user) = (event.version.0, event.intent.id, pair.user.get());
    let (resource, action) = (pair.resource.to_string(), event.intent.action.name());
    Line { published_at, version, id, user, resource, action }
}

fn place(end: End) -> String {
    let at = end.at.map_or_else(|| "an unknown time".to_owned(), |at| at.to_rfc3339());
    format!("{at} (offset {})", end.offset)
}

/// What a recovery came to.
#[derive(Debug, Serialize)]
struct Recovered {
    dry_run: bool,
    #[serde(flatten)]
    report: ReplayReport,
    /// The oldest message of the log, where it is younger than `--since`: what came between is not in it.
    log_begins: Option<DateTime<Utc>>,
}

/// What of the log is to be told again.
pub(crate) struct LogRecovery {
    pub(crate) bus: BusConfig,
    pub(crate) options: ReplayOptions,
    pub(crate) format: Format,
}

/// Tells the database of these stores what the log has and it has not. Problems if something may still be missing.
pub(crate) async fn recover(stores: Stores, retry: RetryConfig, recovery: LogRecovery) -> anyhow::Result<Verdict> {
    let LogRecovery { bus, options, format } = recovery;
    let log_begins = range(&bus).await?.oldest.and_then(|oldest| oldest.at).filter(|at| *at > options.since);

    let interrupt = CancellationToken::new();
    tokio::spawn(interrupt_on_signal(interrupt.clone()));
    let bar = progress::spinner(format);
    let progress = |report: &ReplayReport| {
        bar.tick();
        bar.set_message(format!("{} read, {} missing", counted(report.events, "event", "events"), report.missing));
    };
    let dry_run = options.dry_run;
    let applier = Applier::new(stores.clone(), retry.into());
    let replay = Replay::new(stores, &applier, bus, options).at_once(RecoveryConfig::default().at_once);
    let replay = replay.run(&interrupt, &progress);
    let report = replay.await.context("not done; run it again to go on from there")?;
    progress::finish(&bar);
    let recovered = Recovered { dry_run, report, log_begins };
    print_one(format, &recovered, || print(&recovered))?;
    let report = &recovered.report;
    Ok(Verdict::from_fine(!report.stopped && report.parked == 0 && recovered.log_begins.is_none()))
}

fn print(recovered: &Recovered) {
    let Recovered { dry_run, report, log_begins } = recovered;
    if let Some(offset) = report.resumed_at {
        println!("went on at offset {offset}, where the last run stopped");
    }
    let (at_most, done) = (if report.at_most { "at most " } else { "" }, if *dry_run { "to be" } else { "now" });
    println!(
        "{} in {} of the log; missing in the database and {done} applied: {at_most}{}",
        counted(report.events, "event", "events"),
        counted(report.messages, "message", "messages"),
        report.missing
    );
    if report.parked > 0 {
        println!("{} of them the database refuses: they are among the failed events", report.parked);
    }
    if report.unreadable > 0 {
        println!("{}", counted(report.unreadable, "message is no event", "messages are no events"));
    }
    if let Some(begins) = log_begins {
        println!("the log begins at {}: what was published before is not in it", begins.to_rfc3339());
    }
    if report.stopped {
        println!("interrupted: run it again to go on from there");
    } else if !dry_run {
        println!("next: syncctl recover, without --since: the database is believed again only after that");
    }
}
