//! Files that may change while the process runs: tokens, certificates.

use crate::config::ConfigError;
use ring::digest::{Context, SHA256};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a change may go unnoticed.
const INTERVAL: Duration = Duration::from_secs(1);

const MAX_FILE_LEN: u64 = 1 << 20;

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

/// Calls `apply` whenever the files hold something else than at last; what it refuses is said once and what was valid
/// stays. Never returns.
///
/// It reads contents and not times: links that are turned to other files (as Kubernetes does) are seen, too.
pub(crate) async fn watch(
    files: Vec<PathBuf>,
    mut seen: Fingerprint,
    mut apply: impl FnMut() -> Result<(), ConfigError>,
) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let asked = files.clone();
        let Ok(now) = tokio::task::spawn_blocking(move || Fingerprint::of(&asked)).await else { continue };
        if now == seen {
            continue;
        }
        seen = now;
        if let Err(error) = apply() {
            tracing::error!("{error}; what was valid before stays");
        }
    }
}
