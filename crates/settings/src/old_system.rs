//! The configuration that teams of the old system have: what each of its keys means here, and the same in our keys.
//!
//! Some of its keys are read by every program as they are ([`RENAMED`]); the others are answered for by [`check`] and
//! [`convert`].

mod table;

use crate::{Program, Settings};
use service_runtime::{ConfigError, Configured, Renamed, given, keys, same_value};
use std::collections::BTreeMap;
use table::{Means, TABLE, Take};

/// Old keys that mean the same as one of ours.
pub const RENAMED: &[Renamed] = &[
    Renamed { from: "cache_management.consistency.check_interval", to: "data_consistency.check_interval" },
    Renamed { from: "cache_management.consistency.auto_fix", to: "data_consistency.auto_fix.enabled" },
    Renamed { from: "retry.max_retries", to: "event_driven_sync.retry.max_retries" },
    Renamed { from: "retry.base_delay", to: "event_driven_sync.retry.base_delay" },
    Renamed { from: "retry.max_delay", to: "event_driven_sync.retry.max_delay" },
    Renamed { from: "retry.backoff_factor", to: "event_driven_sync.retry.backoff_factor" },
];

/// What a key of a file means here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// It is one of ours.
    Ours,
    /// Its value is that of these keys of ours; and what is not the same there, in words.
    TakenOver(Vec<String>, Vec<String>),
    /// It changes nothing, and why.
    NoEffect(&'static str),
    /// Nobody knows it; perhaps this one is meant.
    Unknown(Option<String>),
    /// Its value cannot be used.
    Unusable(String),
}

impl std::fmt::Display for Meaning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ours => f.write_str("is read as it is"),
            Self::TakenOver(keys, notes) => {
                write!(f, "taken over as {}", keys.join(", "))?;
                notes.iter().try_for_each(|note| write!(f, "; {note}"))
            }
            Self::NoEffect(why) => write!(f, "has no effect here: {why}"),
            Self::Unknown(None) => f.write_str("unknown"),
            Self::Unknown(Some(other)) => write!(f, "unknown: did you mean {other}?"),
            Self::Unusable(why) => write!(f, "cannot be used: {why}"),
        }
    }
}

/// What became of a file.
#[derive(Debug)]
pub struct Checked {
    /// Every key that it gives, in the order of their names.
    pub keys: Vec<(String, Meaning)>,
    /// Whether each program starts with it as it is.
    pub programs: Vec<Start>,
    /// Whether each starts with what [`convert`] makes of it.
    pub converted: Result<Vec<Start>, ConfigError>,
    /// What should be looked at all the same; none where the file cannot be read.
    pub remarks: Vec<String>,
}

/// Whether a program starts.
#[derive(Debug)]
pub struct Start {
    /// Which.
    pub program: Program,
    /// Whether the file is for it.
    pub meant: bool,
    /// Why it does not start; none if it does.
    pub refused: Option<String>,
}

impl Checked {
    /// Whether every key is answered for.
    pub fn is_answered(&self) -> bool {
        !self.keys.iter().any(|(_, meaning)| matches!(meaning, Meaning::Unknown(_) | Meaning::Unusable(_)))
    }

    /// Whether all start that the file is for.
    pub fn all_start(starts: &[Start]) -> bool {
        starts.iter().all(|start| !start.meant || start.refused.is_none())
    }
}

/// Says of every key of a file what it means here, and of every program whether it starts with it: in this environment, and by
/// the checks that it makes itself. Needs a runtime around it.
pub async fn check(name: &str, text: &str, environment: &[(String, String)]) -> Result<Checked, ConfigError> {
    let taken = take(name, text)?;
    let programs = starts(name, text, environment, &taken.keys).await;
    let converted = match written(&taken) {
        Ok(text) => Ok(starts(name, &text, environment, &taken.keys).await),
        Err(error) => Err(error),
    };
    let read = service_runtime::parse_renamed::<Settings>(name, text, environment.to_vec(), RENAMED);
    let remarks = read.map(|settings| settings.remarks(environment)).unwrap_or_default();
    Ok(Checked { keys: taken.keys, programs, remarks, converted })
}

async fn starts(name: &str, text: &str, environment: &[(String, String)], keys: &[(String, Meaning)]) -> Vec<Start> {
    let settings = service_runtime::parse_renamed::<Settings>(name, text, environment.to_vec(), RENAMED)
        .map_err(|error| explain(name, text).unwrap_or(error).to_string());
    let rust_log = environment.iter().find(|(name, value)| name == "RUST_LOG" && !value.is_empty());
    let rust_log = rust_log.map(|(_, value)| value.as_str());
    let keys: Vec<_> = keys.iter().map(|(key, _)| key.clone()).collect();
    let mut all = Vec::new();
    for program in Program::ALL {
        let refused = match &settings {
            Ok(settings) => settings.starts(program, rust_log).await.err().map(|error| error.to_string()),
            Err(error) => Some(error.clone()),
        };
        all.push(Start { program, meant: program.is_meant(&keys), refused });
    }
    all
}

/// Why a file is refused that has keys of the old system; none where that is not the reason.
pub(crate) fn explain(name: &str, text: &str) -> Option<ConfigError> {
    let ours = keys::<Settings>();
    let is_old = |key: &String| {
        let known = |(old, _): &(&str, Means)| old == key;
        !ours.contains(key) && TABLE.iter().any(known) && !RENAMED.iter().any(|renamed| renamed.from == key)
    };
    let old: Vec<_> = given(name, text).ok()?.into_iter().map(|(key, _)| key).filter(is_old).collect();
    let others = match old.len() {
        0 => return None,
        1 => String::new(),
        number => format!(", as {} others are", number - 1),
    };
    let first = old.into_iter().next()?;
    Some(ConfigError::key(
        first,
        format!(
            "is a key of the old system{others}: `syncctl config convert {name}` writes the file in ours, `syncctl config \
             check {name}` says what each key means here"
        ),
    ))
}

/// The same configuration in our keys; the error names what cannot be said in them.
pub fn convert(name: &str, text: &str) -> Result<String, ConfigError> {
    let written = written(&take(name, text)?)?;
    usable(name, &written)?;
    Ok(written)
}

fn written(taken: &Taken) -> Result<String, ConfigError> {
    for (key, meaning) in &taken.keys {
        if let Meaning::Unknown(_) | Meaning::Unusable(_) = meaning {
            return Err(ConfigError::key(key.clone(), meaning));
        }
    }
    Ok(write(taken))
}

fn usable(name: &str, text: &str) -> Result<(), ConfigError> {
    service_runtime::parse_renamed::<Settings>(name, text, [], RENAMED)?.validate()
}

/// What a file says, in our keys.
struct Taken {
    keys: Vec<(String, Meaning)>,
    values: BTreeMap<String, Value>,
}

/// Of a key of ours.
struct Value {
    text: String,
    /// The key that said so.
    from: String,
}

fn take(name: &str, text: &str) -> Result<Taken, ConfigError> {
    let ours = keys::<Settings>();
    let given = given(name, text)?;
    let old = |wanted: &str| TABLE.iter().find(|(key, _)| *key == wanted).map(|(_, means)| means);
    let value = |wanted: &str| given.iter().find(|(key, _)| key == wanted).map(|(_, value)| value.as_str());
    let mut taken = Taken { keys: Vec::new(), values: BTreeMap::new() };
    for (key, text) in &given {
        let renamed = RENAMED.iter().find(|renamed| renamed.from == key).map(|renamed| renamed.to);
        let meaning = match (renamed, old(key)) {
            (Some(to), _) => taken.put(key, to, text.clone(), false),
            (None, Some(Means::Nothing(why))) => Meaning::NoEffect(why),
            (None, Some(Means::Url(to, build))) => match build(&value) {
                Ok(url) => taken.put(key, to, url, false),
                Err(why) => Meaning::Unusable(why),
            },
            (None, Some(Means::Taken(takes))) => {
                let mut all = Meaning::TakenOver(Vec::new(), Vec::new());
                for take in *takes {
                    all = all.and(taken.take(key, text, take));
                }
                all
            }
            (None, None) if ours.contains(key) => match taken.put(key, key, text.clone(), false) {
                Meaning::TakenOver(..) => Meaning::Ours,
                refused => refused,
            },
            (None, None) => Meaning::Unknown(closest(key, &ours)),
        };
        taken.keys.push((key.clone(), meaning));
    }
    taken.say_which_counts();
    Ok(taken)
}

impl Meaning {
    /// Of one key that goes to several of ours.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::TakenOver(mut keys, mut notes), Self::TakenOver(more, more_notes)) => {
                keys.extend(more);
                notes.extend(more_notes);
                Self::TakenOver(keys, notes)
            }
            (Self::TakenOver(..), refused) | (refused, _) => refused,
        }
    }
}

impl Taken {
    fn take(&mut self, key: &str, text: &str, take: &Take) -> Meaning {
        let value = match (take.value)(text) {
            Ok(value) => value,
            Err(why) => return Meaning::Unusable(why),
        };
        let note = (take.note)(text, &value);
        match self.put(key, take.to, value, take.largest) {
            Meaning::TakenOver(keys, mut notes) => {
                notes.extend(note);
                Meaning::TakenOver(keys, notes)
            }
            refused => refused,
        }
    }

    fn put(&mut self, from: &str, to: &str, text: String, largest: bool) -> Meaning {
        let number = |text: &str| text.parse::<u64>().unwrap_or_default();
        match self.values.get(to) {
            Some(there) if largest && number(&there.text) >= number(&text) => {}
            Some(there) if !largest && !same_value(&there.text, &text) => {
                let shown = |text: &str| if is_secret(to) { "something else".to_owned() } else { text.to_owned() };
                // As a program says it that reads both.
                let (mine, theirs) = (shown(&text), shown(&there.text));
                let said = format!("says {mine}, and {} says {theirs}: leave one of them out", there.from);
                return Meaning::Unusable(said);
            }
            _ => drop(self.values.insert(to.to_owned(), Value { text, from: from.to_owned() })),
        }
        Meaning::TakenOver(vec![to.to_owned()], Vec::new())
    }

    /// Where several old keys lead to one of ours and the largest counts.
    fn say_which_counts(&mut self) {
        for (key, meaning) in &mut self.keys {
            let Some((_, Means::Taken(takes))) = TABLE.iter().find(|(old, _)| old == key) else { continue };
            let Meaning::TakenOver(_, notes) = meaning else { continue };
            for take in takes.iter().filter(|take| take.largest) {
                let Some(Value { text, from }) = self.values.get(take.to) else { continue };
                if from != key {
                    notes.push(format!("{from} has the larger number, {text}, which counts for both"));
                }
            }
        }
    }
}

fn is_secret(key: &str) -> bool {
    key.ends_with("url")
}

/// The key that was probably meant.
fn closest(key: &str, ours: &[String]) -> Option<String> {
    let all = ours.iter().map(String::as_str).chain(TABLE.iter().map(|(key, _)| *key));
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let distance = |other: &&str| {
        // The same name in another section is near.
        if last(other) == last(key) { 1 } else { edits(key, other) }
    };
    all.min_by_key(distance).filter(|other| distance(other) <= 2.max(key.len() / 6)).map(str::to_owned)
}

/// Letters to be changed, added or taken away.
fn edits(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, b) in other.bytes().enumerate() {
            let changed = before + usize::from(a != b);
            before = row[j + 1];
            row[j + 1] = changed.min(before + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

/// YAML, section by section.
fn write(taken: &Taken) -> String {
    let mut text = "# Converted by syncctl config convert; every other key has its default.\n".to_owned();
    for (key, meaning) in &taken.keys {
        if let Meaning::TakenOver(ours, notes) = meaning {
            notes.iter().for_each(|note| text.push_str(&format!("# {key}, now {}: {note}\n", ours.join(", "))));
        }
    }
    let mut open: Vec<&str> = Vec::new();
    for (key, Value { text: value, .. }) in &taken.values {
        let parts: Vec<_> = key.split('.').collect();
        let (name, sections) = parts.split_last().map_or(("", &[][..]), |(name, sections)| (*name, sections));
        let same = open.iter().zip(sections).take_while(|(one, other)| one == other).count();
        for (depth, section) in sections.iter().enumerate().skip(same) {
            text.push_str(&format!("{}{section}:\n", "  ".repeat(depth)));
        }
        open = sections.to_vec();
        text.push_str(&format!("{}{name}: {}\n", "  ".repeat(sections.len()), quoted(value)));
    }
    text
}

/// As a word where that is the same.
fn quoted(value: &str) -> String {
    let word = value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | ':'));
    let plain = word && !value.is_empty() && !value.starts_with('-') && !value.ends_with(':');
    if plain { value.to_owned() } else { format!("'{}'", value.replace('\'', "''")) }
}
