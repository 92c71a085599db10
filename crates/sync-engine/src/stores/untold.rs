//! Which writes around the cache it may not have been told of.
//!
//! Asked when the cache comes back while the database, which has the list of them, is unreachable: the cache may serve
//! again only if it was told of everything that this process wrote. So nothing is counted here that somebody would have to
//! take back. A write says that it ended by being dropped, however it ended, and a drain of the list settles whatever had
//! ended before it began.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The account of one process.
#[derive(Debug, Default)]
pub(crate) struct UntoldWrites {
    /// Writes that have not ended.
    under_way: AtomicUsize,
    /// Ever ended without the cache being told.
    ended: AtomicU64,
    /// The first so many of those, the cache was told of by a drain.
    drained: AtomicU64,
}

impl UntoldWrites {
    /// A write begins: from before its outcome is known, because a failed call may have been committed.
    pub(crate) fn begin(&self) -> UntoldWrite<'_> {
        self.under_way.fetch_add(1, Ordering::AcqRel);
        UntoldWrite { account: self, told: false }
    }

    /// Before the list is read: a drain from here on finds what these writes left there.
    pub(crate) fn drain_begins(&self) -> EndedWrites {
        EndedWrites(self.ended.load(Ordering::Acquire))
    }

    /// The list was read and told to its end.
    pub(crate) fn drain_ended(&self, EndedWrites(ended): EndedWrites) {
        if planted_bugs::is_planted("untold_forever") {
            return;
        }
        self.drained.fetch_max(ended, Ordering::AcqRel);
    }

    /// Whether the cache was told of every write of this process.
    pub(crate) fn is_empty(&self) -> bool {
        // In this order: a write ends before it is no longer under way.
        self.under_way.load(Ordering::Acquire) == 0
            && self.ended.load(Ordering::Acquire) == self.drained.load(Ordering::Acquire)
    }
}

/// Writes that ended before a drain began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EndedWrites(u64);

/// A write under way.
#[derive(Debug)]
#[must_use]
pub(crate) struct UntoldWrite<'a> {
    account: &'a UntoldWrites,
    told: bool,
}

impl UntoldWrite<'_> {
    /// It was committed, and the cache told.
    pub(crate) fn told(mut self) {
        self.told = true;
    }
}

impl Drop for UntoldWrite<'_> {
    fn drop(&mut self) {
        if !self.told {
            self.account.ended.fetch_add(1, Ordering::AcqRel);
        }
        self.account.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_untold_until_a_drain_that_began_after_its_end() {
        let account = UntoldWrites::default();
        assert!(account.is_empty());
        let write = account.begin();
        assert!(!account.is_empty());
        let too_early = account.drain_begins();
        drop(write);
        account.drain_ended(too_early);
        assert!(!account.is_empty());
        let (one, other) = (account.drain_begins(), account.drain_begins());
        account.drain_ended(one);
        assert!(account.is_empty());
        // Two drains of the same write do not pay for another one.
        drop(account.begin());
        account.drain_ended(other);
        assert!(!account.is_empty());
        account.drain_ended(account.drain_begins());
        assert!(account.is_empty());
    }

    #[test]
    fn a_write_that_was_told_needs_no_drain() {
        let account = UntoldWrites::default();
        let (told, lost) = (account.begin(), account.begin());
        told.told();
        assert!(!account.is_empty());
        drop(lost);
        account.drain_ended(account.drain_begins());
        assert!(account.is_empty());
    }
}
