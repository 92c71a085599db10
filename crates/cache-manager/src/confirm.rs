//! Answers that replicas have, too: `redis.confirm_replicas`.
//!
//! `WAIT` says how many replicas have all that its own connection wrote, and holds that connection up until it knows. So
//! likes have connections of their own then ([`LANES`]), and everything that waits for one leaves together: the calls of the
//! script, a write of ours, one `WAIT` for all. That write is why the `WAIT` speaks of others' writes, too: replicas get the
//! writes of all connections in one order, and ours is after every one that these calls have read. So an "unchanged", or the
//! answer of a key, is as safe as the word that it relies on, whoever wrote that.

use crate::config::{RedisConfig, Unconfirmed};
use crate::connection::{Multiplexed, Server};
use crate::keys::Keys;
use crate::slots::redirect;
use deadpool_redis::redis::{Cmd, ErrorKind, RedisError, RedisResult, Value, from_redis_value, pipe};
use domain::ShardId;
use domain::cache::Replicas;
use planted_bugs::is_planted;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

/// While one waits for its replicas, the other one sends.
const LANES: usize = 2;

/// Most calls that leave together: Redis answers none of them before it has run all.
const GROUP: usize = 32;

/// Whoever has not taken its seat by then takes one in a later group: a task that is not run holds nobody up.
const BOARDING: Duration = Duration::from_millis(20);

/// What a write of ours leaves behind goes when nobody likes any more.
const TOUCH_TTL_SECS: u64 = 60;

/// See the head of the module.
pub(crate) struct Confirm {
    replicas: u32,
    timeout: Duration,
    unconfirmed: Unconfirmed,
    lanes: Vec<Multiplexed>,
    gate: Mutex<Gate>,
    keys: Keys,
    /// Fewer replicas follow than are asked for, as far as is known.
    missing: AtomicBool,
    unanswered: AtomicU64,
}

struct Gate {
    free: Vec<usize>,
    waiting: Vec<oneshot::Sender<RedisResult<Seat>>>,
}

/// A place in the group that leaves next: it leaves when every seat was used or given up.
pub(crate) struct Seat {
    /// Whom the call will be sent to.
    pub(crate) server: Arc<Server>,
    group: mpsc::Sender<Call>,
}

struct Call {
    shard: ShardId,
    command: Cmd,
    /// It was sent here for this once.
    asking: bool,
    until: Instant,
    answer: oneshot::Sender<RedisResult<Told>>,
}

/// What the script answered, and whether enough replicas have what it says.
pub(crate) struct Told {
    pub(crate) reply: RedisResult<Vec<i64>>,
    pub(crate) confirmed: bool,
}

impl Confirm {
    /// Nothing where nobody is asked to confirm.
    pub(crate) fn new(config: &RedisConfig, keys: &Keys, connection: impl Fn() -> Multiplexed) -> Option<Arc<Self>> {
        if config.confirm_replicas == 0 {
            return None;
        }
        Some(Arc::new(Self {
            replicas: config.confirm_replicas,
            timeout: config.confirm_timeout,
            unconfirmed: config.unconfirmed,
            lanes: (0..LANES).map(|_| connection()).collect(),
            gate: Mutex::new(Gate { free: (0..LANES).collect(), waiting: Vec::new() }),
            keys: keys.clone(),
            missing: AtomicBool::new(false),
            unanswered: AtomicU64::new(0),
        }))
    }

    /// How many replicas are asked.
    pub(crate) const fn replicas(&self) -> u32 {
        self.replicas
    }

    /// So many follow now.
    pub(crate) fn saw_replicas(&self, attached: u32) {
        self.missing.store(attached < self.replicas, Ordering::Relaxed);
    }

    /// Whether the answer would be "unconfirmed" whatever the cache says: then nothing is written.
    pub(crate) fn refuses(&self) -> bool {
        self.unconfirmed == Unconfirmed::Refuse && self.missing.load(Ordering::Relaxed)
    }

    /// So many answers were not confirmed in time; whether they may be given all the same.
    pub(crate) fn not_confirmed(&self, answers: usize) -> bool {
        self.unanswered.fetch_add(answers as u64, Ordering::Relaxed);
        self.unconfirmed == Unconfirmed::Answer
    }

    /// What can be said of it.
    pub(crate) fn standing(&self, attached: u32) -> Replicas {
        let refused = self.unconfirmed == Unconfirmed::Refuse;
        Replicas { wanted: self.replicas, attached, unconfirmed: self.unanswered.load(Ordering::Relaxed), refused }
    }

    /// A seat in the group that leaves next.
    pub(crate) async fn seat(self: &Arc<Self>) -> RedisResult<Seat> {
        let (place, given) = oneshot::channel();
        let lane = {
            let mut gate = self.gate();
            gate.waiting.push(place);
            gate.free.pop()
        };
        if let Some(lane) = lane {
            tokio::spawn(Lane { confirm: Arc::clone(self), lane }.serve());
        }
        given.await.unwrap_or_else(|_| Err(interrupted()))
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a group. An answer of the whole that says nothing of its calls is everybody's.
    async fn send(&self, way: &Multiplexed, server: &Arc<Server>, calls: &mut [Call]) -> RedisResult<Vec<Told>> {
        let mut commands = pipe();
        commands.ignore_errors();
        for call in &mut *calls {
            if call.asking {
                commands.cmd("ASKING").ignore();
            }
            commands.add_command(std::mem::replace(&mut call.command, Cmd::new()));
        }
        // Nobody is there to wait for, or a test wants to see what becomes of it.
        let hopeless = self.missing.load(Ordering::Relaxed);
        let waits = !hopeless && !is_planted("answer_before_wait");
        if waits {
            // Beside a shard that is here.
            let touched = calls.first().map(|call| self.keys.touched(call.shard)).unwrap_or_default();
            commands.cmd("SET").arg(touched).arg(1).arg("EX").arg(TOUCH_TTL_SECS);
            commands.cmd("WAIT").arg(self.replicas).arg(self.patience(calls).as_millis().to_string());
        }
        let began = Instant::now();
        let mut replies: Vec<RedisResult<Value>> = way.ask_all(server, &commands).await?;
        let mut confirmed = !hopeless;
        if waits {
            let acknowledged = way.look_at(server, replies.pop().unwrap_or_else(|| Err(interrupted())))?;
            let touched = way.look_at(server, replies.pop().unwrap_or_else(|| Err(interrupted())));
            // The shard is on its way to another node: what was asked has run here all the same, as far as its answers say so.
            let touched = match touched {
                Err(error) if redirect(&error).is_none() => return Err(error),
                touched => touched.is_ok(),
            };
            confirmed = touched && from_redis_value::<u32>(acknowledged)? >= self.replicas;
            metrics::histogram!("interaction_cache_confirm_seconds").record(began.elapsed().as_secs_f64());
        }
        let told = |reply| {
            let reply = way.look_at(server, reply);
            Told { reply: reply.and_then(|numbers| Ok(from_redis_value(numbers)?)), confirmed }
        };
        Ok(replies.into_iter().map(told).collect())
    }

    /// As long as anybody of the group waits, within the bound. Whoever's time is over earlier has gone by itself. Never 0,
    /// which means for ever.
    fn patience(&self, calls: &[Call]) -> Duration {
        let until = calls.iter().map(|call| call.until).max();
        let left = until.map_or(self.timeout, |until| until.saturating_duration_since(Instant::now()));
        left.min(self.timeout).max(Duration::from_millis(1))
    }
}

impl Seat {
    /// Sends the call with its group, for a caller that waits until then; nothing if the group has left, and nothing was sent.
    pub(crate) async fn ask(
        self,
        shard: ShardId,
        command: Cmd,
        asking: bool,
        until: Instant,
    ) -> RedisResult<Option<Told>> {
        let (answer, told) = oneshot::channel();
        let Self { group, .. } = self;
        if group.try_send(Call { shard, command, asking, until, answer }).is_err() {
            return Ok(None);
        }
        // It leaves when the last seat is gone.
        drop(group);
        told.await.unwrap_or_else(|_| Err(interrupted())).map(Some)
    }
}

/// One connection, while it is in use; free again when this is dropped.
struct Lane {
    confirm: Arc<Confirm>,
    lane: usize,
}

impl Lane {
    /// Group after group, until nobody waits.
    async fn serve(self) {
        let way = &self.confirm.lanes[self.lane];
        loop {
            // This may have to connect; who comes meanwhile has a seat, too.
            let server = way.server().await;
            let waiting = {
                let mut gate = self.confirm.gate();
                let count = gate.waiting.len().min(GROUP);
                if count == 0 {
                    // Under the lock of the look: who comes next begins anew.
                    return self.leave(gate);
                }
                gate.waiting.drain(..count).collect::<Vec<_>>()
            };
            let server = match server {
                Ok(server) => server,
                Err(error) => {
                    waiting.into_iter().for_each(|place| drop(place.send(Err(error.clone()))));
                    continue;
                }
            };
            let (group, mut seats) = mpsc::channel(waiting.len());
            for place in waiting {
                // A caller that has gone needs none.
                let _ = place.send(Ok(Seat { server: Arc::clone(&server), group: group.clone() }));
            }
            drop(group);
            let mut calls = Vec::new();
            let left = Instant::now() + BOARDING;
            while let Ok(Some(call)) = timeout_at(left, seats.recv()).await {
                calls.push(call);
            }
            seats.close();
            while let Ok(call) = seats.try_recv() {
                calls.push(call);
            }
            if calls.is_empty() {
                continue;
            }
            match self.confirm.send(way, &server, &mut calls).await {
                Ok(told) => calls.into_iter().zip(told).for_each(|(call, told)| drop(call.answer.send(Ok(told)))),
                Err(error) => calls.into_iter().for_each(|call| drop(call.answer.send(Err(error.clone())))),
            }
        }
    }

    fn leave(&self, mut gate: MutexGuard<'_, Gate>) {
        if !gate.free.contains(&self.lane) {
            gate.free.push(self.lane);
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.leave(self.confirm.gate());
        }
    }
}

fn interrupted() -> RedisError {
    RedisError::from((ErrorKind::Client, "the call was interrupted"))
}
