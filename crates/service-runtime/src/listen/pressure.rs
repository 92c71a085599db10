//! When a listener last had no place, for the health of the process.

use crate::listen::places::Places;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// How long the health remembers that there was no place.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Between two complaints about the same.
const QUIET: Duration = Duration::from_secs(30);

/// The listeners of a process, and when one of them last had no place. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pressure(Arc<Mutex<Noted>>);

#[derive(Debug, Default)]
struct Noted {
    listeners: Vec<Weak<Places>>,
    last: Option<(Instant, String)>,
    said: Option<Instant>,
}

impl Pressure {
    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enlist(&self, places: &Arc<Places>) {
        self.noted().listeners.push(Arc::downgrade(places));
    }

    pub(super) fn listeners(&self) -> Vec<Arc<Places>> {
        self.noted().listeners.iter().filter_map(Weak::upgrade).collect()
    }

    pub(super) fn note(&self, what: impl FnOnce() -> String) {
        let mut noted = self.noted();
        let what = what();
        if noted.said.is_none_or(|said| said.elapsed() >= QUIET) {
            noted.said = Some(Instant::now());
            tracing::warn!("{what}");
        }
        noted.last = Some((Instant::now(), what));
    }

    /// What there was too much of, within the last minute.
    pub(crate) fn recent(&self) -> Option<String> {
        let noted = self.noted();
        noted.last.as_ref().filter(|(at, _)| at.elapsed() < REMEMBERED).map(|(_, what)| what.clone())
    }
}
