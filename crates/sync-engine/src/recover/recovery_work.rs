//! A recovery in the hands of one process: its lease, its note, and what it ends with.

use super::lost_pairs::RecoverError;
use super::recovery_report::Brought;
use super::replay::ReplayError;
use crate::apply::DatabaseUnreachable;
use crate::stores::Stores;
use domain::cache::CacheError;
use event_bus::BusError;
use event_store::{Fenced, RecoveryNote, StoreError};
use std::time::Duration;
use tokio::sync::Mutex;

pub(super) const LEASE: &str = "recovery";
const LEASE_TTL: Duration = Duration::from_secs(10);
/// How often lease and note are renewed.
const RENEWED: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Apply(#[from] DatabaseUnreachable),
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error("the redo log does not answer: {0}")]
    Log(String),
    #[error(transparent)]
    Replay(#[from] ReplayError),
    #[error(transparent)]
    Pairs(#[from] RecoverError),
    #[error("another process has the lease, or a newer token")]
    NotHeld,
}

/// A recovery in hand.
pub(super) struct Work {
    /// None once it is concluded.
    pub(super) note: Mutex<Option<RecoveryNote>>,
    pub(super) brought: Brought,
}

impl Work {
    pub(super) fn new(note: RecoveryNote) -> Self {
        Self { note: Mutex::new(Some(note)), brought: Brought::after(&note) }
    }

    pub(super) async fn current(&self) -> Result<RecoveryNote, Failed> {
        self.note.lock().await.ok_or(Failed::NotHeld)
    }

    pub(super) async fn next(&self, stores: &Stores, note: RecoveryNote) -> Result<RecoveryNote, Failed> {
        let mut held = self.note.lock().await;
        let note = self.brought.counted(note);
        save(stores, &note).await?;
        *held = Some(note);
        Ok(note)
    }
}

pub(super) async fn owns(stores: &Stores, owner: &str) -> Result<bool, CacheError> {
    Ok(stores.cache.acquire_lease(LEASE, owner, LEASE_TTL).await?.is_some())
}

pub(super) async fn save(stores: &Stores, note: &RecoveryNote) -> Result<(), Failed> {
    match stores.database.save_recovery(note).await? {
        Fenced::Refused => Err(Failed::NotHeld),
        Fenced::Done(()) => {
            stores.history.saw_recovery(Some(*note));
            Ok(())
        }
    }
}

/// Renews the lease, and the note with what came back; ends when either is another process's.
pub(super) async fn keep(stores: &Stores, owner: &str, work: &Work) -> Failed {
    loop {
        tokio::time::sleep(RENEWED).await;
        match owns(stores, owner).await {
            Ok(true) => {}
            Ok(false) => return Failed::NotHeld,
            Err(error) => return error.into(),
        }
        let held = work.note.lock().await;
        if let Some(note) = *held
            && let Err(failed) = save(stores, &work.brought.counted(note)).await
        {
            return failed;
        }
    }
}
