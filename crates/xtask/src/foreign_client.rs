//! `scripts/test_python_client.sh`: a client in another language.

use crate::command::{Environment, output, run};
use crate::installation::Installation;
use crate::workspace::{root, script};
use crate::{python, scratch};
use anyhow::{Context, Result};
use std::env;
use std::path::PathBuf;

/// A foreign client: Python stubs generated from proto/, tests that like, list, watch and read errors with their details.
///
/// Uses what scripts/up.sh started, or GRPC_ADDR in the environment. Installs python3-venv if missing and takes gRPC for
/// Python from PyPI into a temporary directory; if PyPI cannot be reached it says "not run" and that is no failure. Exit code
/// 1 if a test failed.
#[derive(clap::Args)]
pub(crate) struct TestPythonClient {
    /// An installation of its own (PROFILE=debug for debug programs), which is removed at the end.
    #[arg(long)]
    private: bool,
    /// With --private: the programs as they are.
    #[arg(long)]
    no_build: bool,
}

pub(crate) fn test(arguments: &TestPythonClient) -> Result<bool> {
    let work = scratch("likes-python")?;
    let venv = work.join("venv");
    let requirements = script("python_requirements.txt").display().to_string();
    if !python::make_venv(&venv, &["--requirement", &requirements])? {
        println!("not run: PyPI cannot be reached, so there is no gRPC for Python");
        return Ok(true);
    }
    let address = if arguments.private {
        let (mut installation, _) = Installation::private("likes-python", Environment::clean(), false)?;
        installation.up(if arguments.no_build { &["--no-build"] } else { &[] })?;
        installation.address("GRPC_ADDR")?
    } else if let Some(address) = env::var("GRPC_ADDR").ok().filter(|address| !address.is_empty()) {
        address
    } else {
        let run_dir = env::var_os("RUN_DIR").map_or_else(|| root().join(".run"), PathBuf::from);
        let missing =
            format!("nothing runs in {}: scripts/up.sh first, or --private, or set GRPC_ADDR", run_dir.display());
        Installation::at(run_dir, Environment::default()).address("GRPC_ADDR").context(missing)?
    };

    let environment = Environment::default();
    let (python, stubs) = (venv.join("bin/python"), work.join("stubs"));
    std::fs::create_dir(&stubs)?;
    let mut generate = environment.command(&python);
    generate.args(["-m", "grpc_tools.protoc", "-I"]).arg(root().join("proto"));
    generate.arg("--python_out").arg(&stubs).arg("--grpc_python_out").arg(&stubs);
    output(generate.args(["interaction/v1/interaction.proto", "interaction/v1/admin.proto"]))?;
    let mut tests = environment.command(&python);
    tests.arg(script("test_python_client.py")).env("GRPC_ADDR", address);
    tests.env("PYTHONPATH", stubs).env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(run(&mut tests).map_err(|error| eprintln!("{error:#}")).is_ok())
}
