//! Virtual environments with packages from PyPI.

use crate::command::{Environment, is_installed, outcome, output, said};
use anyhow::{Result, bail};
use std::ffi::OsStr;
use std::path::Path;

/// Makes one with these arguments of `pip install`; false if PyPI cannot be reached.
///
/// # Errors
///
/// If PyPI can be reached, but the packages cannot be installed.
pub(crate) fn make_venv<S: AsRef<OsStr>>(directory: &Path, wanted: &[S]) -> Result<bool> {
    let environment = Environment::default();
    // The module exists without pip where python3-venv is missing.
    let usable = is_installed("python3")
        && outcome(environment.command("python3").args(["-c", "import ensurepip, venv"]))?.status.success();
    if !usable {
        crate::command::install_packages(&["python3-venv"])?;
    }
    output(environment.command("python3").args(["-m", "venv"]).arg(directory))?;
    let pip = directory.join("bin/pip");
    let quiet = ["--quiet", "--disable-pip-version-check"];
    let installed =
        outcome(environment.command(&pip).arg("install").args(quiet).args(["--retries", "2"]).args(wanted))?;
    if installed.status.success() {
        return Ok(true);
    }
    // pip itself is there, at any version: if even that is not found, it is not our list that is wrong.
    let mut probe = environment.command(&pip);
    probe.arg("download").args(quiet).args(["--retries", "0", "--no-deps", "--dest"]).arg(directory).arg("pip");
    if outcome(&mut probe)?.status.success() {
        bail!("PyPI answers, but did not give what was asked for:\n{}", said(&installed));
    }
    Ok(false)
}
