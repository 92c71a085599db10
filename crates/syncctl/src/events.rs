//! `events`: a server's ledger for operators.

use crate::client::{ServerArgs, name, parse_resource, parse_user, to_proto};
use crate::output::{Format, Row, print};
use crate::{UsageError, Verdict};
use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use domain::Resource;
use event_store::EventStatus;
use interaction_proto::v1;
use serde::Serialize;
use uuid::Uuid;

/// Events that one call of a server replays or discards at most.
const AT_ONCE: u32 = 1_000;

/// Largest page of a list.
const PAGE: u32 = 100;

/// Arguments of `events`.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    command: EventsCommand,
}

#[derive(Debug, Subcommand)]
enum EventsCommand {
    /// Lists events, newest first.
    List {
        #[command(flatten)]
        filter: FilterArgs,
        /// At most so many.
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// Has failed and dead events tried again; safe at any time.
    Replay(OperateArgs),
    /// Gives failed and dead events up for good; needs --reason.
    Discard(OperateArgs),
}

#[derive(Debug, Default, Args)]
pub(crate) struct FilterArgs {
    /// Only of this status.
    #[arg(long, value_parser = parse_status())]
    status: Option<v1::EventStatus>,
    /// Only of this resource: video:ID or comment:ID.
    #[arg(long, value_parser = parse_resource)]
    resource: Option<Resource>,
    /// Only of this user.
    #[arg(long, value_parser = parse_user)]
    user: Option<i64>,
    /// Accepted at or after: a time such as 2026-01-31T07:00:00Z, or how long ago, such as 90s, 30m, 1h or 2d.
    #[arg(long, value_parser = parse_time)]
    since: Option<DateTime<Utc>>,
    /// Accepted before; likewise.
    #[arg(long, value_parser = parse_time)]
    until: Option<DateTime<Utc>>,
}

#[derive(Debug, Args)]
pub(crate) struct OperateArgs {
    /// These events.
    #[arg(value_parser = parse_id, conflicts_with_all = ["status", "resource", "user", "since", "until"])]
    ids: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Of those chosen by a filter at most so many, the newest.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Only say which.
    #[arg(long)]
    dry_run: bool,
    /// Who does this; written down with the address of this machine.
    #[arg(long, env = "USER", default_value = "")]
    actor: String,
    /// Why; written down.
    #[arg(long, default_value = "")]
    reason: String,
}

/// The ledger's words for a status.
fn parse_status() -> impl TypedValueParser<Value = v1::EventStatus> {
    let names = PossibleValuesParser::new(EventStatus::ALL.map(EventStatus::name));
    names.try_map(|name| {
        let of_contract = format!("EVENT_STATUS_{}", name.to_uppercase());
        v1::EventStatus::from_str_name(&of_contract).ok_or_else(|| format!("the contract has no {of_contract}"))
    })
}

/// Of an event.
fn parse_id(text: &str) -> Result<String, String> {
    let known = Uuid::try_parse(text).map(|_| text.to_owned());
    known.map_err(|_| "expected the id of an event, as syncctl events list shows it".to_owned())
}

pub(crate) fn parse_time(text: &str) -> Result<DateTime<Utc>, String> {
    if let Some(ago) = length(text) {
        let time = crate::job::now().checked_sub_signed(ago);
        return time.ok_or_else(|| "longer ago than time goes".to_owned());
    }
    let time = DateTime::parse_from_rfc3339(text);
    time.map(|time| time.to_utc())
        .map_err(|_| "expected a time such as 2026-01-31T07:00:00Z, or how long ago, such as 1h".to_owned())
}

/// `90s`, `30m`, `1h` or `2d`.
fn length(text: &str) -> Option<TimeDelta> {
    let unit = text.chars().next_back()?;
    let number: i64 = text.get(..text.len() - unit.len_utf8())?.parse().ok().filter(|number| *number >= 0)?;
    match unit {
        's' => TimeDelta::try_seconds(number),
        'm' => TimeDelta::try_minutes(number),
        'h' => TimeDelta::try_hours(number),
        'd' => TimeDelta::try_days(number),
        _ => None,
    }
}

impl FilterArgs {
    fn is_empty(&self) -> bool {
        let Self { status, resource, user, since, until } = self;
        status.is_none() && resource.is_none() && user.is_none() && since.is_none() && until.is_none()
    }

    /// Without a status: this one.
    pub(crate) fn or_status(&mut self, status: v1::EventStatus) {
        self.status.get_or_insert(status);
    }

    fn wire(&self) -> v1::EventFilter {
        v1::EventFilter {
            status: self.status.unwrap_or_default().into(),
            resource: self.resource.map(to_proto),
            user_id: self.user.unwrap_or(0),
            since: self.since.map(timestamp),
            until: self.until.map(timestamp),
        }
    }
}

impl EventsArgs {
    /// Lists, replays or discards.
    pub(crate) async fn run(self, format: Format) -> anyhow::Result<Verdict> {
        match self.command {
            EventsCommand::List { filter, limit } => {
                let rows = list(&self.server, &filter, limit).await?;
                print(format, &rows)?;
                Ok(Verdict::Fine)
            }
            EventsCommand::Replay(args) => args.run(&self.server, false, format).await,
            EventsCommand::Discard(args) => args.run(&self.server, true, format).await,
        }
    }
}

/// An event of the ledger.
#[derive(Debug, Serialize)]
pub(crate) struct EventRow {
    pub(crate) id: String,
    pub(crate) status: String,
    pub(crate) user: i64,
    pub(crate) resource: String,
    pub(crate) action: String,
    pub(crate) accepted_at: String,
    pub(crate) retries: String,
    /// The last error; then what operators did.
    pub(crate) error: String,
    pub(crate) operators: Vec<String>,
}

impl Row for EventRow {
    const HEADERS: &'static [&'static str] =
        &["ID", "STATUS", "USER", "RESOURCE", "ACTION", "ACCEPTED", "RETRIES", "ERROR", "OPERATORS"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.status.clone(),
            self.user.to_string(),
            self.resource.clone(),
            self.action.clone(),
            self.accepted_at.clone(),
            self.retries.clone(),
            self.error.clone(),
            self.operators.join("; "),
        ]
    }
}

impl EventRow {
    fn of(event: &v1::SyncEvent) -> Self {
        let retries = format!("{}/{}", event.retry_count, event.max_retries);
        Self {
            id: event.id.clone(),
            status: word(event.status()),
            user: event.user_id,
            resource: name(event.resource.as_ref()),
            action: event.action().as_str_name().trim_start_matches("ACTION_").to_lowercase(),
            accepted_at: time_of(event.accepted_at),
            retries: if event.max_retries > 0 { retries } else { "-".to_owned() },
            error: event.error.clone(),
            operators: event
                .operators
                .iter()
                .map(|deed| format!("{} by {} at {} {}", deed.action, deed.actor, time_of(deed.at), deed.reason))
                .collect(),
        }
    }
}

/// Events, newest first.
pub(crate) async fn list(server: &ServerArgs, filter: &FilterArgs, limit: u32) -> anyhow::Result<Vec<EventRow>> {
    let mut client = server.connect_admin().await?;
    let mut rows = Vec::new();
    let (mut page_token, mut left) = (String::new(), limit);
    while left > 0 {
        let page_size = i32::try_from(left.min(PAGE))?;
        let request = v1::ListEventsRequest { filter: Some(filter.wire()), page_size, page_token };
        let page = client.list_events(request).await.context("the list was refused")?.into_inner();
        rows.extend(page.events.iter().map(EventRow::of));
        left -= left.min(u32::try_from(page.events.len())?);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    Ok(rows)
}

impl OperateArgs {
    /// Of those chosen by a filter, ones of this status where none is given.
    pub(crate) fn or_status(mut self, status: v1::EventStatus) -> Self {
        if self.ids.is_empty() {
            self.filter.or_status(status);
        }
        self
    }

    pub(crate) async fn run(self, server: &ServerArgs, discard: bool, format: Format) -> anyhow::Result<Verdict> {
        if self.ids.is_empty() && self.filter.is_empty() {
            return Err(UsageError("name events, or choose them with --status dead and the like".to_owned()).into());
        }
        if discard && !self.dry_run && self.reason.is_empty() {
            return Err(UsageError("--reason: discarding is for good, say why".to_owned()).into());
        }
        let mut client = server.connect_admin().await?;
        let (mut page_token, mut left, mut done) = (String::new(), self.limit, 0);
        let (mut all_known, mut rows) = (true, Vec::new());
        loop {
            let selection = Some(v1::EventSelection {
                ids: self.ids.clone(),
                filter: self.ids.is_empty().then(|| self.filter.wire()),
                limit: i32::try_from(left.min(AT_ONCE))?,
                page_token,
            });
            let (dry_run, actor, reason) = (self.dry_run, self.actor.clone(), self.reason.clone());
            let (events, skipped, next, due) = if discard {
                let request = v1::DiscardEventsRequest { selection, dry_run, actor, reason };
                let answer = client.discard_events(request).await.context("the discard was refused")?.into_inner();
                (answer.events, answer.skipped, answer.next_page_token, None)
            } else {
                let request = v1::ReplayEventsRequest { selection, dry_run, actor, reason };
                let answer = client.replay_events(request).await.context("the replay was refused")?.into_inner();
                (answer.events, answer.skipped, answer.next_page_token, answer.due_until)
            };
            rows.extend(events.iter().map(EventRow::of));
            for one in &skipped {
                all_known = false;
                let status = match one.status() {
                    v1::EventStatus::Unspecified => "not in the ledger".to_owned(),
                    status => format!("left alone: {}", word(status)),
                };
                eprintln!("{}: {status}", one.id);
            }
            done += events.len();
            left -= left.min(u32::try_from(events.len())?);
            page_token = next;
            if page_token.is_empty() || left == 0 {
                let due = due.map_or_else(String::new, |due| format!(", the last one due at {}", time_of(Some(due))));
                let would = if self.dry_run { "would be " } else { "" };
                print(format, &rows)?;
                if format == Format::Table {
                    println!("{done} {would}{}{due}", if discard { "discarded" } else { "replayed" });
                }
                break;
            }
        }
        Ok(Verdict::from_fine(all_known))
    }
}

/// `EVENT_STATUS_DEAD` of the contract as `dead`.
pub(crate) fn word(status: v1::EventStatus) -> String {
    status.as_str_name().trim_start_matches("EVENT_STATUS_").to_lowercase()
}

pub(crate) fn timestamp(time: DateTime<Utc>) -> prost_types::Timestamp {
    // Fewer than two thousand million, always.
    let nanos = i32::try_from(time.timestamp_subsec_nanos()).unwrap_or(0);
    prost_types::Timestamp { seconds: time.timestamp(), nanos }
}

pub(crate) fn time_of(time: Option<prost_types::Timestamp>) -> String {
    let time = time.and_then(|time| DateTime::<Utc>::from_timestamp(time.seconds, u32::try_from(time.nanos).ok()?));
    time.map_or_else(|| "-".to_owned(), |time| time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true))
}
