//! What must be true at every moment.

use super::state::{Attempt, End, Fate, Op, Rank, Stage, State, Word};

/// A promise that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Broken {
    /// A call took effect after its client had given up.
    LateEffect,
    /// A word that began after another one had ended has a smaller version.
    Order,
    /// An acknowledged word was undone by an earlier one.
    Reversed,
    /// One version stands for two states.
    TwoStates,
    /// Operations of one call took effect in another order.
    BatchOrder,
    /// A key answered what nobody confirmed or wrote.
    UnsoundKey,
    /// A word that was answered took effect again when its key was repeated.
    Twice,
    /// At rest: the row is not the last word, or count or cache do not agree with the rows.
    AtRest,
}

impl Op {
    fn answer(&self) -> Option<Word> {
        match self.fate {
            Fate::Decided { word, .. } => Some(word),
            _ => None,
        }
    }
}

/// The states that a client was told or that were written, with their versions.
fn positions(attempt: &Attempt) -> impl Iterator<Item = Word> {
    let heard = attempt.end == End::Answered;
    attempt.ops.iter().flat_map(move |op| {
        let written = op.effect.map(|(low, high)| [low, high]).into_iter().flatten();
        let written = written.map(|version| Word { version, liked: op.liked });
        written.chain(op.answer().filter(|_| heard))
    })
}

impl State {
    /// The promises that this moment breaks.
    pub(super) fn broken_promises(&self) -> Vec<Broken> {
        let mut broken = Vec::new();
        let mut all: Vec<Word> = vec![self.row.word];
        all.extend(self.pair);
        for attempt in &self.attempts {
            all.extend(positions(attempt));
            if let End::GaveUp(at) = attempt.end
                && attempt.ops.iter().any(|op| op.effect.is_some_and(|(_, high)| high > at))
            {
                broken.push(Broken::LateEffect);
            }
            self.check_order(attempt, &mut broken);
            self.check_batch(attempt, &mut broken);
            self.check_key(attempt, &mut broken);
        }
        if all.iter().any(|one| all.iter().any(|other| one.version == other.version && one.liked != other.liked)) {
            broken.push(Broken::TwoStates);
        }
        if self.rests() && !self.agrees() {
            broken.push(Broken::AtRest);
        }
        broken
    }

    fn check_order(&self, later: &Attempt, broken: &mut Vec<Broken>) {
        let earlier = (0..self.attempts.len()).filter(|index| later.after & 1 << index != 0);
        for before in earlier.flat_map(|index| positions(&self.attempts[index])) {
            for after in positions(later).filter(|after| after.version < before.version) {
                broken.push(Broken::Order);
                if after.liked != before.liked && later.end == End::Answered {
                    broken.push(Broken::Reversed);
                }
            }
        }
    }

    fn check_batch(&self, attempt: &Attempt, broken: &mut Vec<Broken>) {
        let [first, second] = &attempt.ops[..] else { return };
        let written = |op: &Op| op.effect.map(|(_, high)| high);
        if let (Some(one), Some(two)) = (written(first), written(second))
            && one >= two
        {
            broken.push(Broken::BatchOrder);
        }
        if let (Some(one), Some(two)) = (first.answer(), second.answer())
            && one.version > two.version
            && attempt.end == End::Answered
        {
            broken.push(Broken::BatchOrder);
        }
    }

    fn check_key(&self, attempt: &Attempt, broken: &mut Vec<Broken>) {
        if attempt.after_answer && attempt.ops[0].effect.is_some() {
            broken.push(Broken::Twice);
        }
        let Fate::Decided { word, repeated: true } = attempt.ops[0].fate else { return };
        let sound = |one: &Attempt| {
            let op = &one.ops[0];
            let written = op.effect.is_some_and(|(low, high)| low == word.version || high == word.version);
            one.keyed && op.liked == word.liked && (written || op.confirmed == Some(word.version))
        };
        if attempt.end == End::Answered && !self.attempts.iter().any(sound) {
            broken.push(Broken::UnsoundKey);
        }
    }

    /// Nothing is left to do, until somebody calls.
    pub(super) fn rests(&self) -> bool {
        let quiet = |attempt: &Attempt| {
            attempt.end != End::Open && !attempt.stray && matches!(attempt.stage, Stage::Done | Stage::Dead)
        };
        self.is_told() && self.attempts.iter().all(quiet)
    }

    /// Both stores have heard of everything.
    pub(super) fn is_told(&self) -> bool {
        self.journal.is_empty() && !self.refresh && self.lock.is_none()
    }

    fn agrees(&self) -> bool {
        let row = self.row;
        let last = |version: Rank| version <= row.word.version;
        let word = self.attempts.iter().flat_map(positions).all(|word| last(word.version));
        let count = row.count == i8::from(row.word.liked);
        let pair = self.pair.is_none_or(|pair| pair == row.word);
        let counter = self.counter.is_none_or(|counter| counter.served == row.count && counter.pending == 0);
        word && count && pair && counter
    }
}
