//! Cleans up after a test process that could not.
//!
//! Every process started here carries `TEST_SUPPORT_DIR=<its directory>` in its environment, and all directories of
//! one test process lie below one root. A `sh` holds the read end of a pipe whose other end lives in the test process;
//! at end of file (however that process ended) it kills everything that carries the mark and removes the root.
//! The environment, unlike process ids and groups, is inherited by daemons and is never reused. The parent-death signal
//! would not do: it fires when the *thread* that spawned the child ends, and every test has a thread of its own.

use anyhow::{Context, Result, anyhow};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::{env, fs};

/// Name of the mark.
pub(crate) const MARK: &str = "TEST_SUPPORT_DIR";

const SCRIPT: &str = r#"
trap '' HUP INT TERM
while read -r _; do :; done
for _ in 1 2 3 4 5 6 7 8 9 10; do
  found=$(grep -lszF "$1=$2/" /proc/[0-9]*/environ) || { [ -n "$swept" ] && break; }
  for file in $found; do pid=${file#/proc/}; kill -9 "${pid%/environ}" 2>/dev/null; done
  swept=1
  sleep 0.05
done
[ -n "$3" ] || rm -rf "$2"
"#;

struct Guardian {
    root: PathBuf,
    /// Kept for its standard input, which closes when this process ends.
    _child: Child,
}

/// The root directory of this test process; starts the guardian on first use.
pub(crate) fn root() -> Result<&'static Path> {
    static GUARDIAN: OnceLock<Result<Guardian, String>> = OnceLock::new();
    let guardian = GUARDIAN.get_or_init(|| start().map_err(|error| format!("{error:#}")));
    guardian.as_ref().map(|guardian| guardian.root.as_path()).map_err(|error| anyhow!("{error}"))
}

/// Whether directories are to be kept for reading afterwards.
pub(crate) fn keeps_directories() -> bool {
    env::var_os("TEST_SUPPORT_KEEP").is_some()
}

fn start() -> Result<Guardian> {
    let root = tempfile::Builder::new().prefix("test-support-").tempdir().context("create temporary directory")?.keep();
    let root = fs::canonicalize(&root).with_context(|| format!("resolve {}", root.display()))?;
    let child = Command::new("sh")
        .args(["-c", SCRIPT, "guardian", MARK])
        .arg(&root)
        .arg(if keeps_directories() { "keep" } else { "" })
        .env_remove(MARK)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .context("start the guardian shell")?;
    Ok(Guardian { root, _child: child })
}

/// Kills every process that carries the mark of `dir` (daemons that a server started, for example epmd).
pub(crate) fn kill_marked(dir: &Path) {
    let mark = format!("{MARK}={}", dir.display());
    let Ok(entries) = fs::read_dir("/proc") else { return };
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let Ok(environ) = fs::read(entry.path().join("environ")) else { continue };
        if environ.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes()) {
            let _gone = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}
