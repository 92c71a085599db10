//! Message headers: a small map of strings, used for trace context and for the reason of a dead letter.

use crate::Headers;
use lapin::types::{AMQPValue, FieldTable, ShortString};

const MAX_HEADERS: usize = 16;
const MAX_VALUE_LEN: usize = 4096;

pub(crate) fn to_table(headers: &Headers) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in headers.iter().filter(|(_, value)| value.len() <= MAX_VALUE_LEN).take(MAX_HEADERS) {
        if let Ok(name) = ShortString::try_new(name.as_str()) {
            table.insert(name, AMQPValue::LongString(value.as_str().into()));
        }
    }
    table
}

/// The textual headers of a message; others (arrays of the broker's own) are left out.
pub(crate) fn from_table(table: &FieldTable) -> Headers {
    let text = |value: &AMQPValue| match value {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok().map(str::to_owned),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    };
    table.inner().iter().filter_map(|(name, value)| Some((name.to_string(), text(value)?))).collect()
}

/// How often a quorum queue delivered the message before, where it says so.
pub(crate) fn delivery_count(table: &FieldTable) -> Option<u64> {
    let value = match table.inner().get("x-delivery-count")? {
        AMQPValue::LongLongInt(count) => *count,
        AMQPValue::LongInt(count) => i64::from(*count),
        AMQPValue::LongUInt(count) => i64::from(*count),
        AMQPValue::ShortInt(count) => i64::from(*count),
        AMQPValue::ShortShortUInt(count) => i64::from(*count),
        AMQPValue::ShortShortInt(count) => i64::from(*count),
        _ => return None,
    };
    u64::try_from(value).ok()
}

/// Why the broker moved the message the last time, if it did.
pub(crate) fn moved(table: &FieldTable) -> Option<String> {
    let AMQPValue::FieldArray(deaths) = table.inner().get("x-death")? else { return None };
    let AMQPValue::FieldTable(last) = deaths.as_slice().first()? else { return None };
    from_table(last).remove("reason")
}

/// Cuts a text to what a header may hold, on a character boundary.
pub(crate) fn clipped(text: &str) -> String {
    let end = (0..=text.len().min(1024)).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_and_are_bounded() {
        let mut headers: Headers = (0..40).map(|i| (format!("h{i:02}"), "ä".to_owned())).collect();
        headers.insert("a".repeat(300), "name too long".to_owned());
        headers.insert("h00".to_owned(), "x".repeat(MAX_VALUE_LEN + 1));
        let back = from_table(&to_table(&headers));
        assert!(back.len() <= MAX_HEADERS, "{}", back.len());
        assert_eq!(back.get("h01").map(String::as_str), Some("ä"));
        assert!(!back.contains_key("h00"));
    }

    #[test]
    fn clipping_keeps_characters_whole() {
        assert_eq!(clipped(&"ä".repeat(1000)).len(), 1024);
        assert_eq!(clipped("short"), "short");
    }
}
