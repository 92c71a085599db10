//! The alerts of `deploy/prometheus/alerts.yml` as verdicts in `/health`: judged by each process from its own metrics,
//! over the same windows and with the same limits, but for itself alone and without the time an alert waits.

use crate::observe::health::{Criticality, HealthRegistry, Part, Status};
use crate::observe::telemetry::Metrics;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

const STEP: Duration = Duration::from_secs(15);
const MINUTE: Duration = Duration::from_secs(60);

/// The longest window.
const KEPT: Duration = MINUTE.saturating_mul(60);

/// Share of likes answered with an error that is the system's, and the fewest calls that say something.
const ERROR_RATE: f64 = 0.05;
const FEWEST_CALLS: f64 = 20.0;
/// Seconds until the answer to a like.
const LIKE_P99: f64 = 1.0;
/// Seconds from like to commit.
const COMMIT_LAG_P99: f64 = 5.0;
/// Seconds.
const JOURNAL_AGE: f64 = 60.0;
/// Share of comparisons that end well, and the fewest that say something.
const CONSISTENCY_RATE: f64 = 0.95;
const FEWEST_COMPARED: f64 = 100.0;

/// Names of parts of health, in the order of the functions that judge them.
type Rule = fn(&History) -> Option<Judgement>;
const RULES: [(&str, Rule); 6] = [
    ("like_error_rate", like_error_rate),
    ("like_latency", like_latency),
    ("commit_lag", commit_lag),
    ("journal_age", journal_age),
    ("dead_events", dead_events),
    ("consistency_rate", consistency_rate),
];

/// Whether all is well, and the figure.
#[derive(Debug, PartialEq, Eq)]
struct Judgement {
    bad: bool,
    detail: String,
}

/// Judges again and again, and says so in `health`; never returns. A rule is shown once there is something to judge.
pub(crate) async fn judge(metrics: Metrics, health: HealthRegistry) {
    let mut history = History::default();
    let mut parts: BTreeMap<&'static str, Part> = BTreeMap::new();
    let mut steps = tokio::time::interval(STEP);
    loop {
        steps.tick().await;
        history.add(Instant::now(), Sample::parse(&metrics.render()));
        for (name, rule) in RULES {
            if let Some(Judgement { bad, detail }) = rule(&history) {
                let part = parts.entry(name).or_insert_with(|| health.part(name, Criticality::Optional));
                part.set(if bad { Status::Degraded } else { Status::Ok }, detail);
            }
        }
    }
}

fn like_error_rate(history: &History) -> Option<Judgement> {
    let grown = history.growth(5 * MINUTE)?;
    let (all, failed) = (grown.likes, grown.failed_likes);
    (all > 0.0).then(|| Judgement {
        bad: all >= FEWEST_CALLS && failed / all > ERROR_RATE,
        detail: format!("{} of likes failed within 5 minutes", percent(failed / all)),
    })
}

fn like_latency(history: &History) -> Option<Judgement> {
    let p99 = history.growth(5 * MINUTE)?.like_seconds.quantile(0.99)?;
    Some(Judgement { bad: p99 > LIKE_P99, detail: format!("p99 of likes {} within 5 minutes", seconds(p99)) })
}

fn commit_lag(history: &History) -> Option<Judgement> {
    let p99 = history.growth(5 * MINUTE)?.commit_lag.quantile(0.99)?;
    let detail = format!("p99 from like to commit {} within 5 minutes", seconds(p99));
    Some(Judgement { bad: p99 > COMMIT_LAG_P99, detail })
}

fn journal_age(history: &History) -> Option<Judgement> {
    let age = history.last()?.journal_age;
    (age > 0.0).then(|| Judgement { bad: age > JOURNAL_AGE, detail: format!("oldest unsettled like {}", seconds(age)) })
}

fn dead_events(history: &History) -> Option<Judgement> {
    let ever = history.last()?.dead > 0.0;
    let dead = history.growth(30 * MINUTE)?.dead;
    ever.then(|| Judgement { bad: dead > 0.0, detail: format!("{dead} events dead within 30 minutes") })
}

fn consistency_rate(history: &History) -> Option<Judgement> {
    let grown = history.growth(KEPT)?;
    let rate = 1.0 - grown.found / grown.compared;
    (grown.compared > 0.0).then(|| Judgement {
        bad: grown.compared >= FEWEST_COMPARED && rate < CONSISTENCY_RATE,
        detail: format!("{} of comparisons within an hour end well", percent(rate)),
    })
}

fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

fn seconds(seconds: f64) -> String {
    format!("{seconds:.3} s")
}

/// An hour of samples.
#[derive(Default)]
struct History(VecDeque<(Instant, Sample)>);

impl History {
    fn add(&mut self, at: Instant, sample: Sample) {
        // One that is older than the longest window is needed: what grew since is the growth within the window.
        while self.0.get(1).is_some_and(|(second, _)| at - *second >= KEPT) {
            self.0.pop_front();
        }
        self.0.push_back((at, sample));
    }

    fn last(&self) -> Option<&Sample> {
        self.0.back().map(|(_, sample)| sample)
    }

    /// What was counted within the last `window`.
    fn growth(&self, window: Duration) -> Option<Sample> {
        let (now, last) = self.0.back()?;
        let before = self.0.iter().rev().find(|(at, _)| *now - *at >= window).or(self.0.front())?;
        Some(last.since(&before.1))
    }
}

/// What the rules look at, summed over labels.
#[derive(Debug, Clone, Default, PartialEq)]
struct Sample {
    likes: f64,
    failed_likes: f64,
    like_seconds: Buckets,
    commit_lag: Buckets,
    journal_age: f64,
    dead: f64,
    compared: f64,
    found: f64,
}

impl Sample {
    /// From the text format of Prometheus.
    fn parse(text: &str) -> Self {
        let mut sample = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            match name {
                "likes_total" => {
                    sample.likes += value;
                    if ["overloaded", "unavailable", "refused"].into_iter().any(|outcome| labels.contains(outcome)) {
                        sample.failed_likes += value;
                    }
                }
                "like_seconds_bucket" => sample.like_seconds.add(labels, value),
                "commit_lag_seconds_bucket" => sample.commit_lag.add(labels, value),
                "journal_oldest_age_seconds" => sample.journal_age = sample.journal_age.max(value),
                "dead_events_total" => sample.dead += value,
                "consistency_checked_total" => sample.compared += value,
                "consistency_found_total" => sample.found += value,
                _ => {}
            }
        }
        sample
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            likes: self.likes - before.likes,
            failed_likes: self.failed_likes - before.failed_likes,
            like_seconds: self.like_seconds.since(&before.like_seconds),
            commit_lag: self.commit_lag.since(&before.commit_lag),
            journal_age: self.journal_age,
            dead: self.dead - before.dead,
            compared: self.compared - before.compared,
            found: self.found - before.found,
        }
    }
}

/// Upper bounds with cumulative counts, by bound.
#[derive(Debug, Clone, Default, PartialEq)]
struct Buckets(Vec<(f64, f64)>);

impl Buckets {
    fn add(&mut self, labels: &str, count: f64) {
        let bound = labels.split_once("le=\"").and_then(|(_, rest)| rest.split_once('"')).map(|(bound, _)| bound);
        // `+Inf` parses as infinity.
        let Some(bound) = bound.and_then(|bound| bound.parse::<f64>().ok()) else { return };
        match self.0.binary_search_by(|(other, _)| other.total_cmp(&bound)) {
            Ok(at) => self.0[at].1 += count,
            Err(at) => self.0.insert(at, (bound, count)),
        }
    }

    fn since(&self, before: &Self) -> Self {
        let count_of = |bound: f64| before.0.iter().find(|(other, _)| *other == bound).map_or(0.0, |(_, count)| *count);
        Self(self.0.iter().map(|(bound, count)| (*bound, count - count_of(*bound))).collect())
    }

    /// As `histogram_quantile` does: straight within a bucket, and no more than the last finite bound.
    fn quantile(&self, q: f64) -> Option<f64> {
        let all = self.0.last().map(|(_, count)| *count).filter(|count| *count > 0.0)?;
        let rank = q * all;
        let (mut lower, mut below) = (0.0, 0.0);
        for (bound, count) in &self.0 {
            if *count >= rank {
                let inside = (rank - below) / (count - below).max(f64::MIN_POSITIVE);
                return Some(if bound.is_finite() { lower + (bound - lower) * inside } else { lower });
            }
            (lower, below) = (*bound, *count);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(samples: &[(u64, &str)]) -> History {
        let start = Instant::now();
        let mut history = History::default();
        for (minute, text) in samples {
            history.add(start + MINUTE * u32::try_from(*minute).unwrap(), Sample::parse(text));
        }
        history
    }

    fn bad(rule: Rule, samples: &[(u64, &str)]) -> Option<bool> {
        rule(&history(samples)).map(|judgement| judgement.bad)
    }

    #[test]
    fn errors_are_the_systems_and_count_within_five_minutes() {
        let zero = "likes_total{outcome=\"accepted\"} 0\nlikes_total{outcome=\"unavailable\"} 0\n";
        let good = "likes_total{outcome=\"accepted\"} 90\nlikes_total{outcome=\"rate_limited\"} 900\n";
        let failed = "likes_total{outcome=\"accepted\"} 90\nlikes_total{outcome=\"unavailable\"} 10\n";
        let few = "likes_total{outcome=\"accepted\"} 9\nlikes_total{outcome=\"unavailable\"} 10\n";
        assert_eq!(bad(like_error_rate, &[(0, zero)]), None);
        assert_eq!(bad(like_error_rate, &[(0, zero), (1, good)]), Some(false));
        assert_eq!(bad(like_error_rate, &[(0, zero), (1, failed)]), Some(true));
        assert_eq!(bad(like_error_rate, &[(0, zero), (1, few)]), Some(false));
        let later = "likes_total{outcome=\"accepted\"} 190\nlikes_total{outcome=\"unavailable\"} 10\n";
        assert_eq!(bad(like_error_rate, &[(0, zero), (1, failed), (7, later)]), Some(false));
    }

    #[test]
    fn quantiles_are_taken_of_what_is_new() {
        let slow = "like_seconds_bucket{outcome=\"accepted\",le=\"1\"} 50\n\
                    like_seconds_bucket{outcome=\"accepted\",le=\"2.5\"} 100\n\
                    like_seconds_bucket{outcome=\"accepted\",le=\"+Inf\"} 100\n";
        let quick = "like_seconds_bucket{outcome=\"accepted\",le=\"1\"} 950\n\
                     like_seconds_bucket{outcome=\"accepted\",le=\"2.5\"} 1000\n\
                     like_seconds_bucket{outcome=\"accepted\",le=\"+Inf\"} 1000\n";
        assert_eq!(bad(like_latency, &[(0, ""), (1, slow)]), Some(true));
        assert_eq!(like_latency(&history(&[(0, ""), (1, slow)])).unwrap().detail.split(' ').nth(3), Some("2.470"));
        assert_eq!(bad(like_latency, &[(0, ""), (1, slow), (7, quick)]), Some(false));
        assert_eq!(bad(commit_lag, &[(0, ""), (1, &slow.replace("like_seconds", "commit_lag_seconds"))]), Some(false));
    }

    #[test]
    fn ages_deaths_and_comparisons() {
        assert_eq!(bad(journal_age, &[(0, "journal_oldest_age_seconds 61")]), Some(true));
        assert_eq!(bad(journal_age, &[(0, "journal_oldest_age_seconds 59")]), Some(false));
        let dead = "dead_events_total{kind=\"undecodable\"} 1";
        assert_eq!(bad(dead_events, &[(0, "dead_events_total{kind=\"undecodable\"} 0")]), None);
        assert_eq!(bad(dead_events, &[(0, ""), (1, dead)]), Some(true));
        assert_eq!(bad(dead_events, &[(0, ""), (1, dead), (32, dead)]), Some(false));
        let (compared, found) = ("consistency_checked_total{run=\"full\"} 200\n", "consistency_found_total{} 11\n");
        assert_eq!(bad(consistency_rate, &[(0, ""), (1, &format!("{compared}{found}"))]), Some(true));
        assert_eq!(bad(consistency_rate, &[(0, ""), (1, compared)]), Some(false));
    }

    #[test]
    fn an_hour_is_kept() {
        let start = Instant::now();
        let mut history = History::default();
        for step in 0..1000 {
            history.add(start + STEP * step, Sample::default());
        }
        assert_eq!(history.0.len(), 241);
    }

    /// The alerts say the same, in their words.
    #[test]
    fn limits_are_those_of_the_alerts() {
        let alerts = include_str!("../../../../deploy/prometheus/alerts.yml");
        for expression in [
            format!("ratio5m > {ERROR_RATE} and sum(increase(likes_total[5m])) >= {FEWEST_CALLS}"),
            "rate(likes_total{outcome=~\"overloaded|unavailable|refused\"}[5m])".to_owned(),
            format!("like_seconds:p99_5m > {LIKE_P99}"),
            format!("commit_lag_seconds:p99_5m > {COMMIT_LAG_P99}"),
            format!("max(journal_oldest_age_seconds) > {JOURNAL_AGE}"),
            "(increase(dead_events_total[30m])) > 0".to_owned(),
            format!(
                "ratio1h < {CONSISTENCY_RATE} and sum(increase(consistency_checked_total[1h])) >= {FEWEST_COMPARED}"
            ),
        ] {
            assert!(alerts.contains(&expression), "{expression}");
        }
    }
}
