//! Short histories, told one record at a time.

use domain::{Action, Pair, PairState, Resource, ResourceType, Version};
use traffic::check::{Entry, Options, PairRow, Report, Stores, check};
use traffic::history::{Answer, History, Kind, Outcome, Record};

pub(crate) use Action::{Like, Unlike};

/// Every server promises this.
pub(crate) const LIMIT: u64 = 100;

pub(crate) fn pair(user: i64) -> Pair {
    Pair::new(user, ResourceType::Video, 7).unwrap()
}

pub(crate) fn resource() -> Resource {
    pair(1).resource
}

/// A history and the stores at its end; calls are numbered as they are told.
#[derive(Default, Clone)]
pub(crate) struct Story {
    pub(crate) history: History,
    pub(crate) stores: Stores,
    pub(crate) options: Option<Options>,
    calls: u64,
}

pub(crate) const fn changed(liked: bool, version: i64) -> Outcome {
    Outcome::Answered(Answer { liked, version: Version(version), changed: true, degraded: false, count: None })
}

pub(crate) const fn unchanged(liked: bool, version: i64) -> Outcome {
    Outcome::Answered(Answer { liked, version: Version(version), changed: false, degraded: false, count: None })
}

pub(crate) const fn degraded(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Answered(answer) => Outcome::Answered(Answer { degraded: true, ..answer }),
        other => other,
    }
}

impl Story {
    pub(crate) fn new() -> Self {
        let stores = Stores { rows: Some(Vec::new()), ledger: Some(Vec::new()), ..Stores::default() };
        Self { stores, ..Self::default() }
    }

    fn record(&mut self, kind: Kind, user: Option<i64>, (begin, end): (u64, u64), outcome: Outcome) -> Record {
        self.calls += 1;
        Record {
            call: self.calls,
            item: 0,
            logical: self.calls,
            device: 1,
            server: 1,
            kind,
            user: user.map(|user| pair(user).user),
            resource: resource(),
            key: None,
            begin,
            end,
            limit: LIMIT,
            outcome,
        }
    }

    /// User 1's word.
    pub(crate) fn word(self, action: Action, span: (u64, u64), outcome: Outcome) -> Self {
        self.with(Kind::Word(action), span, outcome, |_| ())
    }

    /// A record of user 1, with something special.
    pub(crate) fn with(
        mut self,
        kind: Kind,
        span: (u64, u64),
        outcome: Outcome,
        special: impl FnOnce(&mut Record),
    ) -> Self {
        let mut record = self.record(kind, Some(1), span, outcome);
        special(&mut record);
        self.history.push(record);
        self
    }

    /// User 1's word with a key.
    pub(crate) fn keyed(self, key: &str, action: Action, span: (u64, u64), outcome: Outcome) -> Self {
        self.with(Kind::Word(action), span, outcome, |record| record.key = Some(key.into()))
    }

    /// User 1's words in one call.
    pub(crate) fn batch(mut self, span: (u64, u64), items: &[(Action, Outcome)]) -> Self {
        let first = self.record(Kind::Word(Like), Some(1), span, Outcome::Unknown);
        for (item, (action, outcome)) in (0..).zip(items) {
            self.history.push(Record { item, kind: Kind::Word(*action), outcome: *outcome, ..first.clone() });
        }
        self
    }

    /// User 1 reads its state.
    pub(crate) fn read(self, span: (u64, u64), (liked, version): (bool, i64)) -> Self {
        self.with(Kind::State, span, unchanged(liked, version), |_| ())
    }

    /// Somebody reads the count.
    pub(crate) fn count(mut self, kind: Kind, span: (u64, u64), count: i64) -> Self {
        let answer = Answer { count: Some(count), ..Answer::default() };
        let record = self.record(kind, None, span, Outcome::Answered(answer));
        self.history.push(record);
        self
    }

    /// Ledger entries of user 1.
    pub(crate) fn ledger(mut self, entries: &[(Action, i64)]) -> Self {
        for (action, version) in entries {
            self = self.ledger_with(*action, *version, |_| ());
        }
        self
    }

    pub(crate) fn ledger_with(mut self, action: Action, version: i64, special: impl FnOnce(&mut Entry)) -> Self {
        let version = Version(version);
        let mut entry = Entry { pair: pair(1), action, version, key: None, direct: false, dead: false };
        special(&mut entry);
        self.stores.ledger.as_mut().unwrap().push(entry);
        self
    }

    /// User 1's row.
    pub(crate) fn row(mut self, liked: bool, version: i64) -> Self {
        let state = PairState { liked, version: Version(version) };
        self.stores.rows.as_mut().unwrap().push(PairRow { pair: pair(1), state });
        self
    }

    /// User 1's cached pair.
    pub(crate) fn cached(mut self, liked: bool, version: i64) -> Self {
        let state = PairState { liked, version: Version(version) };
        self.stores.cached.push(PairRow { pair: pair(1), state });
        self
    }

    pub(crate) fn options(mut self, options: Options) -> Self {
        self.options = Some(options);
        self
    }

    pub(crate) fn check(&self) -> Report {
        let options =
            self.options.clone().unwrap_or_else(|| Options { drift: 0, settled_within: 0, ..Options::default() });
        check(&self.history, &self.stores, &options)
    }
}
