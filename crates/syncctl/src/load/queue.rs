//! Hands operations to workers so that those of one pair never overlap and keep their order.
//!
//! A pair is busy from the moment its operation is taken until it is released. Operations of busy pairs wait aside,
//! while later ones of other pairs go ahead: one pair that is being retried holds nobody else up. What waits is bounded
//! (`MAX_WAITING`); beyond it nothing more is read from the source.

use crate::Operation;
use crate::hash::{IdMap, IdSet};
use domain::{Action, Pair};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Most operations waiting for their pair.
pub(super) const MAX_WAITING: usize = 65_536;

/// Where operations come from.
pub type Source = Box<dyn Iterator<Item = Operation> + Send>;

/// Shared by all workers.
pub struct PairQueue {
    state: Mutex<State>,
    /// Told when there may be something to take again.
    freed: Notify,
}

struct State {
    source: Source,
    /// Operations still to be read from the source.
    left: u64,
    busy: IdSet<Pair>,
    /// Per busy pair, what comes after.
    waiting: IdMap<Pair, VecDeque<Action>>,
    waiting_len: usize,
    /// Their pair is theirs already.
    ready: VecDeque<Operation>,
    max_waiting: usize,
    stopped: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Taken {
    Some,
    Wait,
    End,
}

impl PairQueue {
    /// At most `limit` operations of `source`.
    pub fn new(source: Source, limit: u64) -> Self {
        let state = State {
            source,
            left: limit,
            busy: IdSet::default(),
            waiting: IdMap::default(),
            waiting_len: 0,
            ready: VecDeque::new(),
            max_waiting: MAX_WAITING,
            stopped: false,
        };
        Self { state: Mutex::new(state), freed: Notify::new() }
    }

    /// Adds 1 to `most` operations of different pairs to `into`; false if there will never be any more for the caller.
    pub async fn take(&self, most: usize, into: &mut Vec<Operation>) -> bool {
        loop {
            let freed = self.freed.notified();
            match self.try_take(most, into) {
                Taken::Some => return true,
                Taken::End => return false,
                Taken::Wait => freed.await,
            }
        }
    }

    fn try_take(&self, most: usize, into: &mut Vec<Operation>) -> Taken {
        let mut state = self.lock();
        if state.stopped {
            return Taken::End;
        }
        let before = into.len();
        while into.len() - before < most {
            if let Some(operation) = state.ready.pop_front() {
                into.push(operation);
            } else if let Some(operation) = state.next() {
                into.push(operation);
            } else if into.len() > before {
                return Taken::Some;
            } else if state.is_full() {
                return Taken::Wait;
            } else {
                // What waits will be taken by the worker that releases its pair.
                return Taken::End;
            }
        }
        Taken::Some
    }

    /// Frees a pair: its operation is acknowledged, or given up.
    pub fn release(&self, pair: Pair) {
        let mut state = self.lock();
        let was_full = state.is_full();
        let Some(waiting) = state.waiting.get_mut(&pair) else {
            state.busy.remove(&pair);
            return;
        };
        let next = waiting.pop_front();
        if waiting.is_empty() {
            state.waiting.remove(&pair);
        }
        if let Some(action) = next {
            state.waiting_len -= 1;
            state.ready.push_back(Operation { pair, action });
        } else {
            state.busy.remove(&pair);
        }
        drop(state);
        if was_full {
            self.freed.notify_waiters();
        }
    }

    /// Ends the run: nothing more is handed out.
    pub fn stop(&self) {
        self.lock().stopped = true;
        self.freed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_full(&self) -> bool {
        self.waiting_len >= self.max_waiting
    }

    /// Next operation of a pair that is not busy; none when the source is at its end or too many wait.
    fn next(&mut self) -> Option<Operation> {
        while self.left > 0 && !self.is_full() {
            let operation = self.source.next()?;
            self.left -= 1;
            if self.busy.insert(operation.pair) {
                return Some(operation);
            }
            self.waiting.entry(operation.pair).or_default().push_back(operation.action);
            self.waiting_len += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::ResourceType;

    fn operation(user: i64, action: Action) -> Operation {
        Operation { pair: Pair::new(user, ResourceType::Video, 1).unwrap(), action }
    }

    fn queue(operations: Vec<Operation>, max_waiting: usize) -> PairQueue {
        let limit = operations.len() as u64;
        let queue = PairQueue::new(Box::new(operations.into_iter()), limit);
        queue.lock().max_waiting = max_waiting;
        queue
    }

    fn take(queue: &PairQueue, most: usize) -> (Taken, Vec<Operation>) {
        let mut into = Vec::new();
        let taken = queue.try_take(most, &mut into);
        (taken, into)
    }

    #[test]
    fn a_busy_pair_waits_and_keeps_its_order() {
        use Action::{Like, Unlike};
        let all = vec![operation(1, Like), operation(1, Unlike), operation(1, Like), operation(2, Like)];
        let queue = queue(all.clone(), 10);
        assert_eq!(take(&queue, 9), (Taken::Some, vec![all[0], all[3]]));
        assert_eq!(take(&queue, 9), (Taken::End, vec![]));
        queue.release(all[0].pair);
        assert_eq!(take(&queue, 9), (Taken::Some, vec![all[1]]));
        assert_eq!(take(&queue, 9), (Taken::End, vec![]));
        queue.release(all[0].pair);
        assert_eq!(take(&queue, 9), (Taken::Some, vec![all[2]]));
        queue.release(all[0].pair);
        assert_eq!(take(&queue, 9), (Taken::End, vec![]));
    }

    #[tokio::test]
    async fn what_waits_is_bounded_and_takers_are_woken() {
        let all = vec![operation(1, Action::Like), operation(1, Action::Unlike), operation(2, Action::Like)];
        let queue = queue(all.clone(), 1);
        assert_eq!(take(&queue, 1), (Taken::Some, vec![all[0]]));
        assert_eq!(take(&queue, 1), (Taken::Wait, vec![]));
        let mut into = Vec::new();
        let (more, ()) = tokio::join!(queue.take(1, &mut into), async { queue.release(all[0].pair) });
        assert!(more);
        assert_eq!(into, vec![all[1]]);
    }

    #[tokio::test]
    async fn stop_wakes_and_ends() {
        let all = vec![operation(1, Action::Like), operation(1, Action::Unlike), operation(2, Action::Like)];
        let queue = queue(all, 1);
        let mut into = Vec::new();
        assert!(queue.take(1, &mut into).await);
        let (more, ()) = tokio::join!(queue.take(1, &mut into), async { queue.stop() });
        assert!(!more);
    }
}
