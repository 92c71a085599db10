//! Whose turn it is, of several hosts.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
#[cfg(feature = "amqp")]
use std::sync::atomic::Ordering;

/// The host that answered last: all that connect with one configuration begin there. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Turn(#[cfg_attr(not(feature = "amqp"), expect(dead_code, reason = "nobody connects"))] Arc<AtomicUsize>);

#[cfg(feature = "amqp")]
impl Turn {
    /// All of `count` hosts, the one that answered last first.
    pub(crate) fn order(&self, count: usize) -> impl Iterator<Item = usize> + use<> {
        let first = self.0.load(Ordering::Relaxed);
        (0..count).map(move |step| (first + step) % count)
    }

    pub(crate) fn answered(&self, host: usize) {
        self.0.store(host, Ordering::Relaxed);
    }
}
