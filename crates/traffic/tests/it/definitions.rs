//! R6 and R7 by their definitions, moment by moment.

use crate::reference::windows;
use domain::{Pair, Version};
use traffic::check::Stores;
use traffic::history::{Kind, Record};

/// R6 by its definition.
pub(crate) fn reader_goes_back(records: &[Record]) -> bool {
    records.iter().any(|read| {
        let Some(now) = read.answer().filter(|answer| read.kind == Kind::State && !answer.degraded) else {
            return false;
        };
        records.iter().any(|before| {
            let told = before.answer().is_some_and(|answer| {
                let counts = matches!(before.kind, Kind::Word(_)) || (before.kind == Kind::State && !answer.degraded);
                counts && answer.version > now.version
            });
            let session = |record: &Record| (record.pair(), record.device, record.server);
            told && session(before) == session(read) && before.end < read.begin
        })
    })
}

/// How many counts are out of their bounds; for histories in which somebody was told of every change.
pub(crate) fn wrong_counts(records: &[Record], stores: &Stores) -> u64 {
    let told = records.iter().filter_map(|record| {
        let count = record.answer().filter(|answer| !answer.degraded).and_then(|answer| answer.count)?;
        let of_pair: Vec<&Record> = records.iter().filter(|other| other.pair() == record.pair()).collect();
        let begin = match record.kind {
            Kind::Word(_) => windows(record, &of_pair).iter().map(|(begin, _)| *begin).min()?,
            _ => record.begin,
        };
        Some((begin, record.end, count))
    });
    let in_ledger = stores.ledger.iter().flatten().map(|entry| entry.pair);
    let mut pairs: Vec<Pair> = in_ledger.chain(records.iter().filter_map(Record::pair)).collect();
    pairs.sort_unstable();
    pairs.dedup();
    // What is told of a pair whose readers go back is not believed: it may be liked at any time, or not, and any of its changes
    // may have been one to the state that was there already.
    let goes_back = |pair: &Pair| {
        let of_pair: Vec<Record> = records.iter().filter(|record| record.pair() == Some(*pair)).cloned().collect();
        reader_goes_back(&of_pair)
    };
    let (spoiled, pairs): (Vec<Pair>, Vec<Pair>) = pairs.into_iter().partition(goes_back);
    let possible = i64::try_from(spoiled.len()).unwrap_or(i64::MAX);
    let guessed: Vec<(u64, u64, bool)> = spoiled.iter().flat_map(|pair| told_changes(*pair, records)).collect();
    let pairs: Vec<Vec<Change>> = pairs.iter().map(|pair| changes(*pair, records, stores)).collect();
    let is_wrong = |(begin, end, count): &(u64, u64, i64)| {
        let (mut least, mut most) = (0, possible);
        for (.., liked) in guessed.iter().filter(|(from, to, _)| from <= end && to >= begin) {
            (least, most) = if *liked { (least, most + 1) } else { (least - 1, most) };
        }
        for changes in &pairs {
            let states: Vec<bool> = (*begin..=*end).flat_map(|moment| states_at(changes, moment)).collect();
            least += i64::from(states.iter().all(|liked| *liked));
            most += i64::from(states.iter().any(|liked| *liked));
            // A change to the state that was there already.
            for two in changes.windows(2).filter(|two| two[0].liked == two[1].liked) {
                let meets = two[1].earliest <= *end && two[1].latest >= *begin;
                most += i64::from(meets && two[1].liked);
                least -= i64::from(meets && !two[1].liked);
            }
        }
        *count < least.max(0) || *count > most
    };
    told.filter(is_wrong).count() as u64
}

/// Of each word of the pair that changed it, as its caller was told: when, and to what.
fn told_changes(pair: Pair, records: &[Record]) -> Vec<(u64, u64, bool)> {
    let of_pair: Vec<&Record> = records.iter().filter(|record| record.pair() == Some(pair)).collect();
    let words = of_pair.iter().filter(|record| matches!(record.kind, Kind::Word(_)));
    let told = words.filter_map(|record| {
        let liked = record.answer().filter(|answer| answer.changed)?.liked;
        let begin = windows(record, &of_pair).iter().map(|(begin, _)| *begin).min()?;
        Some((begin, record.end, liked))
    });
    told.collect()
}

struct Change {
    liked: bool,
    earliest: u64,
    latest: u64,
}

/// The states that a pair may have at a moment.
fn states_at(changes: &[Change], moment: u64) -> Vec<bool> {
    let ended = |at: usize| changes.get(at + 1).is_some_and(|next| next.latest < moment);
    let may_be = |(at, change): &(usize, &Change)| change.earliest <= moment && !ended(*at);
    changes.iter().enumerate().filter(may_be).map(|(_, change)| change.liked).collect()
}

/// A pair's changes, the first one being that nobody ever touched it.
fn changes(pair: Pair, records: &[Record], stores: &Stores) -> Vec<Change> {
    let of_pair: Vec<&Record> = records.iter().filter(|record| record.pair() == Some(pair)).collect();
    let told = |version: Version| {
        let is_told =
            move |record: &&&Record| record.answer().is_some_and(|told| told.changed && told.version == version);
        of_pair.iter().filter(is_told)
    };
    let mut versions: Vec<(Version, bool)> = stores
        .ledger
        .iter()
        .flatten()
        .filter(|entry| entry.pair == pair)
        .map(|entry| (entry.version, entry.action.liked()))
        .collect();
    versions.sort_unstable();
    let begin = |version| told(version).flat_map(|record| windows(record, &of_pair)).map(|(begin, _)| begin).min();
    let end = |version| told(version).map(|record| record.end).min();
    let change = |(at, (_, liked)): (usize, &(Version, bool))| Change {
        liked: *liked,
        earliest: versions[..=at].iter().filter_map(|(version, _)| begin(*version)).max().unwrap_or(0),
        latest: versions[at..].iter().filter_map(|(version, _)| end(*version)).min().unwrap_or(u64::MAX),
    };
    let untouched = Change { liked: false, earliest: 0, latest: 0 };
    [untouched].into_iter().chain(versions.iter().enumerate().map(change)).collect()
}
