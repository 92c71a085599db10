//! `scripts/test_clients.sh`: the quick starts of docs/clients against the real program.

mod go;
mod page;

use crate::command::{Environment, is_installed, output, start};
use crate::http::Answer;
use crate::workspace::{Profile, root, script};
use crate::{cleanup, http, npm, python, scratch};
use anyhow::{Result, ensure};
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The quick starts of docs/clients, each against standalone with a low rate limit: curl, Python, Node, Go, Rust, and the browser
/// from another site. Each likes, waits for a limit as long as it is told, likes again, and lists likers.
///
/// Libraries come from PyPI, npm and the packages of Debian into a temporary directory. A client whose libraries cannot be had, or
/// whose runtime is not installed, is "not run", and that is no failure. PROFILE=release takes release programs. Exit code 1 if
/// one failed.
#[derive(clap::Args)]
pub(crate) struct TestClients {
    /// The programs as they are.
    #[arg(long)]
    no_build: bool,
    /// Only these: curl, python, node, go, rust, browser.
    #[arg(long, value_name = "CLIENT,...", value_delimiter = ',')]
    only: Vec<String>,
}

const READY: Duration = Duration::from_secs(120);

/// What the clients are given.
struct Bench {
    environment: Environment,
    work: PathBuf,
    grpc: String,
    http: String,
    /// The site of the page: the one other site that may ask.
    site: String,
    /// Installed once, for whoever needs it.
    modules: Option<PathBuf>,
    profile: Profile,
}

/// A client that is ready to run, what one said that has run, or why it cannot.
enum Client {
    Ready(Command),
    Said(String),
    Missing(&'static str),
}

type Prepare = fn(&Bench) -> Result<Client>;

/// Each with the user that likes.
const CLIENTS: &[(&str, &str, Prepare)] = &[
    ("curl", "1001", curl),
    ("python", "4001", python),
    ("node", "5001", node),
    ("rust", "6001", rust),
    ("browser", "7001", page::prepare),
    ("go", "8001", go::prepare),
];

pub(crate) fn test(arguments: &TestClients) -> Result<bool> {
    let profile = Profile::from_environment(Profile::Debug)?;
    let mut environment = Environment::clean();
    if !arguments.no_build {
        let build = ["build", "--locked", "--workspace", "--bins", "--examples"];
        output(environment.cargo(build).args(profile.flags()))?;
    }
    let work = scratch("likes-clients")?;
    let [grpc, http, site] = [free_address()?, free_address()?, free_address()?];
    for (name, value) in [("GRPC_ADDR", &grpc), ("HTTP_ADDR", &http)] {
        environment.set(name, value);
    }
    let wanted = |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == name);
    let modules =
        if ["node", "browser", "go"].into_iter().any(wanted) { npm::install(&work.join("npm"))? } else { None };
    let bench = Bench { environment, work, grpc, http, site, modules, profile };
    bench.start()?;
    let mut passed = true;
    for (name, user, prepare) in CLIENTS.iter().filter(|(name, ..)| wanted(name)) {
        let checked = prepare(&bench).and_then(|client| match client {
            Client::Ready(mut command) => check(&output(&mut command)?, user).map(|()| "passed".to_owned()),
            Client::Said(said) => check(&said, user).map(|()| "passed".to_owned()),
            Client::Missing(what) => Ok(format!("not run: {what}")),
        });
        match checked {
            Ok(said) => println!("{name}: {said}"),
            Err(error) => {
                println!("{name}: FAILED\n{error:#}");
                passed = false;
            }
        }
    }
    Ok(passed)
}

/// Whether a client liked, met the limit, liked when it had waited, and found its user among the likers.
fn check(said: &str, user: &str) -> Result<()> {
    let limited = said.lines().position(|line| line.contains("limited: ") && line.contains("wait "));
    ensure!(limited.is_some(), "it met no limit:\n{said}");
    let liked: Vec<_> = said.lines().enumerate().filter(|(_, line)| line.to_lowercase().contains("liked")).collect();
    ensure!(liked.iter().any(|(place, _)| Some(*place) < limited), "no like before the limit:\n{said}");
    ensure!(liked.iter().any(|(place, _)| Some(*place) > limited), "no like after the limit:\n{said}");
    let lists = said.lines().any(|line| line.contains("liker") && line.contains(user));
    ensure!(lists, "{user} is not among the likers:\n{said}");
    Ok(())
}

impl Bench {
    /// Standalone, and the other site.
    fn start(&self) -> Result<()> {
        let log = File::create(self.work.join("standalone.log"))?;
        let mut standalone = self.environment.command(self.profile.program("standalone"));
        for (name, value) in [
            ("RATE_LIMITING__USER_ACTION__ENABLED", "true"),
            ("RATE_LIMITING__USER_ACTION__MAX_ACTIONS", "5"),
            ("RATE_LIMITING__USER_ACTION__WINDOW", "2s"),
            ("SERVICE__CORS_ORIGINS", &format!("http://{}", self.site)),
        ] {
            standalone.env(format!("INTERACTION__{name}"), value);
        }
        standalone.args(["--grpc-addr", &self.grpc, "--http-addr", &self.http, "--data-dir"]);
        standalone.arg(self.work.join("data")).stdout(log.try_clone()?).stderr(log);
        let mut running = start(&mut standalone)?;
        let began = Instant::now();
        while !http::get(&self.http, "/health").is_ok_and(|Answer { status, .. }| status == 200) {
            ensure!(
                running.try_wait()?.is_none() && began.elapsed() < READY,
                "standalone did not start:\n{}",
                self.log()
            );
            sleep(Duration::from_millis(50));
        }
        cleanup::at_exit(move || {
            _ = running.kill();
            _ = running.wait();
        });
        Ok(())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.work.join("standalone.log")).unwrap_or_default()
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.environment.command(program);
        command.current_dir(root());
        command
    }

    /// A program of npm, for whoever has looked whether it is there.
    fn tool(&self, name: &str) -> PathBuf {
        self.modules.clone().unwrap_or_default().join(".bin").join(name)
    }

    /// Code from the contract, or from what else lies in `input`, by a plugin of buf.
    fn generate(&self, input: &Path, plugin: &str, option: &str, out: &Path) -> Result<()> {
        let template =
            serde_json::json!({ "version": "v2", "plugins": [{ "local": plugin, "out": out, "opt": option }] });
        let mut buf = self.command(self.tool("buf"));
        output(buf.arg("generate").arg(input).args(["--template", &template.to_string()])).map(drop)
    }
}

fn quickstart(path: &str) -> PathBuf {
    root().join("docs/clients").join(path)
}

fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

fn curl(bench: &Bench) -> Result<Client> {
    if !is_installed("curl") {
        return Ok(Client::Missing("curl is not installed"));
    }
    Ok(Client::Ready(bench.command(quickstart("curl.sh"))))
}

fn python(bench: &Bench) -> Result<Client> {
    let (venv, stubs) = (bench.work.join("venv"), bench.work.join("stubs"));
    let requirements = script("python_requirements.txt").display().to_string();
    if !python::make_venv(&venv, &["--requirement", &requirements])? {
        return Ok(Client::Missing("PyPI cannot be reached"));
    }
    fs::create_dir(&stubs)?;
    let python = venv.join("bin/python");
    let mut generate = bench.command(&python);
    generate.args(["-m", "grpc_tools.protoc", "-I", "proto", "--python_out"]).arg(&stubs);
    output(generate.arg("--grpc_python_out").arg(&stubs).arg("interaction/v1/interaction.proto"))?;
    let mut command = bench.command(&python);
    command.arg(quickstart("python/quickstart.py")).env("PYTHONPATH", stubs).env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(Client::Ready(command))
}

fn node(bench: &Bench) -> Result<Client> {
    let Some(modules) = bench.modules.as_ref().filter(|_| is_installed("node")) else {
        return Ok(Client::Missing("Node is not installed, or npm cannot be reached"));
    };
    let mut command = bench.command("node");
    command.arg(quickstart("node/quickstart.js")).env("NODE_PATH", modules);
    Ok(Client::Ready(command))
}

fn rust(bench: &Bench) -> Result<Client> {
    Ok(Client::Ready(bench.command(bench.profile.program("examples/quickstart"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quick_start_that_leaves_something_out_is_found() {
        let good = ["liked: true, count 1", "limited: wait 3 s", "liked: true", "likers: 7 4001"];
        assert!(check(&good.join("\n"), "4001").is_ok());
        for left_out in 0..good.len() {
            let mut said = good.to_vec();
            said.remove(left_out);
            assert!(check(&said.join("\n"), "4001").is_err(), "{said:?}");
        }
        assert!(check(&good.join("\n"), "5001").is_err());
    }
}
