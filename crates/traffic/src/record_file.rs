//! Files of records, one line each below a header, appended while a run goes on and read after it.
//!
//! A last line without its newline belongs to a recorder that was killed, and is ignored.

use crate::lines::read_line;
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};

/// Bytes kept back before they are written.
const BUFFER: usize = 64 * 1024;

/// Why a file of records was not read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file could not be opened or read.
    #[error("{}: could not be read", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is of another kind, or is damaged.
    #[error("{}, line {line}: {reason}", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

/// Appends lines to a file.
#[derive(Debug)]
pub struct RecordWriter {
    file: File,
    buffer: Vec<u8>,
}

impl RecordWriter {
    /// Creates the file, or empties it, and begins it with its header.
    ///
    /// # Errors
    /// The file cannot be created or written.
    pub fn create(path: &Path, header: &str) -> io::Result<Self> {
        let mut buffer = Vec::with_capacity(BUFFER + 1024);
        writeln!(buffer, "{header}")?;
        let mut writer = Self { file: File::create(path)?, buffer };
        writer.flush()?;
        Ok(writer)
    }

    /// Where the next line is written, without its end.
    pub const fn line(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Ends a line; it reaches the file when the buffer is full, or at the next [`flush`](Self::flush).
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn end_line(&mut self) -> io::Result<()> {
        self.buffer.push(b'\n');
        if self.buffer.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    /// Hands everything to the operating system: a killed process then loses nothing.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.file.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }
}

/// Calls `each` with every line below the header, in order; what it says against one is the error of that line.
///
/// # Errors
/// The file cannot be read, begins with another header, or has a line that `each` refuses.
pub fn read_records(
    path: &Path,
    header: &str,
    mut each: impl FnMut(&str) -> Result<(), String>,
) -> Result<(), RecordError> {
    let io = |source| RecordError::Io { path: path.to_owned(), source };
    let mut input = BufReader::with_capacity(1 << 20, File::open(path).map_err(io)?);
    let mut text = Vec::new();
    for line in 1.. {
        let wrong = |reason: String| RecordError::Line { path: path.to_owned(), line, reason };
        if !read_line(&mut input, &mut text).map_err(io)? {
            return if line == 1 { Err(wrong("empty file".to_owned())) } else { Ok(()) };
        }
        let torn = text.pop_if(|byte| *byte == b'\n').is_none();
        if torn && line > 1 {
            return Ok(());
        }
        let text = std::str::from_utf8(&text).map_err(|error| wrong(error.to_string()))?;
        if line > 1 {
            each(text).map_err(wrong)?;
        } else if text != header {
            return Err(wrong(format!("expected {header}, got {text:?}")));
        }
    }
    Ok(())
}
