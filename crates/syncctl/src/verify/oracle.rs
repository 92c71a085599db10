//! What must be stored, by the logs alone.
//!
//! The last acknowledged operation of a pair is its state. An operation of unknown outcome leaves open whether it took
//! effect, until a later one of the same pair is acknowledged.
//!
//! One record of 24 bytes per operation and small indexes: ten million operations fit well into a gigabyte.

use crate::Operation;
use crate::hash::IdMap;
use crate::oplog::{self, Entry, Outcome};
use domain::{Action, Pair, Resource, UserId, Version};
use std::ops::Range;
use std::path::PathBuf;
use traffic::record_file::RecordError;

/// One operation of the logs, and where it was found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record {
    /// Resource index, then user index: records of a pair are neighbours, pairs of a resource too.
    key: u64,
    pub(super) version: Version,
    /// Place in the logs.
    sequence: u32,
    flags: u16,
}

/// Facts about a record; those that start with `PAIR_` are kept in the first record of a pair.
pub(super) mod flag {
    /// The operation was a like.
    pub(in super::super) const LIKE: u16 = 1;
    /// It was answered.
    pub(in super::super) const ACKNOWLEDGED: u16 = 1 << 1;
    /// It was answered with "changed".
    pub(in super::super) const CHANGED: u16 = 1 << 2;
    /// Some call for it may have taken effect without an answer.
    pub(in super::super) const DOUBTFUL: u16 = 1 << 3;
    /// Found in `user_behaviors`.
    pub(in super::super) const BEHAVIOUR: u16 = 1 << 4;
    /// Found in the ledger as completed.
    pub(in super::super) const LEDGER: u16 = 1 << 5;
    /// Found in the ledger as dead.
    pub(in super::super) const DEAD: u16 = 1 << 6;
    /// The pair's row has this version.
    pub(in super::super) const ROW: u16 = 1 << 7;
    /// The pair has a row.
    pub(in super::super) const PAIR_ROW: u16 = 1 << 8;
    /// The row is live.
    pub(in super::super) const PAIR_LIVE: u16 = 1 << 9;
    /// The row's version is below the last acknowledged one.
    pub(in super::super) const PAIR_OLDER: u16 = 1 << 10;
    /// The row's version is above the last acknowledged one.
    pub(in super::super) const PAIR_NEWER: u16 = 1 << 11;
    /// It was answered by the database alone.
    pub(in super::super) const DEGRADED: u16 = 1 << 13;
    /// The pair is lost, and that is allowed.
    pub(in super::super) const PAIR_ALLOWED: u16 = 1 << 12;
}

impl Record {
    pub(super) const fn has(self, flags: u16) -> bool {
        self.flags & flags == flags
    }

    pub(super) const fn action(self) -> Action {
        Action::from_liked(self.has(flag::LIKE))
    }
}

/// A pair's state as the logs allow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expected {
    /// None: either.
    pub(super) liked: Option<bool>,
    /// Highest acknowledged version; zero if nothing was acknowledged.
    pub(super) version: Version,
    /// Whether a change of which nobody was told may exist.
    pub(super) doubtful: bool,
    /// Whether the last answer was a degraded one. The same wish may then have reached the cache just before, whose answer
    /// the server did not get: it comes as an event of its own, newer and to the same effect.
    pub(super) twin: bool,
}

/// How much newer a twin may be: a call is not tried in both stores for longer.
const TWIN_WITHIN_US: i64 = 5_000_000;

impl Expected {
    /// Whether a row or a cached pair of this version may be the twin of the last answer.
    pub(super) const fn may_be_twin(self, version: Version) -> bool {
        self.twin && version.0 > self.version.0 && version.0 - self.version.0 <= TWIN_WITHIN_US
    }
}

/// All operations, by pair.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    resources: Vec<Resource>,
    resource_index: IdMap<Resource, u32>,
    users: Vec<UserId>,
    user_index: IdMap<UserId, u32>,
    records: Vec<Record>,
    /// First record of each resource, and the end.
    starts: Vec<usize>,
}

impl Oracle {
    /// Reads the logs, in the order of their runs.
    pub(super) fn read(logs: &[PathBuf]) -> Result<Self, RecordError> {
        let mut oracle = Self::default();
        for log in logs {
            oplog::read(log, |entry| oracle.add(&entry))?;
        }
        oracle.sort();
        Ok(oracle)
    }

    fn add(&mut self, entry: &Entry) {
        let Operation { pair, action } = entry.operation;
        let resource = index(&mut self.resource_index, &mut self.resources, pair.resource);
        let user = index(&mut self.user_index, &mut self.users, pair.user);
        let mut flags = if action.liked() { flag::LIKE } else { 0 };
        let mut version = Version::ZERO;
        if let Outcome::Acknowledged { version: answered, changed, degraded } = entry.outcome {
            version = answered;
            flags |= flag::ACKNOWLEDGED | if changed { flag::CHANGED } else { 0 };
            flags |= if degraded { flag::DEGRADED } else { 0 };
        }
        if entry.doubtful > 0 || entry.outcome == Outcome::Unknown {
            flags |= flag::DOUBTFUL;
        }
        let sequence = u32::try_from(self.records.len()).unwrap_or(u32::MAX);
        self.records.push(Record { key: u64::from(resource) << 32 | u64::from(user), version, sequence, flags });
    }

    fn sort(&mut self) {
        self.records.sort_unstable_by_key(|record| (record.key, record.sequence));
        let mut at = 0;
        for resource in 0..self.resources.len() as u64 {
            self.starts.push(at);
            at += self.records[at..].iter().take_while(|record| record.key >> 32 == resource).count();
        }
        self.starts.push(at);
    }

    /// Operations, those with an answer, and pairs.
    pub(super) fn sizes(&self) -> (usize, usize, usize) {
        let acknowledged = self.records.iter().filter(|record| record.has(flag::ACKNOWLEDGED)).count();
        (self.records.len(), acknowledged, self.pairs().count())
    }

    /// Resources that occur, in the order of their indexes.
    pub(super) fn resources(&self) -> &[Resource] {
        &self.resources
    }

    /// Index of a resource.
    pub(super) fn resource(&self, resource: Resource) -> Option<usize> {
        self.resource_index.get(&resource).map(|index| *index as usize)
    }

    /// Records of every pair, in order; pairs of a resource are together.
    pub(super) fn pairs(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let mut start = 0;
        std::iter::from_fn(move || {
            let key = self.records.get(start)?.key;
            let len = self.records[start..].iter().take_while(|record| record.key == key).count();
            start += len;
            Some(start - len..start)
        })
    }

    /// Records of a pair.
    pub(super) fn find(&self, pair: Pair) -> Option<Range<usize>> {
        let resource = self.resource_index.get(&pair.resource)?;
        let user = self.user_index.get(&pair.user)?;
        let key = u64::from(*resource) << 32 | u64::from(*user);
        let start = self.starts[*resource as usize];
        let of_resource = &self.records[start..self.starts[*resource as usize + 1]];
        let first = of_resource.partition_point(|record| record.key < key);
        let len = of_resource[first..].iter().take_while(|record| record.key == key).count();
        (len > 0).then(|| start + first..start + first + len)
    }

    /// The records themselves.
    pub(super) fn records(&self, range: Range<usize>) -> &[Record] {
        &self.records[range]
    }

    /// The pair that a range is about.
    pub(super) fn pair(&self, range: &Range<usize>) -> Pair {
        let key = self.records[range.start].key;
        Pair { resource: self.resources[(key >> 32) as usize], user: self.users[(key & 0xFFFF_FFFF) as usize] }
    }

    /// Index of the pair's resource.
    pub(super) fn resource_of(&self, range: &Range<usize>) -> usize {
        (self.records[range.start].key >> 32) as usize
    }

    /// Adds facts to a record.
    pub(super) fn mark(&mut self, at: usize, flags: u16) {
        self.records[at].flags |= flags;
    }

    /// What the pair's row must say.
    pub(super) fn expected(&self, range: Range<usize>) -> Expected {
        let mut expected = Expected { liked: Some(false), version: Version::ZERO, doubtful: false, twin: false };
        for record in self.records(range) {
            let liked = record.has(flag::LIKE);
            if record.has(flag::ACKNOWLEDGED) {
                expected.liked = Some(liked);
                expected.version = expected.version.max(record.version);
                expected.twin = record.has(flag::DEGRADED);
            } else if expected.liked != Some(liked) {
                expected.liked = None;
            }
            expected.doubtful |= record.has(flag::DOUBTFUL);
        }
        expected
    }
}

fn index<T: Copy + Eq + std::hash::Hash>(indexes: &mut IdMap<T, u32>, values: &mut Vec<T>, value: T) -> u32 {
    *indexes.entry(value).or_insert_with(|| {
        values.push(value);
        // More than 2^32 different ids would not fit into memory before.
        u32::try_from(values.len() - 1).unwrap_or(u32::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::ResourceType;

    fn entry(user: i64, video: i64, action: Action, version: i64, changed: bool) -> Entry {
        Entry {
            operation: Operation { pair: Pair::new(user, ResourceType::Video, video).unwrap(), action },
            outcome: Outcome::Acknowledged { version: Version(version), changed, degraded: false },
            doubtful: 0,
        }
    }

    fn unknown(user: i64, video: i64, action: Action) -> Entry {
        Entry { outcome: Outcome::Unknown, doubtful: 1, ..entry(user, video, action, 0, false) }
    }

    fn oracle(entries: &[Entry]) -> Oracle {
        let mut oracle = Oracle::default();
        entries.iter().for_each(|entry| oracle.add(entry));
        oracle.sort();
        oracle
    }

    fn expected(oracle: &Oracle, user: i64, video: i64) -> Expected {
        oracle.expected(oracle.find(Pair::new(user, ResourceType::Video, video).unwrap()).unwrap())
    }

    #[test]
    fn the_last_acknowledged_operation_decides() {
        use Action::{Like, Unlike};
        let oracle = oracle(&[
            entry(1, 10, Like, 1, true),
            entry(2, 10, Like, 2, true),
            entry(1, 20, Like, 3, true),
            entry(1, 10, Unlike, 4, true),
            entry(1, 10, Unlike, 4, false),
        ]);
        let certain =
            |liked, version| Expected { liked: Some(liked), version: Version(version), doubtful: false, twin: false };
        assert_eq!(expected(&oracle, 1, 10), certain(false, 4));
        assert_eq!(expected(&oracle, 2, 10), certain(true, 2));
        assert_eq!(expected(&oracle, 1, 20), certain(true, 3));
        assert_eq!(oracle.find(Pair::new(2, ResourceType::Video, 20).unwrap()), None);
        assert_eq!(oracle.find(Pair::new(1, ResourceType::Comment, 10).unwrap()), None);
        assert_eq!(oracle.sizes(), (5, 5, 3));
        for range in oracle.pairs() {
            assert_eq!(oracle.find(oracle.pair(&range)), Some(range));
        }
    }

    #[test]
    fn an_unknown_outcome_leaves_it_open_until_the_next_answer() {
        use Action::{Like, Unlike};
        let open =
            oracle(&[entry(1, 1, Like, 1, true), unknown(1, 1, Unlike), unknown(2, 1, Unlike), unknown(3, 1, Like)]);
        assert_eq!(expected(&open, 1, 1).liked, None);
        assert_eq!(expected(&open, 2, 1).liked, Some(false), "an unlike of nothing leaves nothing");
        assert_eq!(expected(&open, 3, 1).liked, None);
        let closed = oracle(&[unknown(1, 1, Unlike), entry(1, 1, Like, 7, true)]);
        assert_eq!(
            expected(&closed, 1, 1),
            Expected { liked: Some(true), version: Version(7), doubtful: true, twin: false }
        );
    }

    #[test]
    fn only_the_last_answer_has_a_twin_and_only_for_a_while() {
        let degraded = |version, action| Entry {
            outcome: Outcome::Acknowledged { version: Version(version), changed: true, degraded: true },
            ..entry(1, 1, action, version, true)
        };
        let last = expected(&oracle(&[entry(1, 1, Action::Like, 1, true), degraded(10, Action::Unlike)]), 1, 1);
        assert!(last.may_be_twin(Version(11)) && last.may_be_twin(Version(10 + TWIN_WITHIN_US)));
        assert!(!last.may_be_twin(Version(10)) && !last.may_be_twin(Version(11 + TWIN_WITHIN_US)));
        let earlier = expected(&oracle(&[degraded(10, Action::Unlike), entry(1, 1, Action::Like, 20, true)]), 1, 1);
        assert!(!earlier.may_be_twin(Version(21)));
    }
}
