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
use crate::record_file::{RecordError, RecordWriter, read_records};
use std::collections::HashMap;
use std::io;
use std::path::Path;

const HEADER: &str = "{\"history\":1}";

/// Appends to a file.
#[derive(Debug)]
pub struct HistoryWriter(RecordWriter);

impl HistoryWriter {
    /// Creates the file, or empties it.
    ///
    /// # Errors
    /// The file cannot be created or written.
    pub fn create(path: &Path) -> io::Result<Self> {
        RecordWriter::create(path, HEADER).map(Self)
    }

    /// Appends an attempt that has only begun; its end replaces this. For recorders that may be killed: an attempt that is
    /// in no line cannot explain an effect. Its outcome and end are not looked at.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn begin(&mut self, record: &Record) -> io::Result<()> {
        write_record(self.0.line(), record, true)?;
        self.0.end_line()
    }

    /// Appends an attempt that has ended; it reaches the file when the buffer is full, or at the next
    /// [`flush`](Self::flush).
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn append(&mut self, record: &Record) -> io::Result<()> {
        write_record(self.0.line(), record, false)?;
        self.0.end_line()
    }

    /// Appends a fault.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn append_fault(&mut self, fault: &Fault) -> io::Result<()> {
        write_fault(self.0.line(), fault)?;
        self.0.end_line()
    }

    /// Hands everything to the operating system: a killed process then loses nothing.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl History {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or a line is not one of a history.
    pub fn read(path: &Path) -> Result<Self, RecordError> {
        let mut reading = Reading::default();
        read_records(path, HEADER, |text| reading.add(text))?;
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
    fn add(&mut self, text: &str) -> Result<(), String> {
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
