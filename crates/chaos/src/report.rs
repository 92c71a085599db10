//! What came out.

use crate::notice::Notice;
use crate::served::Served;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Violations shown of each rule.
const SHOWN: usize = 3;

/// What breaks each rule.
const RULES: [(&str, &str); 7] = [
    ("R1", "an older word after a newer one"),
    ("R2", "words of a call out of order"),
    ("R3", "one version, two states"),
    ("R4", "late or invented"),
    ("R5", "lost or doubled"),
    ("R6", "reads that go back"),
    ("R7", "wrong counts"),
];

/// How one round of faults ended.
#[derive(Debug)]
pub(crate) struct Heal {
    /// What was healed.
    pub(crate) faults: String,
    /// Seconds until all was well, or what was not.
    pub(crate) converged: Result<f64, String>,
}

#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) seconds: u64,
    pub(crate) faults: BTreeMap<&'static str, u64>,
    pub(crate) heals: Vec<Heal>,
    /// As `syncctl load` printed it.
    pub(crate) load: Value,
    /// As `syncctl verify` printed it.
    pub(crate) verify: Value,
    /// What may be lost: a line of the file of excuses each.
    pub(crate) excuses: Vec<String>,
    /// What a fault found wrong while it lasted.
    pub(crate) findings: Vec<String>,
    /// What a fault has to tell.
    pub(crate) notes: Vec<String>,
    /// How failovers of the database were noticed.
    pub(crate) notices: Vec<Notice>,
    pub(crate) notice_limit: f64,
    /// How words were answered while primaries of a cluster were away.
    pub(crate) served: Option<Served>,
    /// Seconds until the half that was left worked as usual.
    pub(crate) halves: Vec<f64>,
    pub(crate) half_limit: f64,
    /// Percent.
    pub(crate) undegraded: f64,
    /// Faults that this machine cannot bring about, and why.
    pub(crate) unavailable: Vec<String>,
    pub(crate) panics: Vec<String>,
    /// Processes that did not end in order when asked to.
    pub(crate) bad_exits: Vec<String>,
    /// MiB.
    pub(crate) memory: BTreeMap<String, u64>,
    pub(crate) rss_limit_mib: u64,
    pub(crate) converge_limit: f64,
}

impl Report {
    fn problems(&self, kinds: &[&str]) -> u64 {
        kinds.iter().map(|kind| self.verify["problems"][kind]["count"].as_u64().unwrap_or(0)).sum()
    }

    fn broken(&self, rule: &str) -> u64 {
        self.verify["broken"][rule].as_u64().unwrap_or(0)
    }

    fn other(&self) -> u64 {
        let behaviours = ["missing_behaviour", "duplicate_behaviour", "extra_behaviour"];
        let rest = ["not_quiet", "wrong_cached_count", "unfinished_ledger", "dead_ledger"];
        self.problems(&behaviours) + self.problems(&rest)
    }

    fn excused(&self) -> u64 {
        let reasons = self.verify["excused_by_reason"].as_object();
        reasons.into_iter().flatten().filter_map(|(_, number)| number.as_u64()).sum()
    }

    /// The first violations of each rule, with the records that show them.
    fn violations(&self) -> Vec<String> {
        let mut shown = BTreeMap::<&str, usize>::new();
        let mut lines = Vec::new();
        for violation in self.verify["violations"].as_array().into_iter().flatten() {
            let rule = violation["rule"].as_str().unwrap_or_default();
            let seen = shown.entry(rule).or_default();
            *seen += 1;
            if *seen <= SHOWN {
                let about = if violation["pair"].is_null() { &violation["resource"] } else { &violation["pair"] };
                let mut line = format!("{rule}: {about}: {}", violation["what"].as_str().unwrap_or_default());
                for record in violation["records"].as_array().into_iter().flatten() {
                    line += &format!("\n    {}", record.as_str().unwrap_or_default());
                }
                lines.push(line);
            }
        }
        lines
    }

    fn slowest(&self) -> f64 {
        self.heals.iter().filter_map(|heal| heal.converged.as_ref().ok()).fold(0.0, |most, s| most.max(*s))
    }

    /// One line each; none when all was well.
    pub(crate) fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for rule in RULES.iter().filter(|(rule, _)| self.broken(rule) > 0) {
            failures.push(format!("{} is broken {} times: {}", rule.0, self.broken(rule.0), rule.1));
        }
        failures.extend(self.violations());
        if self.verify["strict"] == true && self.verify["vacuous"].as_array().is_none_or(|missing| !missing.is_empty())
        {
            failures.push(format!("vacuous: {}", self.verify["vacuous"]));
        }
        if let Some(problems) = self.verify["problems"].as_object() {
            failures.extend(problems.iter().map(|(kind, finding)| format!("{kind}: {finding}")));
        } else {
            failures.push(format!("verify answered {}", self.verify));
        }
        for heal in &self.heals {
            match &heal.converged {
                Ok(seconds) if *seconds <= self.converge_limit => {}
                Ok(seconds) => failures.push(format!("after {}: converged only after {seconds:.1} s", heal.faults)),
                Err(problem) => failures.push(format!("after {}: not converged: {problem}", heal.faults)),
            }
        }
        if self.load["acknowledged"].as_u64().unwrap_or(0) == 0 {
            failures.push(format!("no operation was acknowledged: {}", self.load));
        }
        if self.load["failed"].as_object().is_none_or(|failed| !failed.is_empty()) {
            failures.push(format!("refused for good: {}", self.load["failed"]));
        }
        let late = self.notices.iter().filter(|notice| notice.slowest() > self.notice_limit);
        failures.extend(late.map(|notice| format!("a failover of the database was noticed late: {notice}")));
        failures.extend(self.of_the_cluster());
        failures.extend(self.findings.iter().cloned());
        failures.extend(self.panics.iter().map(|line| format!("panic: {line}")));
        failures.extend(self.bad_exits.iter().map(|name| format!("{name} did not stop in order")));
        for (name, mib) in &self.memory {
            if (name.starts_with("server") || name.starts_with("consumer")) && *mib > self.rss_limit_mib {
                failures.push(format!("{name} used {mib} MiB, more than {}", self.rss_limit_mib));
            }
        }
        failures
    }

    fn of_the_cluster(&self) -> Vec<String> {
        let mut failures = Vec::new();
        let late = self.halves.iter().filter(|seconds| **seconds > self.half_limit);
        failures.extend(late.map(|seconds| format!("half of all was lost: well only after {seconds:.1} s")));
        if let Some(served) = self.served {
            if served.others.percent() < self.undegraded {
                failures.push(format!("a primary was away: of other shards' words undegraded {}", served.others));
            }
            if served.degraded_after_half > self.half_limit {
                failures.push(format!("half of all was lost: degraded after {:.1} s", served.degraded_after_half));
            }
        }
        failures
    }

    pub(crate) fn to_json(&self) -> Value {
        let heals: Vec<Value> = self
            .heals
            .iter()
            .map(|heal| match &heal.converged {
                Ok(seconds) => json!({ "faults": heal.faults, "converged_s": seconds }),
                Err(problem) => json!({ "faults": heal.faults, "problem": problem }),
            })
            .collect();
        json!({
            "seed": self.seed,
            "seconds": self.seconds,
            "acknowledged": self.load["acknowledged"],
            "faults": self.faults,
            "broken": self.verify["broken"],
            "excused": self.verify["excused_by_reason"],
            "other_problems": self.other(),
            "heals": heals,
            "slowest_convergence_s": self.slowest(),
            "longest_gap_ms": self.load["longest_gap_ms"],
            "memory_mib": self.memory,
            "excuses": self.excuses,
            "notes": self.notes,
            "noticed_s": self.notices.iter().map(|notice| &notice.after).collect::<Vec<_>>(),
            "undegraded_percent_of_other_primaries": self.served.map(|served| served.others.percent()),
            "undegraded_percent_of_the_lost_primary": self.served.map(|served| served.own.percent()),
            "unanswered_while_a_primary_was_away": self.served.map(|served| served.unanswered),
            "last_degraded_after_election_s": self.served.map(|served| served.degraded_after),
            "last_degraded_after_half_was_lost_s": self.served.map(|served| served.degraded_after_half),
            "half_lost_well_after_s": self.halves,
            "unavailable": self.unavailable,
            "failures": self.failures(),
            "load": self.load,
            "verify": self.verify,
        })
    }
}

/// What the run contained that could have gone wrong, and what is excused.
#[expect(clippy::print_stdout, reason = "the result of the program")]
fn print_coverage(report: &Report) {
    for (name, number) in report.verify["coverage"].as_object().into_iter().flatten() {
        if number.is_number() {
            println!("  contained: {:<29}{:>12}", name.replace('_', " "), number.to_string());
        }
    }
    println!("  observed by servers: {}", report.verify["coverage"]["observed"]);
    for (reason, number) in report.verify["excused_by_reason"].as_object().into_iter().flatten() {
        println!("  excused {number} times: {reason}");
    }
    println!("  not in this run: {}", report.verify["vacuous"]);
}

/// The table, for people.
#[expect(clippy::print_stdout, reason = "the result of the program")]
pub(crate) fn print(report: &Report) {
    let row = |name: &str, value: String| println!("  {name:<40}{value:>12}");
    println!("seed {}, {} s", report.seed, report.seconds);
    row("words acknowledged", report.load["acknowledged"].to_string());
    for (kind, count) in &report.faults {
        row(&format!("fault: {kind}"), count.to_string());
    }
    for (rule, what) in RULES {
        row(&format!("{rule}: {what}"), report.broken(rule).to_string());
    }
    row("excused", report.excused().to_string());
    row("other problems", report.other().to_string());
    print_coverage(report);
    row("panics", report.panics.len().to_string());
    row("rounds healed", report.heals.len().to_string());
    row("slowest convergence after a heal", format!("{:.1} s", report.slowest()));
    row("quiet after the load ended", format!("{} s", report.verify["waited_s"]));
    row("longest time without accepted likes", format!("{} ms", report.load["longest_gap_ms"]));
    for (name, mib) in &report.memory {
        row(&format!("peak memory of {name}"), format!("{mib} MiB"));
    }
    if let Some(served) = report.served {
        println!(
            "  a primary was away: undegraded words about others' shards {}, about its own {}; {} unanswered",
            served.others, served.own, served.unanswered
        );
        println!(
            "  last degraded answer after an election {:.1} s, with half of all lost {:.1} s",
            served.degraded_after, served.degraded_after_half
        );
    }
    for notice in &report.notices {
        println!("  failover of the database: {notice}");
    }
    for note in &report.notes {
        println!("  {note}");
    }
    for what in &report.unavailable {
        println!("  not available: {what}");
    }
    for failure in report.failures() {
        println!("FAILED: {failure}");
    }
    if report.failures().is_empty() {
        println!("all stores agree with the history");
    }
}
