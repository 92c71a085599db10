//! Applies all rules to one pair, and what is excused of it.
//!
//! An excuse takes back every answer about the pair that ended within its window: those words may or may not have taken
//! effect, those reads were never made. What is wrong even so is a violation; what is right then was excused.

use super::case::{Case, Finding};
use super::{Excuse, Report, batch, effects, last_word, ledger, order, reader, states};
use crate::history::Record;

/// A judged pair: what it was like, and whether its states are not to be trusted.
pub(super) fn judge<'a>(case: Case<'a>, excuses: &[&Excuse], report: &mut Report) -> (Judged<'a>, bool) {
    let again = (!excuses.is_empty()).then(|| case.clone());
    let strict = apply(case);
    count(&strict, report);
    let pair = strict.case.pair;
    let spoiled = strict.case.findings.iter().any(|finding| finding.excuse.is_none());
    let mut rest: Vec<Finding<'a>> = strict.case.findings.clone();
    if let Some(again) = again.filter(|_| spoiled) {
        let lenient = apply(taken_back(again, excuses));
        let excused: Vec<Finding<'a>> = rest
            .iter()
            .filter(|finding| finding.excuse.is_none() && !contains(&lenient.case.findings, finding))
            .cloned()
            .collect();
        if !excused.is_empty() {
            for finding in &excused {
                report.excuse(finding.violation(pair), reason(finding, excuses));
            }
            rest = lenient.case.findings;
        }
    }
    for finding in &rest {
        match finding.excuse {
            Some(why) => report.excuse(finding.violation(pair), why),
            None => report.violate(finding.violation(pair)),
        }
    }
    // What was lost unanswered was counted until then, and nothing shows it any more.
    let lost_something = !excuses.is_empty();
    (strict, spoiled || lost_something)
}

/// A pair to which the rules were applied.
pub(super) struct Judged<'a> {
    pub(super) case: Case<'a>,
    pub(super) orphans: Vec<effects::Orphan>,
    explained: u64,
}

fn apply(mut case: Case<'_>) -> Judged<'_> {
    order::check(&mut case);
    last_word::check(&mut case);
    batch::check(&mut case);
    states::check(&mut case);
    let (orphans, explained) = effects::check(&mut case);
    ledger::check(&mut case);
    reader::check(&mut case);
    Judged { case, orphans, explained }
}

fn taken_back<'a>(mut case: Case<'a>, excuses: &[&Excuse]) -> Case<'a> {
    let is_excused = |record: &Record| excuses.iter().any(|excuse| covers(excuse, record));
    for word in case.words.iter_mut().filter(|word| word.answer.is_some() && is_excused(word.record)) {
        case.forgiven.extend(word.answer.take().map(|answer| answer.version));
        (word.begin, word.from) = (word.record.begin, word.record.begin);
    }
    let forgiven = case.reads.iter().filter(|read| is_excused(read.record)).map(|read| read.answer.version);
    case.forgiven.extend(forgiven);
    case.reads.retain(|read| !is_excused(read.record));
    case
}

fn covers(excuse: &Excuse, record: &Record) -> bool {
    (excuse.begin..=excuse.end).contains(&record.end)
}

fn contains(findings: &[Finding<'_>], wanted: &Finding<'_>) -> bool {
    findings
        .iter()
        .any(|finding| finding.excuse.is_none() && (finding.rule, &finding.what) == (wanted.rule, &wanted.what))
}

fn reason<'e>(finding: &Finding<'_>, excuses: &[&'e Excuse]) -> &'e str {
    let named = excuses.iter().find(|excuse| finding.records.iter().any(|record| covers(excuse, record)));
    named.or(excuses.first()).map_or("", |excuse| &excuse.reason)
}

fn count(judged: &Judged<'_>, report: &mut Report) {
    let Judged { case, orphans, explained } = judged;
    let coverage = &mut report.coverage;
    let unanswered = case.words.iter().filter(|word| word.answer.is_none()).count() as u64;
    coverage.orphans += orphans.len() as u64;
    coverage.unanswered_with_effect += explained;
    coverage.unanswered_without_effect += unanswered.saturating_sub(*explained);
    for (word, answer) in case.answered() {
        coverage.repeated_answers += u64::from(word.repeats_answer);
        coverage.retried_with_key += u64::from(word.repeats() && !word.repeats_answer);
        coverage.direct_writes += u64::from(answer.degraded && answer.changed);
    }
    let entries = case.stored.ledger.unwrap_or_default();
    let before = Some(case.stored.before.liked);
    let states = entries.iter().map(|entry| Some(entry.action.liked()));
    coverage.rewrites += [before].into_iter().chain(states.clone()).zip(states).filter(|(a, b)| a == b).count() as u64;
    let mut calls: Vec<u64> = case.words.iter().map(|word| word.record.call).collect();
    calls.sort_unstable();
    coverage.batched_together += calls.windows(2).filter(|two| two[0] == two[1]).count() as u64;
}
