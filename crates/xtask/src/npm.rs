//! Programs and libraries from npm, pinned by `docs/clients/package-lock.json`.

use crate::command::{Environment, is_installed, outcome, said};
use crate::workspace::root;
use anyhow::{Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// What npm says where there is no network, no registry, or no answer of it.
const UNREACHABLE: &[&str] =
    &["ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH", "network"];

/// Installs them into this directory; none if npm is missing or its registry cannot be reached.
///
/// # Errors
///
/// If the registry answers, but does not give what is pinned.
pub(crate) fn install(directory: &Path) -> Result<Option<PathBuf>> {
    if !is_installed("npm") {
        return Ok(None);
    }
    fs::create_dir_all(directory)?;
    for name in ["package.json", "package-lock.json"] {
        fs::copy(root().join("docs/clients").join(name), directory.join(name))?;
    }
    let mut install = Environment::default().command("npm");
    // No program of a package runs by being installed.
    install.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries", "1"]).current_dir(directory);
    let installed = outcome(&mut install)?;
    if installed.status.success() {
        return Ok(Some(directory.join("node_modules")));
    }
    let said = said(&installed);
    if UNREACHABLE.iter().any(|word| said.contains(word)) {
        return Ok(None);
    }
    bail!("npm does not give what docs/clients/package-lock.json pins:\n{said}")
}
