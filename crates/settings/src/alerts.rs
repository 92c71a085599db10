//! The alerts of `deploy/prometheus/alerts.yml` that a process can raise about itself: over the same windows and with the
//! same limits (those of `monitoring.alerts` are exported for them), but from its own metrics alone and without the time an
//! alert waits.
//!
//! They are here because the engine and the checker, whose metrics they read, do not know the runtime that judges them.
//! An hour of these series takes less than 200 kB.

use service_runtime::{AlertRule, AlertsConfig, History, Judged, Series};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// The fewest calls that say something.
const FEWEST_CALLS: f64 = 20.0;
/// The fewest comparisons that say something.
const FEWEST_COMPARED: f64 = 100.0;

const LIKES: Series = Series::Sum("interaction_likes_total");
/// Of the system's fault; the rest are answers, or the caller's.
const FAILED_LIKES: Series =
    Series::SumOf("interaction_likes_total", "outcome", &["overloaded", "unavailable", "refused"]);
const LIKE_SECONDS: Series = Series::Histogram("interaction_like_seconds");
const MOVED: Series = Series::Sum("interaction_moved_events_total");
const COMPARED: Series = Series::Sum("interaction_consistency_checked_total");
/// What is stuck is late, not different: it has gauges of its own.
const FOUND: Series = Series::SumOf(
    "interaction_consistency_found_total",
    "verdict",
    &["stale", "drift", "missing", "orphan", "went_back"],
);

pub(crate) const RULES: &[AlertRule] = &[
    AlertRule { name: "like_error_rate", series: &[LIKES, FAILED_LIKES], judge: like_error_rate },
    AlertRule { name: "like_latency", series: &[LIKE_SECONDS], judge: like_latency },
    AlertRule { name: "moved_events", series: &[MOVED], judge: moved_events },
    AlertRule { name: "consistency_rate", series: &[COMPARED, FOUND], judge: consistency_rate },
];

fn like_error_rate(history: &History, limits: &AlertsConfig) -> Option<Judged> {
    let (all, failed) = (history.growth(LIKES, 5 * MINUTE)?, history.growth(FAILED_LIKES, 5 * MINUTE)?);
    (all > 0.0).then(|| Judged {
        firing: all >= FEWEST_CALLS && failed / all > limits.error_rate_threshold / 100.0,
        detail: if all < FEWEST_CALLS {
            format!("{failed} of {} failed within 5 minutes: too few to judge", counted(all, "like", "likes"))
        } else {
            format!("{} of likes failed within 5 minutes", percent(failed / all))
        },
    })
}

fn like_latency(history: &History, limits: &AlertsConfig) -> Option<Judged> {
    let p99 = history.quantile(LIKE_SECONDS, 5 * MINUTE, 0.99)?;
    Some(Judged {
        firing: p99 > limits.latency_threshold.as_secs_f64(),
        detail: format!("p99 of likes {} within 5 minutes", seconds(p99)),
    })
}

fn moved_events(history: &History, _: &AlertsConfig) -> Option<Judged> {
    let ever = history.last(MOVED)? > 0.0;
    let moved = history.growth(MOVED, 30 * MINUTE)?;
    let events = counted(moved, "event", "events");
    let detail = format!("{events} moved to the dead letters by the broker within 30 minutes");
    ever.then_some(Judged { firing: moved > 0.0, detail })
}

fn consistency_rate(history: &History, limits: &AlertsConfig) -> Option<Judged> {
    let (compared, found) = (history.growth(COMPARED, HOUR)?, history.growth(FOUND, HOUR)?);
    let rate = 1.0 - found / compared;
    (compared > 0.0).then(|| Judged {
        firing: compared >= FEWEST_COMPARED && rate < limits.consistency_rate_threshold / 100.0,
        detail: if compared < FEWEST_COMPARED {
            let compared = counted(compared, "comparison", "comparisons");
            format!("{found} of {compared} within an hour found something: too few to judge")
        } else {
            format!("{} of comparisons within an hour end well", percent(rate))
        },
    })
}

fn counted(number: f64, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1.0 { one } else { more })
}

fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

fn seconds(seconds: f64) -> String {
    format!("{seconds:.3} s")
}

#[cfg(test)]
mod tests {
    use super::*;
    use sync_engine::stores::standing::{FILLED, LATE, SLOW, WAITS_LONG};

    /// What the rule of this name says after samples at these minutes.
    fn judged(name: &str, samples: &[(u64, &str)]) -> Option<Judged> {
        judged_by(&AlertsConfig::default(), name, samples)
    }

    fn judged_by(limits: &AlertsConfig, name: &str, samples: &[(u64, &str)]) -> Option<Judged> {
        let start = std::time::Instant::now();
        let mut history = History::of(RULES);
        for (minute, text) in samples {
            history.add((start + MINUTE * u32::try_from(*minute).unwrap()).into(), text);
        }
        (RULES.iter().find(|rule| rule.name == name).unwrap().judge)(&history, limits)
    }

    fn fires(name: &str, samples: &[(u64, &str)]) -> Option<bool> {
        judged(name, samples).map(|judged| judged.firing)
    }

    #[test]
    fn errors_are_the_systems_and_count_within_five_minutes() {
        let fires = |samples: &[(u64, &str)]| fires("like_error_rate", samples);
        let zero =
            "interaction_likes_total{outcome=\"accepted\"} 0\ninteraction_likes_total{outcome=\"unavailable\"} 0\n";
        let good =
            "interaction_likes_total{outcome=\"accepted\"} 90\ninteraction_likes_total{outcome=\"rate_limited\"} 900\n";
        let failed =
            "interaction_likes_total{outcome=\"accepted\"} 90\ninteraction_likes_total{outcome=\"unavailable\"} 10\n";
        let few =
            "interaction_likes_total{outcome=\"accepted\"} 9\ninteraction_likes_total{outcome=\"unavailable\"} 10\n";
        assert_eq!(fires(&[(0, zero)]), None);
        assert_eq!(fires(&[(0, zero), (1, good)]), Some(false));
        assert_eq!(fires(&[(0, zero), (1, failed)]), Some(true));
        assert_eq!(fires(&[(0, zero), (1, few)]), Some(false));
        let later =
            "interaction_likes_total{outcome=\"accepted\"} 190\ninteraction_likes_total{outcome=\"unavailable\"} 10\n";
        assert_eq!(fires(&[(0, zero), (1, failed), (7, later)]), Some(false));
    }

    #[test]
    fn quantiles_are_taken_of_what_is_new() {
        let slow = "interaction_like_seconds_bucket{outcome=\"accepted\",le=\"1\"} 50\n\
                    interaction_like_seconds_bucket{outcome=\"accepted\",le=\"2.5\"} 100\n\
                    interaction_like_seconds_bucket{outcome=\"accepted\",le=\"+Inf\"} 100\n";
        let quick = "interaction_like_seconds_bucket{outcome=\"accepted\",le=\"1\"} 950\n\
                     interaction_like_seconds_bucket{outcome=\"accepted\",le=\"2.5\"} 1000\n\
                     interaction_like_seconds_bucket{outcome=\"accepted\",le=\"+Inf\"} 1000\n";
        assert_eq!(fires("like_latency", &[(0, ""), (1, slow)]), Some(true));
        let said = judged("like_latency", &[(0, ""), (1, slow)]).unwrap().detail;
        assert_eq!(said.split(' ').nth(3), Some("2.470"), "{said}");
        assert_eq!(fires("like_latency", &[(0, ""), (1, slow), (7, quick)]), Some(false));
    }

    #[test]
    fn moves_and_comparisons() {
        let moved = "interaction_moved_events_total{reason=\"expired\"} 1";
        assert_eq!(fires("moved_events", &[(0, "interaction_moved_events_total{reason=\"expired\"} 0")]), None);
        assert_eq!(fires("moved_events", &[(0, ""), (1, moved)]), Some(true));
        assert_eq!(fires("moved_events", &[(0, ""), (1, moved), (32, moved)]), Some(false));
        let (compared, found) = (
            "interaction_consistency_checked_total{run=\"full\"} 200\n",
            "interaction_consistency_found_total{verdict=\"drift\"} 11\n",
        );
        assert_eq!(fires("consistency_rate", &[(0, ""), (1, &format!("{compared}{found}"))]), Some(true));
        assert_eq!(fires("consistency_rate", &[(0, ""), (1, compared)]), Some(false));
        let stuck = "interaction_consistency_checked_total{run=\"full\"} 200\ninteraction_consistency_found_total{verdict=\"stuck\"} 99\n";
        assert_eq!(fires("consistency_rate", &[(0, ""), (1, stuck)]), Some(false), "what is late is not different");
        let few = "interaction_consistency_checked_total{run=\"full\"} 2\ninteraction_consistency_found_total{verdict=\"drift\"} 1\n";
        let judged = judged("consistency_rate", &[(0, ""), (1, few)]).unwrap();
        assert!(!judged.firing && judged.detail.contains("too few"), "{judged:?}");
    }

    #[test]
    fn limits_are_those_of_the_configuration() {
        let limits = AlertsConfig {
            consistency_rate_threshold: 90.0,
            error_rate_threshold: 20.0,
            latency_threshold: Duration::from_secs(3),
            ..AlertsConfig::default()
        };
        let failed =
            "interaction_likes_total{outcome=\"accepted\"} 85\ninteraction_likes_total{outcome=\"unavailable\"} 15\n";
        let slow =
            "interaction_like_seconds_bucket{le=\"2.5\"} 100\ninteraction_like_seconds_bucket{le=\"+Inf\"} 100\n";
        let found = "interaction_consistency_checked_total{run=\"full\"} 200\ninteraction_consistency_found_total{verdict=\"stale\"} 15\n";
        for (name, sample) in [("like_error_rate", failed), ("like_latency", slow), ("consistency_rate", found)] {
            let samples = [(0, ""), (1, sample)];
            assert_eq!(fires(name, &samples), Some(true), "{name}");
            assert!(!judged_by(&limits, name, &samples).unwrap().firing, "{name}");
        }
    }

    /// A metric that is renamed would silence its rule.
    #[test]
    fn every_series_is_one_that_is_counted() {
        let counted =
            [include_str!("../../sync-engine/src/metrics.rs"), include_str!("../../consistency/src/metrics.rs")];
        for series in RULES.iter().flat_map(|rule| rule.series) {
            let (Series::Sum(name) | Series::SumOf(name, ..) | Series::Max(name) | Series::Histogram(name)) = series;
            assert!(counted.iter().any(|text| text.contains(&format!("\"{name}\""))), "{name}");
        }
    }

    /// The alerts say the same, in their words.
    #[test]
    fn limits_are_those_of_the_alerts() {
        let alerts = include_str!("../../../deploy/prometheus/alerts.yml");
        let AlertsConfig { enabled: _, consistency_rate_threshold, error_rate_threshold, latency_threshold } =
            AlertsConfig::default();
        // What processes export, and without them the defaults.
        let exported = |alert: &str, limit: f64| {
            format!("scalar(max(interaction_alert_threshold{{alert=\"{alert}\"}}) or vector({limit}))")
        };
        let errors = exported("like_error_rate", error_rate_threshold / 100.0);
        let latency = exported("like_latency", latency_threshold.as_secs_f64());
        let consistency = exported("consistency_rate", consistency_rate_threshold / 100.0);
        for expression in [
            format!("ratio5m > {errors} and sum(increase(interaction_likes_total[5m])) >= {FEWEST_CALLS}"),
            "rate(interaction_likes_total{outcome=~\"overloaded|unavailable|refused\"}[5m])".to_owned(),
            format!("like_seconds:p99_5m > {latency}"),
            format!("max(interaction_commit_lag_p99_seconds) > {}", SLOW.as_secs()),
            format!("max(interaction_journal_oldest_age_seconds) > {}", WAITS_LONG.as_secs()),
            "max(interaction_ledger_events{status=\"dead\"}) > 0".to_owned(),
            format!(
                "max(interaction_ledger_oldest_age_seconds{{status=~\"failed|processing|pending\"}}) > {}",
                LATE.as_secs()
            ),
            "max(interaction_consistency_open_findings) > 0".to_owned(),
            format!("max(interaction_journal_fullest_shard_ratio) > {FILLED}"),
            "(increase(interaction_moved_events_total[30m])) > 0".to_owned(),
            format!(
                "ratio1h < {consistency} and sum(increase(interaction_consistency_checked_total[1h])) >= {FEWEST_COMPARED}"
            ),
        ] {
            assert!(alerts.contains(&expression), "{expression}");
        }
    }
}
