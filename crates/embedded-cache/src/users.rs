//! Limits per user: evenly spaced tokens with a burst (GCRA). One number per user: when the tokens taken so far are paid
//! back.

use crate::generations::{Forgettable, Generations};
use domain::UserId;
use domain::cache::UserLimit;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Microseconds of the monotonic clock.
#[derive(Debug, Clone, Copy)]
struct PaidBackAt(u64);

impl Forgettable for PaidBackAt {}

#[derive(Debug)]
pub(crate) struct Users(Mutex<Generations<UserId, PaidBackAt>>);

/// A token that is there, to be taken once the like is sure to be answered. Others of all users wait meanwhile.
pub(crate) struct Token<'a> {
    users: MutexGuard<'a, Generations<UserId, PaidBackAt>>,
    user: UserId,
    paid_back_at: PaidBackAt,
}

impl Users {
    pub(crate) fn new(capacity: usize) -> Self {
        Self(Mutex::new(Generations::new(capacity)))
    }

    /// A token, or how long until there is one.
    pub(crate) fn token(&self, user: UserId, limit: UserLimit, now_us: u64) -> Result<Token<'_>, Duration> {
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let period = u64::try_from(limit.period.as_micros()).unwrap_or(u64::MAX / 4);
        let interval = period / u64::from(limit.actions.max(1));
        let before = users.get(&user).map_or(now_us, |paid| paid.0.max(now_us));
        let paid_back_at = before + interval;
        match paid_back_at.checked_sub(now_us + period) {
            Some(over) if over > 0 => Err(Duration::from_millis(over.div_ceil(1_000))),
            _ => Ok(Token { users, user, paid_back_at: PaidBackAt(paid_back_at) }),
        }
    }
}

impl Token<'_> {
    pub(crate) fn take(mut self) {
        self.users.insert(self.user, self.paid_back_at);
    }
}
