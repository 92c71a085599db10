//! A slow disk and a wrong clock for one server, changed while it runs: a small library that is loaded before the C
//! library, told by a file. Needs a C compiler, as Rust does, and no rights.

use crate::launch::find_program;
use anyhow::{Context, Result, ensure};
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

const SOURCE: &str = include_str!("preload.c");

/// Names the file to the library.
const FILE: &str = "TEST_SUPPORT_PRELOAD";

const COMPILERS: &[&str] = &["cc", "gcc", "clang"];

/// Where the numbers are in the file.
const AHEAD: u64 = 0;
const SYNC: u64 = 8;
const DELAYED: u64 = 16;
const LENGTH: usize = 24;

/// What the processes started with [`env`](Self::env) obey; at first nothing is slow and nothing wrong.
#[derive(Debug)]
pub struct Preload {
    library: PathBuf,
    path: PathBuf,
    file: File,
}

impl Preload {
    /// Whether there can be one here: there is a C compiler. An error if it cannot compile this.
    pub fn is_available() -> Result<bool> {
        if find_program(COMPILERS).is_err() {
            return Ok(false);
        }
        library().map(|_| true)
    }

    /// One whose file is in this directory.
    pub fn new(dir: &Path) -> Result<Self> {
        let library = library()?.to_owned();
        let path = dir.join("preload");
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path);
        let file = file.with_context(|| format!("create {}", path.display()))?;
        file.write_all_at(&[0; LENGTH], 0).context("write the numbers of the preloaded library")?;
        Ok(Self { library, path, file })
    }

    /// Environment of a process that obeys.
    pub fn env(&self) -> [(&'static str, OsString); 2] {
        [("LD_PRELOAD", self.library.clone().into()), (FILE, self.path.clone().into())]
    }

    /// The wall clock is ahead of the true time by so many microseconds, or behind it; steady clocks stay right.
    pub fn set_clock(&self, ahead_us: i64) -> Result<()> {
        self.write(AHEAD, ahead_us)
    }

    /// Every `fsync` and `fdatasync` takes this much longer.
    pub fn slow_sync(&self, delay: Duration) -> Result<()> {
        self.write(SYNC, i64::try_from(delay.as_micros()).context("too long a delay")?)
    }

    /// How many were delayed so far.
    pub fn delayed_syncs(&self) -> Result<i64> {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, DELAYED).context("read the numbers of the preloaded library")?;
        Ok(i64::from_ne_bytes(bytes))
    }

    fn write(&self, at: u64, number: i64) -> Result<()> {
        self.file.write_all_at(&number.to_ne_bytes(), at).context("write the numbers of the preloaded library")
    }
}

/// The library, compiled once in the life of this process.
fn library() -> Result<&'static Path> {
    static LIBRARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let library = LIBRARY.get_or_init(|| compile().map_err(|error| format!("{error:#}")));
    library.as_ref().map(PathBuf::as_path).map_err(|error| anyhow::anyhow!("{error}"))
}

fn compile() -> Result<PathBuf> {
    let dir = crate::guardian::root()?;
    let (source, library) = (dir.join("preload.c"), dir.join("preload.so"));
    fs::write(&source, SOURCE).with_context(|| format!("write {}", source.display()))?;
    let compiler = find_program(COMPILERS).context("a C compiler (apt-get install gcc)")?;
    let output = Command::new(compiler)
        .args(["-shared", "-fPIC", "-O2", "-o"])
        .arg(&library)
        .arg(&source)
        .arg("-ldl")
        .stdin(Stdio::null())
        .output()
        .context("run the C compiler")?;
    ensure!(output.status.success(), "the preloaded library: {}", String::from_utf8_lossy(&output.stderr));
    Ok(library)
}
