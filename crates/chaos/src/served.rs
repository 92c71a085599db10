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
    /// Answered words about shards of other primaries.
    pub(crate) others: Share,
    /// Answered words about the shards that it had.
    pub(crate) own: Share,
    /// Words that got no answer, though their callers waited: on a busy machine they say more about the machine.
    pub(crate) unanswered: u64,
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
    /// All of nothing.
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
    let words: Vec<&Record> = records.iter().filter(|record| matches!(record.kind, Kind::Word(_))).collect();
    for absence in absences {
        for word in words.iter().filter(|word| (absence.begin..absence.end).contains(&word.begin)) {
            let degraded = match &word.outcome {
                Outcome::Answered(answer) => answer.degraded,
                Outcome::Refused | Outcome::Unknown => {
                    // With a server its calls are gone.
                    served.unanswered += u64::from(!absence.half);
                    continue;
                }
                // Whoever went away, or hardly waited, was not badly served.
                Outcome::Abandoned | Outcome::Cancelled => continue,
            };
            if degraded {
                let after = word.end.saturating_sub(absence.elected) as f64 / 1e6;
                let last = if absence.half { &mut served.degraded_after_half } else { &mut served.degraded_after };
                *last = last.max(after);
            }
            let is_own = absence.shards.contains(&shards.of(word.resource).0);
            let share = if is_own { &mut served.own } else { &mut served.others };
            share.words += 1;
            share.undegraded += u64::from(!degraded);
        }
    }
    served
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::Action;
    use test_support::build::video_pair;
    use traffic::history::Answer;

    fn word(video: i64, begin: u64, outcome: Outcome) -> Record {
        let (resource, kind) = (video_pair(1, video).resource, Kind::Word(Action::Like));
        let (call, item, logical, device, server, user, key) = (begin, 0, begin, 0, 0, None, None);
        let (end, limit) = (begin + 10, 100);
        Record { call, item, logical, device, server, kind, user, resource, key, begin, end, limit, outcome }
    }

    const fn answered(degraded: bool) -> Outcome {
        let version = domain::Version(1);
        Outcome::Answered(Answer { liked: true, version, changed: true, degraded, count: None })
    }

    #[test]
    fn words_count_by_their_shard_while_a_primary_is_away() {
        let lost = ShardCount::default().of(word(1, 0, Outcome::Refused).resource).0;
        let other = (2..).find(|video| ShardCount::default().of(word(*video, 0, Outcome::Refused).resource).0 != lost);
        let other = other.unwrap();
        let (elected, shards) = (1_000_000, vec![lost]);
        let absence = Absence { begin: 100, elected, end: 9_000_000, shards, half: false };
        let records = [
            word(1, 99, answered(true)),
            word(1, 200, answered(true)),
            word(1, 3_000_000, answered(true)),
            word(1, 4_000_000, answered(false)),
            word(other, 200, answered(false)),
            word(other, 300, answered(true)),
            word(other, 400, Outcome::Refused),
            word(other, 500, Outcome::Abandoned),
            word(other, 9_000_000, answered(true)),
        ];
        let served = count(&records, &[absence]);
        assert_eq!(served.own, Share { words: 3, undegraded: 1 });
        assert_eq!(served.others, Share { words: 2, undegraded: 1 });
        assert_eq!((served.unanswered, served.degraded_after, served.degraded_after_half), (1, 2.00001, 0.0));
        assert_eq!((served.others.percent(), Share::default().percent()), (50.0, 100.0));
    }
}
