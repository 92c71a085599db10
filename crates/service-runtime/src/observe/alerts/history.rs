//! An hour of samples of the declared series.

use super::{AlertRule, KEPT, Series};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// What rules are given to look at.
#[derive(Debug)]
pub struct History {
    /// Without repetitions; every sample has a value for each, in this order.
    series: Vec<Series>,
    samples: VecDeque<(Instant, Sample)>,
}

impl History {
    /// An empty one, of what these rules look at.
    pub fn of(rules: &[AlertRule]) -> Self {
        let mut series = Vec::new();
        for one in rules.iter().flat_map(|rule| rule.series) {
            if !series.contains(one) {
                series.push(*one);
            }
        }
        Self { series, samples: VecDeque::new() }
    }

    /// Takes a sample from the text format of Prometheus; those before it must be older.
    pub fn add(&mut self, at: Instant, text: &str) {
        // One that is older than the longest window is needed: what grew since is the growth within the window.
        while self.samples.get(1).is_some_and(|(second, _)| at - *second >= KEPT) {
            self.samples.pop_front();
        }
        self.samples.push_back((at, Sample::parse(&self.series, text)));
    }

    /// The newest value; 0 of a series that is not there. None before the first sample, and of one that is not declared.
    pub fn last(&self, series: Series) -> Option<f64> {
        match self.values(series)?.next_back()?.1 {
            Value::Number(number) => Some(*number),
            Value::Buckets(_) => None,
        }
    }

    /// What was counted within the last `window`, of which at most an hour is known.
    pub fn growth(&self, series: Series, window: Duration) -> Option<f64> {
        match self.ends(series, window)? {
            (Value::Number(before), Value::Number(last)) => Some(last - before),
            _ => None,
        }
    }

    /// A quantile of what a histogram counted within the last `window`, as `histogram_quantile` gives it: straight within a
    /// bucket, and no more than the last finite bound. None when nothing was counted.
    pub fn quantile(&self, series: Series, window: Duration, q: f64) -> Option<f64> {
        match self.ends(series, window)? {
            (Value::Buckets(before), Value::Buckets(last)) => last.since(before).quantile(q),
            _ => None,
        }
    }

    fn values(&self, series: Series) -> Option<impl DoubleEndedIterator<Item = (Instant, &Value)>> {
        let at = self.series.iter().position(|one| *one == series)?;
        Some(self.samples.iter().filter_map(move |(time, sample)| Some((*time, sample.0.get(at)?))))
    }

    /// The values between which a window lies.
    fn ends(&self, series: Series, window: Duration) -> Option<(&Value, &Value)> {
        let (now, last) = self.values(series)?.next_back()?;
        let before = self.values(series)?.rev().find(|(at, _)| now - *at >= window);
        let before = before.or_else(|| self.values(series)?.next())?;
        Some((before.1, last))
    }
}

/// A value for each series.
#[derive(Debug, PartialEq)]
struct Sample(Box<[Value]>);

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Number(f64),
    Buckets(Buckets),
}

impl Sample {
    fn parse(series: &[Series], text: &str) -> Self {
        let empty = |one: &Series| match one {
            Series::Histogram(_) => Value::Buckets(Buckets::default()),
            _ => Value::Number(0.0),
        };
        let mut values: Box<[Value]> = series.iter().map(empty).collect();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((line, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            let (name, labels) = line.split_once('{').unwrap_or((line, ""));
            for (one, kept) in series.iter().zip(&mut values) {
                match (one, kept) {
                    (Series::Sum(wanted), Value::Number(sum)) if *wanted == name => *sum += value,
                    (Series::SumOf(wanted, label, of), Value::Number(sum))
                        if *wanted == name && label_of(labels, label).is_some_and(|found| of.contains(&found)) =>
                    {
                        *sum += value;
                    }
                    (Series::Max(wanted), Value::Number(max)) if *wanted == name => *max = max.max(value),
                    (Series::Histogram(wanted), Value::Buckets(buckets))
                        if name.strip_suffix("_bucket") == Some(wanted) =>
                    {
                        buckets.add(labels, value);
                    }
                    _ => {}
                }
            }
        }
        Self(values)
    }
}

/// The value of a label in `name="value",…}`. Values of declared labels hold no quotes.
fn label_of<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = labels.split_once(&format!("{name}=\""))?;
    rest.split_once('"').map(|(value, _)| value)
}

/// Upper bounds with cumulative counts, by bound.
#[derive(Debug, Clone, Default, PartialEq)]
struct Buckets(Vec<(f64, f64)>);

impl Buckets {
    fn add(&mut self, labels: &str, count: f64) {
        // `+Inf` parses as infinity.
        let Some(bound) = label_of(labels, "le").and_then(|bound| bound.parse::<f64>().ok()) else { return };
        match self.0.binary_search_by(|(other, _)| other.total_cmp(&bound)) {
            Ok(at) => self.0[at].1 += count,
            Err(at) => self.0.insert(at, (bound, count)),
        }
    }

    fn since(&self, before: &Self) -> Self {
        let count_of = |bound: f64| before.0.iter().find(|(other, _)| *other == bound).map_or(0.0, |(_, count)| *count);
        Self(self.0.iter().map(|(bound, count)| (*bound, count - count_of(*bound))).collect())
    }

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
    use super::super::{Judged, STEP};
    use super::*;
    use crate::config::AlertsConfig;

    const MINUTE: Duration = Duration::from_secs(60);
    const ALL: Series = Series::Sum("requests_total");
    const FAILED: Series = Series::SumOf("requests_total", "outcome", &["failed", "lost"]);
    const AGE: Series = Series::Max("age_seconds");
    const TOOK: Series = Series::Histogram("took_seconds");
    const RULE: AlertRule = AlertRule { name: "rule", series: &[ALL, FAILED, AGE, TOOK, ALL], judge: nothing };

    fn nothing(_: &History, _: &AlertsConfig) -> Option<Judged> {
        None
    }

    fn history(samples: &[(u64, &str)]) -> History {
        let start = Instant::now();
        let mut history = History::of(&[RULE, RULE]);
        for (minute, text) in samples {
            history.add(start + MINUTE * u32::try_from(*minute).unwrap(), text);
        }
        history
    }

    #[test]
    fn labels_are_summed_chosen_or_compared() {
        let text = "# HELP requests_total of failed ones too\n\
                    requests_total{outcome=\"good\"} 3\nrequests_total{outcome=\"failed\",by=\"lost\"} 4\n\
                    requests_total{by=\"a\",outcome=\"lost\"} 5\nother_total{outcome=\"lost\"} 6\n\
                    age_seconds{shard=\"1\"} 7\nage_seconds{shard=\"2\"} 2\nnonsense\n";
        let history = history(&[(0, text)]);
        assert_eq!((history.last(ALL), history.last(FAILED), history.last(AGE)), (Some(12.0), Some(9.0), Some(7.0)));
        assert_eq!(history.last(Series::Sum("other_total")), None, "kept, though no rule declares it");
        assert_eq!(history.last(TOOK), None);
    }

    #[test]
    fn growth_is_that_of_the_window() {
        let history = history(&[(0, ""), (1, "requests_total 10"), (7, "requests_total 25"), (8, "requests_total 27")]);
        assert_eq!(history.growth(ALL, MINUTE), Some(2.0));
        assert_eq!(history.growth(ALL, 5 * MINUTE), Some(17.0));
        // As far as is known.
        assert_eq!(history.growth(ALL, 60 * MINUTE), Some(27.0));
        assert_eq!(History::of(&[RULE]).growth(ALL, MINUTE), None);
    }

    #[test]
    fn quantiles_are_taken_of_what_is_new() {
        let buckets = |numbers: [u32; 3]| {
            let [one, two, all] = numbers;
            format!(
                "took_seconds_bucket{{outcome=\"good\",le=\"1\"}} {one}\n\
                 took_seconds_bucket{{outcome=\"good\",le=\"2.5\"}} {two}\n\
                 took_seconds_bucket{{outcome=\"good\",le=\"+Inf\"}} {all}\n\
                 took_seconds_bucket{{outcome=\"bad\",le=\"+Inf\"}} 0\n"
            )
        };
        let (slow, quick) = (buckets([50, 100, 100]), buckets([950, 1000, 1000]));
        assert_eq!(history(&[(0, "")]).quantile(TOOK, 5 * MINUTE, 0.99), None);
        let p99 = history(&[(0, ""), (1, &slow)]).quantile(TOOK, 5 * MINUTE, 0.99).unwrap();
        assert!((p99 - 2.47).abs() < 1e-9, "{p99}");
        let p99 = history(&[(0, ""), (1, &slow), (7, &quick)]).quantile(TOOK, 5 * MINUTE, 0.99).unwrap();
        assert!((p99 - 0.99).abs() < 1e-9, "{p99}");
        let beyond = history(&[(0, ""), (1, &buckets([0, 0, 10]))]).quantile(TOOK, 5 * MINUTE, 0.99);
        assert_eq!(beyond, Some(2.5), "no more than the last finite bound");
    }

    #[test]
    fn an_hour_of_the_declared_series_is_kept() {
        let mut history = History::of(&[RULE]);
        let start = Instant::now();
        for step in 0..1000 {
            history.add(start + STEP * step, "requests_total 1\nother_total 1\n");
        }
        assert_eq!((history.samples.len(), history.series.len()), (241, 4));
        assert!(history.samples.iter().all(|(_, sample)| sample.0.len() == 4));
        assert_eq!(size_of::<Value>(), 24);
    }
}
