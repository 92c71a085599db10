//! What the checker found, for programs and for people.

use super::Coverage;
use crate::history::{History, Record};
use domain::{Pair, Resource};
use std::collections::BTreeMap;
use std::fmt;

/// Most violations of a rule, and most excuses with one reason, that are kept with their records; all are counted.
const KEPT: u64 = 1_000;

/// Most of each that are printed.
const PRINTED: usize = 10;

/// A rule, see [`mod@crate::check`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub enum Rule {
    /// Order of time, and the last word.
    R1,
    /// Order within a call.
    R2,
    /// One version, one state.
    R3,
    /// Changes that nobody was told of.
    R4,
    /// Changes that somebody was told of.
    R5,
    /// One reader on one server.
    R6,
    /// Counts.
    R7,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 7] = [Self::R1, Self::R2, Self::R3, Self::R4, Self::R5, Self::R6, Self::R7];
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A broken rule.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Violation {
    /// Which rule.
    pub rule: Rule,
    /// About which resource.
    pub resource: Resource,
    /// About which pair; none for counts.
    pub pair: Option<Pair>,
    /// What is wrong.
    pub what: String,
    /// The records that show it.
    #[serde(serialize_with = "as_text")]
    pub records: Vec<Record>,
}

/// What would have been a violation.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Excused {
    /// What it would have been.
    pub violation: Violation,
    /// Why it is none.
    pub reason: String,
}

/// The judgement.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Report {
    /// Records of the history.
    pub records: usize,
    /// Faults of the history.
    pub faults: usize,
    /// Pairs that were judged.
    pub pairs: usize,
    /// What the history contains that could have gone wrong.
    pub coverage: Coverage,
    /// The first ones, in the order of resources and pairs.
    pub violations: Vec<Violation>,
    /// The first ones, in the order of resources and pairs.
    pub excused: Vec<Excused>,
    broken: BTreeMap<Rule, u64>,
    #[serde(skip)]
    excuses: BTreeMap<(Rule, String), u64>,
}

impl Report {
    pub(super) fn new(history: &History) -> Self {
        Self { records: history.records().len(), faults: history.faults().len(), ..Self::default() }
    }

    pub(super) fn violate(&mut self, violation: Violation) {
        let broken = self.broken.entry(violation.rule).or_default();
        *broken += 1;
        if *broken <= KEPT {
            self.violations.push(violation);
        }
    }

    pub(super) fn excuse(&mut self, violation: Violation, reason: &str) {
        let excuses = self.excuses.entry((violation.rule, reason.to_owned())).or_default();
        *excuses += 1;
        if *excuses <= KEPT {
            self.excused.push(Excused { violation, reason: reason.to_owned() });
        }
    }

    /// Violations of a rule.
    pub fn broken(&self, rule: Rule) -> u64 {
        self.broken.get(&rule).copied().unwrap_or(0)
    }

    /// Whether no rule is broken.
    pub fn is_clean(&self) -> bool {
        self.broken.is_empty()
    }

    /// The rules that are broken.
    pub fn broken_rules(&self) -> Vec<Rule> {
        self.broken.keys().copied().collect()
    }

    /// Excuses, by rule and reason.
    pub fn excuses(&self) -> impl Iterator<Item = (Rule, &str, u64)> {
        self.excuses.iter().map(|((rule, reason), number)| (*rule, reason.as_str(), *number))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "history: {} records of {} pairs, {} faults", self.records, self.pairs, self.faults)?;
        write!(f, "{}", self.coverage)?;
        if self.is_clean() {
            writeln!(f, "no rule is broken")?;
        }
        for rule in self.broken_rules() {
            writeln!(f, "{rule} is broken {} times:", self.broken(rule))?;
            let shown = self.violations.iter().filter(|violation| violation.rule == rule).take(PRINTED);
            shown.into_iter().try_for_each(|violation| write!(f, "{violation}"))?;
        }
        for (rule, reason, number) in self.excuses() {
            writeln!(f, "{rule} is excused {number} times, because {reason}:")?;
            let shown =
                self.excused.iter().filter(|excused| excused.violation.rule == rule && excused.reason == reason);
            shown.take(PRINTED).try_for_each(|excused| write!(f, "{}", excused.violation))?;
        }
        Ok(())
    }
}

fn as_text<S: serde::Serializer>(records: &[Record], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(records.iter().map(ToString::to_string))
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pair {
            Some(pair) => writeln!(f, "  {pair}: {}", self.what)?,
            None => writeln!(f, "  {}: {}", self.resource, self.what)?,
        }
        self.records.iter().try_for_each(|record| writeln!(f, "    {record}"))
    }
}
