//! How the tables that grow with every like are cut, on MySQL and MariaDB: by the time in their ids.
//!
//! Ids are UUID v7, so their order is that of time, and the first 48 bits are milliseconds. A partition holds what was made before
//! its bound, and its name carries the bound: a letter, then twelve hexadecimal digits, with which the first id behind it begins.
//! The last one, without a bound, takes what comes when nobody made others in time. Foreign keys to such tables are impossible, and
//! every unique key must hold the column of the partitions: here the only one is the primary key, and it is that column, so an id
//! still occurs once.

use std::fmt::Write;

/// Name of the partition behind all bounds.
pub const LAST: &str = "pmax";

/// Most partitions that are made at once.
const MOST_AT_ONCE: usize = 64;

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Lengths of partitions, in milliseconds.
const PERIODS: [u64; 13] = [
    MINUTE,
    5 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    5 * DAY,
    10 * DAY,
    30 * DAY,
];

/// A table that is cut, and the column of its ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// `sync_events`.
    Ledger,
    /// `user_behaviors`.
    History,
}

impl Cut {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Ledger, Self::History];

    /// The table.
    pub const fn table(self) -> &'static str {
        match self {
            Self::Ledger => "sync_events",
            Self::History => "user_behaviors",
        }
    }

    /// Its primary key.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Ledger => "id",
            Self::History => "event_id",
        }
    }

    /// What is old is moved here, and dropped with it.
    pub const fn leaving(self) -> &'static str {
        match self {
            Self::Ledger => "sync_events_leaving",
            Self::History => "user_behaviors_leaving",
        }
    }

    /// How long its rows are kept where nobody says otherwise, in milliseconds.
    pub const fn usually_kept(self) -> u64 {
        match self {
            Self::Ledger => 7 * DAY,
            Self::History => 400 * DAY,
        }
    }
}

/// What a partition is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Everything of a time.
    Period,
    /// What is left of periods that are over: rows that nothing may delete yet.
    Kept,
}

/// A partition with a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// What it is for.
    pub holds: Holds,
    /// It holds ids that were made before, in milliseconds since 1970.
    pub bound: u64,
}

impl Partition {
    /// As the server knows it.
    pub fn name(self) -> String {
        let letter = match self.holds {
            Holds::Period => 'p',
            Holds::Kept => 'k',
        };
        format!("{letter}{:012x}", self.bound)
    }

    /// None for names that are not ours.
    pub fn of_name(name: &str) -> Option<Self> {
        let (letter, digits) = name.split_at_checked(1)?;
        let holds = match letter {
            "p" => Holds::Period,
            "k" => Holds::Kept,
            _ => return None,
        };
        let bound = u64::from_str_radix(digits, 16).ok()?;
        let partition = Self { holds, bound };
        (partition.name() == name).then_some(partition)
    }
}

/// How long a partition of rows that are kept for so long is, in milliseconds: at most an eighth, so that the table is that much
/// larger than it must be.
pub fn period(kept_for: u64) -> u64 {
    PERIODS.into_iter().rev().find(|period| period.saturating_mul(8) <= kept_for).unwrap_or(PERIODS[0])
}

/// How far ahead there are partitions: a week, or three of them if that is more, or 48 if that is less.
pub const fn ahead(period: u64) -> u64 {
    let (least, most) = (3 * period, 48 * period);
    let week = 7 * DAY;
    if week < least {
        least
    } else if week > most {
        most
    } else {
        week
    }
}

/// Bounds that are to follow `last`, until there are enough after `now`.
pub fn bounds_after(last: u64, now: u64, period: u64) -> Vec<u64> {
    let first = (last.max(now) / period + 1) * period;
    (0..MOST_AT_ONCE as u64)
        .map(|n| first + n * period)
        .take_while(|bound| *bound <= now + ahead(period) + period)
        .collect()
}

/// The list of partitions, between parentheses.
pub fn list(partitions: &[Partition], with_last: bool) -> String {
    let mut text = String::from("(");
    for (n, partition) in partitions.iter().enumerate() {
        let comma = if n > 0 { ", " } else { "" };
        let _ = write!(
            text,
            "{comma}PARTITION {} VALUES LESS THAN (X'{:012x}00000000000000000000')",
            partition.name(),
            partition.bound
        );
    }
    if with_last {
        let comma = if partitions.is_empty() { "" } else { ", " };
        let _ = write!(text, "{comma}PARTITION {LAST} VALUES LESS THAN (MAXVALUE)");
    }
    text.push(')');
    text
}

/// What follows a table's definition, or `ALTER TABLE` and its name, where it has rows of up to now at most.
pub fn clause(cut: Cut, now: u64) -> String {
    let bounds = bounds_after(0, now, period(cut.usually_kept()));
    let partitions: Vec<Partition> =
        bounds.into_iter().map(|bound| Partition { holds: Holds::Period, bound }).collect();
    format!("PARTITION BY RANGE COLUMNS({}) {}", cut.key(), list(&partitions, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_at_most_an_eighth_larger_than_it_must_be() {
        assert_eq!((period(7 * DAY), period(400 * DAY), period(HOUR)), (12 * HOUR, 30 * DAY, 5 * MINUTE));
        for kept in [HOUR, 5 * HOUR, DAY, 7 * DAY, 30 * DAY, 400 * DAY, 3_650 * DAY] {
            assert!(period(kept) * 8 <= kept, "{kept}");
        }
    }

    #[test]
    fn there_is_always_room_ahead() {
        for period in PERIODS {
            let now = 1_764_300_000_123;
            let bounds = bounds_after(0, now, period);
            assert!(bounds[0] > now && bounds[0] - now <= period, "{period}");
            assert!(bounds.last().unwrap() - now >= ahead(period), "{period}: {} of them", bounds.len());
            assert!(bounds.len() <= MOST_AT_ONCE, "{period}");
            assert_eq!(bounds_after(bounds[2], now, period), bounds[3..].to_vec(), "{period}");
        }
    }

    #[test]
    fn names_carry_the_bound() {
        for holds in [Holds::Period, Holds::Kept] {
            let partition = Partition { holds, bound: 1_764_300_000_000 };
            assert_eq!(Partition::of_name(&partition.name()), Some(partition));
        }
        for others in [LAST, "", "p", "p0", "x000000000001", "p00000000000g", "ä", "p2026"] {
            assert_eq!(Partition::of_name(others), None, "{others}");
        }
    }
}
