//! What devices do, and the search itself.

use super::check::Broken;
use super::state::{Attempt, Counter, End, Fate, Op, Row, Stage, State, TICK, Word};
use super::{Step, Words};
use stateright::{Model, Property};

type Sight = fn(&Words, &State) -> bool;

/// What a search that proves anything must have met in one scope or another.
pub(super) const SIGHTS: [(&str, Sight); 7] = [
    ("an abandoned call had taken effect", |_, state| {
        state.attempts.iter().any(|attempt| attempt.over() && attempt.ops.iter().any(|op| op.effect.is_some()))
    }),
    ("a commit is on its way after its client gave up", |_, state| {
        state.attempts.iter().any(|attempt| attempt.over() && attempt.stage == Stage::Committing)
    }),
    ("a transaction that waited for the lock is over", |_, state| {
        state.attempts.iter().any(|attempt| attempt.over() && attempt.stage == Stage::Locked)
    }),
    ("an unchanged word is written again", |_, state| {
        state.attempts.iter().any(|attempt| attempt.rewrite && attempt.stage == Stage::Asked && !attempt.over())
    }),
    ("a key answered", |_, state| {
        let repeated = |op: &Op| matches!(op.fate, Fate::Decided { repeated: true, .. });
        state.attempts.iter().any(|attempt| attempt.end == End::Answered && attempt.ops.iter().any(repeated))
    }),
    ("a word went through both stores", |_, state| {
        let both = |op: &Op| op.effect.is_some_and(|(low, high)| low < high);
        state.attempts.iter().any(|attempt| attempt.ops.iter().any(both))
    }),
    ("the cache is behind the row", |_, state| {
        state.pair.is_some_and(|pair| pair.version < state.row.word.version && pair.liked != state.row.word.liked)
    }),
];

impl Words {
    fn initial(&self, liked: bool) -> State {
        let version = if liked { TICK } else { 0 };
        let word = Word { version, liked };
        let row = Row { word, count: i8::from(liked), revision: u8::from(liked) };
        let counter = Counter { served: row.count, pending: 0, stored: row.count, revision: row.revision };
        State {
            clock: TICK,
            pair: liked.then_some(word),
            counter: self.scope.counter_known.then_some(counter),
            last: version,
            cached_key: None,
            journal: Vec::new(),
            row,
            ledger: Vec::new(),
            ledger_key: None,
            refresh: false,
            lock: None,
            attempts: Vec::new(),
            broken: None,
        }
    }

    fn sends(&self, state: &State, device: u8, steps: &mut Vec<Step>) {
        let own = state.attempts.iter().filter(|attempt| attempt.device == device).count();
        let busy = state.last_of(device).is_some_and(|last| state.attempts[last].end == End::Open);
        let [first, second] = self.scope.calls;
        let alike = self.scope.reduced && first == second && device == 1 && state.attempts.is_empty();
        if busy || alike || own >= self.scope.calls[usize::from(device)] {
            return;
        }
        let keyed = self.scope.keys && device == 0;
        let most = if keyed { 1 } else { self.scope.operations };
        for &server in self.scope.servers {
            for ops in 1..=most {
                steps.extend((0..1 << ops).map(|liked| Step::Send { device, server, ops, liked }));
            }
        }
    }

    fn send(&self, state: &mut State, (device, server): (u8, u8), ops: u8, liked: u8) -> bool {
        let op = |bit: u8| Op {
            liked: liked & 1 << bit != 0,
            fate: Fate::Waiting,
            effect: None,
            fixed: None,
            confirmed: None,
        };
        let keyed = self.scope.keys && device == 0;
        let ops: Vec<Op> = (0..ops).map(op).collect();
        let mut attempt = Attempt {
            device,
            server,
            keyed,
            after_answer: false,
            ops,
            stage: Stage::Asked,
            end: End::Open,
            fill: false,
            rewrite: false,
            fresh: false,
            stray: false,
            after: state.ended(),
        };
        if let Some(first) = keyed.then(|| self.repeats(state, &attempt)).flatten() {
            attempt.after = first.after;
            if first.end == End::Answered {
                // A key needs a moment from one store to the other, and that of an "unchanged" is known to the cache alone.
                let may_miss_cache = self.scope.lossy || (self.scope.cut && server == 1);
                if !state.is_told() || (first.ops[0].effect.is_none() && may_miss_cache) {
                    return false;
                }
                attempt.after_answer = true;
            }
        }
        state.attempts.push(attempt);
        if self.scope.cut && server == 1 {
            self.fall_back(state, state.attempts.len() - 1);
        } else {
            self.next_round(state, state.attempts.len() - 1);
        }
        true
    }

    /// The attempt that this one repeats.
    fn repeats<'a>(&self, state: &'a State, attempt: &Attempt) -> Option<&'a Attempt> {
        let same = |one: &&Attempt| one.keyed && one.ops[0].liked == attempt.ops[0].liked;
        let answered = |one: &&Attempt| one.end == End::Answered;
        state.attempts.iter().filter(same).find(answered).or_else(|| state.attempts.iter().find(same))
    }

    fn take(&self, state: &mut State, step: Step) -> bool {
        match step {
            Step::Send { device, server, ops, liked } => return self.send(state, (device, server), ops, liked),
            Step::Hear(index) => state.attempts[index].end = End::Answered,
            Step::GiveUp(index) => self.give_up(state, index),
            Step::Run { attempt, heard } => return self.run(state, attempt, heard),
            Step::RunStray(index) => self.run_stray(state, index),
            Step::Lose(index) => self.lose(state, index),
            Step::Confirm { attempt, readable } => return self.confirm(state, attempt, readable),
            Step::Remember(index) => self.remember(state, index),
            Step::Read(index) => return self.read(state, index),
            Step::Reserve(index) => {
                let Stage::Reserving { row } = state.attempts[index].stage else { return false };
                self.reserve(state, index, row);
            }
            Step::Lock(index) => {
                return match state.attempts[index].stage {
                    Stage::Direct { now } => self.lock(state, index, now),
                    _ => self.lock_reserved(state, index),
                };
            }
            Step::Check(index) => self.check(state, index),
            Step::Commit(index) => self.commit(state, index),
            Step::Apply(entry) => return self.apply(state, entry),
            Step::Settle(entry) => {
                let Some(row) = state.journal[entry].applied else { return false };
                self.settle(state, entry, row);
            }
            Step::Refresh => self.refresh(state),
        }
        true
    }
}

impl Model for Words {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![self.initial(self.scope.counter_known)]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        if state.broken.is_some() {
            return;
        }
        for device in 0..2 {
            self.sends(state, device, steps);
        }
        for (index, attempt) in state.attempts.iter().enumerate() {
            let own: &[Step] = match attempt.stage {
                Stage::Asked if self.scope.lossy => &[
                    Step::Run { attempt: index, heard: true },
                    Step::Run { attempt: index, heard: false },
                    Step::Lose(index),
                ],
                Stage::Asked => &[Step::Run { attempt: index, heard: true }],
                Stage::Confirming => &[
                    Step::Confirm { attempt: index, readable: true },
                    Step::Confirm { attempt: index, readable: false },
                ],
                Stage::Remembering => &[Step::Remember(index)],
                Stage::Reading => &[Step::Read(index)],
                Stage::Reserving { .. } => &[Step::Reserve(index)],
                Stage::Direct { .. } | Stage::Reserved => &[Step::Lock(index)],
                Stage::Locked => &[Step::Check(index)],
                Stage::Committing => &[Step::Commit(index)],
                Stage::Done if attempt.end == End::Open => &[Step::Hear(index)],
                Stage::Done | Stage::Dead => &[],
            };
            steps.extend_from_slice(own);
            if attempt.end == End::Open {
                steps.push(Step::GiveUp(index));
            }
            if attempt.stray {
                steps.push(Step::RunStray(index));
            }
        }
        for (index, entry) in state.journal.iter().enumerate() {
            steps.push(if entry.applied.is_some() { Step::Settle(index) } else { Step::Apply(index) });
        }
        if state.refresh {
            steps.push(Step::Refresh);
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut next = state.clone();
        if !self.take(&mut next, step) {
            return None;
        }
        for attempt in &mut next.attempts {
            if matches!(attempt.stage, Stage::Done | Stage::Dead) {
                (attempt.fill, attempt.rewrite, attempt.fresh) = (false, false, false);
            }
        }
        if self.scope.reduced {
            self.hear_at_once(&mut next);
        }
        let watched = |broken: &Broken| self.watch.is_empty() || self.watch.contains(broken);
        next.broken = next.broken_promises().into_iter().find(watched);
        if self.scope.reduced && next.broken.is_none() {
            self.forget(&mut next);
        }
        if self.scope.ahead == 0 {
            next.renumber();
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![Property::always("every promise is kept", |_, state: &State| state.broken.is_none())];
        if self.bugs.is_empty() {
            properties.extend(SIGHTS.map(|(name, sight)| Property::sometimes(name, sight)));
        }
        properties
    }
}
