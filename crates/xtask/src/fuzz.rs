//! `scripts/fuzz.sh`: many bad inputs.

use crate::command::{Environment, output, run};
use crate::installation::Installation;
use crate::{http, python};
use anyhow::Result;
use std::fs;

/// Bad inputs, many of them: schemathesis on the ops API by its own OpenAPI document, then random and malformed gRPC,
/// HTTP/2, HTTP and AMQP from a seed, and beside them connections on which it comes slowly or never
/// (crates/interaction-server/tests/it/malformed.rs). Prints what became of them, and memory before, meanwhile and after.
///
/// Everything runs on private stores, with debug programs unless PROFILE=release. Installs python3-venv if missing and takes
/// schemathesis from PyPI into a temporary directory; if PyPI cannot be reached that part is "not run". Exit code 1 if
/// anything answered with a server error, panicked, grew, or wrote what was no like.
#[derive(clap::Args)]
pub(crate) struct Fuzz {
    /// Random and malformed inputs; the default takes a few minutes.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    inputs: u32,
    /// Which ones.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    seed: u32,
    /// Requests that schemathesis makes of each operation.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    examples: u32,
    /// Leaves it out.
    #[arg(long)]
    no_schemathesis: bool,
}

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";

pub(crate) fn fuzz(arguments: &Fuzz) -> Result<bool> {
    let mut environment = Environment::clean();
    if std::env::var_os("PROFILE").is_none() {
        environment.set("PROFILE", "debug");
    }
    let mut passed = arguments.no_schemathesis || by_document(arguments, environment.clone())?;
    environment.set("MALFORMED_INPUTS", arguments.inputs.to_string());
    environment.set("MALFORMED_SEED", arguments.seed.to_string());
    let test = ["test", "--locked", "--workspace", "--test", "it", "--", "--nocapture", "malformed::"];
    if let Err(error) = run(&mut environment.cargo(test)) {
        eprintln!("{error:#}");
        passed = false;
    }
    Ok(passed)
}

fn by_document(arguments: &Fuzz, environment: Environment) -> Result<bool> {
    let (mut installation, work) = Installation::private("likes-fuzz", environment, false)?;
    let venv = work.join("venv");
    if !python::make_venv(&venv, &["schemathesis==4.32.5"])? {
        println!("not run: PyPI cannot be reached, so there is no schemathesis");
        return Ok(true);
    }
    installation.up(&[])?;
    let address = installation.address("HTTP_ADDR")?;
    let mut tests = installation.environment.command(venv.join("bin/schemathesis"));
    tests.arg("run").arg(format!("http://{address}/openapi.json")).args(["--checks", CHECKS]);
    tests.args(["--seed", &arguments.seed.to_string(), "--max-examples", &arguments.examples.to_string()]);
    // It leaves a directory where it runs.
    tests.args(["--generation-database", "none", "--no-color"]).current_dir(&work);
    let mut wrong = vec![];
    if let Err(error) = run(&mut tests) {
        wrong.push(format!("{error:#}"));
    }
    for entry in fs::read_dir(installation.directory.join("logs"))? {
        let log = String::from_utf8_lossy(&fs::read(entry?.path())?).into_owned();
        wrong.extend(log.lines().filter(|line| line.contains("panicked")).map(str::to_owned));
    }
    if let Err(error) = http::get(&address, "/health").and_then(http::Answer::body) {
        wrong.push(format!("the server is not well: {error:#}"));
    }
    wrong.iter().for_each(|line| eprintln!("{line}"));
    output(installation.environment.command(crate::workspace::script("down.sh")).arg("--wipe"))?;
    Ok(wrong.is_empty())
}
