//! Histories as files.

use crate::story::{Like, Story, Unlike, changed};
use std::path::Path;
use traffic::history::{Fault, History, HistoryWriter, Kind, Outcome};
use traffic::record_file::RecordError;

fn told() -> Story {
    let mut story = Story::new()
        .word(Like, (1, 5), changed(true, 1_700_000_000_000_001))
        .keyed("a \"key\"", Unlike, (6, 9), Outcome::Abandoned)
        .batch((10, 12), &[(Like, Outcome::Refused), (Unlike, Outcome::Cancelled)])
        .read((13, 14), (true, 7))
        .count(Kind::Count, (15, 16), 3)
        .count(Kind::Stream, (15, 17), 0);
    story.history.push_fault(Fault { name: "redis stopped".into(), begin: 2, end: 8 });
    story
}

fn written(history: &History) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut writer = HistoryWriter::create(file.path()).unwrap();
    history.records().iter().for_each(|record| writer.append(record).unwrap());
    history.faults().iter().for_each(|fault| writer.append_fault(fault).unwrap());
    writer.flush().unwrap();
    file
}

fn damaged_line(path: &Path) -> usize {
    match History::read(path) {
        Err(RecordError::Line { line, .. }) => line,
        other => panic!("{other:?}"),
    }
}

#[test]
fn reads_what_it_wrote() {
    let history = told().history;
    assert_eq!(History::read(written(&history).path()).unwrap(), history);
}

#[test]
fn a_torn_last_line_is_ignored_wherever_it_is_torn() {
    let history = told().history;
    let file = written(&history);
    let text = std::fs::read(file.path()).unwrap();
    let last = text[..text.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    for end in last..text.len() {
        std::fs::write(file.path(), &text[..end]).unwrap();
        let read = History::read(file.path()).unwrap();
        assert_eq!((read.records(), read.faults().len()), (history.records(), 0));
    }
}

#[test]
fn anything_else_is_an_error_that_names_the_line() {
    let file = written(&told().history);
    let text = std::fs::read_to_string(file.path()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for (at, line) in [
        (0, "#syncctl-oplog 1".to_owned()),
        (1, lines[1].replace("\"like\"", "\"love\"")),
        (2, lines[2].replace("abandoned", "lost")),
        (3, lines[3].replace("\"user\":1", "\"user\":0")),
        (4, lines[4].replace("\"end\":12", "\"end\":9")),
        (5, lines[5].replace("\"user\":1,", "")),
        (6, lines[6].replace("\"count\":3", "\"count\":3,\"colour\":1")),
        (7, lines[1].to_owned()),
        (8, String::new()),
    ] {
        let mut damaged: Vec<&str> = lines.clone();
        assert_ne!(damaged[at], line);
        damaged[at] = &line;
        std::fs::write(file.path(), damaged.join("\n") + "\n").unwrap();
        assert_eq!(damaged_line(file.path()), at + 1, "{line}");
    }
    std::fs::write(file.path(), "").unwrap();
    assert_eq!(damaged_line(file.path()), 1);
}

#[test]
fn what_is_open_at_the_end_is_unknown() {
    let history = told().history;
    let [first, second, ..] = history.records() else { panic!("{history:?}") };
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut writer = HistoryWriter::create(file.path()).unwrap();
    writer.begin(first).unwrap();
    writer.begin(second).unwrap();
    writer.append(first).unwrap();
    writer.flush().unwrap();
    let read = History::read(file.path()).unwrap();
    assert_eq!(read.records()[0], *first);
    assert_eq!((read.records()[1].outcome, read.records()[1].end), (Outcome::Unknown, u64::MAX));
    writer.append(first).unwrap();
    writer.flush().unwrap();
    assert_eq!(damaged_line(file.path()), 5, "an attempt ends once");
}
