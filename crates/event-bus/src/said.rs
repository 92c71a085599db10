//! What was said to the log already.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Most that is remembered; what differs more often than this is not worth a line each.
#[cfg(feature = "amqp")]
const CAPACITY: usize = 64;

/// Warnings that were given, so that each is given once however often one connects. Clones are the same memory.
#[derive(Debug, Clone, Default)]
pub struct Said(Arc<Mutex<BTreeSet<String>>>);

impl Said {
    /// What was said so far.
    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    #[cfg(feature = "amqp")]
    pub(crate) fn is_new(&self, warning: String) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.len() < CAPACITY && said.insert(warning)
    }
}
