//! Names and meanings of the checker's metrics, in one place.

use crate::finding::{Kind, RepairAction, RepairNote, RepairResult, Verdict};
use ::metrics::{counter, describe_counter, describe_gauge, gauge};

/// The kinds of runs.
const RUNS: [&str; 3] = ["full", "hot", "demand"];

/// Shows what alerts ask for from the start, at zero: what appears with its first increase has, for Prometheus, not grown.
pub(crate) fn register() {
    describe_counter!("interaction_consistency_checked_total", "Things compared by the checkers");
    describe_counter!("interaction_consistency_found_total", "Inconsistencies seen by the checkers");
    describe_counter!("interaction_consistency_repairs_total", "What was done about inconsistencies");
    describe_gauge!(
        "interaction_consistency_coverage",
        "Share of the known resources seen by the current or last full sweep"
    );
    RUNS.into_iter().for_each(|run| compared(run, 0));
    for kind in Kind::ALL {
        for verdict in Verdict::ALL.into_iter().filter(|verdict| verdict.is_wrong()) {
            counter!("interaction_consistency_found_total", "kind" => kind.name(), "verdict" => verdict.name())
                .increment(0);
        }
    }
    for action in [RepairAction::Nothing, RepairAction::Restore] {
        repairs(action, RepairResult::Reported, 0);
    }
}

/// `interaction_consistency_checked_total{run}`: things compared.
pub(crate) fn compared(run: &'static str, things: u64) {
    counter!("interaction_consistency_checked_total", "run" => run).increment(things);
}

/// `interaction_consistency_found_total{kind,verdict}`: inconsistencies.
pub(crate) fn found(kind: Kind, verdict: Verdict) {
    counter!("interaction_consistency_found_total", "kind" => kind.name(), "verdict" => verdict.name()).increment(1);
}

/// `interaction_consistency_repairs_total{action,outcome}`: what was done about them.
pub(crate) fn repaired(repair: &RepairNote) {
    repairs(repair.action, repair.outcome, 1);
}

fn repairs(action: RepairAction, outcome: RepairResult, number: u64) {
    counter!("interaction_consistency_repairs_total", "action" => action.name(), "outcome" => outcome.name())
        .increment(number);
}

/// `interaction_consistency_coverage`: share of the known resources that the current or last full sweep has seen.
pub(crate) fn coverage(share: f64) {
    gauge!("interaction_consistency_coverage").set(share);
}
