//! Rows of the old schema, and which likes and unlikes each of them says there were.
//!
//! Versions are times. Where a time is coarser than a microsecond, the order of the rows fills the rest ([`Ticks`]): of two
//! actions in the same second the one that was written later is the later one.

use super::table::{Column, Table};
use super::ticks::Ticks;
use super::time;
use chrono::FixedOffset;
use domain::{Action, LikeEvent, LikeIntent, Origin, Pair, ResourceType, Version};
use std::cell::RefCell;
use uuid::{Builder, Uuid};

/// How rows are read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading<'t> {
    /// Zone of times that name none.
    pub(super) zone: FixedOffset,
    /// What is later than this has not happened yet, microseconds since 1970.
    pub(super) now: i64,
    /// Versions that a row can take from one time.
    pub(super) steps: i64,
    /// The table's times so far.
    pub(super) ticks: &'t RefCell<Ticks>,
}

/// What a row says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// These likes and unlikes, at least one.
    Events(Vec<LikeEvent>),
    /// Another kind of behaviour.
    Other,
    /// Nothing that can be understood.
    Broken(String),
}

/// Values of a row, as text.
pub(super) struct Row<'a> {
    pub(super) values: &'a dyn Fn(Column) -> Option<&'a str>,
}

impl Row<'_> {
    fn get(&self, column: Column) -> Option<&str> {
        (self.values)(column).map(str::trim).filter(|text| !text.is_empty())
    }

    fn number(&self, column: Column) -> Result<i64, String> {
        let text = self.get(column).ok_or_else(|| format!("{} is null", column.name()))?;
        text.parse().map_err(|_| format!("{} is {:?}", column.name(), text.chars().take(40).collect::<String>()))
    }

    fn pair(&self, kind: ResourceType, resource: Column) -> Result<Pair, String> {
        Pair::new(self.number(Column::UserId)?, kind, self.number(resource)?).map_err(|invalid| invalid.to_string())
    }

    /// None where there is no value, or MySQL's zero date, which old systems write for it.
    fn time(&self, column: Column, pair: Pair, reading: Reading<'_>) -> Result<Option<Version>, String> {
        let Some(text) = self.get(column).filter(|text| !text.starts_with("0000-00-00")) else { return Ok(None) };
        let named = |reason| format!("{}: {reason}", column.name());
        let time = time::parse(text, reading.zone).map_err(named)?;
        if time.micros > reading.now {
            return Err(format!("{}: {text:?} is in the future", column.name()));
        }
        Ok(Some(Version(reading.ticks.borrow_mut().version(pair, time, reading.steps))))
    }

    fn flag(&self, columns: &[Column]) -> Result<Option<bool>, String> {
        let mut flag = None;
        for column in columns {
            let said = match self.get(*column).map(str::to_ascii_lowercase).as_deref() {
                None => continue,
                Some("0" | "false" | "f" | "n" | "no" | "\0") => false,
                Some("1" | "true" | "t" | "y" | "yes" | "\u{1}") => true,
                Some(other) => return Err(format!("{} is {other:?}", column.name())),
            };
            flag = Some(flag.unwrap_or(false) || said);
        }
        Ok(flag)
    }
}

/// Reads one row.
pub(super) fn read(table: Table, row: &Row<'_>, reading: Reading<'_>) -> Said {
    reading.ticks.borrow_mut().next_row();
    let said = match table {
        Table::UserBehaviors => behavior(row, reading),
        Table::Likes(kind) => like(row, kind, reading).map(Some),
    };
    match said {
        Ok(Some(events)) => Said::Events(events),
        Ok(None) => Said::Other,
        Err(reason) => Said::Broken(reason),
    }
}

/// A row of behaviours is one event, a row of likes up to three.
pub(super) const fn steps(table: Table) -> i64 {
    match table {
        Table::UserBehaviors => 1,
        Table::Likes(_) => 3,
    }
}

fn behavior(row: &Row<'_>, reading: Reading<'_>) -> Result<Option<Vec<LikeEvent>>, String> {
    let word = row.get(Column::BehaviorType).ok_or("behavior_type is null")?.to_ascii_lowercase();
    let Some((kind, action)) = ResourceType::from_behavior(&word.replace("cancel_like", "unlike")) else {
        return Ok(None);
    };
    let pair = row.pair(kind, Column::ResourceId(ResourceType::Video))?;
    let version = row.time(Column::BehaviorTime, pair, reading)?.ok_or("behavior_time is null")?;
    Ok(Some(vec![event(pair, action, version)]))
}

/// A row of likes says when there was a like, perhaps when it was taken back, and whether it is there now.
///
/// A flag is the truth about now; without one, a `deleted_at` is. A row that is there although it was deleted once was liked
/// again, at `updated_at` if that is later.
fn like(row: &Row<'_>, kind: ResourceType, reading: Reading<'_>) -> Result<Vec<LikeEvent>, String> {
    let pair = row.pair(kind, Column::ResourceId(kind))?;
    let created = row.time(Column::CreatedAt, pair, reading)?.ok_or("created_at is null")?;
    let updated = row.time(Column::UpdatedAt, pair, reading)?;
    let deleted = row.time(Column::DeletedAt, pair, reading)?;
    let gone = row.flag(&[Column::IsDeleted, Column::Deleted])?.unwrap_or(deleted.is_some());
    let after = |version: Version| Version(version.0 + 1);
    let mut events = vec![event(pair, Action::Like, created)];
    let mut last = created;
    if gone {
        // Whatever the clocks say: the like came first.
        let taken_back = deleted.or(updated).map_or(after(created), |version| version.max(after(created)));
        events.push(event(pair, Action::Unlike, taken_back));
        return Ok(events);
    }
    if let Some(deleted) = deleted {
        last = deleted.max(after(created));
        events.push(event(pair, Action::Unlike, last));
        events.push(event(pair, Action::Like, updated.map_or(after(last), |version| version.max(after(last)))));
        return Ok(events);
    }
    if let Some(updated) = updated.filter(|updated| *updated > last) {
        // It was there then.
        events.push(event(pair, Action::Like, updated));
    }
    Ok(events)
}

fn event(pair: Pair, action: Action, version: Version) -> LikeEvent {
    let intent = LikeIntent { id: event_id(pair, action, version), pair, action, idempotency_key: None, trace: None };
    LikeEvent { intent, version, origin: Origin::Import }
}

/// The same for the same statement, so that an import that is repeated repeats nothing. In the shape of UUID v7, because the
/// history is in order of time.
fn event_id(pair: Pair, action: Action, version: Version) -> Uuid {
    let words = [
        pair.user.get().cast_unsigned(),
        pair.resource.id.get().cast_unsigned(),
        (pair.resource.kind as u64) << 1 | action as u64,
        version.0.cast_unsigned(),
    ];
    let hash = |seed: u64| words.iter().fold(seed, |hash, word| mix(hash ^ word));
    let mut random = [0; 10];
    random[..8].copy_from_slice(&hash(0x6C65_6761_6379).to_be_bytes());
    random[8..].copy_from_slice(&hash(0x696D_706F_7274).to_be_bytes()[..2]);
    Builder::from_unix_timestamp_millis(version.0.cast_unsigned() / 1000, &random).into_uuid()
}

/// SplitMix64.
const fn mix(word: u64) -> u64 {
    let mut hash = word.wrapping_add(0x9E37_79B9_7F4A_7C15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    hash ^ (hash >> 31)
}
