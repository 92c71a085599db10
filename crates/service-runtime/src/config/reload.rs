//! Files that may change while the process runs: tokens, certificates, logins of stores.

use crate::config::ConfigError;
use ring::digest::{Context, SHA256};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior};

/// How long a change may go unnoticed.
const INTERVAL: Duration = Duration::from_secs(1);

const MAX_FILE_LEN: u64 = 1 << 20;

/// Why files that changed are not what is valid; none if they are. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    /// Of which files, to the metrics.
    file: &'static str,
    reason: Arc<Mutex<Option<String>>>,
}

impl Refusal {
    pub(crate) fn of(file: &'static str) -> Self {
        Self { file, reason: Arc::default() }
    }

    pub(crate) fn reason(&self) -> Option<String> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was there before.
    fn set(&self, reason: Option<String>) -> Option<String> {
        metrics::gauge!("interaction_file_refused", "file" => self.file).set(f64::from(u8::from(reason.is_some())));
        std::mem::replace(&mut *self.reason.lock().unwrap_or_else(PoisonError::into_inner), reason)
    }
}

/// What some files held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Files that cannot be read have one, too.
    pub(crate) fn of(files: &[PathBuf]) -> Self {
        let mut context = Context::new(&SHA256);
        for file in files {
            match read_bounded(file) {
                Ok(content) => {
                    context.update(&[1]);
                    context.update(&(content.len() as u64).to_le_bytes());
                    context.update(&content);
                }
                Err(_) => context.update(&[0]),
            }
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(context.finish().as_ref());
        Self(bytes)
    }
}

/// A file of at most 1 MiB.
pub(crate) fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let length = std::fs::File::open(path)?.take(MAX_FILE_LEN + 1).read_to_end(&mut content)?;
    if length as u64 > MAX_FILE_LEN {
        return Err(io::Error::other(format!("longer than {MAX_FILE_LEN} bytes")));
    }
    Ok(content)
}

/// The same as text.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    String::from_utf8(read_bounded(path)?).map_err(|_| io::Error::other("not valid UTF-8"))
}

/// A secret that a file holds.
pub(crate) fn read_secret(path: &Path) -> io::Result<String> {
    read(path).map(|content| content.trim_end_matches(['\n', '\r']).to_owned())
}

/// Calls `apply` whenever the files hold something else than at last; what it refuses is said once, is tried again, and what
/// was valid stays. `refusal` says how the last attempt went. Never returns.
///
/// It reads contents and not times: links that are turned to other files (as Kubernetes does) are seen, too.
pub(crate) async fn watch(
    files: Vec<PathBuf>,
    seen: Fingerprint,
    refusal: Refusal,
    mut apply: impl FnMut() -> Result<(), ConfigError>,
) {
    let mut follower = Follower::new(files, Some(seen), refusal);
    loop {
        follower.changed().await;
        follower.tried(apply());
    }
}

/// The same, step by step, where what is applied is waited for.
pub(crate) struct Follower {
    files: Vec<PathBuf>,
    seen: Option<Fingerprint>,
    refusal: Refusal,
    interval: Interval,
}

impl Follower {
    /// Without what was seen, what the files hold now is a change.
    pub(crate) fn new(files: Vec<PathBuf>, seen: Option<Fingerprint>, refusal: Refusal) -> Self {
        drop(refusal.set(None));
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { files, seen, refusal, interval }
    }

    /// Returns when the files hold something else, or the last attempt was refused.
    pub(crate) async fn changed(&mut self) {
        loop {
            self.interval.tick().await;
            let asked = self.files.clone();
            let Ok(now) = tokio::task::spawn_blocking(move || Fingerprint::of(&asked)).await else { continue };
            if self.seen != Some(now) || self.refusal.reason().is_some() {
                self.seen = Some(now);
                return;
            }
        }
    }

    /// How the attempt went.
    pub(crate) fn tried(&self, result: Result<(), ConfigError>) {
        match result {
            Ok(()) => drop(self.refusal.set(None)),
            Err(error) => {
                let reason = format!("{error}; what was valid before stays");
                if self.refusal.set(Some(reason.clone())).as_ref() != Some(&reason) {
                    tracing::error!("{reason}");
                }
            }
        }
    }
}
