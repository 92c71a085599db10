//! Running other programs: with a chosen environment, and errors that say what failed.

use crate::{cleanup, workspace};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::process::{Child, Command, Output, Stdio};

/// Variables that commands get besides, or instead of, those of this process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    /// `None` takes a variable away.
    changes: BTreeMap<OsString, Option<OsString>>,
}

impl Environment {
    /// Without those of the caller's variables that would change what this project's programs do.
    pub(crate) fn clean() -> Self {
        Self::without(env::vars_os().filter_map(|(name, _)| name.into_string().ok()))
    }

    fn without(names: impl Iterator<Item = String>) -> Self {
        Self { changes: names.filter(|name| is_setting(name)).map(|name| (name.into(), None)).collect() }
    }

    pub(crate) fn set(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        self.changes.insert(name.into(), Some(value.into()));
    }

    pub(crate) fn remove(&mut self, name: impl Into<OsString>) {
        self.changes.insert(name.into(), None);
    }

    /// No limits on likes, for load.
    pub(crate) fn without_rate_limits(&mut self) {
        for limit in ["USER_ACTION", "IP", "GLOBAL"] {
            self.set(format!("INTERACTION__RATE_LIMITING__{limit}__ENABLED"), "false");
        }
    }

    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        for (name, value) in &self.changes {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    /// Cargo at the top of the repository. The variables that `cargo run` set for this program are taken away: build
    /// scripts would run again because of them.
    pub(crate) fn cargo<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = self.command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        for (name, _) in env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
                command.env_remove(name.as_ref());
            }
        }
        command.args(arguments).current_dir(workspace::root());
        command
    }

    /// A function of `scripts/lib.sh`, which starts, stops and installs what this program does not.
    pub(crate) fn shell_function(&self, function: &str, arguments: &[&str]) -> Command {
        let mut command = self.command("bash");
        command.args(["-c", "set -euo pipefail; source \"$0\"; \"$@\""]).arg(workspace::script("lib.sh"));
        command.arg(function).args(arguments);
        command
    }
}

fn is_setting(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "GRPC_ADDR",
        "HTTP_ADDR",
        "CONSUMER_HTTP_ADDR",
        "CHECKER_HTTP_ADDR",
        "REDIS_URL",
        "DATABASE_URL",
        "AMQP_URL",
        "CONFIG_FILE",
        "REDIS_PREFIX",
        "SYNCCTL",
    ];
    name.starts_with("INTERACTION_") || name.starts_with("TEST_") || name.ends_with("_PORT") || NAMES.contains(&name)
}

/// What a command is called in messages.
fn name_of(command: &Command) -> String {
    let mut words = vec![command.get_program()];
    words.extend(command.get_args().take(3));
    words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Runs it to its end; what it prints goes where this program's output goes.
///
/// # Errors
///
/// If it cannot start or fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let name = name_of(command);
    let status = start(command)?.wait()?;
    if !status.success() {
        bail!("{name}: {status}");
    }
    Ok(())
}

/// Starts it, for [`Child::wait`].
///
/// # Errors
///
/// If it cannot start.
pub(crate) fn start(command: &mut Command) -> Result<Child> {
    cleanup::start(command.stdin(Stdio::null())).with_context(|| format!("cannot start {}", name_of(command)))
}

/// Runs it to its end and gives what it printed, whether it failed or not.
///
/// # Errors
///
/// If it cannot start.
pub(crate) fn outcome(command: &mut Command) -> Result<Output> {
    Ok(start(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?.wait_with_output()?)
}

/// What it printed on standard output, without the last line's end.
///
/// # Errors
///
/// If it cannot start or fails; with the end of what it printed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = outcome(command)?;
    if !output.status.success() {
        bail!("{}: {}\n{}", name_of(command), output.status, said(&output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned())
}

/// The end of everything that it printed.
pub(crate) fn said(output: &Output) -> String {
    let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

/// Whether a program is installed.
pub(crate) fn is_installed(program: &str) -> bool {
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(Into::into);
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).chain(system).any(|directory| directory.join(program).is_file())
}

/// Installs packages of the system, as root.
///
/// # Errors
///
/// If that is impossible.
pub(crate) fn install_packages(names: &[&str]) -> Result<()> {
    run(&mut Environment::default().shell_function("install_packages", names))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_the_caller_are_taken_away() -> Result<()> {
        let names = ["HOME", "INTERACTION__REDIS__URL", "TEST_AMQP_URL", "GRPC_PORT", "SYNCCTL", "PORTS"];
        let environment = Environment::without(names.into_iter().map(str::to_owned));
        let taken: Vec<_> = environment.changes.keys().map(|name| name.to_string_lossy()).collect();
        assert_eq!(taken, ["GRPC_PORT", "INTERACTION__REDIS__URL", "SYNCCTL", "TEST_AMQP_URL"]);
        Ok(())
    }

    #[test]
    fn a_failure_says_what_was_printed() {
        let error = output(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.starts_with("sh -c echo out") && error.contains("status: 3"), "{error}");
        assert!(error.contains("out\nerr"), "{error}");
    }

    #[test]
    fn a_function_of_the_shell_library_gets_its_arguments() -> Result<()> {
        let said = output(&mut Environment::default().shell_function("printf", &["%s.", "a b", "c"]))?;
        assert_eq!(said, "a b.c.");
        Ok(())
    }
}
