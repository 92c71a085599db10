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

    /// What is held behind each fence, and goes if it is to.
    pub(crate) fn sweep(&mut self, sweep: &Sweep<'_>, now: Now) -> Vec<Swept> {
        let (index, mut swept) = (sweep.index(), vec![Swept::default(); sweep.fences.len()]);
        for (pair, held) in self.pairs.iter() {
            let version = held.state().version;
            let place = index.finds(*pair, version).filter(|_| version > Version::ZERO && held.is_live(now.us));
            place.into_iter().for_each(|place| swept[place].pairs += 1);
        }
        for ((pair, _), held) in self.answers.iter() {
            let place = index.finds(*pair, held.answer.version).filter(|_| held.expires > now.us);
            place.into_iter().for_each(|place| swept[place].keys += 1);
        }
        if sweep.remove {
            self.pairs.retain(|pair, held| index.finds(*pair, held.state().version).is_none());
            self.answers.retain(|(pair, _), held| index.finds(*pair, held.answer.version).is_none());
        }
        swept
    }
}
