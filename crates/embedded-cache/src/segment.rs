//! Journal files: names, headers, creation.
//!
//! ```text
//! header   8 bytes magic | u64 number of the file | u16 shards
//!          | per shard: i64 clock, u64 accepted, u64 settled, i64 settled up to | u32 CRC-32 of all before
//! ```
//!
//! The header holds the accounting as they were when the file began, so the files before it can be deleted.

use bytes::{Buf, BufMut};
use crc32fast::hash as crc32;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"LIKEJNL1";
const PER_SHARD: usize = 32;

/// A shard's accounting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Accounting {
    /// Highest version that was ever given or heard of.
    pub(crate) clock: i64,
    /// Entries ever accepted.
    pub(crate) accepted: u64,
    /// Entries ever settled.
    pub(crate) settled: u64,
    /// Highest version that was ever settled.
    pub(crate) settled_up_to: i64,
}

pub(crate) fn header_len(shards: usize) -> usize {
    MAGIC.len() + 8 + 2 + shards * PER_SHARD + 4
}

fn encode_header(number: u64, accounting: &[Accounting]) -> Vec<u8> {
    let mut out = Vec::with_capacity(header_len(accounting.len()));
    out.put_slice(MAGIC);
    out.put_u64(number);
    out.put_u16(accounting.len() as u16);
    for shard in accounting {
        out.put_i64(shard.clock);
        out.put_u64(shard.accepted);
        out.put_u64(shard.settled);
        out.put_i64(shard.settled_up_to);
    }
    let crc = crc32(&out);
    out.put_u32(crc);
    out
}

/// The number, the accounting, and the header's length.
pub(crate) fn decode_header(bytes: &[u8]) -> Result<(u64, Vec<Accounting>, usize), &'static str> {
    const CUT: &str = "the header is cut off";
    let mut fields = bytes.get(..18).ok_or(CUT)?;
    if !fields.starts_with(MAGIC) {
        return Err("not a journal file of this version");
    }
    fields.advance(MAGIC.len());
    let (number, shards) = (fields.get_u64(), usize::from(fields.get_u16()));
    let length = header_len(shards);
    let header = bytes.get(..length).ok_or(CUT)?;
    let (header, mut crc) = header.split_at(length - 4);
    if crc32(header) != crc.get_u32() {
        return Err("the header has a wrong checksum");
    }
    let mut fields = &header[18..];
    let accounting = (0..shards)
        .map(|_| Accounting {
            clock: fields.get_i64(),
            accepted: fields.get_u64(),
            settled: fields.get_u64(),
            settled_up_to: fields.get_i64(),
        })
        .collect();
    Ok((number, accounting, length))
}

pub(crate) fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("journal-{number:016}.log"))
}

/// Journal files in order; other files are left alone.
pub(crate) fn list(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let number = name.and_then(|name| name.strip_prefix("journal-")?.strip_suffix(".log")?.parse().ok());
        found.extend(number.map(|number| (number, path)));
    }
    found.sort_unstable();
    Ok(found)
}

/// A file that is complete and on the disk; it goes when all of its entries are settled.
#[derive(Debug)]
pub(crate) struct ClosedSegment {
    path: PathBuf,
    bytes: u64,
    clocks: Vec<i64>,
}

impl ClosedSegment {
    /// Closes a file of `bytes` bytes. There is no other way to get a closed file: whatever wrote its end, this process or one
    /// that was killed, that end is on the disk before anything depends on it, such as a next file.
    ///
    /// `clocks`: per shard, the clock at its end. Entries of later files have higher versions.
    fn seal(file: &File, path: PathBuf, bytes: u64, clocks: Vec<i64>) -> io::Result<Self> {
        file.sync_all()?;
        #[cfg(test)]
        synced::note(&path);
        Ok(Self { path, bytes, clocks })
    }

    /// Closes a file that an earlier process wrote, perhaps into the page cache only.
    pub(crate) fn recovered(path: &Path, bytes: u64, clocks: Vec<i64>) -> io::Result<Self> {
        Self::seal(&OpenOptions::new().write(true).open(path)?, path.to_owned(), bytes, clocks)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn clocks(&self) -> &[i64] {
        &self.clocks
    }
}

/// Which files were synced when they were closed, as far as this thread did it.
#[cfg(test)]
pub(crate) mod synced {
    use std::cell::RefCell;
    use std::path::{Path, PathBuf};

    thread_local! {
        static PATHS: RefCell<Vec<PathBuf>> = const { RefCell::new(Vec::new()) };
    }

    pub(super) fn note(path: &Path) {
        PATHS.with_borrow_mut(|paths| paths.push(path.to_owned()));
    }

    /// Takes what was noted so far.
    pub(crate) fn take() -> Vec<PathBuf> {
        PATHS.take()
    }
}

/// The file that is being written.
#[derive(Debug)]
pub(crate) struct OpenSegment {
    file: File,
    pub(crate) number: u64,
    pub(crate) len: u64,
}

impl OpenSegment {
    /// Begins a file. When this returns, the file and its header are on the disk, so older ones may go.
    pub(crate) fn create(directory: &Path, number: u64, accounting: &[Accounting]) -> io::Result<Self> {
        let path = path(directory, number);
        // Truncates what a failed attempt may have left behind.
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
        let header = encode_header(number, accounting);
        let written = file.write_all_at(&header, 0).and_then(|()| file.sync_all()).and_then(|()| sync_dir(directory));
        if let Err(error) = written {
            // Half a header must not stand between two good files.
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        Ok(Self { file, number, len: header.len() as u64 })
    }

    /// Appends. After a failure the end is where it was: the next attempt writes over what got through.
    pub(crate) fn append(&mut self, bytes: &[u8], sync: bool) -> io::Result<()> {
        self.file.write_all_at(bytes, self.len)?;
        if sync {
            self.file.sync_data()?;
        }
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Closes it as it is.
    pub(crate) fn close(&self, directory: &Path, clocks: Vec<i64>) -> io::Result<ClosedSegment> {
        ClosedSegment::seal(&self.file, path(directory, self.number), self.len, clocks)
    }
}

pub(crate) fn sync_dir(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What earlier versions wrote must stay readable.
    #[test]
    fn the_format_is_as_it_was() {
        let header = b"LIKEJNL1\0\0\0\0\0\0\0\x2a\0\x01\0\x06\x0a\x24\x18\x1e\x40\x07\0\0\0\0\0\0\0\x0a\
            \0\0\0\0\0\0\0\x04\0\x06\x0a\x24\x18\x1e\x40\x03\xd0\x35\xf8\x93";
        let shard =
            Accounting { clock: 1_700_000_000_000_007, accepted: 10, settled: 4, settled_up_to: 1_700_000_000_000_003 };
        assert_eq!(encode_header(42, &[shard]), header);
        assert_eq!(decode_header(header), Ok((42, vec![shard], header.len())));
    }

    #[test]
    fn headers_survive_and_damage_is_found() {
        let accounting: Vec<_> = (1..=3)
            .map(|n| Accounting { clock: n, accepted: n as u64 * 10, settled: n as u64, settled_up_to: n - 5 })
            .collect();
        let header = encode_header(42, &accounting);
        assert_eq!(header.len(), header_len(3));
        assert_eq!(decode_header(&header), Ok((42, accounting, header.len())));
        for at in 0..header.len() {
            assert!(decode_header(&header[..at]).is_err(), "cut at {at}");
            let mut damaged = header.clone();
            damaged[at] ^= 1;
            assert!(decode_header(&damaged).is_err(), "damaged at {at}");
        }
    }
}
