//! Points at which a process can be made to die, for tests: only in builds with the feature `failpoints`.
//!
//! `INTERACTION_FAILPOINT` holds items with `;` between them:
//!
//! - `name` or `name:nth` — the process aborts when it comes to that point for the first (nth) time;
//! - `name=actions` — actions of the crate `fail`, for example `name=sleep(50)`, or `bug.name=return` for a wrong version
//!   of the protocol.

use crate::config::ConfigError;
use std::sync::atomic::{AtomicU64, Ordering};

/// Name of the variable; not part of the configuration.
pub(crate) const VARIABLE: &str = "INTERACTION_FAILPOINT";

/// Sets the points of `text`.
///
/// # Errors
/// This build has no failpoints, or an item makes no sense: a test must not believe that it killed something.
pub(crate) fn configure(text: &str) -> Result<(), ConfigError> {
    let wrong = |reason: String| ConfigError::key(VARIABLE, reason);
    if !fail::has_failpoints() {
        return Err(wrong("this build has no failpoints".to_owned()));
    }
    for item in text.split(';').map(str::trim).filter(|item| !item.is_empty()) {
        if let Some((name, actions)) = item.split_once('=') {
            fail::cfg(name, actions).map_err(|reason| wrong(format!("{item:?}: {reason}")))?;
            continue;
        }
        let (name, nth) = match item.split_once(':') {
            None => (item, 1),
            Some((name, nth)) => (name, nth.parse().map_err(|error| wrong(format!("{item:?}: {error}")))?),
        };
        let (point, hits) = (name.to_owned(), AtomicU64::new(0));
        fail::cfg_callback(name, move || {
            if hits.fetch_add(1, Ordering::Relaxed) + 1 == nth {
                // Unbuffered, so that a test can see that it died here and not of something else.
                eprintln!("failpoint {point} reached: aborting");
                std::process::abort();
            }
        })
        .map_err(|reason| wrong(format!("{item:?}: {reason}")))?;
    }
    Ok(())
}
