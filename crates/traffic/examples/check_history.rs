//! Measures the checker: makes a history of a system that keeps its promises, writes it, reads it, judges it.
//!
//! ```text
//! cargo run --release -p traffic --example check_history [records]
//! ```

use domain::{Action, Pair, PairState, ResourceType, Version};
use std::collections::HashMap;
use std::error::Error;
use std::time::Instant;
use traffic::check::{Entry, Options, PairRow, Stores, check};
use traffic::generate::Random;
use traffic::history::{Answer, History, HistoryWriter, Kind, Outcome, Record};

/// Longest time between an operation's effect and either of its ends, in microseconds.
const SPREAD: u64 = 3_000;

/// Microseconds between two operations.
const APART: u64 = 10;

fn main() -> Result<(), Box<dyn Error>> {
    let records = std::env::args().nth(1).map_or(Ok(1_000_000), |text| text.parse())?;
    let (history, stores) = make(records)?;
    let path = std::env::temp_dir().join(format!("check_history-{}.jsonl", std::process::id()));

    let started = Instant::now();
    let mut writer = HistoryWriter::create(&path)?;
    history.records().iter().try_for_each(|record| writer.append(record))?;
    writer.flush()?;
    let (written, bytes) = (started.elapsed(), std::fs::metadata(&path)?.len());

    let started = Instant::now();
    let read = History::read(&path);
    let took = started.elapsed();
    std::fs::remove_file(&path)?;
    println!("written in {written:.2?} ({bytes} bytes), read in {took:.2?}");

    let read = read?;
    let started = Instant::now();
    let report = check(&read, &stores, &Options { settled_within: 0, ..Options::default() });
    println!("checked in {:.2?}\n{report}", started.elapsed());
    if report.is_clean() { Ok(()) } else { Err("a clean history was found wanting".into()) }
}

/// Operations take effect one after the other; each began a little before and ended a little after.
fn make(records: u64) -> Result<(History, Stores), Box<dyn Error>> {
    let mut random = Random::new(7);
    let mut history = History::new();
    let mut states: HashMap<Pair, PairState> = HashMap::new();
    let mut counts = HashMap::new();
    let mut ledger = Vec::new();
    for call in 1..=records {
        let effect = call * APART + SPREAD;
        // A third of all on few pairs.
        let (users, resources) = if random.below(3) == 0 { (16, 4) } else { (50_000, 1_000) };
        let pair = Pair::new(
            1 + random.below(users).cast_signed(),
            ResourceType::Video,
            1 + random.below(resources).cast_signed(),
        )?;
        let action = Action::from_liked(random.below(2) == 0);
        let kind = match random.below(10) {
            0 => Kind::State,
            1 => Kind::Count,
            _ => Kind::Word(action),
        };
        let is_word = matches!(kind, Kind::Word(_));
        let unanswered = is_word && random.below(12) == 0;
        let state = states.entry(pair).or_default();
        let count: &mut i64 = counts.entry(pair.resource).or_default();
        let key: Option<Box<str>> = (is_word && random.below(2) == 0).then(|| format!("key-{call}").into());
        let takes_effect = is_word && !(unanswered && random.below(2) == 0);
        let changed = takes_effect && state.liked != action.liked();
        if changed {
            *count += i64::from(action.liked()) - i64::from(state.liked);
            *state = PairState { liked: action.liked(), version: Version(effect.cast_signed()) };
            let version = state.version;
            ledger.push(Entry { pair, action, version, key: key.clone(), direct: false, dead: false });
        }
        let answer = match kind {
            Kind::Count => Answer { count: Some(*count), ..Answer::default() },
            _ => Answer { liked: state.liked, version: state.version, changed, degraded: false, count: Some(*count) },
        };
        history.push(Record {
            call,
            item: 0,
            logical: call,
            device: pair.user.get() as u32,
            server: random.below(3) as u32,
            kind,
            user: (kind != Kind::Count).then_some(pair.user),
            resource: pair.resource,
            key,
            begin: effect - random.below(SPREAD),
            end: effect + random.below(SPREAD),
            limit: 2 * SPREAD,
            outcome: if unanswered { Outcome::Abandoned } else { Outcome::Answered(answer) },
        });
    }
    let rows: Vec<PairRow> = states.into_iter().map(|(pair, state)| PairRow { pair, state }).collect();
    let counts = counts.into_iter().collect();
    Ok((history, Stores { cached: rows.clone(), rows: Some(rows), ledger: Some(ledger), counts, ..Stores::default() }))
}
