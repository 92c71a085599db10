//! Environment variables, ports, times and units against the configuration file.

use super::metrics::PROGRAMS;
use super::tree::{CONFIGURATION, Problems, Tree};
use super::yaml::{items, seconds, text};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Which key of `service` a service's ops HTTP listens at.
pub(crate) const OPS_KEYS: &[(&str, &str)] = &[
    ("interaction-server", "http_addr"),
    ("sync-consumer", "consumer_http_addr"),
    ("consistency-checker", "checker_http_addr"),
];
/// Keys that have no default, and therefore no line in the configuration file.
const OPTIONAL_KEYS: &[&str] = &[
    "service.instance",
    "service.worker_threads",
    "service.access.tokens_file",
    "service.tls.cert_file",
    "service.tls.key_file",
    "service.tls.client_ca_file",
    "redis.ca_file",
    "rabbitmq.ca_file",
];
const TOKENS: &str = "INTERACTION__SERVICE__ACCESS__TOKENS_FILE";
const PREFIX: &str = "INTERACTION__";
/// Seconds that a service may need after its drain timeout: it abandons what is left, and some air.
const AFTER_DRAIN: f64 = 10.0;
const PROMETHEUS: &str = "deploy/prometheus/prometheus.yml";
const COMPOSE: &str = "deploy/compose.yaml";

/// Seconds from SIGTERM to the end that the configuration asks for; a problem if it does not say.
pub(crate) fn stop_seconds(tree: &Tree, problems: &mut Problems) -> f64 {
    match seconds(&tree.document(CONFIGURATION)["service"]["drain_timeout"]) {
        Ok(drain) => drain + AFTER_DRAIN,
        Err(error) => {
            problems.say(format!("{CONFIGURATION}: service.drain_timeout: {error:#}"));
            AFTER_DRAIN
        }
    }
}

pub(crate) fn check(tree: &Tree, problems: &mut Problems) -> String {
    let configuration = tree.document(CONFIGURATION);
    let (mut files, mut count) = (0, 0);
    for (path, content) in tree.texts.iter().filter(|(path, _)| !path.ends_with(".md")) {
        files += 1;
        for variable in variables(content) {
            count += 1;
            check_variable(path, configuration, &variable, problems);
        }
    }
    check_scraping(tree, configuration, problems);
    let stop = stop_seconds(tree, problems);
    for (path, unit) in
        tree.texts.iter().filter(|(path, _)| path.starts_with("deploy/systemd/") && path.ends_with(".service"))
    {
        check_unit(path, unit, stop, problems);
    }
    format!("checked {count} configuration variables, ports, times and files in {files} files")
}

/// Names of settings in a text, but for the example of one.
fn variables(text: &str) -> BTreeSet<String> {
    let words = text.split(|char: char| !char.is_ascii_alphanumeric() && char != '_');
    words
        .filter(|word| word.starts_with(PREFIX) && !word.starts_with("INTERACTION__SECTION__"))
        .map(|word| word.trim_end_matches(|char: char| !char.is_ascii_uppercase() && !char.is_ascii_digit()).to_owned())
        .filter(|word| word.len() > PREFIX.len())
        .collect()
}

fn check_variable(path: &str, configuration: &Value, variable: &str, problems: &mut Problems) {
    let mut parts: Vec<_> = variable.split("__").skip(1).map(str::to_ascii_lowercase).collect();
    let key = parts.join(".");
    if OPTIONAL_KEYS.contains(&key.as_str()) {
        return;
    }
    if let Some(last) = parts.last_mut()
        && let Some(without) = last.strip_suffix("_file")
    {
        *last = without.to_owned();
    }
    let found = parts.iter().fold(configuration, |node, part| &node[part.as_str()]);
    if found.is_null() || found.is_object() {
        problems.say(format!("{path}: {variable}: there is no key {key}"));
    }
}

/// Prometheus and Compose agree with the configuration on ports.
fn check_scraping(tree: &Tree, configuration: &Value, problems: &mut Problems) {
    let jobs = items(&tree.document(PROMETHEUS)["scrape_configs"]);
    for (name, key) in OPS_KEYS {
        let address = text(&configuration["service"][key]);
        let port = address.rsplit(':').next().unwrap_or_default();
        let job = jobs.iter().find(|job| job["job_name"] == *name).unwrap_or(&Value::Null);
        let scraped: Vec<_> = items(&job["dns_sd_configs"]).iter().map(|found| text(&found["port"])).collect();
        if port.is_empty() || scraped != [port] {
            problems.say(format!("{PROMETHEUS}: {name} is not scraped at {port}"));
        }
        if job["authorization"]["credentials_file"].is_null() {
            problems.say(format!("{PROMETHEUS}: {name} is scraped without a token"));
        }
        let variable = format!("INTERACTION__SERVICE__{}", key.to_ascii_uppercase());
        let given = &tree.document(COMPOSE)["services"][name]["environment"][variable];
        if text(given) != format!("0.0.0.0:{port}") {
            problems.say(format!("{COMPOSE}: ops HTTP of {name} is not at {port}"));
        }
    }
}

fn check_unit(path: &str, unit: &str, stop: f64, problems: &mut Problems) {
    let setting = |name: &str| unit.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let given = setting("TimeoutStopSec").and_then(|value| seconds(&value.into()).ok());
    if given.is_none_or(|given| given < stop) {
        problems.say(format!("{path}: TimeoutStopSec is less than {stop} s"));
    }
    for wanted in ["Restart=always", "RestartPreventExitStatus=64", "EnvironmentFile="] {
        if !unit.contains(wanted) {
            problems.say(format!("{path}: lacks {wanted}"));
        }
    }
    let environment = unit.lines().filter_map(|line| line.strip_prefix("Environment=")?.split_once('='));
    check_reach(path, &environment.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(), problems);
    let name = path.rsplit('/').next().and_then(|file| file.strip_suffix(".service")).unwrap_or_default();
    let starts = setting("ExecStart").is_some_and(|command| command.starts_with(&format!("/usr/local/bin/{name} ")));
    if !starts || !PROGRAMS.iter().any(|(_, program)| *program == name) {
        problems.say(format!("{path}: does not start {name}"));
    }
}

/// What listens beyond its container needs tokens, and would refuse to start otherwise.
pub(crate) fn check_reach(place: &str, environment: &BTreeMap<String, String>, problems: &mut Problems) {
    let listens = environment.iter().any(|(name, value)| name.ends_with("_ADDR") && value.starts_with("0.0.0.0:"));
    if listens && environment.get(TOKENS).is_none_or(String::is_empty) {
        problems.say(format!("{place}: listens for others without {TOKENS}"));
    }
}
