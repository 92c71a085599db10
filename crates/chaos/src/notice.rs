//! How soon the processes notice that a database that was promoted lacks what the old one had confirmed.
//!
//! They say so in their logs, with the time; the first commit on the new primary is in its ledger. Both clocks are this
//! machine's. Processes that began anew meanwhile are left out: they start to look when they start.

use crate::rig::Rig;
use anyhow::{Context, Result};
use std::fmt;
use std::time::Duration;
use test_support::try_eventually;

/// What a process says that notices.
const SAYS: &str = "the database has gone back";

/// So many commits are not lost without somebody who knows of one.
const KNOWN: i64 = 10;

/// After it nobody is waited for any more.
const LIMIT: Duration = Duration::from_secs(10);

/// What a promoted replica lacked, and when it was promoted by its own clock.
#[derive(Debug)]
pub(crate) struct Promotion {
    pub(crate) at: String,
    pub(crate) lost_commits: i64,
}

/// One failover, as it was noticed.
#[derive(Debug, Clone)]
pub(crate) struct Notice {
    pub(crate) lost_commits: i64,
    /// Seconds from the first commit on the new primary until each process said so, the soonest first.
    pub(crate) after: Vec<f64>,
}

impl Notice {
    /// Until the last of them knew.
    pub(crate) fn slowest(&self) -> f64 {
        self.after.last().copied().unwrap_or_default()
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.after.first().copied().unwrap_or_default();
        let (lost, count, slowest) = (self.lost_commits, self.after.len(), self.slowest());
        write!(
            f,
            "{lost} commits were lost; noticed {first:.2} s after the first commit, by {count} within {slowest:.2} s"
        )
    }
}

/// The processes before a failover.
pub(crate) struct Before(Vec<(usize, Option<u32>)>);

impl Before {
    pub(crate) fn look(rig: &Rig) -> Self {
        Self(rig.nodes.iter().map(|node| (node.log().len(), node.process().pid())).collect())
    }

    /// What they said since; none if nothing was lost that anybody need know of.
    pub(crate) async fn noticed(self, rig: &Rig, promotion: Promotion) -> Result<Option<Notice>> {
        let lost_commits = promotion.lost_commits;
        if lost_commits == 0 {
            return Ok(None);
        }
        let same = || rig.nodes.iter().zip(&self.0).filter(|(node, (_, pid))| node.process().pid() == *pid);
        let said = || same().filter_map(|(node, (from, _))| said_at(node.log().get(*from..)?)).collect::<Vec<_>>();
        let all = async || match (said().len(), same().count()) {
            (said, running) if said >= running => Ok(()),
            (said, running) => Err(format!("{said} of {running}")),
        };
        let waited = try_eventually(LIMIT, "everybody knows that the database went back", all).await;
        let said = said();
        if said.is_empty() {
            return if lost_commits < KNOWN { Ok(None) } else { waited.map(|()| None) };
        }
        let Promotion { at, .. } = promotion;
        let times = said
            .iter()
            .map(|time| format!("COALESCE(TIMESTAMPDIFF(MICROSECOND, first, '{time}'), 0)"))
            .collect::<Vec<_>>();
        let query = format!(
            "SELECT {} FROM (SELECT MIN(processed_at) AS first FROM sync_events WHERE processed_at >= '{at}') AS commits",
            times.join(", ")
        );
        let answer = rig.deployment.sql(&query).await?;
        let micros = answer.split_whitespace().map(str::parse).collect::<Result<Vec<i64>, _>>();
        let micros = micros.with_context(|| format!("{query}: {answer:?}"))?;
        // A transaction is dated by its begin, and whoever only looks may know before anybody commits.
        let mut after: Vec<f64> = micros.into_iter().map(|micros| micros.max(0) as f64 / 1e6).collect();
        after.sort_by(f64::total_cmp);
        Ok(Some(Notice { lost_commits, after }))
    }
}

/// The time of the first line that says so, as SQL has it.
fn said_at(log: &str) -> Option<String> {
    let line = log.lines().find(|line| line.contains(SAYS))?;
    let time = line.split_whitespace().next()?.strip_suffix('Z')?;
    Some(time.replace('T', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_says_so_has_the_time() {
        let log = "2026-01-01T00:00:00.1Z  INFO ready\n\
                   2026-01-01T00:00:01.25Z ERROR the database has gone back in time: it lacks commits\n\
                   2026-01-01T00:00:02.25Z ERROR the database has gone back further, or once more\n";
        assert_eq!(said_at(log).as_deref(), Some("2026-01-01 00:00:01.25"));
        assert_eq!(said_at("2026-01-01T00:00:00.1Z  INFO ready\n"), None);
    }

    #[test]
    fn the_slowest_is_the_last() {
        let notice = Notice { lost_commits: 12, after: vec![0.01, 0.5, 1.25] };
        assert_eq!(notice.slowest(), 1.25);
        let text = notice.to_string();
        assert_eq!(text, "12 commits were lost; noticed 0.01 s after the first commit, by 3 within 1.25 s");
    }
}
