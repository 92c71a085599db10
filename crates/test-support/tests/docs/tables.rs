//! Tables that must be complete: the code map, the runbooks, the calls, what the tests are said to find.

use anyhow::{Context, Result};
use std::collections::BTreeSet;
use test_support::documents::{Document, Repository};

/// Directories that the code map must name: every crate, and every directory with files below its sources.
fn crates_and_rooms(repository: &Repository) -> BTreeSet<String> {
    let files = || repository.files().iter();
    let crates: BTreeSet<&str> =
        files().filter_map(|file| file.strip_suffix("/Cargo.toml")).filter(|path| !path.contains("/peers/")).collect();
    let mut found: BTreeSet<String> = crates.iter().map(|path| (*path).to_owned()).collect();
    for file in files() {
        let Some((of, inside)) = file.split_once("/src/").filter(|(of, _)| crates.contains(of)) else { continue };
        for (end, _) in inside.match_indices('/') {
            found.insert(format!("{of}/src/{}", &inside[..end]));
        }
    }
    found
}

/// Directories below `crates` or `migrations` that the map links to.
fn named_by(map: &Document) -> BTreeSet<String> {
    let below = |link: &String| link.starts_with("crates/") || link.starts_with("migrations");
    let from_root = map.links().into_iter().filter_map(|link| link.strip_prefix("../").map(str::to_owned));
    from_root
        .filter(below)
        .filter(|link| !link.ends_with(".rs"))
        .map(|link| link.trim_end_matches('/').to_owned())
        .collect()
}

fn assert_same(what: &str, documented: &BTreeSet<String>, real: &BTreeSet<String>) {
    assert!(!real.is_empty(), "{what}: none was found");
    let missing: Vec<_> = real.difference(documented).collect();
    let unreal: Vec<_> = documented.difference(real).collect();
    assert!(
        missing.is_empty() && unreal.is_empty(),
        "{what}: not documented {missing:?}, documented and not there {unreal:?}"
    );
}

#[test]
fn the_code_map_names_every_crate_and_every_room() -> Result<()> {
    let repository = Repository::of_this_workspace()?;
    let map = repository.document("docs/ARCHITECTURE.md")?.section("Code map")?;
    assert_same("code map", &named_by(&map), &crates_and_rooms(&repository));
    Ok(())
}

#[test]
fn every_alert_has_its_runbook_and_every_runbook_its_alert() -> Result<()> {
    let repository = Repository::of_this_workspace()?;
    let rules = repository.read("deploy/prometheus/alerts.yml")?;
    let alerts =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).map(|name| name.trim().to_owned());
    let runbooks = repository.document("docs/OPERATING.md")?.section("Alerts")?.headings();
    assert!(runbooks.iter().all(|(level, _)| *level == 3), "{runbooks:?}");
    assert_same("alerts", &runbooks.into_iter().map(|(_, name)| name).collect(), &alerts.collect());
    Ok(())
}

#[test]
fn every_call_of_the_contract_is_described() -> Result<()> {
    let repository = Repository::of_this_workspace()?;
    let mut calls = BTreeSet::new();
    for file in repository.files().iter().filter(|file| file.ends_with(".proto")) {
        let contract = repository.read(file)?;
        let named = contract.lines().filter_map(|line| line.trim().strip_prefix("rpc ")?.split('(').next());
        calls.extend(named.map(|name| name.trim().to_owned()));
    }
    assert!(calls.contains("Like"), "{calls:?}");
    let described: BTreeSet<String> = repository.document("docs/API.md")?.code_spans().into_iter().collect();
    let missing: Vec<_> = calls.difference(&described).collect();
    assert!(missing.is_empty(), "docs/API.md does not name {missing:?}");
    Ok(())
}

/// Of every row that begins with inline code: its columns of these numbers.
fn rows(text: &str, columns: &[usize]) -> BTreeSet<String> {
    let table = text.lines().filter(|line| line.starts_with("| `"));
    let cells = |line: &str| -> Vec<String> { line.split('|').map(|cell| cell.trim().to_owned()).collect() };
    let chosen = |line| {
        let cells = cells(line);
        columns.iter().filter_map(|column| cells.get(*column).cloned()).collect::<Vec<_>>().join(" ")
    };
    table.map(chosen).collect()
}

/// The tables stand twice: for readers in docs/GUARANTEES.md, for those who write such tests beside them.
#[test]
fn the_kill_matrix_and_the_planted_bugs_are_those_of_the_tests() -> Result<()> {
    let repository = Repository::of_this_workspace()?;
    let source = repository.read("crates/resilience/src/lib.rs")?.replace("//! ", "");
    let (matrix, bugs) = source.split_once("# Planted bugs").context("resilience has no heading \"Planted bugs\"")?;
    let guarantees = repository.document("docs/GUARANTEES.md")?;
    // Point, process and test; the name of the bug.
    for (heading, tested, columns) in [("Kill matrix", matrix, &[1, 2, 4][..]), ("Planted bugs", bugs, &[1])] {
        assert_same(heading, &rows(&guarantees.section(heading)?.text, columns), &rows(tested, columns));
    }
    Ok(())
}

#[test]
fn what_is_missing_or_made_up_is_found() -> Result<()> {
    let repository = Repository::of_this_workspace()?;
    let text =
        "[a](../crates/domain) [b](../crates/domain/src/cellar/) [c](../crates/domain/src/cache.rs) [d](../proto)"
            .to_owned();
    let named = named_by(&Document { path: "docs/ARCHITECTURE.md".to_owned(), text });
    assert_eq!(named, ["crates/domain", "crates/domain/src/cellar"].map(str::to_owned).into());
    let real = crates_and_rooms(&repository);
    assert!(!real.contains("crates/domain/src/cellar"));
    for path in ["crates/domain", "migrations", "crates/sync-engine/src/read/live", "crates/cache-manager/src/scripts"]
    {
        assert!(real.contains(path), "{path} is not among {real:?}");
    }
    Ok(())
}
