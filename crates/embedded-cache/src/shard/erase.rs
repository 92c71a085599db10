//! What an erasure asks of a shard.

use super::{Now, Shard};
use crate::wal::Wal;
use domain::Version;
use domain::cache::{Swept, UserSweep};

impl Shard {
    /// Raises the clock; gives it as it was.
    pub(crate) fn raise_clock(&mut self, at_least: Version, wal: &Wal) -> Version {
        let before = Version(self.accounting.clock);
        self.hear(at_least.0, 0, &[], wal);
        before
    }

    /// What is held of a user, and goes if it is to.
    pub(crate) fn sweep_user(&mut self, sweep: &UserSweep, now: Now) -> Swept {
        let goes = |user, version| user == sweep.user && version <= sweep.up_to;
        let pairs = self.pairs.iter().filter(|(pair, held)| {
            goes(pair.user, held.state.version) && held.state.version > Version::ZERO && held.expires > now.us
        });
        let keys = self
            .answers
            .iter()
            .filter(|((pair, _), held)| goes(pair.user, held.answer.version) && held.expires > now.us);
        let swept = Swept { pairs: pairs.count() as u64, keys: keys.count() as u64 };
        if sweep.remove {
            self.pairs.retain(|pair, held| !goes(pair.user, held.state.version));
            self.answers.retain(|(pair, _), held| !goes(pair.user, held.answer.version));
        }
        swept
    }
}
