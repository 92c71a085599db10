//! Quotas by name or address: so many per second with a burst. What is quiet is forgotten.

use crate::status::{self, Reason};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use metrics::{counter, describe_counter};
use std::hash::Hash;
use std::num::NonZeroU32;
use tonic::Status;

/// Keys remembered; those that are quiet are forgotten first.
const MAX_KEYS: usize = 100_000;

/// Shows what is limited from the start.
pub(super) fn register() {
    describe_counter!("interaction_calls_limited_total", "Calls refused by a limit that each server keeps alone");
    for (limit, what) in [
        ("ip", "likes"),
        ("global", "likes"),
        ("token", "likes"),
        ("token", "reads"),
        ("token", "streams"),
        ("token", "watched resources"),
    ] {
        counter!("interaction_calls_limited_total", "limit" => limit, "what" => what).increment(0);
    }
}

pub(super) fn quota(per_second: u32, burst: u32) -> Option<Quota> {
    Some(Quota::per_second(NonZeroU32::new(per_second)?).allow_burst(NonZeroU32::new(burst)?))
}

/// More in one call than the burst ever allows: waiting does not help.
pub(super) fn too_large(setting: &str) -> Status {
    let message = format!("the call asks for more than rate_limiting.{setting} allows at once");
    status::refuse(Reason::BeyondBurst, message)
}

/// So many per second for each key.
pub(super) struct Keyed<K: Hash + Eq + Clone> {
    limiter: DefaultKeyedRateLimiter<K>,
    clock: DefaultClock,
    what: &'static str,
    limit: &'static str,
    setting: &'static str,
}

impl<K: Hash + Eq + Clone> Keyed<K> {
    pub(super) fn new(
        what: &'static str,
        limit: &'static str,
        setting: &'static str,
        per_second: u32,
        burst: u32,
    ) -> Option<Self> {
        let limiter = RateLimiter::keyed(quota(per_second, burst)?);
        Some(Self { limiter, clock: DefaultClock::default(), what, limit, setting })
    }

    pub(super) fn take(&self, key: &K, items: usize) -> Result<(), Status> {
        let Some(cells) = u32::try_from(items).ok().and_then(NonZeroU32::new) else { return Ok(()) };
        if self.limiter.len() > MAX_KEYS {
            self.limiter.retain_recent();
        }
        match self.limiter.check_key_n(key, cells) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(wait)) => Err(status::limited(self.what, self.limit, wait.wait_time_from(self.clock.now()))),
            Err(_) => Err(too_large(self.setting)),
        }
    }
}
