//! What transactions do with an attempt, and what the cache hears of them.

use super::state::{Entry, Fate, OpId, Rank, Remembered, Row, Stage, State, Word};
use super::{Bug, Words};

impl Words {
    pub(super) fn fall_back(&self, state: &mut State, index: usize) {
        state.attempts[index].stage = if state.attempts[index].over() && !self.has(Bug::DirectUnchecked) {
            Stage::Dead
        } else {
            Stage::Direct { now: state.tick() + self.scope.ahead }
        };
    }

    /// Locks, reads, fixes the versions and writes; nobody else sees it.
    pub(super) fn lock(&self, state: &mut State, index: usize, now: Rank) -> bool {
        if state.lock.is_some() {
            return false;
        }
        let keyed = state.attempts[index].keyed && !self.has(Bug::DirectIgnoresKeys);
        if let Some(first) = state.ledger_key.filter(|_| keyed) {
            let op = &mut state.attempts[index].ops[0];
            let refused = first.liked != op.liked && !self.has(Bug::KeyOfAnyAction);
            op.fate = Fate::Decided { word: Word { liked: op.liked, ..first }, repeated: true };
            state.attempts[index].stage = if refused { Stage::Dead } else { Stage::Done };
            return true;
        }
        let (mut row, mut decided_here) = (state.row.word, false);
        for op in state.attempts[index].undecided(true) {
            let id = OpId { attempt: index as u8, op: op as u8 };
            let one = &mut state.attempts[index].ops[op];
            let same = decided_here && row.liked == one.liked;
            if !same && !state.ledger.contains(&id) {
                decided_here = true;
                row = Word { version: now.max(row.version + 1), liked: one.liked };
                one.fixed = Some(row.version);
            }
            one.fate = Fate::Decided { word: row, repeated: false };
        }
        if self.scope.ahead == 0 || !self.has(Bug::ClockNotWaitedOut) {
            state.clock = state.clock.max(row.version);
        }
        state.lock = Some(index as u8);
        state.attempts[index].stage = Stage::Locked;
        true
    }

    /// The same for versions that the cache gave: whatever was written meanwhile wins if it is newer.
    pub(super) fn lock_reserved(&self, state: &mut State, index: usize) -> bool {
        if state.lock.is_some() {
            return false;
        }
        let mut row = state.row.word;
        for op in &mut state.attempts[index].ops {
            let Some(version) = op.fixed else { continue };
            if version > row.version {
                row = Word { version, liked: op.liked };
            } else {
                op.fixed = None;
            }
            op.fate = Fate::Decided { word: row, repeated: false };
        }
        state.lock = Some(index as u8);
        state.attempts[index].stage = Stage::Locked;
        true
    }

    /// The last look at the deadline.
    pub(super) fn check(&self, state: &mut State, index: usize) {
        if state.attempts[index].over() && !self.has(Bug::DirectUnchecked) {
            state.lock = None;
            state.attempts[index].ops.iter_mut().for_each(|op| op.fixed = None);
            state.attempts[index].stage = Stage::Dead;
            return;
        }
        state.attempts[index].stage = Stage::Committing;
        if self.check_commits {
            self.commit(state, index);
        }
    }

    pub(super) fn commit(&self, state: &mut State, index: usize) {
        for op in 0..state.attempts[index].ops.len() {
            let Some(version) = state.attempts[index].ops[op].fixed.take() else { continue };
            let id = OpId { attempt: index as u8, op: op as u8 };
            let word = Word { version, liked: state.attempts[index].ops[op].liked };
            state.write_row(word);
            state.wrote(id, version);
            self.record(state, id, word);
            state.refresh = true;
        }
        state.lock = None;
        self.next_round(state, index);
    }

    fn record(&self, state: &mut State, id: OpId, word: Word) {
        state.ledger.push(id);
        state.ledger.sort_unstable();
        if state.attempts[usize::from(id.attempt)].keyed && state.ledger_key.is_none() {
            state.ledger_key = Some(word);
        }
    }

    /// The consumer's transaction.
    pub(super) fn apply(&self, state: &mut State, entry: usize) -> bool {
        if state.lock.is_some() {
            return false;
        }
        let Entry { id, word, .. } = state.journal[entry];
        if !state.ledger.contains(&id) {
            self.record(state, id, word);
            if word.version > state.row.word.version {
                state.write_row(word);
            }
        }
        let row = state.row;
        if self.scope.slow_settle {
            state.journal[entry].applied = Some(row);
        } else {
            self.settle(state, entry, row);
        }
        true
    }

    /// The cache hears of what was applied.
    pub(super) fn settle(&self, state: &mut State, entry: usize, row: Row) {
        state.journal.remove(entry);
        tell(state, row, 1);
    }

    /// The cache hears of what was written around it.
    pub(super) fn refresh(&self, state: &mut State) {
        state.refresh = false;
        let row = state.row;
        tell(state, row, 0);
        if let (Some(word), None) = (state.ledger_key, state.cached_key)
            && !self.has(Bug::RefreshWithoutKey)
        {
            state.cached_key = Some(Remembered { word, changed: true });
        }
    }
}

fn tell(state: &mut State, row: Row, removed: u8) {
    if let Some(counter) = &mut state.counter {
        counter.pending = counter.pending.saturating_sub(removed);
        if row.revision > counter.revision {
            (counter.stored, counter.revision) = (row.count, row.revision);
        }
        if counter.pending == 0 {
            counter.served = counter.stored;
        }
    }
    tell_pair(state, row.word);
}

pub(super) fn tell_pair(state: &mut State, row: Word) {
    if let Some(held) = &mut state.pair
        && held.version < row.version
    {
        *held = row;
    }
    state.last = state.last.max(row.version);
}
