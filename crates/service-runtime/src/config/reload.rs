//! Files that may change while the process runs: tokens, certificates.

use crate::config::ConfigError;
use ring::digest::{Context, SHA256};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

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

/// Calls `apply` whenever the files hold something else than at last; what it refuses is said once, is tried again, and what
/// was valid stays. `refusal` says how the last attempt went. Never returns.
///
/// It reads contents and not times: links that are turned to other files (as Kubernetes does) are seen, too.
pub(crate) async fn watch(
    files: Vec<PathBuf>,
    mut seen: Fingerprint,
    refusal: Refusal,
    mut apply: impl FnMut() -> Result<(), ConfigError>,
) {
    drop(refusal.set(None));
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let asked = files.clone();
        let Ok(now) = tokio::task::spawn_blocking(move || Fingerprint::of(&asked)).await else { continue };
        if now == seen && refusal.reason().is_none() {
            continue;
        }
        seen = now;
        match apply() {
            Ok(()) => drop(refusal.set(None)),
            Err(error) => {
                let reason = format!("{error}; what was valid before stays");
                if refusal.set(Some(reason.clone())).as_ref() != Some(&reason) {
                    tracing::error!("{reason}");
                }
            }
        }
    }
}
