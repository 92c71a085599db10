//! Who may depend on whom. Arrows point down only: binaries, services, adapters, domain.
//!
//! Declared dependencies are read from the manifests, versions from the lock file, and what `cargo run` builds from cargo's own
//! tree; nothing is built or downloaded.
//! Development dependencies are free, except that nobody depends on a program: tests start it as a process.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Programs; nobody imports them.
const BINARIES: &[&str] =
    &["interaction-server", "sync-consumer", "consistency-checker", "syncctl", "standalone", "xtask"];

/// Every crate and the crates of this workspace that it may import. Who is missing here is refused.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    // Core.
    ("domain", &[]),
    // Adapters: the domain and nothing of each other; the store alone knows its schema.
    ("migrations", &[]),
    ("cache-manager", &["domain", "planted-bugs"]),
    ("embedded-cache", &["domain", "planted-bugs"]),
    ("event-bus", &["domain", "planted-bugs"]),
    ("event-store", &["domain", "migrations", "planted-bugs"]),
    ("interaction-proto", &[]),
    ("interaction-client", &["interaction-proto"]),
    ("service-runtime", &["domain"]),
    // Switches that tests turn: whoever has a wrong version beside the right one asks it.
    ("planted-bugs", &[]),
    // Services. A repair settles with the engine's own code.
    ("sync-engine", &["domain", "cache-manager", "event-bus", "event-store", "planted-bugs"]),
    // Its HTTP is served by server and checker alike.
    ("consistency", &["domain", "cache-manager", "event-store", "sync-engine", "service-runtime", "planted-bugs"]),
    // The configuration file is composed of every part's own section.
    (
        "settings",
        &[
            "domain",
            "cache-manager",
            "embedded-cache",
            "event-bus",
            "event-store",
            "sync-engine",
            "consistency",
            "service-runtime",
        ],
    ),
    // The gRPC service over any stores: shared by the server and the standalone program.
    (
        "interaction-api",
        &[
            "domain",
            "interaction-proto",
            "event-bus",
            "event-store",
            "sync-engine",
            "consistency",
            "service-runtime",
            "settings",
        ],
    ),
    ("traffic", &["domain"]),
    // Binaries.
    ("interaction-server", &["interaction-api", "sync-engine", "service-runtime", "settings"]),
    ("sync-consumer", &["domain", "event-bus", "event-store", "sync-engine", "service-runtime", "settings"]),
    (
        "consistency-checker",
        &["domain", "cache-manager", "event-store", "sync-engine", "consistency", "service-runtime", "settings"],
    ),
    (
        "syncctl",
        &[
            "domain",
            "interaction-proto",
            "traffic",
            "cache-manager",
            "event-bus",
            "event-store",
            "sync-engine",
            "consistency",
            "service-runtime",
            "settings",
        ],
    ),
    (
        "standalone",
        &[
            "domain",
            "interaction-api",
            "interaction-proto",
            "traffic",
            "embedded-cache",
            "event-store",
            "sync-engine",
            "consistency",
            "service-runtime",
            "settings",
        ],
    ),
    // For tests and measurements; nobody imports these but as a development dependency.
    ("test-support", &["domain"]),
    ("resilience", &["domain", "interaction-proto"]),
    ("chaos", &["domain", "test-support", "traffic"]),
    // It runs the engine's retention with a history that no program may be told.
    (
        "bench",
        &[
            "domain",
            "migrations",
            "cache-manager",
            "event-bus",
            "event-store",
            "sync-engine",
            "interaction-proto",
            "test-support",
            "traffic",
        ],
    ),
    // The project's tasks: of all this it only knows the programs, the scripts and the files.
    ("xtask", &[]),
];

/// Libraries (a name, or a start followed by `*`) and the only crates that may use them.
/// `syncctl verify` is an independent witness: it reads both stores itself, not through the adapters it judges; `bench`
/// compares what they do with plain statements.
const OWNERS: &[(&[&str], &[&str])] = &[
    (&["lapin", "amq-protocol*"], &["event-bus"]),
    (&["redis", "deadpool-redis"], &["cache-manager", "syncctl"]),
    (
        &["sea-orm*", "sea-query*", "sqlx*", "rusqlite"],
        &["event-store", "migrations", "embedded-cache", "syncctl", "bench"],
    ),
    (
        &["tonic*"],
        &["interaction-proto", "interaction-client", "interaction-api", "standalone", "syncctl", "bench", "resilience"],
    ),
];

/// Clients of servers, which take minutes to compile: `cargo run` builds none of them, because standalone has no servers.
const NOT_IN_DEFAULT_BUILD: &[&str] = &["amq-protocol", "lapin", "deadpool*", "redis", "sqlx-mysql", "opentelemetry*"];

/// Everything that `domain` may use: no I/O, no runtime, no clock.
const DOMAIN_USES: &[&str] = &["async-trait", "bytes", "serde", "thiserror", "uuid"];

/// Two versions of these would be two incompatible sets of types.
const ONE_VERSION: &[&str] = &["hyper", "prost", "redis", "rustls", "tonic"];

/// Cryptography is ring's alone: no C library to install, no CMake.
const FORBIDDEN: &[&str] = &["aws-lc-rs", "aws-lc-sys", "native-tls", "openssl", "openssl-sys", "tokio-native-tls"];

/// What breaks the rules in the manifests, a line each; `metadata` as `cargo metadata --no-deps` prints it.
fn broken_by_manifests(metadata: &Value) -> Result<Vec<String>> {
    let packages = metadata["packages"].as_array().context("no packages")?;
    let allowed: BTreeMap<_, _> = MAY_IMPORT.iter().copied().collect();
    let members = packages.iter().map(|package| text(&package["name"])).collect::<Result<BTreeSet<_>>>()?;
    let mut broken = vec![];
    for package in packages {
        let name = text(&package["name"])?;
        let Some(may_import) = allowed.get(name) else {
            broken.push(format!("{name} is not in the table of crates"));
            continue;
        };
        for dependency in package["dependencies"].as_array().context("no dependencies")? {
            let used = text(&dependency["name"])?;
            let for_tests = dependency["kind"] == "dev";
            if BINARIES.contains(&used) && !(for_tests && used == name) {
                broken.push(format!("{name} must not depend on the program {used}"));
            } else if for_tests {
                continue;
            } else if members.contains(used) || allowed.contains_key(used) {
                if !may_import.contains(&used) {
                    broken.push(format!("{name} must not import {used}"));
                }
            } else if name == "domain" && !DOMAIN_USES.contains(&used) {
                broken.push(format!("domain must not use {used}"));
            } else if let Some(owners) = owners_of(used)
                && !owners.contains(&name)
            {
                broken.push(format!("{name} must not use {used}; only {} may", owners.join(", ")));
            }
        }
    }
    Ok(broken)
}

/// What breaks the rules in the text of `Cargo.lock`, a line each.
fn broken_by_lock(lock: &str) -> Vec<String> {
    let mut versions = BTreeMap::<&str, Vec<&str>>::new();
    let mut name = "";
    for line in lock.lines() {
        match line.split_once(" = ") {
            Some(("name", value)) => name = value.trim_matches('"'),
            Some(("version", value)) if !name.is_empty() => {
                versions.entry(std::mem::take(&mut name)).or_default().push(value.trim_matches('"'));
            }
            _ => {}
        }
    }
    let forbidden = FORBIDDEN.iter().filter(|name| versions.contains_key(*name));
    let mut broken: Vec<String> = forbidden.map(|name| format!("{name} is locked; find out who wants it")).collect();
    for name in ONE_VERSION {
        match versions.get(name).map(Vec::as_slice) {
            Some([_]) => {}
            Some(several) => {
                broken.push(format!("{name} is locked in {} versions: {}", several.len(), several.join(", ")))
            }
            None => broken.push(format!("{name} is not locked: is this rule about another crate now?")),
        }
    }
    broken
}

/// What breaks the rules in a tree of crates as `cargo tree --prefix none` prints it, a line each.
fn broken_by_tree(tree: &str) -> Vec<String> {
    let built: BTreeSet<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let unwanted = built.iter().filter(|name| NOT_IN_DEFAULT_BUILD.iter().any(|pattern| is_named(name, pattern)));
    let mut broken: Vec<String> =
        unwanted.map(|name| format!("cargo run builds {name}; find out who wants it")).collect();
    for program in ["standalone", "syncctl"] {
        if !built.contains(program) {
            broken.push(format!("cargo run does not build {program}: is this rule about other programs now?"));
        }
    }
    broken
}

fn owners_of(library: &str) -> Option<&'static [&'static str]> {
    let named = |pattern: &&str| is_named(library, pattern);
    OWNERS.iter().find(|(libraries, _)| libraries.iter().any(named)).map(|(_, owners)| *owners)
}

/// Whether a library has this name, or begins like it if a `*` stands at the end.
fn is_named(library: &str, pattern: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => library.starts_with(start),
        None => library == pattern,
    }
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().with_context(|| format!("expected text, got {value}"))
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn metadata() -> Result<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(workspace())
        .output()?;
    anyhow::ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// What is built for the default members, or for these arguments.
fn tree(arguments: &[&str]) -> Result<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "--edges", "normal", "--prefix", "none"])
        .args(arguments)
        .current_dir(workspace())
        .output()?;
    anyhow::ensure!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// What is broken once `name` also depends on `used`.
fn broken_with(name: &str, used: &str, kind: Value) -> Result<Vec<String>> {
    let mut metadata = metadata()?;
    let packages = metadata["packages"].as_array_mut().context("no packages")?;
    let package = packages.iter_mut().find(|package| package["name"] == name).context("no such package")?;
    let dependencies = package["dependencies"].as_array_mut().context("no dependencies")?;
    dependencies.push(json!({ "name": used, "kind": kind }));
    broken_by_manifests(&metadata)
}

#[test]
fn the_workspace_keeps_the_rules() -> Result<()> {
    assert_eq!(broken_by_manifests(&metadata()?)?, Vec::<String>::new());
    assert_eq!(broken_by_lock(&std::fs::read_to_string(workspace().join("Cargo.lock"))?), Vec::<String>::new());
    Ok(())
}

#[test]
fn cargo_run_builds_no_clients_of_servers() -> Result<()> {
    assert_eq!(broken_by_tree(&tree(&[])?), Vec::<String>::new());
    Ok(())
}

#[test]
fn a_client_in_the_default_build_is_found() -> Result<()> {
    let broken = broken_by_tree(&tree(&["-p", "standalone", "-p", "syncctl", "--features", "distributed"])?);
    for client in ["lapin", "redis", "sqlx-mysql", "opentelemetry-otlp"] {
        let complaint = format!("cargo run builds {client}; find out who wants it");
        assert!(broken.contains(&complaint), "{client}: {broken:?}");
    }
    assert_eq!(broken_by_tree("").len(), 2, "a tree that was not understood");
    Ok(())
}

#[test]
fn a_forbidden_dependency_is_found() -> Result<()> {
    for (name, used, complaint) in [
        ("domain", "tokio", "domain must not use tokio"),
        ("domain", "event-store", "domain must not import event-store"),
        ("cache-manager", "event-store", "cache-manager must not import event-store"),
        ("event-bus", "cache-manager", "event-bus must not import cache-manager"),
        ("event-store", "sync-engine", "event-store must not import sync-engine"),
        ("sync-engine", "settings", "sync-engine must not import settings"),
        ("sync-engine", "test-support", "sync-engine must not import test-support"),
        ("sync-consumer", "interaction-server", "sync-consumer must not depend on the program interaction-server"),
        ("sync-engine", "lapin", "sync-engine must not use lapin; only event-bus may"),
        ("interaction-server", "deadpool-redis", "must not use deadpool-redis"),
        ("sync-engine", "sqlx", "must not use sqlx"),
        ("cache-manager", "sea-orm-migration", "must not use sea-orm-migration"),
        ("service-runtime", "tonic-health", "must not use tonic-health"),
    ] {
        let broken = broken_with(name, used, Value::Null)?;
        assert!(broken.len() == 1 && broken[0].contains(complaint), "{name} on {used}: {broken:?}");
        // What a build script uses counts too.
        assert_eq!(broken_with(name, used, "build".into())?, broken);
    }
    Ok(())
}

#[test]
fn tests_are_free_but_may_not_link_a_program() -> Result<()> {
    assert_eq!(broken_with("cache-manager", "event-store", "dev".into())?, Vec::<String>::new());
    assert_eq!(broken_with("domain", "tokio", "dev".into())?, Vec::<String>::new());
    let broken = broken_with("test-support", "syncctl", "dev".into())?;
    assert_eq!(broken, ["test-support must not depend on the program syncctl"]);
    Ok(())
}

#[test]
fn an_unknown_crate_is_refused() -> Result<()> {
    let metadata = json!({ "packages": [{ "name": "helpers", "dependencies": [] }] });
    assert_eq!(broken_by_manifests(&metadata)?, ["helpers is not in the table of crates"]);
    Ok(())
}

#[test]
fn two_versions_and_foreign_cryptography_are_found() {
    let package = |name: &str, version: &str| format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n\n");
    let good: String = ONE_VERSION.iter().map(|name| package(name, "1.0.0")).collect();
    assert_eq!(broken_by_lock(&good), Vec::<String>::new());
    let twice = good.clone() + &package("tonic", "0.13.1");
    assert_eq!(broken_by_lock(&twice), ["tonic is locked in 2 versions: 1.0.0, 0.13.1"]);
    let openssl = good + &package("openssl-sys", "0.9.1");
    assert_eq!(broken_by_lock(&openssl), ["openssl-sys is locked; find out who wants it"]);
    assert_eq!(broken_by_lock("").len(), ONE_VERSION.len(), "a lock file that was not understood");
}
