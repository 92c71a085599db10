//! What a moment of the world is made of.

use super::check::Broken;

/// A version, as its rank: the clocks tick in steps of four, so `row + 1` fits between two ticks.
pub(super) type Rank = u8;

pub(super) const TICK: Rank = 4;

/// One user's state of the pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Word {
    pub(super) version: Rank,
    pub(super) liked: bool,
}

/// A cached counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Counter {
    pub(super) served: i8,
    pub(super) pending: u8,
    pub(super) stored: i8,
    pub(super) revision: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Row {
    pub(super) word: Word,
    pub(super) count: i8,
    pub(super) revision: u8,
}

/// An operation of an attempt; its event has this id whatever way it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct OpId {
    pub(super) attempt: u8,
    pub(super) op: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Entry {
    pub(super) id: OpId,
    pub(super) word: Word,
    /// What the transaction read that applied it, for the settlement.
    pub(super) applied: Option<Row>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Remembered {
    pub(super) word: Word,
    pub(super) changed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    /// A request is on its way to the cache, in a queue or on the link.
    Asked,
    /// The cache took operations for unchanged.
    Confirming,
    /// Confirmed, but the key is not remembered yet.
    Remembering,
    /// On its way to the database, with its own time sampled.
    Direct { now: Rank },
    /// On the synchronous path: the row is to be read.
    Reading,
    /// The cache is asked for versions above this row.
    Reserving { row: Word },
    /// Versions are fixed; on its way to the database.
    Reserved,
    /// Holds the lock of the counter; versions are fixed and the row is written, not committed.
    Locked,
    /// The commit is on its way.
    Committing,
    /// The answer is on its way.
    Done,
    /// Nobody works on it any more, and there is no answer.
    Dead,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Fate {
    Waiting,
    /// Unchanged since this version, so the cache says.
    Unchanged(Rank),
    /// Answers with this.
    Decided {
        word: Word,
        repeated: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Op {
    pub(super) liked: bool,
    pub(super) fate: Fate,
    /// Lowest and highest version under which it was written, in the cache or in the row.
    pub(super) effect: Option<(Rank, Rank)>,
    /// The version that a transaction under way will write.
    pub(super) fixed: Option<Rank>,
    /// Confirmed to be unchanged since this version.
    pub(super) confirmed: Option<Rank>,
}

/// How an attempt ended for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum End {
    Open,
    Answered,
    /// The clock at that moment: no effect may be above it.
    GaveUp(Rank),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Attempt {
    pub(super) device: u8,
    pub(super) server: u8,
    pub(super) keyed: bool,
    /// Repeats an attempt whose answer was heard.
    pub(super) after_answer: bool,
    pub(super) ops: Vec<Op>,
    pub(super) stage: Stage,
    pub(super) end: End,
    /// The next question brings the loaded count.
    pub(super) fill: bool,
    /// The next question writes what is unchanged, too.
    pub(super) rewrite: bool,
    /// A new deadline was taken after the first one.
    pub(super) fresh: bool,
    /// A request that its server no longer waits for can still reach the cache.
    pub(super) stray: bool,
    /// Attempts that had ended when this word began.
    pub(super) after: u8,
}

impl Attempt {
    pub(super) fn over(&self) -> bool {
        matches!(self.end, End::GaveUp(_))
    }

    /// Operations that are asked now: all at once, or the first that is not decided.
    pub(super) fn undecided(&self, at_once: bool) -> Vec<usize> {
        let undecided = (0..self.ops.len()).filter(|op| self.ops[*op].fate == Fate::Waiting);
        undecided.take(if at_once { usize::MAX } else { 1 }).collect()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) clock: Rank,
    // The cache.
    pub(super) pair: Option<Word>,
    pub(super) counter: Option<Counter>,
    pub(super) last: Rank,
    pub(super) cached_key: Option<Remembered>,
    pub(super) journal: Vec<Entry>,
    // The database.
    pub(super) row: Row,
    pub(super) ledger: Vec<OpId>,
    pub(super) ledger_key: Option<Word>,
    pub(super) refresh: bool,
    pub(super) lock: Option<u8>,
    // The clients.
    pub(super) attempts: Vec<Attempt>,
    pub(super) broken: Option<Broken>,
}

impl State {
    pub(super) fn tick(&mut self) -> Rank {
        self.clock = (self.clock / TICK + 1) * TICK;
        self.clock
    }

    /// The last attempt of a device.
    pub(super) fn last_of(&self, device: u8) -> Option<usize> {
        self.attempts.iter().rposition(|attempt| attempt.device == device)
    }

    /// Attempts that have ended, as bits.
    pub(super) fn ended(&self) -> u8 {
        let ended = self.attempts.iter().enumerate().filter(|(_, attempt)| attempt.end != End::Open);
        ended.fold(0, |bits, (index, _)| bits | 1 << index)
    }

    /// Notes that an operation was written.
    pub(super) fn wrote(&mut self, id: OpId, version: Rank) {
        let op = &mut self.attempts[usize::from(id.attempt)].ops[usize::from(id.op)];
        op.effect = match op.effect {
            Some((low, high)) => Some((low.min(version), high.max(version))),
            None => Some((version, version)),
        };
    }

    /// The row with a newer word, and its counter.
    pub(super) fn write_row(&mut self, word: Word) {
        let step = i8::from(word.liked) - i8::from(self.row.word.liked);
        self.row.word = word;
        self.row.count += step;
        self.row.revision += u8::from(step != 0);
    }
}

/// Ranks: equal situations at different times are one state.
impl State {
    pub(super) fn renumber(&mut self) {
        let mut used = [false; 256];
        used[0] = true;
        self.each_rank(&mut |rank| used[usize::from(*rank)] = true);
        let mut ranks = [0; 256];
        let mut next = 0;
        for (rank, _) in used.iter().enumerate().filter(|(_, used)| **used) {
            ranks[rank] = next;
            next += TICK;
        }
        self.each_rank(&mut |rank| *rank = ranks[usize::from(*rank)]);
    }

    fn each_rank(&mut self, see: &mut impl FnMut(&mut Rank)) {
        see(&mut self.clock);
        see(&mut self.last);
        see(&mut self.row.word.version);
        self.pair.iter_mut().for_each(|word| see(&mut word.version));
        self.ledger_key.iter_mut().for_each(|word| see(&mut word.version));
        self.cached_key.iter_mut().for_each(|key| see(&mut key.word.version));
        for entry in &mut self.journal {
            see(&mut entry.word.version);
            entry.applied.iter_mut().for_each(|row| see(&mut row.word.version));
        }
        for attempt in &mut self.attempts {
            match &mut attempt.stage {
                Stage::Direct { now } => see(now),
                Stage::Reserving { row } => see(&mut row.version),
                _ => {}
            }
            if let End::GaveUp(at) = &mut attempt.end {
                see(at);
            }
            for op in &mut attempt.ops {
                match &mut op.fate {
                    Fate::Waiting => {}
                    Fate::Unchanged(version) => see(version),
                    Fate::Decided { word, .. } => see(&mut word.version),
                }
                if let Some((low, high)) = &mut op.effect {
                    see(low);
                    see(high);
                }
                op.fixed.iter_mut().for_each(&mut *see);
                op.confirmed.iter_mut().for_each(&mut *see);
            }
        }
    }
}
