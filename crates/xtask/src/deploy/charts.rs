//! Alert rules and the dashboard: whether what their expressions name exists, and whether every metric is shown.

use super::metrics::{Metric, Source, is_word};
use super::promql;
use super::tree::{Problems, Tree};
use super::yaml::{items, text, walk};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) const RULES: &str = "deploy/prometheus/alerts.yml";
pub(crate) const RULE_TESTS: &str = "deploy/prometheus/alerts_test.yml";
/// A heading for each alert.
const RUNBOOKS: &str = "docs/OPERATING.md";
const DASHBOARDS: &str = "deploy/grafana/dashboards";

/// Metrics of others and their labels; `deploy/METRICS.md` says where they come from.
const EXTERNAL: &[(&str, &[&str])] = &[
    ("up", &[]),
    ("ALERTS", &["alertstate", "alertname", "severity"]),
    ("rabbitmq_detailed_queue_messages_ready", &["queue", "vhost"]),
    ("rabbitmq_detailed_queue_consumers", &["queue", "vhost"]),
];
/// Put on by Prometheus.
const TARGET_LABELS: &[&str] = &["job", "instance"];

struct Known {
    labels: BTreeSet<String>,
    /// Which of our metrics it belongs to.
    owner: Option<String>,
}

/// What may stand in an expression.
pub(crate) struct AllSeries<'a> {
    known: BTreeMap<String, Known>,
    words: &'a BTreeSet<String>,
}

impl<'a> AllSeries<'a> {
    pub(crate) fn new(source: &'a Source, recorded: impl Iterator<Item = String>) -> Self {
        let target = || TARGET_LABELS.iter().map(|label| (*label).to_owned());
        let external = EXTERNAL.iter().map(|(name, labels)| {
            let labels = labels.iter().map(|label| (*label).to_owned()).chain(target()).collect();
            ((*name).to_owned(), Known { labels, owner: None })
        });
        let recorded = recorded.map(|name| (name, Known { labels: BTreeSet::new(), owner: None }));
        let mut known: BTreeMap<_, _> = external.chain(recorded).collect();
        for (name, Metric { kind, labels }) in &source.metrics {
            let suffixes: &[(&str, &[&str])] = if kind == "histogram" {
                &[("_bucket", &["le"]), ("_sum", &[]), ("_count", &[])]
            } else {
                &[("", &[])]
            };
            for (suffix, more) in suffixes {
                let labels = labels.iter().cloned().chain(target()).chain(more.iter().map(|label| (*label).to_owned()));
                known.insert(format!("{name}{suffix}"), Known { labels: labels.collect(), owner: Some(name.clone()) });
            }
        }
        Self { known, words: &source.words }
    }

    /// Says what is wrong with an expression, and gives back which metrics it uses.
    fn check(&self, place: &str, expression: &str, problems: &mut Problems) -> BTreeSet<String> {
        let parsed = promql::parse(expression);
        let (mut used, mut labels, mut complete) = (BTreeSet::new(), BTreeSet::new(), true);
        for series in &parsed.series {
            let name = &series.name;
            let Some(known) = self.known.get(name) else {
                problems.say(format!("{place}: nothing exports {name}"));
                complete = false;
                continue;
            };
            used.insert(known.owner.clone().unwrap_or_else(|| name.clone()));
            labels.extend(known.labels.iter().cloned());
            for (label, value) in &series.matchers {
                if !known.labels.contains(label) {
                    problems.say(format!("{place}: {name} has no label {label}"));
                } else if known.owner.is_some() && label != "le" && !TARGET_LABELS.contains(&label.as_str()) {
                    let never = |word: &&str| is_word(word) && !self.words.contains(*word);
                    for word in value.split('|').filter(never) {
                        problems.say(format!("{place}: {name} never has {label}={word}"));
                    }
                }
            }
        }
        if complete {
            for label in parsed.groupings.difference(&labels) {
                problems.say(format!("{place}: nothing in it has a label {label}"));
            }
        }
        used
    }
}

/// Every rule of the alerts' file.
fn rules(tree: &Tree) -> Vec<&Value> {
    items(&tree.document(RULES)["groups"]).iter().flat_map(|group| items(&group["rules"])).collect()
}

/// Checks rules, their tests and the dashboards. Gives back what was done, and the dashboards' queries as recording rules,
/// for promtool.
pub(crate) fn check(tree: &Tree, source: &Source, problems: &mut Problems) -> (Vec<String>, Value) {
    let rules = rules(tree);
    let recorded: BTreeMap<_, _> = rules
        .iter()
        .filter(|rule| !rule["record"].is_null())
        .map(|rule| (text(&rule["record"]), text(&rule["expr"])))
        .collect();
    let series = AllSeries::new(source, recorded.keys().cloned());
    for rule in &rules {
        let name = if rule["alert"].is_null() { &rule["record"] } else { &rule["alert"] };
        series.check(&format!("{RULES}: {}", text(name)), &text(&rule["expr"]), problems);
    }
    let alerts: Vec<_> = rules.iter().copied().filter(|rule| !rule["alert"].is_null()).collect();
    check_alerts(&alerts, tree, &series, problems);

    let (mut charted, mut generated) = (BTreeSet::new(), vec![]);
    for (path, documents) in
        tree.parsed.iter().filter(|(path, _)| path.starts_with(DASHBOARDS) && path.ends_with(".json"))
    {
        for dashboard in documents {
            check_ids(path, dashboard, problems);
            for (place, expression) in expressions(dashboard) {
                let expression = substituted(&expression);
                for name in series.check(&format!("{path}: {place}"), &expression, problems) {
                    match recorded.get(&name) {
                        Some(rule) => charted.extend(series.check(&format!("{path}: {name}"), rule, problems)),
                        None => _ = charted.insert(name),
                    }
                }
                generated.push(json!({ "record": format!("dashboard:{}", generated.len() + 1), "expr": expression }));
            }
        }
    }
    for name in source.metrics.keys().filter(|name| !charted.contains(*name)) {
        problems.say(format!("{DASHBOARDS}: no panel shows {name}"));
    }
    let shown = source.metrics.keys().filter(|name| charted.contains(*name)).count();
    let done = vec![
        format!("checked the metrics and labels of {} rules", rules.len()),
        format!("checked the metrics and labels of {} dashboard queries, which show {shown} metrics", generated.len()),
    ];
    (done, json!({ "groups": [{ "name": "dashboard", "rules": generated }] }))
}

fn check_alerts(alerts: &[&Value], tree: &Tree, series: &AllSeries<'_>, problems: &mut Problems) {
    let mut fired = BTreeSet::new();
    for test in tree.parsed.get(RULE_TESTS).into_iter().flatten().flat_map(|document| items(&document["tests"])) {
        for given in items(&test["input_series"]) {
            series.check(&format!("{RULE_TESTS}: {}", text(&test["name"])), &text(&given["series"]), problems);
        }
        let fires = items(&test["alert_rule_test"]).iter().filter(|case| !items(&case["exp_alerts"]).is_empty());
        fired.extend(fires.map(|case| text(&case["alertname"])));
    }
    let names: Vec<_> = alerts.iter().map(|alert| text(&alert["alert"])).collect();
    for (alert, name) in alerts.iter().zip(&names) {
        if !fired.contains(name) {
            problems.say(format!("{RULE_TESTS}: no test in which {name} fires"));
        }
        let notes = &alert["annotations"];
        let has_severity = ["page", "ticket"].contains(&text(&alert["labels"]["severity"]).as_str());
        if !has_severity || notes["summary"].is_null() || notes["description"].is_null() {
            problems.say(format!("{RULES}: {name} lacks severity, summary or description"));
        }
        let runbook = format!("{RUNBOOKS}#{}", name.to_lowercase());
        if text(&notes["runbook_url"]) != runbook {
            problems.say(format!("{RULES}: {name}: runbook_url is not {runbook}"));
        }
        if names.iter().filter(|other| *other == name).count() > 1 {
            problems.say(format!("{RULES}: {name} stands there twice"));
        }
    }
    for name in fired.iter().filter(|name| !names.contains(name)) {
        problems.say(format!("{RULE_TESTS}: there is no alert {name}"));
    }
}

fn check_ids(path: &str, dashboard: &Value, problems: &mut Problems) {
    let mut ids = BTreeSet::new();
    walk(&dashboard["panels"], &mut |map| {
        if map.contains_key("gridPos") && !ids.insert(map.get("id").map(text)) {
            problems.say(format!("{path}: two panels have the same id"));
        }
    });
}

/// Every query of a dashboard, and where it stands.
fn expressions(dashboard: &Value) -> Vec<(String, String)> {
    let mut found = vec![];
    walk(&dashboard["panels"], &mut |panel| {
        if panel.contains_key("gridPos") {
            let title = panel.get("title").map(text).unwrap_or_default();
            for target in panel.get("targets").map(items).unwrap_or_default() {
                found.push((format!("panel '{title}'"), text(&target["expr"])));
            }
        }
    });
    for annotation in items(&dashboard["annotations"]["list"]) {
        found.push((format!("annotation '{}'", text(&annotation["name"])), text(&annotation["expr"])));
    }
    for variable in items(&dashboard["templating"]["list"]) {
        let definition = text(&variable["definition"]);
        let query = definition.strip_prefix("label_values(").and_then(|query| query.strip_suffix(')'));
        if let Some((series, label)) = query.and_then(|query| query.rsplit_once(',')) {
            let place = format!("variable '{}'", text(&variable["name"]));
            found.push((place, format!("count by ({}) ({series})", label.trim())));
        }
    }
    found
}

/// With Grafana's variables filled in.
fn substituted(expression: &str) -> String {
    expression.replace("$__rate_interval", "1m").replace("$__interval", "1m").replace("$instance", ".*")
}
