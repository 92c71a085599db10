//! Heads of calls that strangers send, all of them together. To read one costs as much as it is long, also where the call is
//! refused; so beyond those of a few calls they are read at a rate, and what comes after them waits in its socket meanwhile.
//!
//! By HTTP/1 a stranger is answered once by connection.

use crate::listen::link::Link;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of each connection that are read at once: the heads of a few calls as callers send them.
const FREE: usize = 8 << 10;
/// Bytes a second of all connections of a listener together.
const RATE: u32 = 4 << 20;

/// Until when what was read beyond [`FREE`] is paid for.
#[derive(Debug)]
pub(super) struct Strangers(Mutex<Instant>);

impl Default for Strangers {
    fn default() -> Self {
        Self(Mutex::new(Instant::now()))
    }
}

impl Strangers {
    /// So many bytes more were read. Back comes how long the next ones must wait.
    fn pay(&self, bytes: usize) -> Duration {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let now = Instant::now();
        let mut paid = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *paid = (*paid).max(now) + Duration::from_secs(1) * bytes / RATE;
        *paid - now
    }
}

/// The heads that one connection sent before a caller of it was let in.
#[derive(Debug, Default)]
pub(super) struct Unknown {
    bytes: usize,
}

impl Unknown {
    /// So many bytes more were read. Back comes how long what follows must wait, and whether it is the first time.
    pub(super) fn reads(&mut self, bytes: usize, link: &Link, strangers: &Strangers) -> Option<(Duration, bool)> {
        if bytes == 0 || link.idle().is_none_or(|idle| idle.known) {
            return None;
        }
        let before = self.bytes;
        self.bytes = self.bytes.saturating_add(bytes);
        let beyond = self.bytes.saturating_sub(before.max(FREE));
        (beyond > 0).then(|| (strangers.pay(beyond), before <= FREE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::access::{Access, Role};
    use axum::http::HeaderMap;

    #[tokio::test(start_paused = true)]
    async fn strangers_share_a_rate_and_callers_do_not_wait() {
        let strangers = Strangers::default();
        let (mut first, mut second, link) = (Unknown::default(), Unknown::default(), Link::default());
        assert_eq!(first.reads(FREE, &link, &strangers), None, "a first call is not held up");
        let quarter = usize::try_from(RATE / 4).unwrap();
        assert_eq!(first.reads(quarter, &link, &strangers), Some((Duration::from_millis(250), true)));
        // Who came after it waits for it, and a newcomer does not.
        assert_eq!(second.reads(FREE + quarter, &link, &strangers), Some((Duration::from_millis(500), true)));
        assert_eq!(Unknown::default().reads(300, &link, &strangers), None);
        tokio::time::advance(Duration::from_millis(400)).await;
        assert_eq!(first.reads(quarter, &link, &strangers), Some((Duration::from_millis(350), false)));
        // Nothing is saved up.
        tokio::time::advance(Duration::from_secs(100)).await;
        assert_eq!(second.reads(quarter, &link, &strangers), Some((Duration::from_millis(250), false)));
        assert_eq!(second.reads(0, &link, &strangers), None);
        let anyone = Access::default().check(&HeaderMap::new(), Role::Read, false).unwrap();
        link.call(false).stage().let_in(&anyone).unwrap();
        assert_eq!(first.reads(quarter, &link, &strangers), None, "it is known");
    }
}
