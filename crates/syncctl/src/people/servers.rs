//! The servers, and what their answers mean for a history.

use super::recorder::Recorder;
use super::scene::{Leaves, Word};
use crate::client::{self, Client, to_proto};
use crate::credentials::Credentials;
use crate::load::is_refusal;
use domain::{Pair, Resource, Version};
use interaction_proto::{code_name, v1};
use std::error::Error;
use std::time::Duration;
use tonic::{Code, Request, Status, Streaming};
use traffic::history::{Answer, Outcome};

/// Clients of all servers; each person has one connection to each, shared with some others.
pub(super) struct Servers {
    /// By server, then by connection.
    clients: Vec<Vec<Client>>,
    /// How long a caller waits who has not decided otherwise.
    timeout: Duration,
}

/// How a call ended: an outcome for each item.
pub(super) struct Ended {
    pub(super) outcomes: Vec<Outcome>,
    /// Whether the caller left without an answer.
    pub(super) left: bool,
    /// Whether another attempt makes sense.
    pub(super) failed: bool,
}

impl Servers {
    pub(super) async fn connect(
        addrs: &[String],
        credentials: &Credentials,
        connections: usize,
        timeout: Duration,
    ) -> anyhow::Result<Self> {
        let mut clients = Vec::new();
        for (number, addr) in addrs.iter().enumerate() {
            let mut of_server = Vec::new();
            for _ in 0..connections.max(1) {
                of_server.push(if number == 0 {
                    client::connect(addr, credentials).await?
                } else {
                    client::connect_later(addr, credentials)?
                });
            }
            clients.push(of_server);
        }
        Ok(Self { clients, timeout })
    }

    pub(super) fn len(&self) -> usize {
        self.clients.len()
    }

    fn client(&self, server: usize, person: u32) -> Option<Client> {
        let of_server = self.clients.get(server)?;
        of_server.get(person as usize % of_server.len().max(1)).cloned()
    }

    /// Sends words and waits as long as the caller does.
    pub(super) async fn say(
        &self,
        server: usize,
        person: u32,
        words: &[Word],
        leaves: Leaves,
        recorder: &Recorder,
    ) -> Ended {
        let all = |outcome: Outcome| vec![outcome; words.len()];
        let Some(mut client) = self.client(server, person) else {
            return Ended { outcomes: all(Outcome::Refused), left: false, failed: false };
        };
        let patience = match leaves {
            Leaves::Never => self.timeout,
            Leaves::Deadline(time) | Leaves::Drops(time) => time,
        };
        let began = tokio::time::Instant::now();
        let call = async {
            match words {
                [one] => unary(&mut client, one, leaves).await.map(|outcome| vec![outcome]),
                _ => batch(&mut client, words, leaves, recorder).await,
            }
        };
        let left = match leaves {
            Leaves::Never => Outcome::Unknown,
            Leaves::Deadline(_) => Outcome::Abandoned,
            Leaves::Drops(_) => Outcome::Cancelled,
        };
        let gone = || Ended { outcomes: all(left), left: leaves != Leaves::Never, failed: true };
        match tokio::time::timeout(patience, call).await {
            Ok(Ok(outcomes)) => {
                let failed = outcomes.iter().all(|outcome| matches!(outcome, Outcome::Unknown));
                Ended { outcomes, left: false, failed }
            }
            // The client library ends a call at its deadline by itself.
            Ok(Err(status)) if status.source().is_some() && leaves != Leaves::Never && began.elapsed() >= patience => {
                gone()
            }
            Ok(Err(status)) => {
                let outcome = self.judge(&status, words, recorder);
                let failed = outcome == Outcome::Unknown || status.code() == Code::ResourceExhausted;
                Ended { outcomes: all(outcome), left: false, failed }
            }
            Err(_) => gone(),
        }
    }

    fn judge(&self, status: &Status, words: &[Word], recorder: &Recorder) -> Outcome {
        if status.source().is_some() {
            recorder.count("connections_lost", 1);
            if format!("{status:?}").contains("too_many_resets") {
                recorder.count("too_many_resets", 1);
            }
            return Outcome::Unknown;
        }
        let code = status.code();
        recorder.tally().error(code_name(code), is_for_good(code, words.iter().any(|word| word.key.is_some())));
        if is_refusal(code) { Outcome::Refused } else { Outcome::Unknown }
    }

    /// Reads the states of one user.
    pub(super) async fn states(&self, server: usize, person: u32, pairs: &[Pair], recorder: &Recorder) -> Vec<Outcome> {
        let (Some(mut client), Some(first)) = (self.client(server, person), pairs.first()) else { return Vec::new() };
        let resources = pairs.iter().map(|pair| to_proto(pair.resource)).collect();
        let request = v1::GetLikeStatesRequest { user_id: first.user.get(), resources };
        match tokio::time::timeout(self.timeout, client.get_like_states(request)).await {
            Ok(Ok(answer)) => {
                let answer = answer.into_inner();
                let outcome = |state: v1::LikeState| {
                    Outcome::Answered(Answer {
                        liked: state.liked,
                        version: Version(state.version),
                        degraded: answer.degraded,
                        ..Answer::default()
                    })
                };
                answer.states.into_iter().map(outcome).collect()
            }
            Ok(Err(status)) => vec![self.judge(&status, &[], recorder); pairs.len()],
            Err(_) => Vec::new(),
        }
    }

    /// Reads counts.
    pub(super) async fn counts(
        &self,
        server: usize,
        person: u32,
        resources: &[Resource],
        recorder: &Recorder,
    ) -> Vec<Outcome> {
        let Some(mut client) = self.client(server, person) else { return Vec::new() };
        let request = v1::GetLikeCountsRequest {
            resources: resources.iter().map(|r| to_proto(*r)).collect(),
            ..Default::default()
        };
        match tokio::time::timeout(self.timeout, client.get_like_counts(request)).await {
            Ok(Ok(answer)) => {
                let answer = answer.into_inner();
                let degraded = answer.degraded;
                let outcome = |count: v1::LikeCount| {
                    Outcome::Answered(Answer { count: Some(count.count), degraded, ..Answer::default() })
                };
                answer.counts.into_iter().map(outcome).collect()
            }
            Ok(Err(status)) => vec![self.judge(&status, &[], recorder); resources.len()],
            Err(_) => Vec::new(),
        }
    }

    /// Opens a stream of counts.
    pub(super) async fn watch(
        &self,
        server: usize,
        person: u32,
        resources: &[Resource],
    ) -> Option<Streaming<v1::WatchLikeCountsResponse>> {
        let mut client = self.client(server, person)?;
        let request = v1::WatchLikeCountsRequest { resources: resources.iter().map(|r| to_proto(*r)).collect() };
        let opened = tokio::time::timeout(self.timeout, client.watch_like_counts(request)).await;
        opened.ok()?.ok().map(tonic::Response::into_inner)
    }
}

fn request<T>(message: T, leaves: Leaves) -> Request<T> {
    let mut request = Request::new(message);
    if let Leaves::Deadline(time) = leaves {
        request.set_timeout(time);
    }
    request
}

async fn unary(client: &mut Client, word: &Word, leaves: Leaves) -> Result<Outcome, Status> {
    let user_id = word.pair.user.get();
    let resource = Some(to_proto(word.pair.resource));
    let idempotency_key = word.key.clone().unwrap_or_default();
    let answer = if word.action.liked() {
        client.like(request(v1::LikeRequest { user_id, resource, idempotency_key }, leaves)).await?
    } else {
        client.unlike(request(v1::UnlikeRequest { user_id, resource, idempotency_key }, leaves)).await?
    };
    Ok(answered(answer.into_inner()))
}

async fn batch(
    client: &mut Client,
    words: &[Word],
    leaves: Leaves,
    recorder: &Recorder,
) -> Result<Vec<Outcome>, Status> {
    let operations = words.iter().map(|word| v1::LikeOperation {
        user_id: word.pair.user.get(),
        resource: Some(to_proto(word.pair.resource)),
        action: if word.action.liked() { v1::Action::Like } else { v1::Action::Unlike }.into(),
        idempotency_key: word.key.clone().unwrap_or_default(),
    });
    let message = v1::ApplyLikesRequest { operations: operations.collect() };
    let results = client.apply_likes(request(message, leaves)).await?.into_inner().results;
    if results.len() != words.len() {
        return Err(Status::internal(format!("{} results for {} words", results.len(), words.len())));
    }
    let outcome = |(result, word): (v1::LikeResult, &Word)| match result.outcome {
        Some(v1::like_result::Outcome::Response(response)) => answered(response),
        Some(v1::like_result::Outcome::Error(error)) => {
            let code = Code::from_i32(error.code);
            recorder.tally().error(code_name(code), is_for_good(code, word.key.is_some()));
            if is_refusal(code) { Outcome::Refused } else { Outcome::Unknown }
        }
        None => Outcome::Unknown,
    };
    Ok(results.into_iter().zip(words).map(outcome).collect())
}

fn answered(response: v1::LikeResponse) -> Outcome {
    Outcome::Answered(Answer {
        liked: response.liked,
        version: Version(response.version),
        changed: response.changed,
        degraded: response.degraded,
        count: response.count,
    })
}

/// Errors that nothing which may happen to the system explains. A key of the other action is refused as it should be.
const fn is_for_good(code: Code, has_key: bool) -> bool {
    match code {
        Code::InvalidArgument => !has_key,
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Cancelled | Code::Aborted => false,
        _ => true,
    }
}
