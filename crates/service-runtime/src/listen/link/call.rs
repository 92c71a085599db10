//! A call of a connection, and how far it is.

use super::Link;
use crate::listen::access::Caller;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// A call from its head to the end of its answer.
#[derive(Debug)]
pub struct Call {
    pub(super) stage: Stage,
    pub(super) open: bool,
    pub(super) open_calls: usize,
}

impl Call {
    /// Open calls of the connection when this one began, itself included; 0 if it is none.
    pub const fn open_calls(&self) -> usize {
        self.open_calls
    }

    /// For those who learn how far it is.
    pub fn stage(&self) -> Stage {
        self.stage.clone()
    }

    pub(crate) const fn link(&self) -> &Link {
        &self.stage.link
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let state = &self.stage.link.0;
        // Before it counts as idle, so that it does not seem to have been so for long.
        if self.stage.reached.load(Ordering::Acquire) == Stage::OWN {
            state.last_call.store(self.stage.link.now(), Ordering::Relaxed);
        }
        if self.open {
            state.open_calls.fetch_sub(1, Ordering::Relaxed);
        }
        self.stage.ended();
        state.calls.fetch_sub(1, Ordering::Release);
    }
}

/// How far a call is: an extension of its request. It keeps the place of its connection while it is whole and its caller is
/// known, until it ends. Clones are of the same call.
#[derive(Debug, Clone)]
pub struct Stage {
    pub(super) link: Link,
    pub(super) reached: Arc<AtomicU8>,
}

impl Stage {
    const WHOLE: u8 = 1;
    const LET_IN: u8 = 2;
    const ENDED: u8 = 4;
    const OWN: u8 = Self::WHOLE | Self::LET_IN;

    /// Its request is complete.
    pub(in crate::listen) fn whole(&self) {
        self.reach(Self::WHOLE);
    }

    /// This caller was let in: the connection is no longer one of strangers, and it is one of the caller's.
    ///
    /// # Errors
    /// The bound of the caller's connections, by its key: this one has no place.
    pub fn let_in(&self, caller: &Caller) -> Result<(), &'static str> {
        let state = &self.link.0;
        // The first call says whose it is.
        if !state.known.is() {
            if let Some((token, places)) = caller.owner().zip(state.places.upgrade()) {
                places.claim(state.number, token)?;
            }
            state.known.happens();
        }
        self.reach(Self::LET_IN);
        Ok(())
    }

    fn reach(&self, stage: u8) {
        let own_calls = &self.link.0.own_calls;
        // First, so that whoever ends the call meanwhile takes back no more than is there.
        own_calls.fetch_add(1, Ordering::Release);
        let before = self.reached.fetch_or(stage, Ordering::AcqRel);
        if before == Self::OWN || before | stage != Self::OWN {
            own_calls.fetch_sub(1, Ordering::Release);
        }
    }

    fn ended(&self) {
        if self.reached.fetch_or(Self::ENDED, Ordering::AcqRel) == Self::OWN {
            self.link.0.own_calls.fetch_sub(1, Ordering::Release);
        }
    }
}
