//! The journal's front: what is to be written, and who waits for it.
//!
//! Invariant: records of a shard are appended in the order of its changes, because its lock is held while it appends.
//! While the disk refuses, nothing is appended: what is not kept is not answered.

use crate::EmbeddedConfig;
use crate::error::WalError;
use crate::record;
use crate::segment::{Accounting, ClosedSegment, OpenSegment};
use crate::shards::Shards;
use crate::writer::Writer;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::watch;

/// Tells whether a group of records is kept.
#[derive(Debug, Clone)]
pub(crate) struct GroupCommit(Arc<watch::Sender<Progress>>);

#[derive(Debug, Clone)]
pub(crate) enum Progress {
    Waiting,
    /// Not written yet, and the disk refuses; may become `Kept` later.
    Refused(Arc<io::Error>),
    Kept,
}

impl GroupCommit {
    fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Progress::Waiting)))
    }

    pub(crate) fn tell(&self, progress: Progress) {
        self.0.send_replace(progress);
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Waits until the group is kept, or refused: the disk did not take it.
    pub(crate) async fn kept(&self) -> Result<(), WalError> {
        let mut progress = self.0.subscribe();
        loop {
            match &*progress.borrow_and_update() {
                Progress::Kept => return Ok(()),
                Progress::Refused(error) => return Err(WalError::Failed(Arc::clone(error))),
                Progress::Waiting => {}
            }
            // Cannot fail: this commit holds the sender.
            let _ = progress.changed().await;
        }
    }
}

/// What waits to be written.
pub(crate) struct Pending {
    pub(crate) buffer: Vec<u8>,
    /// Of what is in the buffer.
    pub(crate) commit: GroupCommit,
    /// As of the end of the buffer.
    pub(crate) accounting: Vec<Accounting>,
    pub(crate) failure: Option<Arc<io::Error>>,
    /// Bytes in all files.
    pub(crate) file_bytes: u64,
    /// Somebody waits for the commit, even if the buffer is empty.
    pub(crate) flush: bool,
    pub(crate) stopping: bool,
}

impl Pending {
    pub(crate) const fn has_work(&self) -> bool {
        !self.buffer.is_empty() || self.flush
    }

    /// Takes the buffer with its commit; later records belong to another group.
    pub(crate) fn take(&mut self) -> (Vec<u8>, GroupCommit) {
        self.flush = false;
        (std::mem::take(&mut self.buffer), std::mem::replace(&mut self.commit, GroupCommit::new()))
    }
}

pub(crate) struct WalShared {
    pending: Mutex<Pending>,
    pub(crate) work: Condvar,
    max_bytes: u64,
}

impl WalShared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The journal; dropping it writes what is left.
pub(crate) struct Wal {
    shared: Arc<WalShared>,
    writer: Option<JoinHandle<()>>,
}

impl Wal {
    /// Goes on in `segment`, which is new; `closed` are the files before it.
    pub(crate) fn start(
        config: &EmbeddedConfig,
        directory: &Path,
        segment: OpenSegment,
        closed: Vec<ClosedSegment>,
        accounting: Vec<Accounting>,
        shards: Arc<Shards>,
    ) -> io::Result<Self> {
        let file_bytes = segment.len + closed.iter().map(ClosedSegment::bytes).sum::<u64>();
        let pending = Pending {
            buffer: Vec::new(),
            commit: GroupCommit::new(),
            accounting: accounting.clone(),
            failure: None,
            file_bytes,
            flush: false,
            stopping: false,
        };
        let shared = Arc::new(WalShared {
            pending: Mutex::new(pending),
            work: Condvar::new(),
            max_bytes: config.max_journal_bytes,
        });
        let writer = Writer::new(config, directory, Arc::clone(&shared), shards, segment, closed, accounting);
        let writer = std::thread::Builder::new().name("journal".to_owned()).spawn(move || writer.run())?;
        Ok(Self { shared, writer: Some(writer) })
    }

    /// Appends an accepted like. The caller holds its shard's lock, and changes the shard only if this succeeds.
    pub(crate) fn append_accepted(
        &self,
        shard: u16,
        version: i64,
        count: i64,
        payload: &[u8],
    ) -> Result<GroupCommit, WalError> {
        let mut pending = self.shared.lock();
        if let Some(error) = &pending.failure {
            return Err(WalError::Failed(Arc::clone(error)));
        }
        if pending.file_bytes + pending.buffer.len() as u64 >= self.shared.max_bytes {
            return Err(WalError::Full);
        }
        let first = pending.buffer.is_empty();
        record::put_accepted(&mut pending.buffer, shard, version, count, payload);
        let accounting = &mut pending.accounting[usize::from(shard)];
        accounting.clock = accounting.clock.max(version);
        accounting.accepted += 1;
        let commit = pending.commit.clone();
        drop(pending);
        if first {
            self.shared.work.notify_one();
        }
        Ok(commit)
    }

    /// Appends a settlement; nobody waits for it, because losing it only repeats work after a restart.
    pub(crate) fn append_settled(&self, shard: u16, clock: i64, up_to: i64, versions: &[i64]) {
        let mut pending = self.shared.lock();
        let accounting = &mut pending.accounting[usize::from(shard)];
        accounting.clock = accounting.clock.max(clock);
        accounting.settled += versions.len() as u64;
        accounting.settled_up_to = accounting.settled_up_to.max(up_to);
        if pending.failure.is_some() {
            return;
        }
        let first = pending.buffer.is_empty();
        if versions.is_empty() {
            record::put_settled(&mut pending.buffer, shard, clock, up_to, versions);
        }
        for versions in versions.chunks(record::MAX_SETTLED) {
            record::put_settled(&mut pending.buffer, shard, clock, up_to, versions);
        }
        drop(pending);
        if first {
            self.shared.work.notify_one();
        }
    }

    /// Why nothing can be kept now, if so.
    pub(crate) fn failure(&self) -> Option<WalError> {
        self.shared.lock().failure.clone().map(WalError::Failed)
    }

    /// A commit of everything appended so far.
    pub(crate) fn everything(&self) -> GroupCommit {
        let mut pending = self.shared.lock();
        // Groups are written in order, so a commit of an empty group stands for all before it.
        pending.flush = true;
        let commit = pending.commit.clone();
        drop(pending);
        self.shared.work.notify_one();
        commit
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.work.notify_one();
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has said so already.
            let _ = writer.join();
        }
    }
}
