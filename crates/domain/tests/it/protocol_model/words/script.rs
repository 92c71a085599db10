//! What servers and the cache's script do with an attempt.

use super::state::{Attempt, Counter, End, Entry, Fate, OpId, Remembered, Row, Stage, State, Word};
use super::transactions::tell_pair;
use super::{Bug, Words};

/// What the script answered to one operation.
enum Reply {
    Decided,
    Unchanged,
    CountMissing,
    /// The key is of the other action.
    Refused,
}

impl Words {
    /// The script runs the request of an attempt; the server hears the answer or does not.
    pub(super) fn run(&self, state: &mut State, index: usize, heard: bool) -> bool {
        let attempt = &state.attempts[index];
        let in_time = !attempt.over() || attempt.fresh || self.has(Bug::ClientTimeoutIgnored);
        if !in_time {
            if self.has(Bug::ExpiredAskedAfresh) && heard {
                state.attempts[index].fresh = true;
            } else {
                state.attempts[index].stage = Stage::Dead;
            }
            return true;
        }
        let asked = attempt.undecided(self.has(Bug::BatchAskedAtOnce));
        let (mut missing, mut unchanged, mut wrote) = (false, false, false);
        for &op in &asked {
            match self.accept(state, index, op) {
                Reply::Decided => wrote = true,
                Reply::Unchanged => unchanged = true,
                Reply::CountMissing => missing = true,
                Reply::Refused => {
                    state.attempts[index].stage = Stage::Dead;
                    return true;
                }
            }
        }
        if !heard {
            // As if it had not run, unless something was written.
            let keyed = self.asks_key(&state.attempts[index]);
            asked.iter().for_each(|op| state.attempts[index].ops[*op].fate = Fate::Waiting);
            self.fall_back(state, index);
            return wrote || (unchanged && keyed && self.has(Bug::UnconfirmedRemembered));
        }
        let attempt = &mut state.attempts[index];
        if missing {
            attempt.fill = true;
            attempt.fresh |= self.has(Bug::CountAskedAfresh);
        } else if unchanged && self.has(Bug::UnchangedUnconfirmed) {
            confirm_as_told(state, index);
            self.next_round(state, index);
        } else if unchanged {
            attempt.stage = Stage::Confirming;
        } else {
            self.next_round(state, index);
        }
        true
    }

    /// A request that its server has given up runs after all.
    pub(super) fn run_stray(&self, state: &mut State, index: usize) {
        state.attempts[index].stray = false;
        if state.attempts[index].over() {
            return;
        }
        for op in 0..state.attempts[index].ops.len() {
            let told = state.attempts[index].ops[op].fate;
            self.accept(state, index, op);
            state.attempts[index].ops[op].fate = told;
        }
    }

    /// Whether the key goes along. Where the script has remembered an "unchanged", its rewrite must not find that.
    fn asks_key(&self, attempt: &Attempt) -> bool {
        let without = self.has(Bug::UnconfirmedRemembered) || self.has(Bug::RewriteWithoutKey);
        attempt.keyed && !(attempt.rewrite && without)
    }

    /// `accept.lua`, one item.
    fn accept(&self, state: &mut State, index: usize, op: usize) -> Reply {
        let attempt = &state.attempts[index];
        let (liked, keyed) = (attempt.ops[op].liked, self.asks_key(attempt));
        let (fill, rewrite) = (attempt.fill, attempt.rewrite);
        if let Some(first) = state.cached_key.filter(|_| keyed) {
            if first.word.liked != liked && !self.has(Bug::KeyOfAnyAction) {
                return Reply::Refused;
            }
            let word = Word { version: first.word.version, liked };
            state.attempts[index].ops[op].fate = Fate::Decided { word, repeated: true };
            return Reply::Decided;
        }
        if state.counter.is_none() && !fill {
            return Reply::CountMissing;
        }
        if state.counter.is_none() {
            let Row { word, count, revision } = state.row;
            state.counter = Some(Counter { served: count, pending: 0, stored: count, revision });
            state.last = state.last.max(word.version);
        }
        let same = state.pair.filter(|held| held.liked == liked);
        if let Some(held) = same.filter(|_| !rewrite) {
            state.attempts[index].ops[op].fate = Fate::Unchanged(held.version);
            if keyed && self.has(Bug::UnconfirmedRemembered) {
                state.cached_key = Some(Remembered { word: held, changed: false });
            }
            return Reply::Unchanged;
        }
        let now = state.tick();
        let word = Word { version: now.max(state.last + 1), liked };
        state.last = word.version;
        state.pair = Some(word);
        let id = OpId { attempt: index as u8, op: op as u8 };
        state.journal.push(Entry { id, word, applied: None });
        if let Some(counter) = &mut state.counter {
            let step = if same.is_some() { 0 } else { i8::from(liked) * 2 - 1 };
            counter.served = (counter.served + step).max(0);
            counter.pending += 1;
        }
        if keyed {
            state.cached_key = Some(Remembered { word, changed: true });
        }
        state.attempts[index].ops[op].fate = Fate::Decided { word, repeated: false };
        state.wrote(id, word.version);
        Reply::Decided
    }

    /// The synchronous path reads the row first.
    pub(super) fn read(&self, state: &mut State, index: usize) -> bool {
        if state.lock.is_some() && !self.has(Bug::ConfirmReadsSnapshot) {
            return false;
        }
        state.attempts[index].stage = Stage::Reserving { row: state.row.word };
        true
    }

    /// Then the script gives versions and says what it holds.
    pub(super) fn reserve(&self, state: &mut State, index: usize, row: Word) {
        if state.attempts[index].over() && !self.has(Bug::ClientTimeoutIgnored) {
            state.attempts[index].stage = Stage::Dead;
            return;
        }
        for op in state.attempts[index].undecided(self.has(Bug::BatchAskedAtOnce)) {
            let now = state.tick();
            state.last = now.max(state.last + 1).max(row.version + 1);
            let (version, held) = (state.last, state.pair);
            let op = &mut state.attempts[index].ops[op];
            let same = held.is_some_and(|held| held.version <= row.version && held.liked == row.liked);
            if same && op.liked == row.liked {
                op.fate = Fate::Decided { word: row, repeated: false };
                op.confirmed = Some(row.version);
            } else {
                op.fixed = Some(version);
            }
        }
        let writes = state.attempts[index].ops.iter().any(|op| op.fixed.is_some());
        if writes {
            state.attempts[index].stage = Stage::Reserved;
        } else {
            self.next_round(state, index);
        }
    }

    /// The row is read, or nobody can say; then unchanged is answered or written again.
    pub(super) fn confirm(&self, state: &mut State, index: usize, readable: bool) -> bool {
        let waits = state.lock.is_some() && !self.has(Bug::ConfirmReadsSnapshot);
        if readable && waits {
            return false;
        }
        let row = state.row.word;
        let mut again = false;
        for op in &mut state.attempts[index].ops {
            let Fate::Unchanged(version) = op.fate else { continue };
            if readable && (row.version <= version || row.liked == op.liked) {
                let seen = if self.has(Bug::CachedVersionAnswered) { version } else { version.max(row.version) };
                op.fate = Fate::Decided { word: Word { version: seen, liked: op.liked }, repeated: false };
                op.confirmed = Some(seen);
            } else {
                op.fate = Fate::Waiting;
                again = true;
            }
        }
        if again {
            if readable {
                // Raises the clock above the row, or the event would lose against it.
                tell_pair(state, row);
            }
            let attempt = &mut state.attempts[index];
            attempt.stage = Stage::Asked;
            attempt.rewrite = true;
            attempt.fresh |= self.has(Bug::RewriteAskedAfresh);
        } else if state.attempts[index].keyed && !self.has(Bug::ConfirmedForgotten) {
            state.attempts[index].stage = Stage::Remembering;
        } else {
            self.next_round(state, index);
        }
        true
    }

    pub(super) fn remember(&self, state: &mut State, index: usize) {
        let op = state.attempts[index].ops[0];
        if let (Some(version), None) = (op.confirmed, state.cached_key) {
            state.cached_key = Some(Remembered { word: Word { version, liked: op.liked }, changed: false });
        }
        self.next_round(state, index);
    }

    /// The client goes on with something else.
    ///
    /// While no rule is broken, a call that is over and still asks, or waits for its lock, can only be refused: the search takes
    /// that for done, which leaves out nothing but steps without effect.
    pub(super) fn give_up(&self, state: &mut State, index: usize) {
        let at = state.clock;
        let attempt = &mut state.attempts[index];
        attempt.end = End::GaveUp(at);
        if self.skips && matches!(attempt.stage, Stage::Asked | Stage::Confirming | Stage::Direct { .. }) {
            attempt.stage = Stage::Dead;
        }
    }

    /// The attempt at the cache is given up and can no longer run; or it can, with the bug.
    pub(super) fn lose(&self, state: &mut State, index: usize) {
        state.attempts[index].stray = self.has(Bug::FallbackWhileUnderWay);
        self.fall_back(state, index);
    }

    pub(super) fn next_round(&self, state: &mut State, index: usize) {
        let attempt = &mut state.attempts[index];
        (attempt.fill, attempt.rewrite) = (false, false);
        let waiting = attempt.ops.iter().any(|op| op.fate == Fate::Waiting);
        attempt.stage = match waiting {
            false => Stage::Done,
            true if self.scope.synchronous && attempt.server == 1 => Stage::Reading,
            true => Stage::Asked,
        };
    }
}

fn confirm_as_told(state: &mut State, index: usize) {
    for op in &mut state.attempts[index].ops {
        if let Fate::Unchanged(version) = op.fate {
            op.fate = Fate::Decided { word: Word { version, liked: op.liked }, repeated: false };
        }
    }
}
