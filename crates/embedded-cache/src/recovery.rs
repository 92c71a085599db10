//! Reads the journal files back.
//!
//! What is read here may be in the page cache only: the process that wrote it was killed. It is synced before this process
//! begins a file of its own, because from then on the file that was the last one must not end torn.

use crate::OpenError;
use crate::record::{self, Record};
use crate::segment::{self, Accounting, ClosedSegment, decode_header, header_len, sync_dir};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::Path;

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
    sync_dir(directory).map_err(OpenError::io(directory))?;
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
        self.closed.push(ClosedSegment::recovered(path, offset as u64, clocks).map_err(OpenError::io(path))?);
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
    file.set_len(length).map_err(OpenError::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::{OpenSegment, synced};

    /// A process that syncs nothing writes two files and is killed in the middle of a record.
    #[test]
    fn what_is_recovered_is_synced_before_it_is_used() {
        let home = tempfile::tempdir().unwrap();
        let none = [Accounting::default()];
        let mut whole = Vec::new();
        record::put_accepted(&mut whole, 0, 7, 1, b"like");
        let mut paths = Vec::new();
        for number in [1, 2] {
            let mut segment = OpenSegment::create(home.path(), number, &none).unwrap();
            segment.append(&whole, false).unwrap();
            if number == 2 {
                segment.append(&whole[..whole.len() - 1], false).unwrap();
            }
            paths.push(segment::path(home.path(), number));
        }
        assert_eq!(synced::take(), Vec::<std::path::PathBuf>::new());

        let recovery = recover(home.path(), 1).unwrap();
        assert_eq!(synced::take(), paths, "files whose ends may be in the page cache only");
        assert_eq!(recovery.torn_bytes, whole.len() as u64 - 1);
        assert_eq!(recovery.next_number, 3);
        let on_disk: Vec<u64> = paths.iter().map(|path| std::fs::metadata(path).unwrap().len()).collect();
        assert_eq!(recovery.closed.iter().map(ClosedSegment::bytes).collect::<Vec<_>>(), on_disk);
    }
}
