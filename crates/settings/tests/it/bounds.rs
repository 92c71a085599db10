//! Both ends of every number, duration and text are legal and usable; what lies beyond is refused by name and bound.

use crate::{SAMPLE, load};
use humantime_serde::re::humantime;
use settings::{Bound, Settings};
use std::collections::{BTreeMap, BTreeSet};

/// Keys that are no number, duration or free text: values that are legal, and one that is not.
const OTHERS: &[(&str, &[&str], &str)] = &[
    ("service.grpc_addr", ADDRESSES, "127.0.0.1:65536"),
    ("service.http_addr", ADDRESSES, "127.0.0.1"),
    ("service.consumer_http_addr", ADDRESSES, "localhost:1"),
    ("service.checker_http_addr", ADDRESSES, "::1:1"),
    ("service.tls.cert_file", FILES, "[]"),
    ("service.tls.key_file", FILES, "[]"),
    ("service.tls.client_ca_file", FILES, "[]"),
    ("service.tls.ops", &["same", "plain"], "off"),
    ("service.access.tokens_file", FILES, "[]"),
    ("service.access.insecure", SWITCH, "2"),
    ("monitoring.log_format", &["human", "json"], "text"),
    ("monitoring.metrics", SWITCH, "maybe"),
    ("monitoring.old_metric_names", SWITCH, "maybe"),
    ("monitoring.alerts.enabled", SWITCH, "maybe"),
    ("database.url", &["mysql://h:1/x", "mysql://h:65535/x"], "mysql://h:65536/x"),
    ("redis.url", &["redis://h:1", "rediss://h:65535/65535"], "redis://h:0"),
    ("database.url_file", &[], "/nowhere"),
    ("redis.url_file", &[], "/nowhere"),
    ("rabbitmq.url_file", &[], "/nowhere"),
    ("database.auto_migrate", SWITCH, "perhaps"),
    ("database.hosts", &["[]", "['h:1', '[::1]:65535']"], "['h']"),
    ("database.replicas", &["[]", "['h:1', '[::1]:65535']"], "['h']"),
    ("redis.nodes", &["[]", "['h:1', '[::1]:65535']"], "['redis://h:1']"),
    ("redis.cluster", SWITCH, "maybe"),
    ("redis.sentinels", &["[]", "['h:1', 'me:pw@h:65535']"], "['h:0']"),
    ("rabbitmq.hosts", &["[]", "['h:1', '[::1]:65535']"], "['h:65536']"),
    ("redis.ca_file", &[], "/nowhere"),
    ("redis.unconfirmed", &["refuse", "answer"], "wait"),
    ("rabbitmq.url", &["amqp://h:1", "amqps://h:65535"], "amqp://h:65536"),
    ("rabbitmq.ca_file", &[], "/nowhere"),
    ("rabbitmq.log.enabled", SWITCH, "maybe"),
    ("rabbitmq.changes.enabled", SWITCH, "maybe"),
    ("embedded_cache.durability", &["host", "process"], "none"),
    ("event_driven_sync.recovery.automatic", SWITCH, "maybe"),
    ("event_driven_sync.write_path", &["event_driven", "synchronous", "percentage"], "other"),
    ("cache_management.near_cache.enabled", SWITCH, "maybe"),
    ("cache_management.warmup.enabled", SWITCH, "maybe"),
    ("data_consistency.auto_fix.enabled", SWITCH, "maybe"),
    ("data_consistency.auto_fix.strategy", &["database_first", "cache_first", "report_only"], "guess"),
    ("data_consistency.auto_fix.dry_run", SWITCH, "maybe"),
    ("rate_limiting.user_action.enabled", SWITCH, "maybe"),
    ("rate_limiting.ip.enabled", SWITCH, "maybe"),
    ("rate_limiting.global.enabled", SWITCH, "maybe"),
    ("rate_limiting.token.enabled", SWITCH, "maybe"),
    ("service.cors_origins", &["[]", "['https://app.example.com', 'http://localhost:3000']"], "['*']"),
    ("service.public_origin", &["https://ops.example.com", "'http://10.1.2.3:8080'"], "ops.example.com"),
    ("service.trusted_proxies", &["[]", "['10.0.0.0/8', '::1/128']"], "['10.0.0.0/33']"),
];

const ADDRESSES: &[&str] = &["'127.0.0.1:0'", "'0.0.0.0:65535'", "'[::1]:1'"];
const FILES: &[&str] = &["/some/file"];
const SWITCH: &[&str] = &["true", "false", "yes", "off"];

/// Keys that the sample names, also where they are commented out.
fn sample_keys() -> BTreeSet<String> {
    let text = std::fs::read_to_string(SAMPLE).unwrap();
    let (mut path, mut keys) = (Vec::new(), BTreeSet::new());
    for line in text.lines() {
        // `  # key: value` is one, `# A sentence.` is none.
        let line = match line.trim_start().strip_prefix("# ") {
            Some(rest) if line.starts_with(' ') => {
                format!("{}{rest}", " ".repeat(line.len() - line.trim_start().len()))
            }
            Some(_) => continue,
            None => line.to_owned(),
        };
        let Some((key, value)) = line.split(" #").next().and_then(|body| body.trim().split_once(':')) else { continue };
        path.truncate((line.len() - line.trim_start().len()) / 2);
        path.push(key.to_owned());
        if !value.trim().is_empty() {
            keys.insert(path.join("."));
        }
    }
    keys
}

/// A file with these values.
fn file(values: &[(&str, String)]) -> String {
    #[derive(Default)]
    struct Section<'a>(BTreeMap<&'a str, Section<'a>>, Option<&'a str>);

    impl Section<'_> {
        fn write(&self, depth: usize, text: &mut String) {
            for (key, section) in &self.0 {
                let value = section.1.unwrap_or_default();
                text.push_str(&format!("{}{key}: {value}\n", "  ".repeat(depth)));
                section.write(depth + 1, text);
            }
        }
    }

    let mut root = Section::default();
    for (key, value) in values {
        let section = key.split('.').fold(&mut root, |section, part| section.0.entry(part).or_default());
        section.1 = Some(value);
    }
    let mut text = String::new();
    root.write(0, &mut text);
    text
}

/// What must be set, too, because two keys bound each other.
fn companions(key: &str) -> Vec<(&'static str, String)> {
    const HISTORY: &str = "data_consistency.history";
    const RETENTION: [&str; 3] = [
        "event_driven_sync.retention.completed_events",
        "event_driven_sync.retention.behaviors",
        "event_driven_sync.retention.tombstones",
    ];
    let with = |key: &'static str, value: &str| (key, value.to_owned());
    match key {
        HISTORY => vec![with(RETENTION[1], "3650d"), with(RETENTION[2], "3650d")],
        "event_driven_sync.retention.completed_events" => vec![with(RETENTION[1], "3650d")],
        "event_driven_sync.retention.behaviors" => vec![with(HISTORY, "1s"), with(RETENTION[0], "1h")],
        "event_driven_sync.retention.tombstones" => vec![with(HISTORY, "1s")],
        _ => Vec::new(),
    }
}

/// As it stands in a file.
fn written(bound: Bound, end: &str) -> String {
    match bound {
        Bound::Text(..) => format!("'{}'", "x".repeat(end.parse().unwrap())),
        _ => end.to_owned(),
    }
}

fn with(key: &'static str, value: String) -> Result<Settings, String> {
    let mut values = vec![(key, value)];
    values.extend(companions(key));
    load(&file(&values))
}

#[test]
fn every_key_is_in_the_sample_and_has_a_bound() {
    let bounded: BTreeSet<String> = Settings::default().bounds().iter().map(|bound| bound.key().to_owned()).collect();
    assert_eq!(bounded.len(), Settings::default().bounds().len(), "a key twice");
    let others = OTHERS.iter().map(|(key, ..)| (*key).to_owned());
    let tried: BTreeSet<String> = bounded.into_iter().chain(others).collect();
    let all: BTreeSet<String> = service_runtime::keys::<Settings>().into_iter().collect();
    assert_eq!(tried, all);
    assert_eq!(sample_keys(), all);
}

#[test]
fn what_is_no_number_is_tried_too() {
    for (key, legal, wrong) in OTHERS {
        for value in *legal {
            with(key, (*value).to_owned()).unwrap_or_else(|error| panic!("{key}: {value}: {error}"));
        }
        let error = with(key, (*wrong).to_owned()).err().unwrap_or_else(|| panic!("{key}: {wrong} is taken"));
        assert!(error.contains(key), "{key}: {wrong}: {error}");
    }
}

#[test]
fn both_ends_are_legal_and_what_lies_beyond_is_named() {
    for bound in Settings::default().bounds() {
        let key = bound.key();
        let (least, most) = bound.ends();
        for end in [least.clone(), most.clone()] {
            let settings = with(key, written(bound, &end)).unwrap_or_else(|error| panic!("{key}: {end}: {error}"));
            let set = settings.bounds().into_iter().find(|bound| bound.key() == key).unwrap();
            let value = match set {
                Bound::Count(_, value, ..) => value.to_string(),
                // There are several ways to write one.
                Bound::Time(_, value, ..) => {
                    assert_eq!(humantime::parse_duration(&end), Ok(value), "{key}");
                    end.clone()
                }
                Bound::Factor(_, value, ..) => format!("{value:?}"),
                Bound::Text(_, length, ..) => length.to_string(),
            };
            assert_eq!(value, end, "{key}");
        }
        let (below, above) = match bound {
            Bound::Count(_, _, least, most) => {
                ((i128::from(least) - 1).to_string(), (i128::from(most) + 1).to_string())
            }
            Bound::Time(_, _, least, most) => {
                let below = least.checked_sub(std::time::Duration::from_nanos(1));
                let written = |time| humantime::format_duration(time).to_string();
                (below.map_or("-1s".to_owned(), written), written(most + std::time::Duration::from_nanos(1)))
            }
            Bound::Factor(_, _, least, most) => ((least - 0.001).to_string(), (most + 0.001).to_string()),
            // No text is shorter than an empty one.
            Bound::Text(_, _, least, most) => {
                (least.checked_sub(1).unwrap_or(most + 1).to_string(), (most + 1).to_string())
            }
        };
        for beyond in [below, above] {
            let error = with(key, written(bound, &beyond)).err().unwrap_or_else(|| panic!("{key}: {beyond} is taken"));
            assert!(error.contains(key), "{key}: {beyond}: {error}");
            // What the type itself cannot hold is named with what it takes.
            let named = error.contains(&format!("must be {least} to {most}"));
            assert!(named || error.contains("invalid value") || beyond.starts_with('-'), "{key}: {beyond}: {error}");
        }
    }
}

/// All least and all most values together: what is built of them is built, and the embedded cache keeps its promises.
#[tokio::test]
async fn what_is_built_from_both_ends_works() {
    for most in [false, true] {
        let values: Vec<(&str, String)> = Settings::default()
            .bounds()
            .into_iter()
            .map(|bound| (bound.key(), written(bound, &if most { bound.ends().1 } else { bound.ends().0 })))
            .collect();
        let settings = load(&file(&values)).unwrap();
        drop(settings.stores().await.unwrap());
        let home = tempfile::tempdir().unwrap();
        drop(settings.embedded_cache.open(home.path(), settings.cache_rules()).unwrap());
        let again = settings.embedded_cache.open(home.path(), settings.cache_rules()).unwrap();
        assert_eq!(again.recovered().unsettled, 0);
    }
}
