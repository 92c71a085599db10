//! A kind of row that the database refused, whosesoever it was. A probe that touches no row would not notice that, so the one
//! that is to find the database well again tries to write such a row.

use crate::clock::wall_clock;
use domain::LikeEvent;
use event_store::{EventStore, StoreError};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One event of that kind.
#[derive(Debug, Default)]
pub(crate) struct RefusedKind(Mutex<Option<LikeEvent>>);

impl RefusedKind {
    pub(crate) fn refuses_all_like(&self, event: &LikeEvent) {
        *self.lock() = Some(event.clone());
    }

    pub(crate) fn is_known(&self) -> bool {
        self.lock().is_some()
    }

    /// Well again once it takes one.
    pub(crate) async fn ask_again(&self, database: &EventStore) -> Result<(), StoreError> {
        let Some(event) = self.lock().clone() else { return Ok(()) };
        database.takes_others(&event, wall_clock()).await?;
        let mut kind = self.lock();
        // Another kind may have been refused meanwhile.
        if *kind == Some(event) {
            *kind = None;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<LikeEvent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
