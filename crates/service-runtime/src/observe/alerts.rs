//! Alerts that a process raises about itself, as parts of `/health`.
//!
//! Here is the mechanism only: samples of the declared series over an hour, growth and quantiles within a window, and
//! publishing. Which series there are, and what is too much, say the rules: they come from the crate that knows the
//! metrics ([`Configured::alert_rules`](crate::Configured::alert_rules)).
//!
//! Memory is bounded: nothing is kept but the declared series, summed over their labels, in at most 241 samples. In each a
//! series takes 24 bytes, and a histogram 16 more for each of its buckets.

mod history;

pub use history::History;

use crate::config::AlertsConfig;
use crate::observe::health::{Criticality, HealthRegistry, Part, Status};
use crate::observe::telemetry::Metrics;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Between two samples.
const STEP: Duration = Duration::from_secs(15);

/// The longest window.
const KEPT: Duration = Duration::from_secs(3600);

/// A series that a rule looks at, by its name in the text format of Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Series {
    /// The sum over all labels.
    Sum(&'static str),
    /// The sum over those whose label has one of these values.
    SumOf(&'static str, &'static str, &'static [&'static str]),
    /// The largest over all labels.
    Max(&'static str),
    /// The buckets of a histogram, summed over all other labels; the name without `_bucket`.
    Histogram(&'static str),
}

/// What a process is judged by.
#[derive(Debug, Clone, Copy)]
pub struct AlertRule {
    /// Name of the part of health.
    pub name: &'static str,
    /// What `judge` looks at. Whatever is not declared here is not kept.
    pub series: &'static [Series],
    /// None as long as there is nothing to judge.
    pub judge: fn(&History, &AlertsConfig) -> Option<Judged>,
}

/// What a rule says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// Something is wrong: the process is degraded.
    pub firing: bool,
    /// The figure, in one line.
    pub detail: String,
}

/// Tells the page and the rules of Prometheus what this process judges by, in the units of what they compare.
pub(crate) fn publish(limits: &AlertsConfig) {
    metrics::gauge!("alert_threshold", "alert" => "consistency_rate").set(limits.consistency_rate_threshold / 100.0);
    metrics::gauge!("alert_threshold", "alert" => "like_error_rate").set(limits.error_rate_threshold / 100.0);
    metrics::gauge!("alert_threshold", "alert" => "like_latency").set(limits.latency_threshold.as_secs_f64());
}

/// Judges again and again, and says so in `health`; never returns. A rule is shown once there is something to judge.
pub(crate) async fn watch(metrics: Metrics, health: HealthRegistry, rules: &'static [AlertRule], limits: AlertsConfig) {
    let mut history = History::of(rules);
    let mut parts: BTreeMap<&'static str, Part> = BTreeMap::new();
    let mut steps = tokio::time::interval(STEP);
    loop {
        steps.tick().await;
        history.add(Instant::now(), &metrics.render());
        for rule in rules {
            say(&health, &mut parts, rule.name, (rule.judge)(&history, &limits));
        }
    }
}

fn say(health: &HealthRegistry, parts: &mut BTreeMap<&'static str, Part>, name: &'static str, judged: Option<Judged>) {
    match judged {
        Some(Judged { firing, detail }) => {
            let part = parts.entry(name).or_insert_with(|| health.part(name, Criticality::Optional));
            part.set(if firing { Status::Degraded } else { Status::Ok }, detail);
        }
        // What there was to judge is over: the last word about it is none about now.
        None => parts.get(name).into_iter().for_each(Part::ok),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_over_is_no_reason_any_more() {
        let (health, mut parts) = (HealthRegistry::new(), BTreeMap::new());
        say(&health, &mut parts, "age", None);
        assert!(health.report().await.parts.is_empty(), "nothing was judged yet");
        say(&health, &mut parts, "age", Some(Judged { firing: true, detail: "oldest 61 s".to_owned() }));
        let report = health.report().await;
        assert_eq!((report.status, report.parts["age"].detail.as_str()), (Status::Degraded, "oldest 61 s"));
        say(&health, &mut parts, "age", None);
        let report = health.report().await;
        assert_eq!((report.status, report.parts["age"].detail.as_str()), (Status::Ok, ""));
    }
}
