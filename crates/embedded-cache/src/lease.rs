//! Leases within this process.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Debug, Default)]
pub(crate) struct Leases(Mutex<HashMap<String, Lease>>);

#[derive(Debug, Default)]
struct Lease {
    /// Who has it, and until when.
    owner: Option<(String, Instant)>,
    token: u64,
}

impl Leases {
    pub(crate) fn acquire(&self, name: &str, owner: &str, ttl: Duration) -> Option<u64> {
        let now = Instant::now();
        let mut leases = self.lock();
        let lease = leases.entry(name.to_owned()).or_default();
        match &mut lease.owner {
            Some((holder, until)) if *until > now => {
                if holder != owner {
                    return None;
                }
                *until = now + ttl;
            }
            free => {
                *free = Some((owner.to_owned(), now + ttl));
                lease.token += 1;
            }
        }
        Some(lease.token)
    }

    pub(crate) fn release(&self, name: &str, owner: &str) {
        if let Some(lease) = self.lock().get_mut(name)
            && lease.owner.as_ref().is_some_and(|(holder, _)| holder == owner)
        {
            lease.owner = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Lease>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
