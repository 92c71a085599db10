//! What came out.

use serde_json::{Value, json};
use std::collections::BTreeMap;

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
    /// As `syncctl verify` printed it, with the excused losses allowed.
    pub(crate) verify: Value,
    /// Pairs that Redis lost while they were nowhere else.
    pub(crate) excused: usize,
    /// Excused pairs that were not lost after all.
    pub(crate) wrongly_excused: Vec<String>,
    pub(crate) panics: Vec<String>,
    /// Processes that did not end in order when asked to.
    pub(crate) bad_exits: Vec<String>,
    /// MiB.
    pub(crate) memory: BTreeMap<String, u64>,
    pub(crate) rss_limit_mib: u64,
    pub(crate) converge_limit: f64,
    pub(crate) skew: bool,
}

impl Report {
    fn problems(&self, kinds: &[&str]) -> u64 {
        kinds.iter().map(|kind| self.verify["problems"][kind]["count"].as_u64().unwrap_or(0)).sum()
    }

    fn lost(&self) -> u64 {
        self.problems(&["lost", "missing_behaviour", "missing_ledger"])
    }

    fn doubled(&self) -> u64 {
        self.problems(&["extra", "duplicate_behaviour", "extra_behaviour", "duplicate_ledger"])
    }

    fn wrong_counters(&self) -> u64 {
        self.problems(&["wrong_count", "wrong_cached_count"])
    }

    fn other(&self) -> u64 {
        self.problems(&["not_quiet", "wrong_cached_pair", "wrong_fold", "unfinished_ledger", "dead_ledger"])
    }

    fn slowest(&self) -> f64 {
        self.heals.iter().filter_map(|heal| heal.converged.as_ref().ok()).fold(0.0, |most, s| most.max(*s))
    }

    /// One line each; none when all was well.
    pub(crate) fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
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
        failures.extend(self.wrongly_excused.iter().map(|pair| format!("excused, but not lost: {pair}")));
        failures.extend(self.panics.iter().map(|line| format!("panic: {line}")));
        failures.extend(self.bad_exits.iter().map(|name| format!("{name} did not stop in order")));
        for (name, mib) in &self.memory {
            if (name.starts_with("server") || name.starts_with("consumer")) && *mib > self.rss_limit_mib {
                failures.push(format!("{name} used {mib} MiB, more than {}", self.rss_limit_mib));
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
            "lost": self.lost(),
            "excused": self.excused,
            "doubled": self.doubled(),
            "wrong_counters": self.wrong_counters(),
            "other_problems": self.other(),
            "heals": heals,
            "slowest_convergence_s": self.slowest(),
            "longest_gap_ms": self.load["longest_gap_ms"],
            "memory_mib": self.memory,
            "clock_skew": self.skew,
            "failures": self.failures(),
            "load": self.load,
            "verify": self.verify,
        })
    }
}

/// The table, for people.
#[expect(clippy::print_stdout, reason = "the result of the program")]
pub(crate) fn print(report: &Report) {
    let row = |name: &str, value: String| println!("  {name:<40}{value:>12}");
    println!("seed {}, {} s", report.seed, report.seconds);
    row("operations acknowledged", report.load["acknowledged"].to_string());
    for (kind, count) in &report.faults {
        row(&format!("fault: {kind}"), count.to_string());
    }
    row("lost", report.lost().to_string());
    row("lost by two stores at once (excused)", report.excused.to_string());
    row("doubled", report.doubled().to_string());
    row("wrong counters", report.wrong_counters().to_string());
    row("other problems", report.other().to_string());
    row("panics", report.panics.len().to_string());
    row("rounds healed", report.heals.len().to_string());
    row("slowest convergence after a heal", format!("{:.1} s", report.slowest()));
    row("quiet after the load ended", format!("{} s", report.verify["waited_s"]));
    row("longest time without accepted likes", format!("{} ms", report.load["longest_gap_ms"]));
    for (name, mib) in &report.memory {
        row(&format!("peak memory of {name}"), format!("{mib} MiB"));
    }
    if !report.skew {
        println!("  libfaketime is not installed (apt-get install faketime): no server with a wrong clock");
    }
    for failure in report.failures() {
        println!("FAILED: {failure}");
    }
    if report.failures().is_empty() {
        println!("all stores agree with what was acknowledged");
    }
}
