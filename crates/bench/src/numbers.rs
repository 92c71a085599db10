//! Medians, spreads, ratios, and percentiles of Prometheus histograms.

/// Middle, least and greatest of some values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// None without values, or if one is no number.
pub(crate) fn summary(values: &[f64]) -> Option<Summary> {
    if values.iter().any(|value| value.is_nan()) {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (min, max) = (*sorted.first()?, *sorted.last()?);
    let middle = sorted.len() / 2;
    let median = if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
    Some(Summary { median, min, max })
}

/// Each value over the reference that was taken in turn with it.
pub(crate) fn ratios(values: &[f64], references: &[f64]) -> Vec<f64> {
    values.iter().zip(references).map(|(value, reference)| value / reference).collect()
}

/// A Prometheus histogram: upper bounds and how many values were at most that, ascending; the last bound is infinite.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Buckets(Vec<(f64, f64)>);

impl Buckets {
    /// The histogram `name` without labels of its own, from the text format; none if it is absent or has no values yet.
    pub(crate) fn parse(text: &str, name: &str) -> Option<Self> {
        let start = format!("{name}_bucket{{le=\"");
        let buckets = text
            .lines()
            .filter_map(|line| line.strip_prefix(&start))
            .map(|rest| {
                let (bound, count) = rest.split_once("\"} ")?;
                let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
                Some((bound, count.trim().parse().ok()?))
            })
            .collect::<Option<Vec<_>>>()?;
        (!buckets.is_empty()).then_some(Self(buckets))
    }

    /// What was added since `before`, the same histogram earlier.
    pub(crate) fn since(&self, before: Option<&Self>) -> Self {
        let earlier = |index: usize| before.and_then(|before| before.0.get(index)).map_or(0.0, |bucket| bucket.1);
        Self(self.0.iter().enumerate().map(|(index, (bound, count))| (*bound, count - earlier(index))).collect())
    }

    pub(crate) fn count(&self) -> f64 {
        self.0.last().map_or(0.0, |bucket| bucket.1)
    }

    /// The value below which this share lies, by linear interpolation within its bucket, so exact only at the bounds;
    /// infinite beyond the last finite bound. None without values.
    pub(crate) fn quantile(&self, share: f64) -> Option<f64> {
        let wanted = share * self.count();
        if self.count() <= 0.0 {
            return None;
        }
        let mut below = (0.0, 0.0);
        for (bound, count) in &self.0 {
            if *count >= wanted {
                if bound.is_infinite() {
                    return Some(f64::INFINITY);
                }
                let inside = count - below.1;
                let part = if inside > 0.0 { (wanted - below.1) / inside } else { 1.0 };
                return Some(below.0 + (bound - below.0) * part);
            }
            below = (*bound, *count);
        }
        None
    }
}

/// The value of a counter or gauge without labels.
pub(crate) fn metric(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_numbers() {
        assert_eq!(summary(&[3.0, 1.0, 2.0]), Some(Summary { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(summary(&[4.0, 1.0, 2.0, 3.0]), Some(Summary { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(summary(&[]), None);
        assert_eq!(summary(&[1.0, f64::NAN]), None);
    }

    #[test]
    fn ratios_are_taken_in_turn() {
        assert_eq!(ratios(&[1.0, 9.0], &[2.0, 3.0]), [0.5, 3.0]);
    }

    const TEXT: &str = "# TYPE interaction_commit_lag_seconds histogram\n\
        interaction_commit_lag_seconds_bucket{le=\"0.005\"} 10\n\
        interaction_commit_lag_seconds_bucket{le=\"0.01\"} 50\n\
        interaction_commit_lag_seconds_bucket{le=\"0.1\"} 99\n\
        interaction_commit_lag_seconds_bucket{le=\"+Inf\"} 100\n\
        interaction_commit_lag_seconds_sum 3.5\ninteraction_commit_lag_seconds_count 100\n\
        interaction_published_events_total 1234\ninteraction_published_events_total_more 5\n";

    #[test]
    fn histograms_are_read_and_interpolated() {
        let buckets = Buckets::parse(TEXT, "interaction_commit_lag_seconds").unwrap();
        assert_eq!(buckets.count(), 100.0);
        assert_eq!(buckets.quantile(0.5), Some(0.01));
        assert_eq!(buckets.quantile(0.99), Some(0.1));
        assert!((buckets.quantile(0.3).unwrap() - 0.0075).abs() < 1e-12);
        assert_eq!(buckets.quantile(0.999), Some(f64::INFINITY));
        assert_eq!(Buckets::parse(TEXT, "interaction_publish_seconds"), None);
    }

    #[test]
    fn only_what_was_added_counts() {
        let before = Buckets::parse(TEXT, "interaction_commit_lag_seconds").unwrap();
        let text = TEXT.replace("\"} 99", "\"} 199").replace("\"} 100", "\"} 200");
        let added = Buckets::parse(&text, "interaction_commit_lag_seconds").unwrap().since(Some(&before));
        assert_eq!(added.count(), 100.0);
        assert!((added.quantile(0.5).unwrap() - 0.055).abs() < 1e-12);
        assert_eq!(before.since(None), before);
        assert_eq!(before.since(Some(&before)).quantile(0.5), None);
    }

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        assert_eq!(metric(TEXT, "interaction_published_events_total"), Some(1234.0));
        assert_eq!(metric(TEXT, "published"), None);
    }
}
