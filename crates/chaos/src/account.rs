//! What may be lost: exactly those changes that Redis lost while they were nowhere else.

use crate::redis::{Entries, SHARDS};
use anyhow::Result;
use domain::ShardCount;
use std::collections::HashSet;
use traffic::history::{History, Kind};

/// Lines for `verify --excuses`: acknowledged changes that were in a flushed journal and are not in the ledger. What was
/// answered about such a pair from that answer until the next flush is taken back.
///
/// `ledger`: lines `user,v|c,id,version`. `flushes`: when each was over.
pub(crate) fn excuses(history: &History, flushed: &Entries, flushes: &[u64], ledger: &str) -> Result<String> {
    let shards = ShardCount::new(SHARDS)?;
    let ledger: HashSet<&str> = ledger.lines().collect();
    let mut lines = String::new();
    for record in history.records() {
        let (Kind::Word(_), Some(pair), Some(answer)) = (record.kind, record.pair(), record.answer()) else { continue };
        let entry = (shards.of(pair.resource).0, answer.version.0);
        let name = format!("{},{},{}", pair.user, pair.resource.kind.letter(), pair.resource.id);
        if flushed.contains(&entry) && !ledger.contains(format!("{name},{}", answer.version).as_str()) {
            let end = flushes.iter().copied().filter(|flush| *flush >= record.begin).min().unwrap_or(record.end);
            let end = end.max(record.end);
            lines += &format!("{name},{},{end},redis was flushed while it alone had the change\n", record.begin);
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{Action, Pair, ResourceType, Version};
    use traffic::history::{Answer, Outcome, Record};

    #[test]
    fn only_what_a_flush_took_and_the_ledger_lacks_is_excused() {
        let mut history = History::new();
        for (user, version) in [(1, 100), (2, 101), (3, 102)] {
            let pair = Pair::new(user, ResourceType::Video, 10).unwrap();
            let answer = Answer { liked: true, version: Version(version), changed: true, ..Answer::default() };
            history.push(Record {
                call: version.unsigned_abs(),
                item: 0,
                logical: 0,
                device: 0,
                server: 0,
                kind: Kind::Word(Action::Like),
                user: Some(pair.user),
                resource: pair.resource,
                key: None,
                begin: 1_000,
                end: 2_000,
                limit: 0,
                outcome: Outcome::Answered(answer),
            });
        }
        let pair = history.records()[0].pair().unwrap();
        let shard = ShardCount::new(SHARDS).unwrap().of(pair.resource).0;
        // The third was not in the journal; the second is in the ledger.
        let flushed = Entries::from([(shard, 100), (shard, 101)]);
        let lines = excuses(&history, &flushed, &[500, 7_000, 9_000], "2,v,10,101\n").unwrap();
        assert_eq!(lines, "1,v,10,1000,7000,redis was flushed while it alone had the change\n");
        assert!(excuses(&history, &Entries::new(), &[7_000], "").unwrap().is_empty());
    }
}
