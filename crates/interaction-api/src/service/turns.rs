//! Turns of calls that read much: few at a time, and callers in turn.
//!
//! Without a bound, some hundred such calls at once take the processor, the cache and the database's connections from the
//! likes beside them. So only a few are under way, the others wait, and whoever waits with many calls gets as many turns
//! as somebody who waits with one. Where no more may wait, the newest call of the caller with most of them gives way.

use crate::service::caller::CallerKey;
use crate::status::{self, Reason};
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::Status;

/// How many calls at once, and how many wait. Clones share them.
#[derive(Clone)]
pub(crate) struct Turns(Arc<Shared>);

struct Shared {
    /// Label of the metrics.
    kind: &'static str,
    at_once: usize,
    most_waiting: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: usize,
    waiting: usize,
    last_ticket: u64,
    /// Callers that wait, the next one first.
    order: VecDeque<CallerKey>,
    /// Of each of these the calls that wait, the oldest first; never empty.
    queues: HashMap<CallerKey, VecDeque<Waiter>>,
}

struct Waiter {
    ticket: u64,
    turn: oneshot::Sender<Turn>,
}

impl State {
    /// The call whose turn it is, and its caller goes to the end.
    fn next(&mut self) -> Option<Waiter> {
        let caller = self.order.pop_front()?;
        let queue = self.queues.get_mut(&caller)?;
        let waiter = queue.pop_front()?;
        self.waiting -= 1;
        if queue.is_empty() {
            self.queues.remove(&caller);
        } else {
            self.order.push_back(caller);
        }
        Some(waiter)
    }

    fn push(&mut self, caller: &CallerKey, turn: oneshot::Sender<Turn>) -> u64 {
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        let queue = self.queues.entry(caller.clone()).or_default();
        if queue.is_empty() {
            self.order.push_back(caller.clone());
        }
        queue.push_back(Waiter { ticket, turn });
        self.waiting += 1;
        ticket
    }

    fn remove(&mut self, caller: &CallerKey, ticket: u64) {
        let Some(queue) = self.queues.get_mut(caller) else { return };
        let before = queue.len();
        queue.retain(|waiter| waiter.ticket != ticket);
        self.waiting -= before - queue.len();
        if queue.is_empty() {
            self.queues.remove(caller);
            self.order.retain(|other| other != caller);
        }
    }

    /// Makes room for a call of this caller, unless nobody waits with more calls than this one does.
    fn make_room(&mut self, caller: &CallerKey) -> bool {
        let own = self.queues.get(caller).map_or(0, VecDeque::len);
        let longest = self.queues.iter().max_by_key(|(_, queue)| queue.len());
        let Some((other, ticket)) = longest
            .filter(|(_, queue)| queue.len() > own + 1)
            .and_then(|(other, queue)| Some((other.clone(), queue.back()?.ticket)))
        else {
            return false;
        };
        self.remove(&other, ticket);
        true
    }
}

impl Turns {
    /// `kind` is their label in the metrics.
    pub(crate) fn new(kind: &'static str, at_once: usize, most_waiting: usize) -> Self {
        describe_counter!(
            "interaction_bulk_reads_refused_total",
            "Calls that read much, refused because too many waited"
        );
        describe_gauge!("interaction_bulk_reads_waiting", "Calls that read much and wait for their turn");
        describe_histogram!(
            "interaction_bulk_read_wait_seconds",
            "How long calls that read much waited for their turn"
        );
        counter!("interaction_bulk_reads_refused_total", "kind" => kind).increment(0);
        gauge!("interaction_bulk_reads_waiting", "kind" => kind).set(0.0);
        let _registered = histogram!("interaction_bulk_read_wait_seconds", "kind" => kind);
        Self(Arc::new(Shared { kind, at_once: at_once.max(1), most_waiting, state: Mutex::default() }))
    }

    /// Waits for a turn, which lasts until it is dropped; refused where too many wait already.
    pub(crate) async fn take(&self, caller: &CallerKey) -> Result<Turn, Status> {
        let began = Instant::now();
        let (ticket, turn) = {
            let mut state = self.state();
            if state.running < self.0.at_once {
                // As long as there is room nobody waits.
                state.running += 1;
                histogram!("interaction_bulk_read_wait_seconds", "kind" => self.0.kind).record(0.0);
                return Ok(Turn(Some(self.clone())));
            }
            if state.waiting >= self.0.most_waiting && !state.make_room(caller) {
                return Err(self.refuse());
            }
            let (sender, receiver) = oneshot::channel();
            (state.push(caller, sender), receiver)
        };
        self.show();
        let _place = Place { turns: self, caller, ticket };
        let turn = turn.await;
        histogram!("interaction_bulk_read_wait_seconds", "kind" => self.0.kind).record(began.elapsed().as_secs_f64());
        turn.map_err(|_| self.refuse())
    }

    fn refuse(&self) -> Status {
        counter!("interaction_bulk_reads_refused_total", "kind" => self.0.kind).increment(1);
        status::refuse_for_now(Reason::ReadsWaiting, "too many large reads wait for their turn".to_owned())
    }

    /// A turn is over: the next one's begins.
    fn pass_on(&self) {
        loop {
            let next = {
                let mut state = self.state();
                let next = state.next();
                if next.is_none() {
                    state.running -= 1;
                }
                next
            };
            let Some(waiter) = next else { break };
            match waiter.turn.send(Turn(Some(self.clone()))) {
                Ok(()) => break,
                // Its caller has gone; this turn is given to another.
                Err(mut unwanted) => drop(unwanted.0.take()),
            }
        }
        self.show();
    }

    fn show(&self) {
        let waiting = self.state().waiting;
        gauge!("interaction_bulk_reads_waiting", "kind" => self.0.kind).set(waiting as f64);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One call may read; the next one may when this is dropped.
pub(crate) struct Turn(Option<Turns>);

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.0.take() {
            turns.pass_on();
        }
    }
}

/// A caller that goes while it waits leaves no place behind.
struct Place<'a> {
    turns: &'a Turns,
    caller: &'a CallerKey,
    ticket: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.turns.state().remove(self.caller, self.ticket);
        self.turns.show();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::pin::Pin;

    fn caller(name: &str) -> CallerKey {
        CallerKey::Token(name.into())
    }

    type Waiting<'a> = Pin<Box<dyn Future<Output = Result<Turn, Status>> + 'a>>;

    /// A call that waits.
    fn wait<'a>(turns: &'a Turns, caller: &'a CallerKey) -> Waiting<'a> {
        let mut waiting: Waiting<'a> = Box::pin(turns.take(caller));
        assert!(waiting.as_mut().now_or_never().is_none(), "it did not wait");
        waiting
    }

    fn ready(waiting: &mut Waiting<'_>) -> Option<Turn> {
        waiting.as_mut().now_or_never().map(|turn| turn.unwrap())
    }

    /// Calls that run, calls that wait, and callers that are remembered.
    fn left(turns: &Turns) -> (usize, usize, usize) {
        let state = turns.state();
        (state.running, state.waiting, state.queues.len() + state.order.len())
    }

    #[tokio::test]
    async fn callers_come_in_turn_however_many_calls_each_has() {
        let (turns, greedy, modest) = (Turns::new("test", 1, 10), caller("greedy"), caller("modest"));
        let first = turns.take(&greedy).await.unwrap();
        let mut many: Vec<_> = (0..5).map(|_| wait(&turns, &greedy)).collect();
        let mut one = wait(&turns, &modest);
        drop(first);
        let turn = ready(&mut many[0]).expect("the oldest one");
        assert!(ready(&mut one).is_none(), "two at once");
        drop(turn);
        assert!(ready(&mut many[1]).is_none(), "a second turn of the same caller before the other one's first");
        drop(ready(&mut one).expect("the other caller's turn"));
        for waiting in &mut many[1..] {
            drop(ready(waiting).expect("the rest in their order"));
        }
        assert_eq!(left(&turns), (0, 0, 0));
    }

    #[tokio::test]
    async fn who_goes_leaves_nothing_behind() {
        let (turns, one) = (Turns::new("test", 1, 10), caller("one"));
        let first = turns.take(&one).await.unwrap();
        drop(wait(&turns, &one));
        assert_eq!(left(&turns), (1, 0, 0));
        let (given, mut other) = (wait(&turns, &one), wait(&turns, &one));
        drop(first);
        // It got its turn and its caller has gone before it knew.
        drop(given);
        drop(ready(&mut other).expect("the turn went on"));
        assert_eq!(left(&turns), (0, 0, 0));
    }

    #[tokio::test]
    async fn where_no_more_may_wait_the_greediest_gives_way() {
        let (turns, greedy, modest) = (Turns::new("test", 1, 3), caller("greedy"), caller("modest"));
        let first = turns.take(&greedy).await.unwrap();
        let mut many: Vec<_> = (0..3).map(|_| wait(&turns, &greedy)).collect();
        assert_eq!(turns.take(&greedy).await.err().map(|status| status.code()), Some(tonic::Code::ResourceExhausted));
        let mut one = wait(&turns, &modest);
        let newest = many.pop().unwrap().now_or_never().expect("it waits on");
        assert_eq!(newest.err().map(|status| status.code()), Some(tonic::Code::ResourceExhausted));
        drop(first);
        drop(ready(&mut many[0]).expect("the greedy one's oldest"));
        drop(ready(&mut one).expect("the modest one's"));
    }
}
