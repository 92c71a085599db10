//! People: devices that speak, give up, go away, come back with a key or at another server, and read in between.

use super::chance::{Chance, Clock};
use super::world::Server;
use domain::{Action, LikeIntent, Pair};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use sync_engine::accept::{CALL_LIMIT, Call, LikeError, LikeResult};
use test_support::build::video_pair;
use tokio::time::{Instant, sleep, timeout};
use traffic::history::{Answer, History, Kind, Outcome, Record};
use uuid::Uuid;

/// No caller waits for longer.
const LONGEST: Duration = Duration::from_secs(8);

/// A call of the first device that is dropped at its n-th poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Victim {
    pub(super) call: u64,
    pub(super) poll: u32,
}

/// What everybody writes to.
pub(super) struct Recorder {
    pub(super) clock: Arc<Clock>,
    seed: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    history: History,
    calls: u64,
    wishes: u64,
    victim_was_dropped: bool,
}

impl Recorder {
    pub(super) fn new(clock: Arc<Clock>, seed: u64) -> Self {
        Self { clock, seed, state: Mutex::default() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_call(&self) -> u64 {
        let mut state = self.state();
        state.calls += 1;
        state.calls
    }

    fn next_wish(&self) -> u64 {
        let mut state = self.state();
        state.wishes += 1;
        state.wishes
    }

    /// A server gives each event an id of its own, a repetition's too.
    fn id(&self, call: u64, item: u32) -> Uuid {
        Uuid::from_u64_pair(self.seed, (call << 16) | u64::from(item))
    }

    /// The history, and whether the victim's call lasted until it was dropped.
    pub(super) fn into_history(self) -> (History, bool) {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        (state.history, state.victim_was_dropped)
    }
}

/// One wish.
#[derive(Debug, Clone)]
struct Word {
    logical: u64,
    pair: Pair,
    action: Action,
    key: Option<String>,
}

/// One device of one user.
pub(super) struct Device {
    pub(super) number: u32,
    pub(super) user: i64,
    pub(super) servers: Vec<Arc<Server>>,
    pub(super) recorder: Arc<Recorder>,
    pub(super) chance: Chance,
    pub(super) victim: Option<Victim>,
}

impl Device {
    pub(super) async fn live(self, calls: u64) {
        let mut server = self.chance.below(self.servers.len() as u64) as usize;
        let mut used: Vec<Word> = Vec::new();
        let mut again: Option<Vec<Word>> = None;
        sleep(self.chance.log_millis(8)).await;
        for call in 1..=calls {
            if self.chance.percent(30) {
                server = self.chance.below(self.servers.len() as u64) as usize;
            }
            let words = match again.take() {
                Some(words) => words,
                None => self.words(&mut used),
            };
            let dropped = self.victim.filter(|victim| victim.call == call).map(|victim| victim.poll);
            let answered = self.speak(server, words.clone(), dropped).await;
            if !answered && self.chance.percent(35) {
                again = Some(words);
            }
            if self.chance.percent(25) {
                self.read_state(server).await;
            }
            if self.chance.percent(15) {
                self.read_count(server).await;
            }
            if self.chance.percent(50) {
                sleep(self.chance.log_millis(10)).await;
            }
        }
    }

    fn pair(&self) -> Pair {
        video_pair(self.user, if self.chance.percent(75) { 1 } else { 2 })
    }

    fn words(&self, used: &mut Vec<Word>) -> Vec<Word> {
        let items = if self.chance.percent(60) { 1 } else { 2 + self.chance.below(3) };
        (0..items)
            .map(|_| {
                let logical = self.recorder.next_wish();
                let before = (!used.is_empty()).then(|| used[self.chance.below(used.len() as u64) as usize].clone());
                let word = match (self.chance.below(100), before) {
                    (0..15, Some(before)) => Word { logical, ..before },
                    (15..25, Some(before)) => {
                        Word { logical, action: Action::from_liked(!before.action.liked()), ..before }
                    }
                    (die, _) => Word {
                        logical,
                        pair: self.pair(),
                        action: Action::from_liked(self.chance.percent(50)),
                        key: (die < 60).then(|| format!("k{logical}")),
                    },
                };
                if word.key.is_some() {
                    used.push(word.clone());
                }
                word
            })
            .collect()
    }

    /// Whether all of it was decided.
    async fn speak(&self, server: usize, words: Vec<Word>, dropped: Option<u32>) -> bool {
        let call = self.recorder.next_call();
        let patience = self.chance.percent(30).then(|| self.chance.log_millis(12));
        let dropped = dropped.or_else(|| self.chance.percent(8).then(|| 1 + self.chance.below(12) as u32));
        let intents: Vec<LikeIntent> = (0..)
            .zip(&words)
            .map(|(item, word)| LikeIntent {
                id: self.recorder.id(call, item),
                pair: word.pair,
                action: word.action,
                idempotency_key: word.key.clone(),
                trace: None,
            })
            .collect();
        let begin = self.recorder.clock.stamp();
        let arrived = Call::arrived(Instant::now().into_std(), patience);
        let asked = self.servers[server].acceptor.accept(intents, arrived);
        let asked = DropAt { future: Some(asked), polls_left: dropped };
        let answer = timeout(patience.unwrap_or(LONGEST), asked).await;
        let end = self.recorder.clock.stamp();
        let outcomes: Vec<Outcome> = match answer {
            Err(_) => vec![Outcome::Abandoned; words.len()],
            Ok(None) => {
                let is_victim = self.victim.is_some_and(|victim| Some(victim.poll) == dropped);
                self.recorder.state().victim_was_dropped |= is_victim;
                vec![Outcome::Cancelled; words.len()]
            }
            Ok(Some(results)) => results.into_iter().map(outcome).collect(),
        };
        let decided = outcomes.iter().all(|outcome| matches!(outcome, Outcome::Answered(_) | Outcome::Refused));
        let limit = patience.map_or(CALL_LIMIT, |patience| patience.min(CALL_LIMIT)).as_micros() as u64;
        for (item, (word, outcome)) in (0..).zip(words.into_iter().zip(outcomes)) {
            self.record(Record {
                call,
                item,
                logical: word.logical,
                device: self.number,
                server: server as u32,
                kind: Kind::Word(word.action),
                user: Some(word.pair.user),
                resource: word.pair.resource,
                key: word.key.map(Into::into),
                begin,
                end,
                limit,
                outcome,
            });
        }
        decided
    }

    async fn read_state(&self, server: usize) {
        let pair = self.pair();
        let begin = self.recorder.clock.stamp();
        let read = self.servers[server].reader.states(&[pair]).await;
        let outcome = read.map_or(Outcome::Unknown, |read| {
            let state = read.values[0];
            let answer =
                Answer { liked: state.liked, version: state.version, degraded: read.degraded, ..Answer::default() };
            Outcome::Answered(answer)
        });
        self.record_read(server, Kind::State, pair, begin, outcome);
    }

    async fn read_count(&self, server: usize) {
        let pair = self.pair();
        let begin = self.recorder.clock.stamp();
        let read = self.servers[server].reader.counts(&[pair.resource]).await;
        let outcome = read.map_or(Outcome::Unknown, |read| {
            Outcome::Answered(Answer { count: Some(read.values[0]), degraded: read.degraded, ..Answer::default() })
        });
        self.record_read(server, Kind::Count, pair, begin, outcome);
    }

    fn record_read(&self, server: usize, kind: Kind, pair: Pair, begin: u64, outcome: Outcome) {
        self.record(Record {
            call: self.recorder.next_call(),
            item: 0,
            logical: self.recorder.next_wish(),
            device: self.number,
            server: server as u32,
            kind,
            user: (kind == Kind::State).then_some(pair.user),
            resource: pair.resource,
            key: None,
            begin,
            end: self.recorder.clock.stamp(),
            limit: 0,
            outcome,
        });
    }

    fn record(&self, record: Record) {
        self.recorder.state().history.push(record);
    }
}

fn outcome(result: LikeResult) -> Outcome {
    match result {
        Ok(answer) => Outcome::Answered(Answer {
            liked: answer.liked,
            version: answer.version,
            changed: answer.changed,
            degraded: answer.degraded,
            count: answer.count,
        }),
        // These say that nothing was done, and nothing will be.
        Err(LikeError::Expired | LikeError::KeyReused | LikeError::Deleted | LikeError::RateLimited { .. }) => {
            Outcome::Refused
        }
        Err(LikeError::Overloaded { .. } | LikeError::Unavailable { .. } | LikeError::Refused(_)) => Outcome::Unknown,
    }
}

/// A call that is dropped instead of polled for the n-th time.
struct DropAt<F> {
    future: Option<F>,
    polls_left: Option<u32>,
}

impl<F: Future + Unpin> Future for DropAt<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(polls) = &mut self.polls_left {
            *polls = polls.saturating_sub(1);
            if *polls == 0 {
                self.future = None;
            }
        }
        match &mut self.future {
            Some(future) => Pin::new(future).poll(context).map(Some),
            None => Poll::Ready(None),
        }
    }
}
