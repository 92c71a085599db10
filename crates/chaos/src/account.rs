//! Which accepted events were allowed to be lost: exactly those that were in a flushed journal and, by then or by another
//! fault, nowhere else.
//!
//! Every process tells, in lines of its log, what becomes of the events that it has in memory (`sync_engine`'s `fate`
//! module). So for each event that a flush took and that the database does not have there is either a fault that destroyed
//! its other copy, which excuses it with that fault as its reason, or none: then it must not be lost.
//!
//! | the lines say | excused if |
//! |---|---|
//! | published, and confirmed | the queue was emptied, deleted or wiped afterwards |
//! | given up by the process that had it (queue full, database unreachable), never published | always: the journal was its only place |
//! | in the memory of a process, nothing after that | that process was killed or replaced |
//! | applied | never |
//! | nothing | always: its call ended before the answer of Redis, and no process had it |
//!
//! Excuses are a file, one line each:
//!
//! ```text
//! user,v|c,resource,begin_us,end_us,reason
//! ```
//!
//! An excuse is for this pair and for changes whose answer ended within the window, in microseconds of the history's clock:
//! from a little before the event was accepted until the answers to it must have been given. The reason is the rest of the
//! line, and may contain commas.

use domain::codec::EncodedEvent;
use domain::{LikeEvent, Origin, Version};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Duration;

/// From the acceptance to its answer, and what two clocks may differ by.
const SLACK: Duration = Duration::from_secs(5);

/// An entry whose age is not known is not older: every round of faults ends with journals that are rid of older ones.
const OLDEST: Duration = Duration::from_secs(60);

/// An event as the lines of processes and of the ledger have it: `user,v|c,resource,version`.
pub(crate) type EventName = String;

/// The name of an event.
pub(crate) fn name(event: &LikeEvent) -> EventName {
    let pair = event.pair();
    format!("{},{},{},{}", pair.user, pair.resource.kind.letter(), pair.resource.id, event.version)
}

/// An entry of a journal, as Redis has it.
pub(crate) fn entry_name(version: i64, payload: Vec<u8>) -> anyhow::Result<EventName> {
    let entry = EncodedEvent { version: Version(version), origin: Origin::Journal, payload: payload.into() };
    Ok(name(&entry.decode()?))
}

/// What a flush took.
#[derive(Debug, Clone)]
pub(crate) struct Flush {
    /// By the history's clock.
    pub(crate) at: u64,
    /// With the time since each was accepted, by the clock of Redis; none if that clock was set in this run.
    pub(crate) entries: Vec<(EventName, Option<Duration>)>,
}

/// What processes said, and what was lost of what they said it of.
#[derive(Debug, Default)]
pub(crate) struct Record {
    nodes: Vec<String>,
    lines: HashMap<EventName, Vec<Line>>,
    /// For each node, how far its log reached when one of its processes was gone.
    deaths: Vec<Vec<usize>>,
    /// What emptied the queue, and how far the logs of all nodes reached then.
    pub(crate) lost_queues: Vec<(String, Vec<usize>)>,
}

/// One word about one event.
#[derive(Debug, Clone)]
struct Line {
    node: usize,
    /// Where in the log.
    at: usize,
    fate: String,
}

impl Record {
    /// Takes the next node's log; `deaths` are places in it.
    pub(crate) fn add(&mut self, node: String, log: &str, deaths: &[usize]) {
        let number = self.nodes.len();
        let mut at = 0;
        for line in log.split_inclusive('\n') {
            if let Some((_, told)) = line.split_once(" event_fate ")
                && let Some((fate, events)) = told.trim_end().split_once(": ")
            {
                for event in events.split(' ') {
                    let said = Line { node: number, at, fate: fate.to_owned() };
                    self.lines.entry(event.to_owned()).or_default().push(said);
                }
            }
            at += line.len();
        }
        self.nodes.push(node);
        self.deaths.push(deaths.to_vec());
    }

    /// Why an event that a flush took may be lost; none if it may not.
    fn reason(&self, event: &str) -> Option<String> {
        let lines = self.lines.get(event).map(Vec::as_slice).unwrap_or_default();
        let with = |fate: &str| lines.iter().filter(|line| line.fate == fate).cloned().collect::<Vec<_>>();
        if !with("applied").is_empty() {
            return None;
        }
        let published = with("published");
        if !published.is_empty() {
            let (by, _) = self.lost_queues.iter().find(|(_, reached)| {
                published.iter().all(|line| reached.get(line.node).is_some_and(|reached| line.at < *reached))
            })?;
            return Some(format!("published, and lost with the queue by {by}"));
        }
        if let Some(line) = lines.iter().find(|line| line.fate.starts_with("left ")) {
            return Some(format!("in the journal alone: {} {}", self.nodes[line.node], line.fate));
        }
        let Some(line) = lines.first() else {
            return Some("in the journal alone: its call ended before the answer of Redis".to_owned());
        };
        let died = self.deaths[line.node].iter().any(|death| line.at < *death);
        died.then(|| format!("in the memory of {} alone, which is gone", self.nodes[line.node]))
    }
}

/// A pair that may have lost a change, when and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Excuse {
    /// `user,v|c,resource`.
    pub(crate) pair: String,
    pub(crate) begin_us: u64,
    pub(crate) end_us: u64,
    pub(crate) reason: String,
}

impl fmt::Display for Excuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{},{}", self.pair, self.begin_us, self.end_us, self.reason)
    }
}

/// Excuses for what flushes took and the ledger (its lines are names of events) does not have.
pub(crate) fn excuses(flushes: &[Flush], ledger: &str, record: &Record) -> Vec<Excuse> {
    let ledger: HashSet<&str> = ledger.lines().collect();
    let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let mut excuses = Vec::new();
    for flush in flushes {
        for (event, age) in &flush.entries {
            let Some((pair, _)) = event.rsplit_once(',').filter(|_| !ledger.contains(event.as_str())) else { continue };
            let Some(reason) = record.reason(event) else { continue };
            let begin_us = flush.at.saturating_sub(micros(age.unwrap_or(OLDEST) + SLACK));
            let end_us = flush.at + micros(SLACK);
            excuses.push(Excuse { pair: pair.to_owned(), begin_us, end_us, reason });
        }
    }
    excuses
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
        2026-01-01T00:00:00Z  INFO interaction-server is ready\n\
        2026-01-01T00:00:01Z TRACE event_fate in_memory: 1,v,10,100\n\
        2026-01-01T00:00:01Z TRACE event_fate in_memory: 2,v,10,101\n\
        2026-01-01T00:00:01Z TRACE event_fate published: 1,v,10,100 2,v,10,101\n\
        2026-01-01T00:00:02Z TRACE event_fate in_memory: 3,c,7,102\n";

    fn record(deaths: &[usize], lost_queues: &[(&str, usize)]) -> Record {
        let mut record = Record::default();
        record.add("server1".to_owned(), LOG, deaths);
        let left = "TRACE event_fate in_memory: 4,v,1,103\nTRACE event_fate left queue_full: 4,v,1,103\n";
        record.add("server2".to_owned(), left, &[]);
        record.lost_queues =
            lost_queues.iter().map(|(by, reached)| ((*by).to_owned(), vec![*reached, left.len()])).collect();
        record
    }

    #[test]
    fn what_was_published_is_excused_only_by_a_queue_that_was_lost_afterwards() {
        assert_eq!(record(&[LOG.len()], &[]).reason("1,v,10,100"), None);
        // It was published after that.
        assert_eq!(record(&[], &[("purge_queue", 100)]).reason("1,v,10,100"), None);
        let lost = record(&[], &[("purge_queue", 100), ("wipe_broker", LOG.len())]);
        assert_eq!(lost.reason("2,v,10,101").unwrap(), "published, and lost with the queue by wipe_broker");
    }

    #[test]
    fn what_was_in_memory_is_excused_only_by_the_end_of_that_process() {
        assert_eq!(record(&[], &[("wipe_broker", LOG.len())]).reason("3,c,7,102"), None);
        assert_eq!(record(&[100], &[]).reason("3,c,7,102"), None, "a process before the one that had it");
        let gone = record(&[LOG.len()], &[]).reason("3,c,7,102").unwrap();
        assert_eq!(gone, "in the memory of server1 alone, which is gone");
    }

    #[test]
    fn what_its_process_gave_up_and_what_none_heard_of_was_in_the_journal_alone() {
        let record = record(&[], &[]);
        assert_eq!(record.reason("4,v,1,103").unwrap(), "in the journal alone: server2 left queue_full");
        assert!(record.reason("5,v,1,104").unwrap().contains("its call ended"));
    }

    #[test]
    fn published_again_after_the_loss_of_the_queue_it_must_arrive() {
        let mut record = record(&[], &[("purge_queue", LOG.len())]);
        assert!(record.reason("1,v,10,100").is_some());
        record.add("consumer1".to_owned(), "TRACE event_fate published: 1,v,10,100\n", &[]);
        assert_eq!(record.reason("1,v,10,100"), None);
    }

    #[test]
    fn excuses_are_for_what_the_ledger_lacks_and_have_a_window() {
        let entry = |name: &str, age: Option<u64>| (name.to_owned(), age.map(Duration::from_secs));
        let entries = vec![entry("4,v,1,103", Some(2)), entry("5,v,1,104", None), entry("6,v,1,105", Some(1))];
        let flush = Flush { at: 100_000_000, entries };
        let lines: Vec<String> =
            excuses(&[flush], "6,v,1,105\n", &record(&[], &[])).iter().map(ToString::to_string).collect();
        assert_eq!(lines[0], "4,v,1,93000000,105000000,in the journal alone: server2 left queue_full");
        assert!(lines[1].starts_with("5,v,1,35000000,105000000,"), "{lines:?}");
        assert_eq!(lines.len(), 2, "{lines:?}");
    }
}
