//! The thread that writes the journal: one write (and one sync) for everything that was appended meanwhile.

use crate::segment::{Accounting, ClosedSegment, OpenSegment};
use crate::shards::Shards;
use crate::wal::{GroupCommit, Pending, Progress, WalShared};
use crate::{Durability, EmbeddedConfig};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often files are looked at that may go.
const CLEANING_INTERVAL: Duration = Duration::from_millis(500);

/// Pause between two attempts at a disk that refuses.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

pub(crate) struct Writer {
    shared: Arc<WalShared>,
    shards: Arc<Shards>,
    directory: PathBuf,
    segment_bytes: u64,
    sync: bool,

    segment: OpenSegment,
    closed: VecDeque<ClosedSegment>,
    /// As of the end of what is written.
    accounting: Vec<Accounting>,
    cleaned: Instant,
}

impl Writer {
    pub(crate) fn new(
        config: &EmbeddedConfig,
        directory: &Path,
        shared: Arc<WalShared>,
        shards: Arc<Shards>,
        segment: OpenSegment,
        closed: Vec<ClosedSegment>,
        accounting: Vec<Accounting>,
    ) -> Self {
        Self {
            shared,
            shards,
            directory: directory.to_owned(),
            segment_bytes: config.segment_bytes,
            sync: config.durability == Durability::Host,
            segment,
            closed: closed.into(),
            accounting,
            cleaned: Instant::now(),
        }
    }

    /// Runs until it is told to stop and has written everything.
    pub(crate) fn run(mut self) {
        loop {
            let mut pending = self.wait_for_work();
            let stopping = pending.stopping;
            if !pending.has_work() {
                drop(pending);
                if stopping {
                    return;
                }
                self.delete_settled();
                continue;
            }
            let (buffer, commit) = pending.take();
            let accounting = pending.accounting.clone();
            drop(pending);
            if !self.commit(buffer, commit, accounting) {
                return;
            }
            if self.cleaned.elapsed() >= CLEANING_INTERVAL {
                self.delete_settled();
            }
        }
    }

    fn wait_for_work(&self) -> MutexGuard<'_, Pending> {
        let pending = self.shared.lock();
        let idle = |pending: &mut Pending| !pending.has_work() && !pending.stopping;
        let waited = self.shared.work.wait_timeout_while(pending, CLEANING_INTERVAL, idle);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Writes until the disk takes it; false if the process ends before.
    fn commit(&mut self, mut buffer: Vec<u8>, commit: GroupCommit, mut accounting: Vec<Accounting>) -> bool {
        let mut commits = vec![commit];
        let mut refused = false;
        while let Err(error) = self.write(&buffer) {
            if !refused {
                tracing::error!(%error, directory = %self.directory.display(), "the journal cannot be written, likes are refused");
            }
            refused = true;
            let error = Arc::new(error);
            let mut pending = self.shared.lock();
            pending.failure = Some(Arc::clone(&error));
            if pending.has_work() {
                // Appended before the failure was known: the same fate.
                let (more, commit) = pending.take();
                buffer.extend(more);
                commits.push(commit);
                accounting.clone_from(&pending.accounting);
            }
            let stopping = pending.stopping;
            drop(pending);
            commits.iter().for_each(|commit| commit.tell(Progress::Refused(Arc::clone(&error))));
            if stopping {
                return false;
            }
            std::thread::sleep(RETRY_PAUSE);
            self.delete_settled();
        }
        self.accounting = accounting;
        let mut pending = self.shared.lock();
        pending.file_bytes = self.segment.len + self.closed.iter().map(ClosedSegment::bytes).sum::<u64>();
        if pending.failure.take().is_some() {
            tracing::info!("the journal can be written again");
        }
        drop(pending);
        commits.iter().for_each(|commit| commit.tell(Progress::Kept));
        true
    }

    fn write(&mut self, buffer: &[u8]) -> io::Result<()> {
        if self.segment.len >= self.segment_bytes {
            self.begin_segment()?;
        }
        if !buffer.is_empty() {
            fail::fail_point!("journal.taken");
            self.segment.append(buffer, self.sync)?;
            fail::fail_point!("journal.written");
        }
        Ok(())
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        // A complete file is on the disk before the next one exists, so only the last one can end torn.
        let clocks = self.accounting.iter().map(|accounting| accounting.clock).collect();
        let full = self.segment.close(&self.directory, clocks)?;
        self.segment = OpenSegment::create(&self.directory, self.segment.number + 1, &self.accounting)?;
        fail::fail_point!("journal.next_file");
        self.closed.push_back(full);
        Ok(())
    }

    /// Deletes files from the oldest on while all of their entries are settled.
    fn delete_settled(&mut self) {
        self.cleaned = Instant::now();
        while let Some(oldest) = self.closed.front() {
            if !self.shards.settled_up_to(oldest.clocks()) {
                return;
            }
            fail::fail_point!("journal.settled_file");
            match std::fs::remove_file(oldest.path()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%error, path = %oldest.path().display(), "a settled journal file cannot be deleted");
                    return;
                }
                _ => {}
            }
            let bytes = oldest.bytes();
            self.closed.pop_front();
            let mut pending = self.shared.lock();
            pending.file_bytes = pending.file_bytes.saturating_sub(bytes);
        }
    }
}
