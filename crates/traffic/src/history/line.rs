//! One line of a history file: what a record and a fault look like as JSON.

use super::{Answer, Fault, Kind, Outcome, Record};
use domain::{Action, Resource, ResourceType, UserId, Version};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Starts every line of a fault; the first field of a record is another one.
const FAULT: &str = "{\"fault\":";

/// A line as read.
#[derive(Debug)]
pub(super) enum Line {
    /// How an attempt ended; none while it has only begun.
    Record {
        record: Record,
        open: bool,
    },
    Fault(Fault),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultLine<'a> {
    #[serde(borrow)]
    fault: Cow<'a, str>,
    begin: u64,
    end: u64,
}

/// Defaults are left out.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordLine<'a> {
    call: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    item: u32,
    logical: u64,
    device: u32,
    server: u32,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<i64>,
    resource: (ResourceType, i64),
    #[serde(default, skip_serializing_if = "Option::is_none")]
    action: Option<Action>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    key: Option<Cow<'a, str>>,
    begin: u64,
    end: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    limit: u64,
    #[serde(borrow)]
    outcome: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "is_default")]
    liked: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    version: Version,
    #[serde(default, skip_serializing_if = "is_default")]
    changed: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    degraded: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    count: Option<i64>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Appends a record without its line's end; `open` if it has only begun.
pub(super) fn write_record(buffer: &mut Vec<u8>, record: &Record, open: bool) -> serde_json::Result<()> {
    let answer = record.answer().copied().unwrap_or_default();
    let action = match record.kind {
        Kind::Word(action) => Some(action),
        _ => None,
    };
    let line = RecordLine {
        call: record.call,
        item: record.item,
        logical: record.logical,
        device: record.device,
        server: record.server,
        kind: Cow::Borrowed(record.kind.name()),
        user: record.user.map(UserId::get),
        resource: (record.resource.kind, record.resource.id.get()),
        action,
        key: record.key.as_deref().map(Cow::Borrowed),
        begin: record.begin,
        end: record.end,
        limit: record.limit,
        outcome: Cow::Borrowed(if open { "open" } else { record.outcome.name() }),
        liked: answer.liked,
        version: answer.version,
        changed: answer.changed,
        degraded: answer.degraded,
        count: answer.count,
    };
    serde_json::to_writer(buffer, &line)
}

/// Appends a fault without its line's end.
pub(super) fn write_fault(buffer: &mut Vec<u8>, fault: &Fault) -> serde_json::Result<()> {
    serde_json::to_writer(buffer, &FaultLine { fault: Cow::Borrowed(&fault.name), begin: fault.begin, end: fault.end })
}

/// Reads one line.
pub(super) fn parse(text: &str) -> Result<Line, String> {
    if text.starts_with(FAULT) {
        let line: FaultLine<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if line.end < line.begin {
            return Err(format!("ends at {} before it begins at {}", line.end, line.begin));
        }
        return Ok(Line::Fault(Fault { name: line.fault.into(), begin: line.begin, end: line.end }));
    }
    let line: RecordLine<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let open = line.outcome == "open";
    Ok(Line::Record { record: record(line)?, open })
}

fn record(line: RecordLine<'_>) -> Result<Record, String> {
    if line.end < line.begin {
        return Err(format!("ends at {} before it begins at {}", line.end, line.begin));
    }
    let kind = match (&*line.kind, line.action) {
        ("like", Some(action)) => Kind::Word(action),
        ("like", None) => return Err("a like without an action".to_owned()),
        (_, Some(_)) => return Err(format!("an action, but the kind is {:?}", line.kind)),
        ("read", None) => Kind::State,
        ("count", None) => Kind::Count,
        ("stream", None) => Kind::Stream,
        (other, None) => return Err(format!("unknown kind {other:?}")),
    };
    let user = line.user.map(UserId::new).transpose().map_err(|error| error.to_string())?;
    if matches!(kind, Kind::Word(_) | Kind::State) && user.is_none() {
        return Err(format!("a {} without a user", kind.name()));
    }
    let outcome = match &*line.outcome {
        "ok" => Outcome::Answered(Answer {
            liked: line.liked,
            version: line.version,
            changed: line.changed,
            degraded: line.degraded,
            count: line.count,
        }),
        "refused" => Outcome::Refused,
        "unknown" | "open" => Outcome::Unknown,
        "abandoned" => Outcome::Abandoned,
        "cancelled" => Outcome::Cancelled,
        other => return Err(format!("unknown outcome {other:?}")),
    };
    Ok(Record {
        call: line.call,
        item: line.item,
        logical: line.logical,
        device: line.device,
        server: line.server,
        kind,
        user,
        resource: Resource::new(line.resource.0, line.resource.1).map_err(|error| error.to_string())?,
        key: line.key.map(Into::into),
        begin: line.begin,
        end: line.end,
        limit: line.limit,
        outcome,
    })
}
