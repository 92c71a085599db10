//! What types of the language say of a value, in words of who writes the file.

use serde::de::Unexpected;

/// What was found where something else is wanted. A text where a section is wanted is not shown: it may hold a password.
pub(super) fn unexpected(found: Unexpected<'_>, wanted: &str) -> String {
    if wanted.starts_with("struct ") {
        return "expected a section with keys below it, not a value".to_owned();
    }
    let plain = number(wanted).is_some() || ["f32", "f64", "a boolean"].contains(&wanted);
    let quoted = plain && matches!(found, Unexpected::Str(_));
    let quotes = if quoted { ", without quotes" } else { "" };
    format!("invalid value {}, expected {}{quotes}", shown(found), in_words(wanted))
}

fn shown(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Str(text) => format!("{text:?}"),
        Unexpected::Unsigned(number) => number.to_string(),
        Unexpected::Signed(number) => number.to_string(),
        Unexpected::Float(number) => number.to_string(),
        Unexpected::Bool(boolean) => boolean.to_string(),
        Unexpected::Seq => "of a list".to_owned(),
        Unexpected::Map => "of a section".to_owned(),
        other => other.to_string(),
    }
}

/// Least and most of a type of numbers.
fn number(wanted: &str) -> Option<(i128, i128)> {
    Some(match wanted {
        "u8" => (0, u8::MAX.into()),
        "u16" => (0, u16::MAX.into()),
        "u32" => (0, u32::MAX.into()),
        "u64" | "usize" => (0, u64::MAX.into()),
        "i8" => (i8::MIN.into(), i8::MAX.into()),
        "i16" => (i16::MIN.into(), i16::MAX.into()),
        "i32" => (i32::MIN.into(), i32::MAX.into()),
        "i64" | "isize" => (i64::MIN.into(), i64::MAX.into()),
        _ => return None,
    })
}

fn in_words(wanted: &str) -> String {
    if let Some((least, most)) = number(wanted) {
        return format!("a whole number, {least} to {most}");
    }
    match wanted {
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a string" => "a text",
        "a sequence" => "a list, such as [a, b]",
        "a duration" => "a duration with its unit, such as 500ms, 30s, 5m or 24h",
        "a map" => "a section with keys below it",
        other => other,
    }
    .to_owned()
}

/// What parsers say.
const OF_PARSERS: [(&str, &str); 2] = [
    (
        "invalid socket address syntax",
        "expected an IP address and a port, such as 127.0.0.1:8893 or [::1]:8893; names are not looked up here",
    ),
    ("invalid IP address syntax", "expected an IP address, such as 127.0.0.1 or ::1"),
];

pub(super) fn in_plain_words(said: String) -> String {
    OF_PARSERS.iter().fold(said, |said, (of_parser, plain)| said.replace(of_parser, plain))
}

#[cfg(test)]
mod tests {
    use crate::config::{ServiceConfig, parse};
    use std::time::Duration;

    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Section {
        most: u16,
        hosts: Vec<String>,
        name: String,
        #[serde(with = "humantime_serde")]
        wait: Duration,
    }

    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Whole {
        service: ServiceConfig,
        store: Section,
    }

    #[test]
    fn no_error_speaks_of_types() {
        for (text, said) in [
            (
                "service: {grpc_addr: 'localhost:50051'}",
                "service.grpc_addr: expected an IP address and a port, such as",
            ),
            ("store: {most: 70000}", "store.most: invalid value 70000, expected a whole number, 0 to 65535"),
            (
                "store: {most: '16'}",
                "store.most: invalid value \"16\", expected a whole number, 0 to 65535, without quotes",
            ),
            ("store: 'mysql://me:sesame@h/d'", "store: expected a section with keys below it, not a value"),
            ("store: {hosts: 'a:3306'}", "store.hosts: invalid value \"a:3306\", expected a list, such as [a, b]"),
            (
                "store: {wait: 3}",
                "store.wait: invalid value \"3\", expected a duration with its unit, such as 500ms, 30s",
            ),
            ("store: {name: [a]}", "store.name: invalid value of a list, expected a text"),
        ] {
            let error = parse::<Whole>("x.yml", text, []).map(drop).expect_err(text).to_string();
            assert!(error.starts_with(said), "{text}: {error}");
            assert!(!error.contains("sesame"), "{error}");
        }
        let whole =
            parse::<Whole>("x.yml", "store: {most: 65535, hosts: [a], wait: 3s, name: 3}", []).unwrap_or_default();
        let Section { most, hosts, name, wait } = whole.store;
        assert_eq!((most, hosts.len(), name.as_str(), wait.as_secs()), (65_535, 1, "3", 3));
        assert_eq!(whole.service, ServiceConfig::default());
    }
}
