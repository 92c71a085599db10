//! Reads the journal files back.

use crate::OpenError;
use crate::record::{self, Record};
use crate::segment::{self, Accounting, decode_header, header_len};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

/// A file that is complete; it goes when all of its entries are settled.
#[derive(Debug)]
pub(crate) struct ClosedSegment {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    /// Per shard, the clock at its end: entries of later files have higher versions.
    pub(crate) clocks: Vec<i64>,
}

/// An unsettled entry and the count that was answered.
#[derive(Debug, Clone)]
pub(crate) struct KeptEntry {
    pub(crate) payload: Bytes,
    pub(crate) count: i64,
}

#[derive(Debug)]
pub(crate) struct Recovery {
    pub(crate) accounting: Vec<Accounting>,
    /// Per shard, unsettled entries by version.
    pub(crate) journals: Vec<BTreeMap<i64, KeptEntry>>,
    pub(crate) closed: Vec<ClosedSegment>,
    pub(crate) next_number: u64,
    /// Bytes at the end of the last file that were no record, and were cut off.
    pub(crate) torn_bytes: u64,
}

pub(crate) fn recover(directory: &Path, shards: u16) -> Result<Recovery, OpenError> {
    let files = segment::list(directory).map_err(OpenError::io(directory))?;
    let count = usize::from(shards);
    let mut recovery = Recovery {
        accounting: vec![Accounting::default(); count],
        journals: vec![BTreeMap::new(); count],
        closed: Vec::new(),
        next_number: files.last().map_or(1, |(number, _)| number + 1),
        torn_bytes: 0,
    };
    for (at, (number, path)) in files.iter().enumerate() {
        recovery.read(directory, *number, path, at + 1 == files.len())?;
    }
    for (accounting, journal) in recovery.accounting.iter_mut().zip(&recovery.journals) {
        // The last settlements may not have been written before the files of their entries went.
        accounting.settled = accounting.accepted.saturating_sub(journal.len() as u64);
    }
    Ok(recovery)
}

impl Recovery {
    fn read(&mut self, directory: &Path, number: u64, path: &Path, last: bool) -> Result<(), OpenError> {
        let bytes = std::fs::read(path).map_err(OpenError::io(path))?;
        let damaged = |offset: usize, reason| OpenError::Damaged { path: path.into(), offset: offset as u64, reason };
        let (written, accounting, start) = match decode_header(&bytes) {
            Ok(header) => header,
            // A file gets its records after its header is on the disk: this one never got any.
            Err(_) if last && bytes.len() <= header_len(self.accounting.len()) => {
                self.torn_bytes += bytes.len() as u64;
                return std::fs::remove_file(path).map_err(OpenError::io(path));
            }
            Err(reason) => return Err(damaged(0, reason)),
        };
        if accounting.len() != self.accounting.len() {
            let (directory, stored) = (directory.to_owned(), accounting.len() as u16);
            return Err(OpenError::ShardMismatch { directory, stored, configured: self.accounting.len() as u16 });
        }
        if written != number {
            return Err(damaged(0, "the file's name is not its own"));
        }
        self.accounting = accounting;
        let mut offset = start;
        while offset < bytes.len() {
            match record::next(&bytes[offset..]) {
                Ok((record, _)) if usize::from(record.shard()) >= self.accounting.len() => {
                    return Err(damaged(offset, "a shard that does not exist"));
                }
                Ok((record, length)) => {
                    self.replay(record);
                    offset += length;
                }
                Err(_) if last => {
                    self.torn_bytes += (bytes.len() - offset) as u64;
                    cut(path, offset as u64)?;
                    break;
                }
                Err(reason) => return Err(damaged(offset, reason)),
            }
        }
        let clocks = self.accounting.iter().map(|accounting| accounting.clock).collect();
        self.closed.push(ClosedSegment { path: path.to_owned(), bytes: offset as u64, clocks });
        Ok(())
    }

    fn replay(&mut self, record: Record<'_>) {
        let shard = usize::from(record.shard());
        let (accounting, journal) = (&mut self.accounting[shard], &mut self.journals[shard]);
        match record {
            Record::Accepted { version, count, payload, .. } => {
                accounting.clock = accounting.clock.max(version);
                accounting.accepted += 1;
                // A copy: a slice would hold the whole file in memory until its last entry is settled.
                let payload = Bytes::copy_from_slice(payload);
                journal.insert(version, KeptEntry { payload, count });
            }
            Record::Settled { clock, up_to, versions, .. } => {
                accounting.clock = accounting.clock.max(clock);
                accounting.settled_up_to = accounting.settled_up_to.max(up_to);
                for version in &versions {
                    journal.remove(version);
                }
            }
        }
    }
}

fn cut(path: &Path, length: u64) -> Result<(), OpenError> {
    let file = OpenOptions::new().write(true).open(path).map_err(OpenError::io(path))?;
    file.set_len(length).and_then(|()| file.sync_all()).map_err(OpenError::io(path))
}
