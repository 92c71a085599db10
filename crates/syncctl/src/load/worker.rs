//! One worker: takes operations, calls until they are answered or given up, writes down what became of them.

use super::recorder::Recorder;
use super::{Pacer, PairQueue};
use crate::Operation;
use crate::client::{Client, to_proto};
use crate::generate::Random;
use crate::oplog::{Entry, Outcome};
use domain::Version;
use interaction_proto::{code_name, v1};
use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

/// First and longest pause before a call is made again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(250));

/// What every worker shares.
pub(super) struct Shared {
    pub(super) queue: PairQueue,
    pub(super) recorder: Mutex<Recorder>,
    pub(super) pacer: Option<Arc<Pacer>>,
    /// Cancelled: no new operation, no retry.
    pub(super) stop: CancellationToken,
    pub(super) batch: usize,
    pub(super) timeout: Duration,
    pub(super) retry_for: Duration,
    /// Prefix of idempotency keys, if the operations have any.
    pub(super) key_prefix: Option<String>,
}

impl Shared {
    pub(super) fn recorder(&self) -> MutexGuard<'_, Recorder> {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An operation without an answer so far.
struct Open {
    operation: Operation,
    key: String,
    attempts: u32,
    /// Attempts that may have taken effect all the same.
    doubtful: u32,
}

/// What one call said about one operation.
enum Said {
    Acknowledged(v1::LikeResponse),
    /// Not done. `uncertain`: or perhaps it was.
    Error {
        code: Code,
        uncertain: bool,
    },
}

pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    /// Tried in turn when a call fails; the first is this worker's own.
    pub(super) clients: Vec<Client>,
    pub(super) random: Random,
    pub(super) number: usize,
}

impl Worker {
    /// Works until the queue ends, or the log cannot be written.
    pub(super) async fn run(mut self) -> io::Result<()> {
        let (mut taken, mut open) = (Vec::new(), Vec::new());
        let mut made = 0u64;
        loop {
            let intended = match &self.shared.pacer {
                Some(pacer) => match pacer.next().await {
                    Some(intended) => Some(intended),
                    None => return Ok(()),
                },
                None => None,
            };
            if !self.shared.queue.take(self.shared.batch, &mut taken).await {
                return Ok(());
            }
            let started = intended.unwrap_or_else(Instant::now);
            for operation in taken.drain(..) {
                made += 1;
                let key = self
                    .shared
                    .key_prefix
                    .as_ref()
                    .map_or_else(String::new, |prefix| format!("{prefix}-{}-{made}", self.number));
                open.push(Open { operation, key, attempts: 0, doubtful: 0 });
            }
            self.finish_all(&mut open, started).await?;
        }
    }

    async fn finish_all(&mut self, open: &mut Vec<Open>, started: Instant) -> io::Result<()> {
        let give_up_at = Instant::now() + self.shared.retry_for;
        let mut pause = BACKOFF.0;
        loop {
            let said = self.call(open).await;
            let now = Instant::now();
            let last_try = now + pause >= give_up_at || self.shared.stop.is_cancelled();
            self.write_down(open, said, now, last_try)?;
            if open.is_empty() {
                self.shared.recorder().latency(now - started.min(now));
                return Ok(());
            }
            let jittered = pause.mul_f64(0.5 + 0.5 * self.random.unit());
            pause = (pause * 2).min(BACKOFF.1);
            tokio::select! {
                () = tokio::time::sleep(jittered) => {}
                () = self.shared.stop.cancelled() => {}
            }
            // Another server may be better off.
            self.clients.rotate_left(1);
        }
    }

    /// Writes down what is decided, frees those pairs, and keeps the rest in `open`.
    fn write_down(&self, open: &mut Vec<Open>, said: Vec<Said>, now: Instant, last_try: bool) -> io::Result<()> {
        let mut recorder = self.shared.recorder();
        recorder.totals.calls += 1;
        let mut said = said.into_iter();
        let mut result = Ok(());
        open.retain_mut(|item| {
            item.attempts += 1;
            let Some(said) = said.next() else { return true };
            let operation = item.operation;
            let written = match said {
                Said::Acknowledged(response) => {
                    let outcome = Outcome::Acknowledged {
                        version: Version(response.version),
                        changed: response.changed,
                        degraded: response.degraded,
                    };
                    recorder.totals.retried += u64::from(item.attempts > 1);
                    recorder.acknowledged(&Entry { operation, outcome, doubtful: item.doubtful }, now)
                }
                Said::Error { code, uncertain } => {
                    item.doubtful += u32::from(uncertain);
                    *recorder.totals.errors.entry(code_name(code)).or_default() += 1;
                    if is_retryable(code, uncertain) && !last_try {
                        return true;
                    }
                    if item.doubtful > 0 {
                        recorder.unknown(&Entry { operation, outcome: Outcome::Unknown, doubtful: item.doubtful })
                    } else {
                        recorder.failed(code_name(code));
                        Ok(())
                    }
                }
            };
            // Only now: the log has the pair's operations in the order of their acknowledgement.
            self.shared.queue.release(operation.pair);
            if written.is_err() {
                result = written;
            }
            false
        });
        result
    }

    /// One call about all open operations; one answer for each.
    async fn call(&mut self, open: &[Open]) -> Vec<Said> {
        let timeout = self.shared.timeout;
        let Some(client) = self.clients.first_mut() else { return Vec::new() };
        let answer = match open {
            [one] if self.shared.batch == 1 => {
                tokio::time::timeout(timeout, unary(client, one)).await.map(|said| said.map(|said| vec![said]))
            }
            _ => tokio::time::timeout(timeout, batch(client, open)).await,
        };
        match answer {
            Ok(Ok(said)) => said,
            Ok(Err(status)) => open.iter().map(|_| from_status(&status)).collect(),
            Err(_) => open.iter().map(|_| Said::Error { code: Code::DeadlineExceeded, uncertain: true }).collect(),
        }
    }
}

async fn unary(client: &mut Client, open: &Open) -> Result<Said, Status> {
    let user_id = open.operation.pair.user.get();
    let resource = Some(to_proto(open.operation.pair.resource));
    let idempotency_key = open.key.clone();
    let response = if open.operation.action.liked() {
        client.like(v1::LikeRequest { user_id, resource, idempotency_key }).await?
    } else {
        client.unlike(v1::UnlikeRequest { user_id, resource, idempotency_key }).await?
    };
    Ok(Said::Acknowledged(response.into_inner()))
}

async fn batch(client: &mut Client, open: &[Open]) -> Result<Vec<Said>, Status> {
    let operations = open.iter().map(|item| {
        let action = if item.operation.action.liked() { v1::Action::Like } else { v1::Action::Unlike };
        v1::LikeOperation {
            user_id: item.operation.pair.user.get(),
            resource: Some(to_proto(item.operation.pair.resource)),
            action: action.into(),
            idempotency_key: item.key.clone(),
        }
    });
    let request = v1::ApplyLikesRequest { operations: operations.collect() };
    let results = client.apply_likes(request).await?.into_inner().results;
    if results.len() != open.len() {
        return Err(Status::internal(format!("{} results for {} operations", results.len(), open.len())));
    }
    Ok(results
        .into_iter()
        .map(|result| match result.outcome {
            Some(v1::like_result::Outcome::Response(response)) => Said::Acknowledged(response),
            Some(v1::like_result::Outcome::Error(error)) => {
                let code = Code::from_i32(error.code);
                Said::Error { code, uncertain: !is_refusal(code) }
            }
            None => Said::Error { code: Code::Internal, uncertain: true },
        })
        .collect())
}

fn from_status(status: &Status) -> Said {
    // A status with a source was made on this side, of a broken connection.
    if status.source().is_some() {
        return Said::Error { code: Code::Unavailable, uncertain: true };
    }
    Said::Error { code: status.code(), uncertain: !is_refusal(status.code()) }
}

/// Codes by which a server says that it did nothing.
pub(crate) const fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Unauthenticated
    )
}

/// Whether the same call may succeed later. A server's own INTERNAL or DATA_LOSS is a bug, not a condition.
const fn is_retryable(code: Code, uncertain: bool) -> bool {
    match code {
        Code::ResourceExhausted => true,
        Code::Internal | Code::DataLoss => false,
        _ => uncertain,
    }
}
