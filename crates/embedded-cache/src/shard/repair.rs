//! What the checker writes, each as compare-and-set, fenced by token.

use super::{Now, Shard};
use crate::wal::Wal;
use domain::cache::{CacheRules, CountRepair, PairRepair, RepairOutcome};
use domain::{Pair, PairState, Version};

impl Shard {
    /// From now on repairs with a smaller token are refused.
    pub(crate) fn fence(&mut self, token: u64) {
        self.fence = self.fence.max(token);
    }

    /// A served count is never overwritten while entries are pending; but the caller may have searched the journal after it saw
    /// the counter and found none of them, and while the last version is the same nothing was accepted since.
    pub(crate) fn repair_count(
        &mut self,
        repair: &CountRepair,
        token: u64,
        rules: &CacheRules,
        now: Now,
    ) -> RepairOutcome {
        if token < self.fence {
            return RepairOutcome::Fenced;
        }
        let Some(counter) = self.counter(repair.resource, now) else { return RepairOutcome::Changed };
        if counter.count != repair.seen || (counter.count.pending > 0 && !repair.abandoned) {
            return RepairOutcome::Changed;
        }
        let count = &mut counter.count;
        (count.served, count.pending) = (repair.stored.count, 0);
        (count.stored, count.stored_revision) = (repair.stored.count, repair.stored.revision);
        counter.expires = now.after(rules.counter_ttl);
        self.fence = token;
        RepairOutcome::Repaired
    }

    pub(crate) fn repair_pair(&mut self, repair: &PairRepair, token: u64, now: Now, wal: &Wal) -> RepairOutcome {
        if token < self.fence {
            return RepairOutcome::Fenced;
        }
        let Some(held) = self.pairs.get(&repair.pair).filter(|held| held.is_live(now.us)) else {
            return RepairOutcome::Changed;
        };
        if held.state() != repair.seen {
            return RepairOutcome::Changed;
        }
        let row = PairState { version: repair.row.version.if_possible(), ..repair.row };
        held.set_state(row);
        self.fence = token;
        // Later likes must win against the row.
        self.hear(row.version.0, 0, &[], wal);
        RepairOutcome::Repaired
    }

    /// Forgets a pair that is still as this version left it.
    pub(crate) fn forget_state(&mut self, pair: Pair, version: Version) {
        if let Some(held) = self.pairs.get(&pair)
            && held.state().version == version
        {
            held.set_expires(0);
        }
    }
}
