//! How words were answered while a primary of a Redis Cluster was away: about shards of others as always.

use anyhow::{Context, Result};
use domain::ShardCount;
use std::fmt;
use std::path::Path;
use traffic::history::{History, Kind, Outcome, Record};

/// A primary was away.
#[derive(Debug, Clone)]
pub(crate) struct Absence {
    /// When it died, by the history's clock.
    pub(crate) begin: u64,
    /// When its replica had taken over.
    pub(crate) elected: u64,
    /// When it was back.
    pub(crate) end: u64,
    /// What it had.
    pub(crate) shards: Vec<u16>,
    /// With half of everything else.
    pub(crate) half: bool,
}

/// What was answered meanwhile.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Served {
    /// Words about shards of other primaries, and how many of them were answered, and not degraded.
    pub(crate) others: Share,
    /// The same of words about the shards that it had.
    pub(crate) own: Share,
    /// Seconds from an election to the last degraded answer.
    pub(crate) degraded_after: f64,
    /// The same while half of everything was away.
    pub(crate) degraded_after_half: f64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) words: u64,
    pub(crate) undegraded: u64,
}

impl Share {
    /// Percent; all of nothing.
    pub(crate) fn percent(self) -> f64 {
        if self.words == 0 { 100.0 } else { self.undegraded as f64 * 100.0 / self.words as f64 }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} % of {}", self.percent(), self.words)
    }
}

/// By the people's history.
pub(crate) fn served(history: &Path, absences: &[Absence]) -> Result<Served> {
    let history = History::read(history).with_context(|| format!("read {}", history.display()))?;
    Ok(count(history.records(), absences))
}

fn count(records: &[Record], absences: &[Absence]) -> Served {
    let shards = ShardCount::default();
    let mut served = Served::default();
    for absence in absences {
        for record in records {
            if !matches!(record.kind, Kind::Word(_)) || !(absence.begin..absence.end).contains(&record.begin) {
                continue;
            }
            let degraded = match &record.outcome {
                Outcome::Answered(answer) => answer.degraded,
                Outcome::Refused | Outcome::Unknown => true,
                // Whoever went away, or hardly waited, was not badly served.
                Outcome::Abandoned | Outcome::Cancelled => continue,
            };
            let is_own = absence.shards.contains(&shards.of(record.resource).0);
            if degraded {
                let after = record.end.saturating_sub(absence.elected) as f64 / 1e6;
                let last = if absence.half { &mut served.degraded_after_half } else { &mut served.degraded_after };
                // With a server its calls are gone; that is not what is meant.
                if record.answer().is_some() || !absence.half {
                    *last = last.max(after);
                }
            }
            // Half of the servers are away, too: then there is only the time to tell.
            if !absence.half {
                let share = if is_own { &mut served.own } else { &mut served.others };
                share.words += 1;
                share.undegraded += u64::from(!degraded);
            }
        }
    }
    served
}
