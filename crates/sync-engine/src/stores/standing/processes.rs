//! Which processes say nothing any more. Their words are compared with what they said before, and not with a clock of ours: theirs
//! may be wrong. Time in which nobody looked, or the database hung, is no silence of theirs.

use super::SilentProcess;
use chrono::{DateTime, Utc};
use event_store::ProcessRow;
use std::time::{Duration, Instant};

/// Every process says a word every two seconds; who says none for so long is stopped, or cannot.
const SILENT: Duration = Duration::from_secs(8);

/// From one look to the next there is no more silence than this.
const BETWEEN_LOOKS: Duration = Duration::from_secs(3);

/// Who died longer ago was taken out of service, as far as anybody knows.
const FORGOTTEN: Duration = Duration::from_secs(3_600);

/// A process and for how long it has said nothing new, as far as this process has looked.
#[derive(Debug)]
struct Heard {
    row: ProcessRow,
    silence: Duration,
}

/// The words of all processes, as they were seen last.
#[derive(Debug, Default)]
pub(super) struct Words {
    at: Option<Instant>,
    heard: Vec<Heard>,
}

impl Words {
    /// What all processes said last.
    pub(super) fn saw(&mut self, now: Instant, rows: Vec<ProcessRow>) {
        let since = self.at.replace(now).map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let since = since.min(BETWEEN_LOOKS);
        let silence = |row: &ProcessRow| {
            let same = self.heard.iter().find(|one| {
                let known = &one.row;
                (&known.service, &known.instance, known.seen_at) == (&row.service, &row.instance, row.seen_at)
            });
            same.map_or(Duration::ZERO, |one| one.silence + since)
        };
        self.heard = rows.into_iter().map(|row| Heard { silence: silence(&row), row }).collect();
    }

    pub(super) fn was_heard(&self, now: Instant, within: Duration) -> bool {
        self.at.is_some_and(|at| now.saturating_duration_since(at) < within)
    }

    /// Who is silent, at `wall` by this process's clock.
    pub(super) fn silent(&self, wall: DateTime<Utc>) -> Vec<SilentProcess> {
        let followed = |gone: &ProcessRow| {
            self.heard.iter().any(|Heard { row, .. }| row.service == gone.service && row.started_at > gone.seen_at)
        };
        let mut silent = Vec::new();
        for Heard { row, silence } in &self.heard {
            let by_clock = (wall - row.seen_at).to_std().unwrap_or_default();
            if *silence >= SILENT && by_clock < FORGOTTEN && !followed(row) {
                let (service, instance) = (row.service.clone(), row.instance.clone());
                silent.push(SilentProcess { service, instance, silence: by_clock.max(*silence) });
            }
        }
        silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap_or_default()
    }

    fn row(instance: &str, started: i64, seen: i64) -> ProcessRow {
        let (service, instance) = ("sync-consumer".to_owned(), instance.to_owned());
        let (version, status) = (String::new(), "ok".to_owned());
        ProcessRow { service, instance, version, status, detail: None, started_at: at(started), seen_at: at(seen) }
    }

    fn names(words: &Words, wall: i64) -> Vec<(String, u64)> {
        words.silent(at(wall)).into_iter().map(|one| (one.instance, one.silence.as_secs())).collect()
    }

    #[test]
    fn who_says_nothing_new_is_silent_whatever_the_clocks_say() {
        let (mut words, start) = (Words::default(), Instant::now());
        let mut look = |second: u32, rows| {
            words.saw(start + second * Duration::from_secs(1), rows);
            names(&words, 1_000 + i64::from(second))
        };
        // The second one's clock is an hour ahead, the third one's a minute behind.
        let talking = |second: u32| vec![row("b", 9, 4_600 + i64::from(second)), row("c", 9, 940 + i64::from(second))];
        for second in (0..8).step_by(2) {
            assert_eq!(look(second, [vec![row("a", 0, 999)], talking(second)].concat()), []);
        }
        assert_eq!(look(8, [vec![row("a", 0, 999)], talking(8)].concat()), [("a".to_owned(), 9)]);
        // It is heard again.
        assert_eq!(look(10, [vec![row("a", 0, 1_009)], talking(10)].concat()), []);
        // Nobody looked for a minute: that is no silence of anybody.
        assert_eq!(look(70, [vec![row("a", 0, 1_009)], talking(10)].concat()), []);
    }

    #[test]
    fn who_has_a_follower_or_died_long_ago_is_not_missed() {
        let (mut words, start) = (Words::default(), Instant::now());
        let mut look = |rows: Vec<ProcessRow>, wall| {
            (0..4).for_each(|look| words.saw(start + look * BETWEEN_LOOKS, rows.clone()));
            names(&words, wall)
        };
        assert_eq!(look(vec![row("a", 0, 1_000), row("b", 900, 1_000)], 1_020).len(), 2);
        assert_eq!(look(vec![row("a", 0, 1_000), row("b", 1_001, 1_002)], 1_020), [("b".to_owned(), 18)]);
        assert_eq!(look(vec![row("a", 0, 1_000)], 1_000 + 3_600), []);
    }
}
