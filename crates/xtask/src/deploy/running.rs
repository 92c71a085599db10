//! What running processes export, against `deploy/METRICS.md`, both ways.

use super::metrics::{Documented, Metric, PROGRAMS};
use super::tree::Problems;
use crate::{command, http};
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Asks a process and compares; gives back a line that says what was compared. `TOKEN` is used if there is one.
pub(crate) fn check(url: &str, table: &BTreeMap<String, Documented>, problems: &mut Problems) -> Result<String> {
    let url = base(url);
    let health: Value = serde_json::from_str(&fetch(&format!("{url}/health"))?).context("/health")?;
    let service = health["service"].as_str().context("/health names no service")?;
    let text = fetch(&format!("{url}/metrics"))?;
    let exported = exported(&text);
    compare(&url, service, &exported, table, problems);
    check_help(&url, &text, problems);
    Ok(format!("compared {} metrics of {service} at {url}", exported.len()))
}

/// Without a path, and with a scheme.
pub(crate) fn base(url: &str) -> String {
    let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    url.trim_end_matches('/').trim_end_matches("/metrics").to_owned()
}

fn fetch(url: &str) -> Result<String> {
    let token = std::env::var("TOKEN").ok().filter(|token| !token.is_empty());
    let Some(rest) = url.strip_prefix("http://") else {
        // Certificates are better left to a program that knows the system's.
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--max-time", "10", url]);
        if let Some(token) = token {
            curl.arg("--header").arg(format!("Authorization: Bearer {token}"));
        }
        return command::output(&mut curl);
    };
    let (address, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    http::get_with_token(address, path, token.as_deref())?.body().with_context(|| url.to_owned())
}

/// Every metric in Prometheus' text format, a histogram's three series as one.
fn exported(text: &str) -> BTreeMap<String, Metric> {
    let kinds: BTreeMap<_, _> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.trim().split_once(' ')).collect();
    let mut found = BTreeMap::<String, Metric>::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, _value)) = line.trim().rsplit_once(' ') else { continue };
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}').unwrap_or(labels)),
            None => (series, ""),
        };
        let whole = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let whole = whole.filter(|whole| kinds.get(whole).is_some_and(|kind| ["histogram", "summary"].contains(kind)));
        let name = whole.unwrap_or(name);
        let metric = found.entry(name.to_owned()).or_default();
        metric.kind = kinds.get(name).copied().unwrap_or("untyped").to_owned();
        metric.labels.extend(label_names(labels).filter(|label| label != "le"));
    }
    found
}

/// The names in `a="1",b="x,\"y"`.
fn label_names(mut labels: &str) -> impl Iterator<Item = String> {
    std::iter::from_fn(move || {
        let (name, rest) = labels.split_once("=\"")?;
        let mut escaped = false;
        let end = rest.find(|char| {
            let ends = char == '"' && !escaped;
            escaped = char == '\\' && !escaped;
            ends
        });
        labels = end.map_or("", |end| &rest[end + 1..]);
        Some(name.trim_start_matches(',').trim().to_owned())
    })
}

fn compare(
    url: &str,
    service: &str,
    exported: &BTreeMap<String, Metric>,
    table: &BTreeMap<String, Documented>,
    problems: &mut Problems,
) {
    for (name, metric) in exported {
        // By its name of the release before.
        let renamed = format!("interaction_{name}");
        let known = table.get(name).or_else(|| exported.contains_key(&renamed).then(|| table.get(&renamed)).flatten());
        match known {
            None => problems.say(format!("{url}: {service} exports {name}, which deploy/METRICS.md lacks")),
            Some(documented) if documented.metric != *metric => {
                problems.say(format!("{url}: {name} is a {metric}, in deploy/METRICS.md a {}", documented.metric));
            }
            Some(_) => {}
        }
    }
    let letter = PROGRAMS.iter().find(|(_, program)| *program == service).map(|(letter, _)| *letter);
    let expects = |documented: &Documented| {
        documented.from_start && letter.is_some_and(|letter| documented.moved_by.iter().any(|moves| moves == letter))
    };
    for (name, _) in table.iter().filter(|(name, documented)| expects(documented) && !exported.contains_key(*name)) {
        problems.say(format!("{url}: {service} does not export {name}"));
    }
}

/// Whoever finds a metric without the table reads what it means.
fn check_help(url: &str, text: &str, problems: &mut Problems) {
    let named = |start| text.lines().filter_map(move |line| line.strip_prefix(start)?.split(' ').next());
    let explained: BTreeSet<_> = named("# HELP ").collect();
    for name in named("# TYPE ").filter(|name| !explained.contains(name)) {
        problems.say(format!("{url}: {name} has no HELP line"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP a_total x\n# TYPE a_total counter\na_total{kind=\"a{b,\\\" c=\\\"\",how=\"\"} 3\n\
        # TYPE b_seconds histogram\nb_seconds_bucket{le=\"0.1\",outcome=\"ok\"} 1\nb_seconds_count{outcome=\"ok\"} 1\n\
        # TYPE c gauge\nc 1.5\n";

    #[test]
    fn exported_metrics_are_read() {
        let shown: Vec<_> = exported(TEXT).iter().map(|(name, metric)| format!("{name}: {metric}")).collect();
        let expected = [
            "a_total: counter with labels [how, kind]",
            "b_seconds: histogram with labels [outcome]",
            "c: gauge with labels []",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn both_ways_are_compared() {
        let documented = |kind: &str, labels: &[&str], moved_by: &str, from_start| Documented {
            metric: Metric { kind: kind.into(), labels: labels.iter().map(|label| (*label).to_owned()).collect() },
            moved_by: vec![moved_by.to_owned()],
            from_start,
        };
        let table = BTreeMap::from([
            ("a_total".to_owned(), documented("counter", &["kind"], "S", true)),
            ("b_seconds".to_owned(), documented("histogram", &["outcome"], "S", true)),
            ("missing".to_owned(), documented("gauge", &[], "S", true)),
            ("later".to_owned(), documented("gauge", &[], "S", false)),
            ("of_another".to_owned(), documented("gauge", &[], "C", true)),
        ]);
        let mut problems = Problems::default();
        compare("u", "interaction-server", &exported(TEXT), &table, &mut problems);
        let expected = [
            "u: a_total is a counter with labels [how, kind], in deploy/METRICS.md a counter with labels [kind]",
            "u: interaction-server exports c, which deploy/METRICS.md lacks",
            "u: interaction-server does not export missing",
        ];
        assert_eq!(problems.into_lines(), expected);
    }

    #[test]
    fn old_names_and_help_lines() {
        let text = "# TYPE interaction_a_total counter\ninteraction_a_total 1\n# HELP a_total x\n# TYPE a_total counter\n\
            a_total 1\n";
        let counter = Metric { kind: "counter".into(), labels: BTreeSet::new() };
        let documented = Documented { metric: counter, moved_by: vec!["S".to_owned()], from_start: true };
        let table = BTreeMap::from([("interaction_a_total".to_owned(), documented)]);
        let mut problems = Problems::default();
        compare("u", "interaction-server", &exported(text), &table, &mut problems);
        check_help("u", text, &mut problems);
        assert_eq!(problems.into_lines(), ["u: interaction_a_total has no HELP line"]);
    }

    #[test]
    fn an_address_may_come_in_several_forms() {
        for url in ["127.0.0.1:8893", "http://127.0.0.1:8893/", "http://127.0.0.1:8893/metrics"] {
            assert_eq!(base(url), "http://127.0.0.1:8893");
        }
    }
}
