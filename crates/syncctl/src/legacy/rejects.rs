//! Rows that could not be understood: a line each in a file, and how many for which reason.

use anyhow::Context;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Different reasons that are counted apart; a reason names its column, so there are few.
const REASONS: usize = 100;

/// Where rejected rows are written down: `table<TAB>id<TAB>reason`.
pub(super) struct Rejects {
    path: PathBuf,
    file: BufWriter<File>,
    counts: BTreeMap<String, u64>,
}

impl Rejects {
    /// Appends, so that a run that goes on keeps what the one before found; `fresh`: empties the file first.
    pub(super) fn open(path: &Path, fresh: bool) -> anyhow::Result<Self> {
        let mut options = OpenOptions::new();
        options.create(true);
        if fresh {
            options.write(true).truncate(true)
        } else {
            options.append(true)
        };
        let file = options.open(path).with_context(|| format!("could not open {}", path.display()))?;
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file), counts: BTreeMap::new() })
    }

    pub(super) fn add(&mut self, table: &str, id: i64, reason: &str) -> anyhow::Result<()> {
        let line = reason.replace(['\t', '\n', '\r'], " ");
        writeln!(self.file, "{table}\t{id}\t{line}").with_context(|| self.path.display().to_string())?;
        // What differs from row to row stands in quotes.
        let kind = format!("{table}: {}", line.split('"').step_by(2).collect::<Vec<_>>().join("..."));
        let full = self.counts.len() >= REASONS && !self.counts.contains_key(&kind);
        *self.counts.entry(if full { "others".to_owned() } else { kind }).or_default() += 1;
        Ok(())
    }

    /// On disk before the job's progress goes past these rows.
    pub(super) fn flush(&mut self) -> anyhow::Result<()> {
        self.file.flush().with_context(|| self.path.display().to_string())
    }

    pub(super) fn into_counts(self) -> BTreeMap<String, u64> {
        self.counts
    }
}
