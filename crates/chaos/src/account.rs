//! Which acknowledged operations were allowed to be lost: exactly those that Redis lost while they were nowhere else.

use crate::redis::{Entries, SHARDS};
use anyhow::{Context, Result};
use domain::{Resource, ResourceType, ShardCount};
use std::collections::{BTreeSet, HashSet};

/// Pairs, as lines `user,v|c,id`, of acknowledged changes that were in a flushed journal and are not in the ledger.
///
/// `ledger`: lines `user,v|c,id,version`. A change that is in the ledger was not lost; one that was not in a flushed
/// journal may not be lost.
pub(crate) fn excused(oplog: &str, flushed: &Entries, ledger: &str) -> Result<BTreeSet<String>> {
    if flushed.is_empty() {
        return Ok(BTreeSet::new());
    }
    let shards = ShardCount::new(SHARDS)?;
    let ledger: HashSet<&str> = ledger.lines().collect();
    let mut excused = BTreeSet::new();
    for line in oplog.lines() {
        let fields: Vec<&str> = line.split(',').collect();
        // a,<user>,<v|c>,<id>,<+|->,<version>,<changed>,<degraded>,<doubtful>
        let ["a", user, kind, id, _, version, "1", ..] = fields[..] else { continue };
        let wrong = || format!("oplog line {line:?}");
        let resource_type = if kind == "v" { ResourceType::Video } else { ResourceType::Comment };
        let resource = Resource::new(resource_type, id.parse().with_context(wrong)?)?;
        let entry = (shards.of(resource).0, version.parse().with_context(wrong)?);
        if flushed.contains(&entry) && !ledger.contains(format!("{user},{kind},{id},{version}").as_str()) {
            excused.insert(format!("{user},{kind},{id}"));
        }
    }
    Ok(excused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_flush_took_and_the_ledger_lacks_is_excused() {
        let shard = |id| ShardCount::new(SHARDS).unwrap().of(Resource::new(ResourceType::Video, id).unwrap()).0;
        let oplog = "#syncctl-oplog 1\n\
                     a,1,v,10,+,100,1,0,0\n\
                     a,2,v,10,+,101,1,0,0\n\
                     a,3,v,10,+,102,1,0,0\n\
                     a,4,v,10,+,103,0,0,0\n\
                     u,5,v,10,+,1\n\
                     a,6,c,10,+,100,1,0,0\n";
        // The third was not in the journal; the fourth changed nothing.
        let flushed = Entries::from([(shard(10), 100), (shard(10), 101), (shard(10), 103)]);
        let lost = excused(oplog, &flushed, "2,v,10,101\n").unwrap();
        let comment = ShardCount::new(SHARDS).unwrap().of(Resource::new(ResourceType::Comment, 10).unwrap()).0;
        let mut expected = BTreeSet::from(["1,v,10".to_owned()]);
        if comment == shard(10) {
            expected.insert("6,c,10".to_owned());
        }
        assert_eq!(lost, expected);
        assert!(excused(oplog, &Entries::new(), "").unwrap().is_empty());
    }
}
