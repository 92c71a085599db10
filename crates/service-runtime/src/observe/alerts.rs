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
    metrics::gauge!("interaction_alert_threshold", "alert" => "consistency_rate")
        .set(limits.consistency_rate_threshold / 100.0);
    metrics::gauge!("interaction_alert_threshold", "alert" => "like_error_rate")
        .set(limits.error_rate_threshold / 100.0);
    metrics::gauge!("interaction_alert_threshold", "alert" => "like_latency")
        .set(limits.latency_threshold.as_secs_f64());
}

/// Judges again and again, and says so in `health`; never returns. A rule is shown once there is something to judge.
pub(crate) async fn watch(metrics: Metrics, health: HealthRegistry, rules: &'static [AlertRule], limits: AlertsConfig) {
    let mut history = History::of(rules);
    let mut parts = BTreeMap::new();
    let mut steps = tokio::time::interval(STEP);
    loop {
        steps.tick().await;
        history.add(Instant::now(), &metrics.render());
        judge(&history, rules, &limits, &health, &mut parts);
    }
}

/// Says in `health` what the rules say now: what there was to judge a while ago says nothing about a window without it.
fn judge(
    history: &History,
    rules: &[AlertRule],
    limits: &AlertsConfig,
    health: &HealthRegistry,
    parts: &mut BTreeMap<&'static str, Part>,
) {
    for rule in rules {
        if let Some(Judged { firing, detail }) = (rule.judge)(history, limits) {
            let part = parts.entry(rule.name).or_insert_with(|| health.part(rule.name, Criticality::Optional));
            part.set(if firing { Status::Degraded } else { Status::Ok }, detail);
        } else if let Some(part) = parts.get(rule.name) {
            part.set(Status::Ok, "nothing to judge at present");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Series = Series::Sum("requests_total");
    const RULE: AlertRule = AlertRule { name: "requests", series: &[ALL], judge: few };

    fn few(history: &History, _: &AlertsConfig) -> Option<Judged> {
        let grown = history.growth(ALL, STEP)?;
        (grown > 0.0).then(|| Judged { firing: grown > 5.0, detail: grown.to_string() })
    }

    #[tokio::test]
    async fn what_was_wrong_is_over_with_its_window() {
        let (health, mut parts) = (HealthRegistry::new(), BTreeMap::new());
        let (start, mut history) = (Instant::now(), History::of(&[RULE]));
        let mut said = async |step: u32, requests: u32| {
            history.add(start + STEP * step, &format!("requests_total {requests}"));
            judge(&history, &[RULE], &AlertsConfig::default(), &health, &mut parts);
            let report = health.report().await;
            report.parts.get(RULE.name).map(|part| (part.status, part.detail.clone()))
        };
        assert_eq!(said(0, 0).await, None, "shown before there is anything to judge");
        assert_eq!(said(1, 9).await, Some((Status::Degraded, "9".to_owned())));
        assert_eq!(said(2, 10).await, Some((Status::Ok, "1".to_owned())));
        assert_eq!(said(3, 19).await.unwrap().0, Status::Degraded);
        assert_eq!(said(4, 19).await, Some((Status::Ok, "nothing to judge at present".to_owned())));
    }
}
