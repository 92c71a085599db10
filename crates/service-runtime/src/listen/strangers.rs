//! Long heads of calls, those of all connections together. To read one costs as much as it is long, also where the call is
//! refused, and before any quota; so beyond those of a few calls strangers' heads are read at a rate, and of each head of a
//! caller what is beyond the length that callers need. What comes after them waits in its socket meanwhile.
//!
//! By HTTP/1 a stranger is answered once by connection.

use crate::listen::frames::{HeadBytes, LONG_HEAD};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of each stranger that are read at once: the heads of a few calls as callers send them.
const FREE: usize = LONG_HEAD;
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

/// The heads that one connection sent.
#[derive(Debug, Default)]
pub(super) struct Heads {
    /// Before a caller of it was let in.
    unknown: usize,
    has_waited: bool,
}

impl Heads {
    /// So many bytes more were read. Back comes how long what follows must wait, and whether it is the first time.
    pub(super) fn read(&mut self, bytes: HeadBytes, known: bool, strangers: &Strangers) -> Option<(Duration, bool)> {
        let beyond = if known {
            bytes.beyond
        } else {
            let before = self.unknown.max(FREE);
            self.unknown = self.unknown.saturating_add(bytes.all);
            self.unknown.saturating_sub(before)
        };
        (beyond > 0).then(|| (strangers.pay(beyond), !std::mem::replace(&mut self.has_waited, true)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn short(all: usize) -> HeadBytes {
        HeadBytes { all, beyond: 0 }
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_share_a_rate_and_callers_do_not_wait() {
        let strangers = Strangers::default();
        let (mut first, mut second) = (Heads::default(), Heads::default());
        assert_eq!(first.read(short(FREE), false, &strangers), None, "a first call is not held up");
        let quarter = usize::try_from(RATE / 4).unwrap();
        let wait = |millis, first| Some((Duration::from_millis(millis), first));
        assert_eq!(first.read(short(quarter), false, &strangers), wait(250, true));
        // Who came after it waits for it, and a newcomer does not.
        assert_eq!(second.read(short(FREE + quarter), false, &strangers), wait(500, true));
        assert_eq!(Heads::default().read(short(300), false, &strangers), None);
        tokio::time::advance(Duration::from_millis(400)).await;
        assert_eq!(first.read(short(quarter), false, &strangers), wait(350, false));
        // Nothing is saved up.
        tokio::time::advance(Duration::from_secs(100)).await;
        assert_eq!(second.read(short(quarter), false, &strangers), wait(250, false));
        assert_eq!(second.read(short(0), false, &strangers), None);
        assert_eq!(first.read(short(quarter), true, &strangers), None, "it is known");
        // Whoever it is, nobody needs heads that are as long.
        let long = HeadBytes { all: 2 * quarter, beyond: quarter };
        assert_eq!(Heads::default().read(long, true, &strangers), wait(500, true));
    }
}
