//! The log of acknowledged operations: what `load` writes and `verify` believes.
//!
//! Text, one line each, the operations of a pair in the order of their acknowledgement:
//!
//! ```text
//! #syncctl-oplog 1
//! a,<user>,<v|c>,<id>,<+|->,<version>,<changed 0|1>,<degraded 0|1>,<doubtful>    acknowledged
//! u,<user>,<v|c>,<id>,<+|->,<doubtful>                                           outcome unknown
//! ```
//!
//! A last line without its newline belongs to a loader that was killed, and is ignored.

use crate::Operation;
use domain::{Action, Pair, ResourceType, Version};
use std::io::{self, Write};
use std::path::Path;
use traffic::record_file::{RecordError, RecordWriter, read_records};

const HEADER: &str = "#syncctl-oplog 1";

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The server answered.
    Acknowledged {
        /// Version of the pair's state.
        version: Version,
        /// Whether the state changed.
        changed: bool,
        /// Whether a part of the system was unreachable.
        degraded: bool,
    },
    /// No answer, or one that leaves open whether it took effect.
    Unknown,
}

/// One line of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// What was asked.
    pub operation: Operation,
    /// How it ended.
    pub outcome: Outcome,
    /// Calls that ended without saying whether they took effect: for each of them the stores may hold a change of which
    /// nobody was told.
    pub doubtful: u32,
}

/// Appends entries to a file.
#[derive(Debug)]
pub struct OplogWriter(RecordWriter);

impl OplogWriter {
    /// Creates the file, or empties it.
    pub fn create(path: &Path) -> io::Result<Self> {
        RecordWriter::create(path, HEADER).map(Self)
    }

    /// Appends one entry; it reaches the file when the buffer is full, or at the next [`flush`](Self::flush).
    pub fn append(&mut self, entry: &Entry) -> io::Result<()> {
        let Operation { pair, action } = entry.operation;
        let (user, letter, id) = (pair.user.get(), pair.resource.kind.letter(), pair.resource.id.get());
        let sign = if action.liked() { '+' } else { '-' };
        match entry.outcome {
            Outcome::Acknowledged { version, changed, degraded } => write!(
                self.0.line(),
                "a,{user},{letter},{id},{sign},{version},{},{},{}",
                u8::from(changed),
                u8::from(degraded),
                entry.doubtful
            )?,
            Outcome::Unknown => write!(self.0.line(), "u,{user},{letter},{id},{sign},{}", entry.doubtful)?,
        }
        self.0.end_line()
    }

    /// Hands everything to the operating system: a killed process then loses nothing.
    pub fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Calls `each` with every entry of a log, in order.
pub fn read(path: &Path, mut each: impl FnMut(Entry)) -> Result<(), RecordError> {
    read_records(path, HEADER, |text| {
        each(parse(text).ok_or_else(|| format!("not an entry: {text:?}"))?);
        Ok(())
    })
}

fn parse(text: &str) -> Option<Entry> {
    let mut fields = text.split(',');
    let mut field = || fields.next();
    let acknowledged = match field()? {
        "a" => true,
        "u" => false,
        _ => return None,
    };
    let user = field()?.parse().ok()?;
    let kind = ResourceType::from_letter(field()?)?;
    let pair = Pair::new(user, kind, field()?.parse().ok()?).ok()?;
    let action = match field()? {
        "+" => Action::Like,
        "-" => Action::Unlike,
        _ => return None,
    };
    let outcome = if acknowledged {
        Outcome::Acknowledged {
            version: Version(field()?.parse().ok()?),
            changed: bit(field()?)?,
            degraded: bit(field()?)?,
        }
    } else {
        Outcome::Unknown
    };
    let doubtful = field()?.parse().ok()?;
    let entry = Entry { operation: Operation { pair, action }, outcome, doubtful };
    fields.next().is_none().then_some(entry)
}

fn bit(text: &str) -> Option<bool> {
    match text {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<Entry> {
        let operation = |user, kind, id, action| Operation { pair: Pair::new(user, kind, id).unwrap(), action };
        vec![
            Entry {
                operation: operation(12, ResourceType::Video, 345, Action::Like),
                outcome: Outcome::Acknowledged {
                    version: Version(1_700_000_000_000_001),
                    changed: true,
                    degraded: false,
                },
                doubtful: 1,
            },
            Entry {
                operation: operation(i64::MAX, ResourceType::Comment, 1, Action::Unlike),
                outcome: Outcome::Acknowledged { version: Version(5), changed: false, degraded: true },
                doubtful: 3,
            },
            Entry {
                operation: operation(1, ResourceType::Video, 2, Action::Like),
                outcome: Outcome::Unknown,
                doubtful: 9,
            },
        ]
    }

    fn written(entries: &[Entry]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut log = OplogWriter::create(file.path()).unwrap();
        for entry in entries {
            log.append(entry).unwrap();
        }
        log.flush().unwrap();
        file
    }

    fn read_all(path: &Path) -> Result<Vec<Entry>, RecordError> {
        let mut entries = Vec::new();
        read(path, |entry| entries.push(entry))?;
        Ok(entries)
    }

    #[test]
    fn reads_what_it_wrote() {
        let file = written(&entries());
        assert_eq!(read_all(file.path()).unwrap(), entries());
    }

    #[test]
    fn a_torn_last_line_is_ignored() {
        let file = written(&entries());
        let text = std::fs::read_to_string(file.path()).unwrap();
        std::fs::write(file.path(), &text[..text.len() - 1]).unwrap();
        assert_eq!(read_all(file.path()).unwrap(), entries()[..2]);
    }

    #[test]
    fn damage_is_named_by_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, line) in [
            ("", 1),
            ("hello\n", 1),
            ("#syncctl-oplog 1\na,1,v,1,+,5,1,0,1\na,1,v,0,+,5,1,0,1\n", 3),
            ("#syncctl-oplog 1\na,1,v,1,+,5,2,0,1\n", 2),
            ("#syncctl-oplog 1\nu,1,v,1,+,1,1\n", 2),
        ] {
            std::fs::write(file.path(), text).unwrap();
            match read_all(file.path()) {
                Err(RecordError::Line { line: seen, .. }) => assert_eq!(seen, line, "{text:?}"),
                other => panic!("{text:?}: {other:?}"),
            }
        }
    }
}
