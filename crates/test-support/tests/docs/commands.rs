//! Commands of blocks marked ` ```console runnable ` work as they stand.
//!
//! | command | here |
//! |---|---|
//! | `cargo fmt` | executed: it changes nothing and takes a second |
//! | other cargo commands | compile for minutes: subcommand and flags are those of `cargo help`, packages, targets and test filters are in the workspace |
//! | `scripts/...` | start servers, install packages, run for minutes: the script parses, may be executed, and knows every flag |
//! | `syncctl ...` | needs a running system: `crates/syncctl/tests/it/documented.rs` parses its arguments; here that it is a program |
//! | `. .run/env` | written by `scripts/up.sh` |
//!
//! Anything else is refused: whoever marks it runnable says here how it is checked.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use test_support::documents::{Repository, ShellCommand};

struct Checker {
    repository: Repository,
    packages: Vec<Value>,
}

impl Checker {
    fn new() -> Result<Self> {
        let repository = Repository::of_this_workspace()?;
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
            .current_dir(repository.root())
            .output()?;
        ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
        let metadata: Value = serde_json::from_slice(&output.stdout)?;
        let packages = metadata["packages"].as_array().context("no packages")?.clone();
        Ok(Self { repository, packages })
    }

    fn check(&self, words: &[String]) -> Result<()> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match &words[..] {
            ["cargo", "fmt", arguments @ ..] => self.execute("cargo", &[&["fmt"], arguments].concat()),
            ["cargo", subcommand, arguments @ ..] => self.cargo(subcommand, arguments),
            [".", file] => self.written_by_up(file),
            [program, arguments @ ..] if program.starts_with("scripts/") => self.script(program, arguments),
            [program, ..] if *program == "syncctl" || program.starts_with("target/release/") => {
                let name = program.rsplit('/').next().unwrap_or(program);
                ensure!(name == "syncctl", "nobody checks the arguments of {name}");
                self.target("bin", name, &[])
            }
            _ => bail!("nobody knows how to check this"),
        }
    }

    fn execute(&self, program: &str, arguments: &[&str]) -> Result<()> {
        let output = Command::new(program).args(arguments).current_dir(self.repository.root()).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "{program} failed: {said}");
        Ok(())
    }

    fn cargo(&self, subcommand: &str, arguments: &[&str]) -> Result<()> {
        let help =
            Command::new(env!("CARGO")).args([subcommand, "--help"]).current_dir(self.repository.root()).output()?;
        ensure!(help.status.success(), "cargo has no {subcommand}");
        let help = String::from_utf8(help.stdout)?;
        // What follows is for the program: or, of clippy, for the compiler.
        let arguments = arguments.split(|argument| *argument == "--").next().unwrap_or_default();
        let mut packages = Vec::new();
        let mut filters = Vec::new();
        let mut rest = arguments.iter().copied();
        while let Some(argument) = rest.next() {
            match argument {
                "-p" => packages.push(rest.next().context("-p names no package")?),
                "--bin" | "--test" | "--example" => {
                    let name = rest.next().with_context(|| format!("{argument} names nothing"))?;
                    self.target(&argument[2..], name, &packages)?;
                }
                // Of clippy, which hands them on to check.
                "--all-targets" | "--workspace" | "--locked" => {}
                flag if flag.starts_with('-') => ensure!(help.contains(flag), "cargo {subcommand} has no {flag}"),
                filter => filters.push(filter),
            }
        }
        for package in &packages {
            ensure!(self.packages.iter().any(|known| known["name"] == *package), "there is no package {package}");
        }
        ensure!(filters.is_empty() || subcommand == "test", "cargo {subcommand} takes no {filters:?}");
        filters.into_iter().try_for_each(|filter| self.test_filter(filter, &packages))
    }

    /// A target of one of these packages, or of any if there are none.
    fn target(&self, kind: &str, name: &str, packages: &[&str]) -> Result<()> {
        let chosen =
            |package: &&Value| packages.is_empty() || packages.iter().any(|wanted| package["name"] == **wanted);
        let has = |package: &Value| {
            let targets = package["targets"].as_array().into_iter().flatten();
            let of_kind =
                |target: &&Value| target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|one| one == kind));
            targets.filter(of_kind).any(|target| target["name"] == name)
        };
        ensure!(self.packages.iter().filter(chosen).any(has), "no {kind} {name} in {packages:?}");
        Ok(())
    }

    /// A filter names a module of tests, or a test.
    fn test_filter(&self, filter: &str, packages: &[&str]) -> Result<()> {
        let tests = packages.iter().flat_map(|package| {
            let below = format!("crates/{package}/tests/");
            self.repository.files().iter().filter(move |file| file.starts_with(&below))
        });
        for file in tests {
            let text = self.repository.read(file)?;
            if text.contains(&format!("mod {filter};")) || text.contains(&format!("fn {filter}")) {
                return Ok(());
            }
        }
        bail!("no test of {packages:?} is called {filter}")
    }

    fn script(&self, script: &str, arguments: &[&str]) -> Result<()> {
        ensure!(self.repository.has(script), "there is no {script}");
        let mode = std::fs::metadata(self.repository.root().join(script))?.permissions().mode();
        ensure!(mode & 0o111 == 0o111, "{script} may not be executed");
        self.execute("bash", &["-n", script])?;
        let text = self.repository.read(script)?;
        let unknown: Vec<_> = arguments.iter().filter(|word| word.starts_with('-') && !text.contains(**word)).collect();
        ensure!(unknown.is_empty(), "{script} does not know {unknown:?}");
        Ok(())
    }

    fn written_by_up(&self, file: &str) -> Result<()> {
        let name = file.strip_prefix(".run/").with_context(|| format!("nobody writes {file}"))?;
        let (up, shared) = (self.repository.read("scripts/up.sh")?, self.repository.read("scripts/lib.sh")?);
        ensure!(shared.contains("RUN_DIR:-$ROOT/.run"), "scripts/lib.sh does not say that RUN_DIR is .run");
        ensure!(up.contains(&format!("\"$RUN_DIR/{name}\"")), "scripts/up.sh does not write {name}");
        ensure!(up.contains("printf 'export %s=%s"), "what {name} sets does not reach the next command");
        Ok(())
    }
}

#[test]
fn every_runnable_command_can_be_run() -> Result<()> {
    let checker = Checker::new()?;
    let mut commands = Vec::<ShellCommand>::new();
    for document in checker.repository.documents()? {
        commands.extend(document.commands()?);
    }
    let programs: BTreeSet<_> = commands.iter().filter_map(|command| command.words.first()).collect();
    assert!(commands.len() >= 10 && programs.len() >= 4, "only {commands:?} are marked runnable");
    let problem = |command: &ShellCommand| {
        let error = checker.check(&command.words).err()?;
        Some(format!("{}: {}: {error:#}", command.place, command.words.join(" ")))
    };
    let problems: Vec<_> = commands.iter().filter_map(problem).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(())
}

#[test]
fn a_command_that_cannot_be_run_is_found() -> Result<()> {
    let checker = Checker::new()?;
    for (command, problem) in [
        ("cargo fmt --all --chek", "cargo failed"),
        ("cargo chekc -p domain", "cargo has no chekc"),
        ("cargo check -p dominion", "there is no package dominion"),
        ("cargo run --bin sinkctl", "no bin sinkctl"),
        ("cargo run --releese", "cargo run has no --releese"),
        ("cargo test -p domain --test iti", "no test iti in [\"domain\"]"),
        ("cargo test -p sync-engine --test it regraded", "is called regraded"),
        ("scripts/upp.sh", "there is no scripts/upp.sh"),
        ("scripts/lib.sh", "may not be executed"),
        ("scripts/down.sh --wype", "does not know [\"--wype\"]"),
        (". .run/envy", "does not write envy"),
        ("target/release/standalone", "nobody checks the arguments of standalone"),
        ("make all", "nobody knows how to check this"),
    ] {
        let words = test_support::documents::words(command);
        let found = checker.check(&words).err().map(|error| format!("{error:#}")).unwrap_or_default();
        assert!(found.contains(problem), "{command}: found {found:?} instead of {problem:?}");
    }
    Ok(())
}
