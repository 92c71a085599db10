//! How a process is started.

use crate::guardian;
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A directory of one's own below the guarded root; removed when dropped, and what lives in it is killed.
#[derive(Debug)]
pub(crate) struct WorkDir(PathBuf);

impl WorkDir {
    pub(crate) fn create(name: &str) -> Result<Self> {
        let dir = guardian::root()?.join(crate::unique_name(name));
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        Ok(Self(dir))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        guardian::kill_marked(&self.0);
        if !guardian::keeps_directories() {
            // A daemon killed above may still be writing; the guardian removes what is left.
            let _left = fs::remove_dir_all(&self.0);
        }
    }
}

/// Program, arguments and settings; kept, so that the same process can be started again.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(String, OsString)>,
    /// Prefix of inherited variables that must not reach the process.
    pub(crate) hidden_env_prefix: Option<&'static str>,
    /// Working directory; also the mark by which the process is found and killed.
    pub(crate) dir: PathBuf,
}

impl Launch {
    pub(crate) fn new(program: impl Into<PathBuf>, dir: &Path) -> Self {
        Self { program: program.into(), args: vec![], env: vec![], hidden_env_prefix: None, dir: dir.to_owned() }
    }

    pub(crate) fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    pub(crate) fn args<T: Into<OsString>>(mut self, args: impl IntoIterator<Item = T>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    pub(crate) fn env(mut self, name: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Standard output and error of every start, appended.
    pub(crate) fn log_path(&self) -> PathBuf {
        self.dir.join("output.log")
    }

    pub(crate) fn spawn(&self) -> Result<Child> {
        let log_path = self.log_path();
        let log = File::options()
            .create(true)
            .append(true)
            .open(&log_path)
            .with_context(|| format!("open {}", log_path.display()))?;
        let mut command = Command::new(&self.program);
        if let Some(prefix) = self.hidden_env_prefix {
            for (name, _) in std::env::vars_os() {
                if name.to_string_lossy().starts_with(prefix) {
                    command.env_remove(name);
                }
            }
        }
        command
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .env(guardian::MARK, &self.dir)
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("share the log file")?)
            .stderr(log)
            // A group of its own: Ctrl-C at the terminal must not reach it before the test does.
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {}", self.program.display()))
    }
}

/// Finds a program in PATH, and in the sbin directories that an ordinary user's PATH lacks.
pub(crate) fn find_program(names: &[&str]) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let extra = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let dirs: Vec<PathBuf> = std::env::split_paths(&path).chain(extra).collect();
    names
        .iter()
        .flat_map(|name| dirs.iter().map(move |dir| dir.join(name)))
        .find(|candidate| candidate.is_file())
        .with_context(|| format!("none of {names:?} is installed; scripts/up.sh installs it"))
}
