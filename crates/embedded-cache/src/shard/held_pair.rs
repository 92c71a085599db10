//! A cached pair in 16 bytes. There are half a million of them: with a field for each of these the table of pairs would be a
//! quarter larger.

use crate::generations::Forgettable;
use domain::{PairState, Version};

const LIKED: u64 = 1 << 63;
const OURS: u64 = 1 << 62;

/// Latest end of a lifetime: 146,000 years after the cache was opened.
const LATEST: u64 = OURS - 1;

#[derive(Debug, Clone, Copy)]
pub(super) struct HeldPair {
    version: Version,
    /// When it expires, in microseconds since the cache was opened; above that two flags.
    expires: u64,
}

impl Forgettable for HeldPair {}

impl HeldPair {
    /// `ours`: accepted here, not only seen in the database (or recovered). Only such a pair is a reason to answer "unchanged",
    /// because any other may be older than an event that is still on its way.
    pub(super) fn new(state: PairState, ours: bool, expires: u64) -> Self {
        let mut held = Self { version: state.version, expires: if ours { OURS } else { 0 } };
        held.set_state(state);
        held.set_expires(expires);
        held
    }

    pub(super) const fn state(&self) -> PairState {
        PairState { liked: self.expires & LIKED != 0, version: self.version }
    }

    pub(super) const fn set_state(&mut self, state: PairState) {
        self.version = state.version;
        self.expires = self.expires & !LIKED | if state.liked { LIKED } else { 0 };
    }

    pub(super) const fn is_ours(&self) -> bool {
        self.expires & OURS != 0
    }

    /// Whether it still counts at that time.
    pub(super) const fn is_live(&self, now_us: u64) -> bool {
        self.expires & LATEST > now_us
    }

    pub(super) fn set_expires(&mut self, expires: u64) {
        self.expires = self.expires & !LATEST | expires.min(LATEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_runs_into_its_neighbour() {
        assert_eq!(size_of::<HeldPair>(), 16);
        for (liked, ours) in [(false, false), (false, true), (true, false), (true, true)] {
            for expires in [0, 1, 77, LATEST, OURS, u64::MAX] {
                let state = PairState { liked, version: Version(i64::MAX) };
                let mut held = HeldPair::new(state, ours, expires);
                assert_eq!((held.state(), held.is_ours()), (state, ours), "{expires}");
                let end = expires.min(LATEST);
                assert!(!held.is_live(end) && (end == 0 || held.is_live(end - 1)), "{expires}");

                let other = PairState { liked: !liked, version: Version(3) };
                held.set_state(other);
                assert_eq!((held.state(), held.is_ours(), held.is_live(end)), (other, ours, false));
                held.set_expires(5);
                assert_eq!(
                    (held.state(), held.is_ours(), held.is_live(4), held.is_live(5)),
                    (other, ours, true, false)
                );
            }
        }
    }
}
