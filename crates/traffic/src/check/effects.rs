//! R4: a ledger entry that no word was told of as its change took effect within an unanswered attempt's
//! `[begin, begin + limit]`, each attempt's at most once, in an order that all answers and the items of a call agree with.
//!
//! When it took effect follows from the answers: after the begin of every word that found or made an older state, before
//! the end of everything that saw this state or a newer one. Versions are given in the order of the effects.
//!
//! An answer of the database alone that is "unchanged" counts as unanswered: the wish had reached the cache, too. So does one
//! that names a change which somebody else was told is theirs: the wish's own came just before.

use super::Rule;
use super::case::{Case, Word};
use super::order::Bounds;
use super::place::{self, Candidate, Effect};
use crate::history::Record;
use domain::Version;

/// A change that nobody was told of, and when it took effect.
#[derive(Debug, Clone, Copy)]
pub(super) struct Orphan {
    pub(super) version: Version,
    pub(super) from: u64,
    pub(super) to: u64,
}

/// Orphans, and how many of them an attempt explains.
pub(super) fn check(case: &mut Case<'_>) -> (Vec<Orphan>, u64) {
    let effects = effects(case);
    if effects.is_empty() {
        return (Vec::new(), 0);
    }
    let candidates = candidates(case);
    let placed = place::place(&effects, &candidates, true);
    let all_but_order = || place::place(&effects, &candidates, false).iter().all(Option::is_some);
    let rule = if placed.iter().any(Option::is_none) && all_but_order() { Rule::R2 } else { Rule::R4 };
    let mut wrong = Vec::new();
    for (effect, _) in effects.iter().zip(&placed).filter(|(_, placed)| placed.is_none()) {
        wrong.push(match rule {
            Rule::R2 => {
                let fitting = candidates.iter().find(|candidate| candidate.fits(effect));
                let what = format!("version {} took effect out of the order of its call's items", effect.version);
                (what, fitting.map(|candidate| candidate.record).into_iter().collect())
            }
            _ => explain(case, effect, &candidates),
        });
    }
    for (what, records) in wrong {
        case.find(rule, what, records);
    }
    let explained = placed.iter().flatten().count() as u64;
    (effects.iter().map(|effect| orphan(effect, &candidates)).collect(), explained)
}

fn effects<'a>(case: &Case<'a>) -> Vec<Effect<'a>> {
    let Some(entries) = case.stored.ledger else { return Vec::new() };
    let mut told: Vec<Version> =
        case.answered().filter(|(_, answer)| answer.changed).map(|(_, answer)| answer.version).collect();
    told.extend(&case.forgiven);
    told.sort_unstable();
    let orphans = entries
        .chunk_by(|a, b| a.version == b.version)
        .filter_map(|same| same.first())
        .filter(|entry| entry.version > case.stored.before.version && told.binary_search(&entry.version).is_err());
    let mut orphans = orphans.peekable();
    if orphans.peek().is_none() {
        return Vec::new();
    }
    let bounds = Bounds::new(case);
    orphans
        .map(|entry| {
            let to = bounds.not_after(entry.version);
            let by_clock = case.options.version_at_zero.map_or(0, |zero| entry.version.0.saturating_sub(zero.0));
            let from = bounds.not_before(entry.version).max(u64::try_from(by_clock).unwrap_or(0));
            // Where they cross, answers contradict each other, and R1 says so.
            let from = from.min(to);
            Effect { version: entry.version, liked: entry.action.liked(), key: entry.key.as_deref(), from, to }
        })
        .collect()
}

fn candidates<'a>(case: &Case<'a>) -> Vec<Candidate<'a>> {
    let told_another = |word: &Word<'a>, version| {
        case.answered().any(|(other, answer)| {
            answer.changed && answer.version == version && !std::ptr::eq(other.record, word.record)
        })
    };
    let may_be = |word: &&Word<'a>| {
        word.answer.is_none_or(|answer| answer.degraded && (!answer.changed || told_another(word, answer.version)))
    };
    let mut candidates: Vec<Candidate<'a>> = case
        .words
        .iter()
        .filter(may_be)
        .map(|word| Candidate {
            record: word.record,
            liked: word.action.liked(),
            begin: word.record.begin,
            latest: word.latest,
            above: Version::ZERO,
            below: Version::MAX,
            alone: true,
        })
        .collect();
    let mut words: Vec<&Word<'a>> = case.words.iter().collect();
    words.sort_by_key(|word| word.record.call);
    for candidate in &mut candidates {
        let (call, item) = (candidate.record.call, candidate.record.item);
        let first = words.partition_point(|word| word.record.call < call);
        let siblings = words[first..].iter().take_while(|word| word.record.call == call);
        for sibling in siblings.filter(|word| word.record.item != item) {
            candidate.alone = false;
            match sibling.version() {
                Some(version) if sibling.record.item < item => candidate.above = candidate.above.max(version),
                // A repeated answer is an earlier call's.
                Some(version) if !sibling.repeats() => candidate.below = candidate.below.min(version),
                _ => {}
            }
        }
    }
    candidates
}

/// Why nothing fits.
fn explain<'a>(case: &Case<'a>, effect: &Effect<'_>, candidates: &[Candidate<'a>]) -> (String, Vec<&'a Record>) {
    let Effect { version, from, to, .. } = *effect;
    let action = if effect.liked { "like" } else { "unlike" };
    let asked: Vec<&Candidate<'a>> = candidates.iter().filter(|candidate| candidate.asks_for(effect)).collect();
    let saw = case.answered().filter(|(_, answer)| answer.version < version).max_by_key(|(word, _)| word.from);
    let saw = saw.map(|(word, _)| word.record);
    if asked.is_empty() {
        return (format!("invented: no unanswered attempt asked for the {action} of version {version}"), Vec::new());
    }
    if asked.iter().any(|candidate| candidate.fits(effect)) {
        let records = asked.iter().map(|candidate| candidate.record).take(4).collect();
        return (
            format!("invented: the {action} of version {version} is one more than unanswered attempts allow"),
            records,
        );
    }
    if let Some(last) =
        asked.iter().filter(|candidate| candidate.latest < from).max_by_key(|candidate| candidate.latest)
    {
        let late = from - last.latest;
        let what = format!(
            "late: the {action} of version {version} took effect at least {late} us after the limit of its attempt"
        );
        return (what, [last.record].into_iter().chain(saw).collect());
    }
    let records = asked.iter().map(|candidate| candidate.record).take(4).collect();
    (format!("invented: the {action} of version {version} was there at {to}, before it was asked for"), records)
}

fn orphan(effect: &Effect<'_>, candidates: &[Candidate<'_>]) -> Orphan {
    let fitting = || candidates.iter().filter(|candidate| candidate.fits(effect));
    let first = fitting().map(|candidate| candidate.begin).min().unwrap_or(0);
    let last = fitting().map(|candidate| candidate.latest).max().unwrap_or(u64::MAX);
    Orphan { version: effect.version, from: effect.from.max(first), to: effect.to.min(last) }
}
