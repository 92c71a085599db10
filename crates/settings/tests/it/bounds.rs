//! Both ends of every number and duration are legal and usable; what lies beyond is refused by name.

use crate::{SAMPLE, load};
use humantime_serde::re::humantime;
use settings::{Bound, Settings};
use std::collections::{BTreeMap, BTreeSet};

/// Keys of the sample whose values are numbers or durations.
fn measured_keys() -> BTreeSet<String> {
    let text = std::fs::read_to_string(SAMPLE).unwrap();
    let (mut path, mut keys) = (Vec::new(), BTreeSet::new());
    for line in text.lines() {
        let body = line.split(" #").next().unwrap_or_default();
        let Some((key, value)) = body.trim().split_once(':').filter(|_| !body.trim_start().starts_with('#')) else {
            continue;
        };
        path.truncate((line.len() - line.trim_start().len()) / 2);
        path.push(key.to_owned());
        let value = value.trim();
        if value.parse::<f64>().is_ok() || humantime::parse_duration(value).is_ok() {
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
fn companion(key: &str) -> Option<(&'static str, String)> {
    match key {
        "data_consistency.history" => Some(("event_driven_sync.retention.tombstones", "3650d".to_owned())),
        "event_driven_sync.retention.tombstones" => Some(("data_consistency.history", "1s".to_owned())),
        _ => None,
    }
}

fn with(key: &'static str, value: String) -> Result<Settings, String> {
    let mut values = vec![(key, value)];
    values.extend(companion(key));
    load(&file(&values))
}

#[test]
fn the_table_has_every_number_and_duration_of_the_sample() {
    let table: BTreeSet<String> = Settings::default().bounds().iter().map(|bound| bound.key().to_owned()).collect();
    assert_eq!(table, measured_keys());
    assert_eq!(table.len(), Settings::default().bounds().len(), "a key twice");
}

#[test]
fn both_ends_are_legal_and_what_lies_beyond_is_named() {
    for bound in Settings::default().bounds() {
        let key = bound.key();
        let (least, most) = bound.ends();
        for end in [least, most] {
            let settings = with(key, end.clone()).unwrap_or_else(|error| panic!("{key}: {end}: {error}"));
            let set = settings.bounds().into_iter().find(|bound| bound.key() == key).unwrap();
            let value = match set {
                Bound::Count(_, value, ..) => value.to_string(),
                Bound::Time(_, value, ..) => humantime::format_duration(value).to_string(),
                Bound::Factor(_, value, ..) => format!("{value:?}"),
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
        };
        for beyond in [below, above] {
            let error = with(key, beyond.clone()).err().unwrap_or_else(|| panic!("{key}: {beyond} is taken"));
            assert!(error.contains(key), "{key}: {beyond}: {error}");
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
            .map(|bound| (bound.key(), if most { bound.ends().1 } else { bound.ends().0 }))
            .collect();
        let settings = load(&file(&values)).unwrap();
        drop(settings.stores().await.unwrap());
        let home = tempfile::tempdir().unwrap();
        drop(settings.embedded_cache.open(home.path(), settings.cache_rules()).unwrap());
        let again = settings.embedded_cache.open(home.path(), settings.cache_rules()).unwrap();
        assert_eq!(again.recovered().unsettled, 0);
    }
}
