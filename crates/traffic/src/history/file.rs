//! Histories as files: JSON, one line each, appended while a run goes on.
//!
//! ```text
//! {"history":1}
//! {"call":7,"logical":5,"device":2,"server":1,"kind":"like","user":12,"resource":["video",345],"action":"like",…}
//! {"fault":"redis stopped","begin":1000000,"end":3500000}
//! ```
//!
//! An attempt may be written twice: when it begins (outcome `open`) and when it ends. What is still open at the end is
//! unknown. A last line without its newline belongs to a recorder that was killed, and is ignored; anything else that is
//! not a line of a history is an error that names the line.

use super::line::{Line, parse, write_fault, write_record};
use super::{Fault, History, Record};
use crate::lines::read_line;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};

const HEADER: &str = "{\"history\":1}";

/// Bytes kept back before they are written.
const BUFFER: usize = 64 * 1024;

/// Why a history was not read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file could not be opened or read.
    #[error("{}: could not be read", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not a history, or is damaged.
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

/// Appends to a file.
#[derive(Debug)]
pub struct HistoryWriter {
    file: File,
    buffer: Vec<u8>,
}

impl HistoryWriter {
    /// Creates the file, or empties it.
    ///
    /// # Errors
    /// The file cannot be created or written.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut buffer = Vec::with_capacity(BUFFER + 1024);
        writeln!(buffer, "{HEADER}")?;
        let mut writer = Self { file: File::create(path)?, buffer };
        writer.flush()?;
        Ok(writer)
    }

    /// Appends an attempt that has only begun; its end replaces this. For recorders that may be killed: an attempt that is
    /// in no line cannot explain an effect. Its outcome and end are not looked at.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn begin(&mut self, record: &Record) -> io::Result<()> {
        write_record(&mut self.buffer, record, true)?;
        self.end_line()
    }

    /// Appends an attempt that has ended; it reaches the file when the buffer is full, or at the next
    /// [`flush`](Self::flush).
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn append(&mut self, record: &Record) -> io::Result<()> {
        write_record(&mut self.buffer, record, false)?;
        self.end_line()
    }

    /// Appends a fault.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn append_fault(&mut self, fault: &Fault) -> io::Result<()> {
        write_fault(&mut self.buffer, fault)?;
        self.end_line()
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

    fn end_line(&mut self) -> io::Result<()> {
        self.buffer.push(b'\n');
        if self.buffer.len() >= BUFFER { self.flush() } else { Ok(()) }
    }
}

impl History {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or a line is not one of a history.
    pub fn read(path: &Path) -> Result<Self, HistoryError> {
        let io = |source| HistoryError::Io { path: path.to_owned(), source };
        let mut input = BufReader::with_capacity(1 << 20, File::open(path).map_err(io)?);
        let mut reading = Reading::default();
        let mut text = Vec::new();
        for line in 1.. {
            if !read_line(&mut input, &mut text).map_err(io)? {
                let empty = HistoryError::Line { path: path.to_owned(), line, reason: "empty file".to_owned() };
                return if line == 1 { Err(empty) } else { Ok(reading.history) };
            }
            let torn = text.pop_if(|byte| *byte == b'\n').is_none();
            if torn && line > 1 {
                return Ok(reading.history);
            }
            reading.add(line, &text).map_err(|reason| HistoryError::Line { path: path.to_owned(), line, reason })?;
        }
        Ok(reading.history)
    }
}

#[derive(Default)]
struct Reading {
    history: History,
    /// Where each attempt stands that was seen, and whether it has ended.
    seen: HashMap<(u64, u32), (usize, bool)>,
}

impl Reading {
    fn add(&mut self, number: usize, text: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
        if number == 1 {
            return if text == HEADER { Ok(()) } else { Err(format!("expected {HEADER}, got {text:?}")) };
        }
        match parse(text)? {
            Line::Fault(fault) => self.history.push_fault(fault),
            Line::Record { mut record, open } => {
                let attempt = (record.call, record.item);
                if open {
                    // Nobody saw its end: it lasts as long as the history.
                    record.end = u64::MAX;
                }
                match self.seen.insert(attempt, (self.history.records.len(), !open)) {
                    None => self.history.push(record),
                    Some((at, false)) if !open => {
                        self.history.records[at] = record;
                        self.seen.insert(attempt, (at, true));
                    }
                    Some(_) => return Err(format!("call {} item {} is there already", record.call, record.item)),
                }
            }
        }
        Ok(())
    }
}
