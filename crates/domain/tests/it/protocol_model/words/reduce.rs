//! Fewer states for the same search: what can make no difference any more is forgotten, so that equal situations are one state.
//!
//! - **Heard at once.** An answer that arrives later binds less: fewer words begin after it, and those that do must win against
//!   a subset of the same versions. So an answer is heard in the step that decides it; answers that arrive too late or never
//!   are those of `give_up` before that step. Only keys tell the two apart (a repetition *after the answer* must find it).
//! - **Forgotten when over.** A finished attempt can have no further effect, so its server, its questions and the moment of its
//!   end are gone; its versions stay, because whatever comes must be above them. One without any version binds nobody. What a
//!   finished attempt had to be above is gone when those words are finished, too: that comparison is made.
//! - **Devices are alike.** Where both have the same number of calls, the first word is the first device's.

use super::Words;
use super::state::{Attempt, End, Fate, Op, Stage, State};

impl Attempt {
    fn finished(&self) -> bool {
        self.end != End::Open && !self.stray && matches!(self.stage, Stage::Done | Stage::Dead)
    }

    fn has_positions(&self) -> bool {
        let heard = self.end == End::Answered;
        self.ops.iter().any(|op| op.effect.is_some() || (heard && op.fate != Fate::Waiting))
    }

    fn forget(&mut self) {
        self.server = 0;
        self.stage = Stage::Done;
        let gave_up = self.over();
        for op in &mut self.ops {
            op.confirmed = None;
            op.fixed = None;
            if let Fate::Decided { repeated, .. } = &mut op.fate {
                *repeated = false;
            }
            if gave_up {
                op.fate = Fate::Waiting;
            }
        }
        // Too late an effect was noticed when it happened.
        self.end = End::Answered;
        if !self.has_positions() {
            let nothing = Op { liked: false, fate: Fate::Waiting, effect: None, fixed: None, confirmed: None };
            (self.ops, self.after) = (vec![nothing], 0);
        }
    }
}

impl Words {
    pub(super) fn hear_at_once(&self, state: &mut State) {
        for attempt in &mut state.attempts {
            if attempt.stage == Stage::Done && attempt.end == End::Open {
                attempt.end = End::Answered;
            }
        }
    }

    /// Called when the promises have been looked at.
    pub(super) fn forget(&self, state: &mut State) {
        let (mut finished, mut silent) = (0_u8, 0_u8);
        for (index, attempt) in state.attempts.iter_mut().enumerate().filter(|(_, attempt)| attempt.finished()) {
            finished |= 1 << index;
            attempt.forget();
            silent |= u8::from(!attempt.has_positions()) << index;
        }
        for attempt in &mut state.attempts {
            attempt.after &= !silent;
            if attempt.finished() && attempt.after & !finished == 0 {
                attempt.after = 0;
            }
        }
    }
}
