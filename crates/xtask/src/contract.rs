//! `scripts/check_contract.sh`: the contract, by buf.

use crate::command::{Environment, is_installed, output, run};
use crate::workspace::root;
use crate::{npm, scratch};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// The contract in proto/: `buf lint`, and `buf breaking` against the contract of the last release, as buf.yaml says.
///
/// The last release is the newest one in CHANGELOG.md; its contract is kept in crates/interaction-proto/released. Uses buf
/// if it is installed, else the one that docs/clients/package-lock.json pins; if neither can be had it says "not run", and that is no
/// failure: the test of interaction-proto compares with every release, too. Exit code 1 if something is wrong.
#[derive(clap::Args)]
pub(crate) struct CheckContract {}

pub(crate) fn check() -> Result<bool> {
    let released = released()?;
    let buf = if is_installed("buf") {
        PathBuf::from("buf")
    } else {
        let Some(modules) = npm::install(&scratch("likes-buf")?)? else {
            println!("not run: there is no buf, and npm cannot be reached: the contract was NOT checked by buf");
            return Ok(true);
        };
        modules.join(".bin/buf")
    };
    let buf = |arguments: &[&str]| -> Command {
        let mut command = Environment::default().command(&buf);
        command.args(arguments).current_dir(root());
        command
    };
    println!("buf {}, against {}", output(&mut buf(&["--version"]))?, released.display());
    let mut passed = true;
    for mut step in [buf(&["lint"]), buf(&["breaking", "--against", &released.display().to_string()])] {
        passed &= run(&mut step).map_err(|error| eprintln!("{error:#}")).is_ok();
    }
    Ok(passed)
}

/// The contract of the last release.
fn released() -> Result<PathBuf> {
    let changelog = fs::read_to_string(root().join("CHANGELOG.md"))?;
    let version = last_release(&changelog).context("CHANGELOG.md has no release")?;
    let file = root().join(format!("crates/interaction-proto/released/{version}.binpb"));
    ensure!(
        file.is_file(),
        "the contract of release {version} is not kept: buf build proto --exclude-source-info -o {}",
        file.display()
    );
    Ok(file)
}

/// The first heading that is a version: the newest one stands first.
fn last_release(changelog: &str) -> Option<&str> {
    let headings = changelog.lines().filter_map(|line| line.strip_prefix("## "));
    let versions = headings.map(|heading| heading.trim_start_matches('['));
    let versions = versions.filter_map(|heading| heading.split([' ', ']']).next());
    versions.into_iter().find(|version| version.starts_with(|first: char| first.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_release_stands_first() -> Result<()> {
        let text = "# Changelog\n\n## [Unreleased]\n\n## [0.2.0] - 2027-01-01\n\n## 0.1.0\n";
        assert_eq!(last_release(text), Some("0.2.0"));
        assert_eq!(last_release("## [Unreleased]\n"), None);
        assert!(released()?.is_file());
        Ok(())
    }
}
