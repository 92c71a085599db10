//! What an erasure asks of a shard.

use super::{Now, Shard};
use crate::wal::Wal;
use domain::Version;
use domain::cache::{Sweep, Swept};

impl Shard {
    /// Raises the clock; gives it as it was.
    pub(crate) fn raise_clock(&mut self, at_least: Version, wal: &Wal) -> Version {
        let before = Version(self.accounting.clock);
        self.hear(at_least.0, 0, &[], wal);
        before
    }

    /// What is held of a user or a resource, and goes if it is to.
    pub(crate) fn sweep(&mut self, sweep: &Sweep, now: Now) -> Swept {
        let pairs = self.pairs.iter().filter(|(pair, held)| {
            let version = held.state.version;
            sweep.finds(**pair, version) && version > Version::ZERO && held.expires > now.us
        });
        let keys = self
            .answers
            .iter()
            .filter(|((pair, _), held)| sweep.finds(*pair, held.answer.version) && held.expires > now.us);
        let swept = Swept { pairs: pairs.count() as u64, keys: keys.count() as u64 };
        if sweep.remove {
            self.pairs.retain(|pair, held| !sweep.finds(*pair, held.state.version));
            self.answers.retain(|(pair, _), held| !sweep.finds(*pair, held.answer.version));
        }
        swept
    }
}
