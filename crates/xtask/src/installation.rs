//! Servers and services that `scripts/up.sh` starts and `scripts/down.sh` stops, in a directory of their own.

use crate::command::{Environment, outcome, output, run};
use crate::workspace::script;
use crate::{cleanup, http, scratch};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

pub(crate) struct Installation {
    /// For everything that is started for it or looks at it.
    pub(crate) environment: Environment,
    pub(crate) directory: PathBuf,
}

impl Installation {
    /// The one in this directory.
    pub(crate) fn at(directory: PathBuf, mut environment: Environment) -> Self {
        environment.set("RUN_DIR", &directory);
        Self { environment, directory }
    }

    /// A new one. Before this process ends everything in it is stopped and, unless it is to be kept, removed. Gives back
    /// the temporary directory that it is in, too.
    pub(crate) fn private(name: &str, environment: Environment, keep: bool) -> Result<(Self, PathBuf)> {
        let work =
            if keep { tempfile::Builder::new().prefix(&format!("{name}-")).tempdir()?.keep() } else { scratch(name)? };
        let installation = Self::at(work.join("run"), environment);
        let mut down = installation.down_command(!keep);
        let kept = work.clone();
        cleanup::at_exit(move || {
            if let Err(error) = down.status() {
                eprintln!("cannot stop what runs in {}: {error}", kept.display());
            }
            if keep {
                eprintln!("data and logs are in {}", kept.display());
            }
        });
        Ok((installation, work))
    }

    /// `scripts/up.sh`. Then the environment holds the addresses.
    pub(crate) fn up(&mut self, arguments: &[&str]) -> Result<()> {
        output(self.environment.command(script("up.sh")).args(arguments)).context("up.sh")?;
        for (name, value) in self.addresses()? {
            self.environment.set(name, value);
        }
        Ok(())
    }

    fn down_command(&self, wipe: bool) -> std::process::Command {
        let mut down = self.environment.command(script("down.sh"));
        if wipe {
            down.arg("--wipe");
        }
        down
    }

    /// `scripts/down.sh --wipe`.
    pub(crate) fn wipe(&self) -> Result<()> {
        run(&mut self.down_command(true))
    }

    /// What clients need to know: `NAME=value` of each.
    pub(crate) fn addresses(&self) -> Result<Vec<(String, String)>> {
        lines_of(&self.directory.join("env"))
    }

    /// One of them.
    pub(crate) fn address(&self, name: &str) -> Result<String> {
        let found = self.addresses()?.into_iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value).with_context(|| format!("nothing in {} has {name}", self.directory.display()))
    }

    /// A port by its name in the list of chosen ports.
    pub(crate) fn port(&self, name: &str) -> Result<String> {
        let found = lines_of(&self.directory.join("ports"))?.into_iter().find(|(found, _)| found == name);
        found.map(|(_, port)| port).with_context(|| format!("no port of {name} was chosen"))
    }

    /// A function of `scripts/lib.sh` on it.
    pub(crate) fn shell_function(&self, function: &str, arguments: &[&str]) -> Result<()> {
        run(&mut self.environment.shell_function(function, arguments))
    }

    /// The first column of each row that a query in the database gives, or all of them separated by tabs.
    pub(crate) fn sql(&self, query: &str) -> Result<String> {
        let port = self.port("mariadb")?;
        let arguments = [&port, "--batch", "--skip-column-names", "--database=likes", "--execute", query];
        output(&mut self.environment.shell_function("mariadb_client", &arguments))
    }

    /// Waits until a service says that it is well.
    pub(crate) fn wait_until_well(&self, address: &str) -> Result<()> {
        let started = Instant::now();
        loop {
            let seen = match http::get(address, "/health") {
                Ok(answer) if answer.status == 200 => return Ok(()),
                Ok(answer) => answer.body,
                Err(error) => format!("{error:#}"),
            };
            if started.elapsed() > Duration::from_secs(60) {
                bail!("{address} is not well after 60 s: {seen}");
            }
            sleep(Duration::from_millis(100));
        }
    }

    /// The ends of the services' logs.
    pub(crate) fn log_ends(&self) -> String {
        let services = ["interaction-server", "sync-consumer", "consistency-checker"];
        let ends = services.iter().filter_map(|service| {
            let path = self.directory.join(format!("logs/{service}.log"));
            let end = outcome(
                self.environment.command("tail").args(["-n", "40"]).arg(path).stderr(std::process::Stdio::null()),
            );
            let end = String::from_utf8_lossy(&end.ok()?.stdout).into_owned();
            (!end.is_empty()).then(|| format!("--- the end of {service}.log\n{end}"))
        });
        ends.collect()
    }
}

/// `name=value` lines of a file.
fn lines_of(path: &Path) -> Result<Vec<(String, String)>> {
    let text = fs::read_to_string(path).with_context(|| format!("{}: scripts/up.sh makes it", path.display()))?;
    Ok(text
        .lines()
        .filter_map(|line| line.strip_prefix("export ").unwrap_or(line).split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect())
}
