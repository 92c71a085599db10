//! What was found, for people and for programs.

use domain::Pair;
use std::collections::BTreeMap;
use std::fmt::Display;

/// Examples kept per kind of problem.
const EXAMPLES: usize = 10;

/// Kinds of problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Work was still going on when the wait was over.
    NotQuiet,
    /// Pairs of which an acknowledged change did not reach the database.
    Lost,
    /// Rows that no operation explains.
    Extra,
    /// `like_counts` that differ from the number of liking users.
    WrongCount,
    /// Cached counters that differ from it, or still wait for something.
    WrongCachedCount,
    /// Cached pairs in another state than the last acknowledged one.
    WrongCachedPair,
    /// Acknowledged changes without a behaviour.
    MissingBehaviour,
    /// Changes with more than one behaviour, or one event id twice.
    DuplicateBehaviour,
    /// Behaviours that no operation explains.
    ExtraBehaviour,
    /// Rows that are not the last of their behaviours.
    WrongFold,
    /// Acknowledged changes without a completed ledger row.
    MissingLedger,
    /// Changes with more than one completed ledger row.
    DuplicateLedger,
    /// Ledger rows that are not finished.
    UnfinishedLedger,
    /// Ledger rows that were given up.
    DeadLedger,
}

impl Kind {
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::NotQuiet => "not quiet",
            Self::Lost => "lost",
            Self::Extra => "extra",
            Self::WrongCount => "wrong counts",
            Self::WrongCachedCount => "wrong cached counts",
            Self::WrongCachedPair => "wrong cached pairs",
            Self::MissingBehaviour => "missing behaviours",
            Self::DuplicateBehaviour => "duplicate behaviours",
            Self::ExtraBehaviour => "extra behaviours",
            Self::WrongFold => "rows unlike behaviours",
            Self::MissingLedger => "missing in ledger",
            Self::DuplicateLedger => "twice in ledger",
            Self::UnfinishedLedger => "unfinished in ledger",
            Self::DeadLedger => "dead in ledger",
        }
    }

    const ALL: [Self; 14] = [
        Self::NotQuiet,
        Self::Lost,
        Self::Extra,
        Self::WrongCount,
        Self::WrongCachedCount,
        Self::WrongCachedPair,
        Self::MissingBehaviour,
        Self::DuplicateBehaviour,
        Self::ExtraBehaviour,
        Self::WrongFold,
        Self::MissingLedger,
        Self::DuplicateLedger,
        Self::UnfinishedLedger,
        Self::DeadLedger,
    ];
}

/// Problems of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// How many.
    pub count: u64,
    /// The first few.
    pub examples: Vec<String>,
}

/// Result of a verification.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct VerifyReport {
    /// Operations in the logs.
    pub operations: usize,
    /// Those that were answered.
    pub acknowledged: usize,
    /// Pairs in the logs.
    pub pairs: usize,
    /// Resources in the logs.
    pub resources: usize,
    /// Pairs liked in the end.
    pub liked: u64,
    /// Rows read.
    pub rows: u64,
    /// Behaviours read.
    pub behaviours: u64,
    /// Ledger rows read.
    pub ledger: u64,
    /// Counters found in the cache.
    pub cached_counts: u64,
    /// Pairs found in the cache.
    pub cached_pairs: u64,
    /// Time until all was quiet, in seconds.
    pub waited_s: f64,
    /// Lost pairs that were allowed.
    pub allowed_lost: u64,
    /// Every lost pair, the allowed ones included.
    pub lost_pairs: Vec<Pair>,
    /// Problems.
    pub problems: BTreeMap<Kind, Finding>,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    pub fn is_fine(&self) -> bool {
        self.problems.is_empty()
    }

    /// Number of problems of a kind.
    pub fn count(&self, kind: Kind) -> u64 {
        self.problems.get(&kind).map_or(0, |finding| finding.count)
    }

    pub(super) fn add(&mut self, kind: Kind, example: impl Display) {
        add_to(&mut self.problems, kind, example);
    }

    /// Prints the table.
    pub fn print(&self) {
        println!(
            "{} operations ({} acknowledged) of {} pairs on {} resources; {} liked in the end",
            self.operations, self.acknowledged, self.pairs, self.resources, self.liked
        );
        println!(
            "read {} rows, {} behaviours, {} ledger rows, {} cached counts, {} cached pairs; quiet after {:.1} s",
            self.rows, self.behaviours, self.ledger, self.cached_counts, self.cached_pairs, self.waited_s
        );
        for kind in Kind::ALL {
            println!("  {:<24}{:>10}", kind.title(), self.count(kind));
            for example in self.problems.get(&kind).into_iter().flat_map(|finding| &finding.examples) {
                println!("      {example}");
            }
        }
        if self.allowed_lost > 0 {
            println!("  {:<24}{:>10}", "lost, allowed", self.allowed_lost);
        }
        println!("{}", if self.is_fine() { "all stores agree with the oplogs" } else { "PROBLEMS FOUND" });
    }
}

/// One more of a kind.
pub(super) fn add_to(problems: &mut BTreeMap<Kind, Finding>, kind: Kind, example: impl Display) {
    let finding = problems.entry(kind).or_default();
    finding.count += 1;
    if finding.examples.len() < EXAMPLES {
        finding.examples.push(example.to_string());
    }
}
