//! SQL text from constant words and typed literals. Strings of others get into it as hexadecimal only.

use crate::sql::dialect::Dialect;
use chrono::{DateTime, Datelike, NaiveDateTime, Timelike, Utc};
use domain::Version;
use std::fmt::Write;
use uuid::Uuid;

/// Most keys in one `IN` list, and most rows in one `INSERT`; MariaDB rewrites lists from 1000 on into joins.
pub(crate) const CHUNK: usize = 500;

/// Statements that go to the server in one round trip.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    dialect: Dialect,
    text: String,
    statements: usize,
}

impl Script {
    pub(crate) fn new(dialect: Dialect) -> Self {
        Self { dialect, text: String::new(), statements: 0 }
    }

    pub(crate) const fn dialect(&self) -> Dialect {
        self.dialect
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.statements == 0
    }

    /// Number of statements begun, so the index of the next one's result.
    pub(crate) const fn statements(&self) -> usize {
        self.statements
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Begins a statement.
    pub(crate) fn begin(&mut self, words: &str) -> &mut Self {
        if self.statements > 0 {
            self.text.push(';');
        }
        self.statements += 1;
        self.words(words)
    }

    /// Words of SQL: constants of this crate or of the dialect, never input.
    pub(crate) fn words(&mut self, words: &str) -> &mut Self {
        self.text.push_str(words);
        self
    }

    /// Items with commas between them.
    pub(crate) fn list<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Self, T),
    ) -> &mut Self {
        for (n, item) in items.into_iter().enumerate() {
            if n > 0 {
                self.text.push(',');
            }
            write(self, item);
        }
        self
    }

    pub(crate) fn int(&mut self, value: i64) -> &mut Self {
        let _ = write!(self.text, "{value}");
        self
    }

    /// A name from one of the domain's enums, such as `video`.
    pub(crate) fn name(&mut self, name: &'static str) -> &mut Self {
        debug_assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
        self.words("'").words(name).words("'")
    }

    pub(crate) fn uuid(&mut self, id: Uuid) -> &mut Self {
        self.words("X'").hex(id.as_bytes()).words("'")
    }

    /// Text of others.
    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        let (before, after) = self.dialect.text_literal();
        self.words(before).hex(text.as_bytes()).words(after)
    }

    pub(crate) fn text_or_null(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.text(text),
            None => self.words("NULL"),
        }
    }

    /// A UTC time to the microsecond; as text it sorts by time.
    pub(crate) fn time(&mut self, time: DateTime<Utc>) -> &mut Self {
        // Digit by digit: a batch has thousands of times, and formatting would be a fifth of its cost on this side.
        let year = time.year().clamp(1000, 9999).unsigned_abs();
        self.words("'").digits(year, 1000).words("-").digits(time.month(), 10).words("-").digits(time.day(), 10);
        self.words(" ").digits(time.hour(), 10).words(":").digits(time.minute(), 10).words(":");
        self.digits(time.second(), 10)
            .words(".")
            .digits(time.timestamp_subsec_micros().min(999_999), 100_000)
            .words("'");
        self
    }

    /// The same of a row that is inserted: where text would have to be parsed a number, which is shorter too. Never in a
    /// comparison, where a database may take both sides for floating-point numbers.
    pub(crate) fn row_time(&mut self, time: DateTime<Utc>) -> &mut Self {
        if self.dialect.is_sqlite() {
            return self.time(time);
        }
        let year = time.year().clamp(1000, 9999).unsigned_abs();
        self.digits(year, 1000).digits(time.month(), 10).digits(time.day(), 10).digits(time.hour(), 10);
        self.digits(time.minute(), 10).digits(time.second(), 10).words(".");
        self.digits(time.timestamp_subsec_micros().min(999_999), 100_000)
    }

    /// The same of a row in which `column`, named before this one, has that time already.
    pub(crate) fn row_time_as(&mut self, column: &'static str, time: DateTime<Utc>) -> &mut Self {
        if self.dialect.is_sqlite() { self.time(time) } else { self.words(column) }
    }

    pub(crate) fn time_or_null(&mut self, time: Option<DateTime<Utc>>) -> &mut Self {
        match time {
            Some(time) => self.time(time),
            None => self.words("NULL"),
        }
    }

    fn digits(&mut self, number: u32, mut place: u32) -> &mut Self {
        while place > 0 {
            self.text.push(char::from(b'0' + (number / place % 10) as u8));
            place /= 10;
        }
        self
    }

    fn hex(&mut self, bytes: &[u8]) -> &mut Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.text.reserve(bytes.len() * 2);
        for byte in bytes {
            self.text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            self.text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        self
    }
}

/// The acceptance time that a version is.
pub(crate) fn time_of(version: Version) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(version.0).unwrap_or(DateTime::UNIX_EPOCH)
}

/// The version of a time.
pub(crate) fn version_of(time: DateTime<Utc>) -> Version {
    Version(time.timestamp_micros().clamp(1, Version::MAX.0))
}

/// Smallest UUID v7 of a time.
pub(crate) fn first_id_of(time: DateTime<Utc>) -> Uuid {
    let millis = u128::try_from(time.timestamp_millis()).unwrap_or(0) & 0xFFFF_FFFF_FFFF;
    Uuid::from_u128(millis << 80)
}

/// Stored times have no zone: they are UTC.
pub(crate) fn utc(time: NaiveDateTime) -> DateTime<Utc> {
    time.and_utc()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_is_hexadecimal_whatever_it_holds() {
        let mut script = Script::new(Dialect::MySql);
        script.text("a'; DROP --\\");
        assert_eq!(script.as_str(), "_utf8mb4 X'61273b2044524f50202d2d5c'");
    }

    #[test]
    fn times_are_utc_microseconds() {
        let mut script = Script::new(Dialect::Sqlite);
        let time = time_of(Version(1_700_000_000_000_007));
        script.time(time).words(" ").row_time(time).words(" ").row_time_as("created_at", time);
        let text = "'2023-11-14 22:13:20.000007'";
        assert_eq!(script.as_str(), format!("{text} {text} {text}"));
        let mut script = Script::new(Dialect::MySql);
        script.time(time).words(" ").row_time(time).words(" ").row_time_as("created_at", time);
        assert_eq!(script.as_str(), format!("{text} 20231114221320.000007 created_at"));
        assert_eq!(version_of(time_of(Version(1_700_000_000_000_007))), Version(1_700_000_000_000_007));
    }

    #[test]
    fn ids_of_a_time_are_not_below_its_first() {
        let time = time_of(Version(1_700_000_000_123_000));
        let id = Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, 1_700_000_000, 123_000_000));
        assert!(id >= first_id_of(time));
        assert!(id < first_id_of(time + chrono::TimeDelta::milliseconds(1)));
    }
}
