//! Calls of readers, as many in flight as wanted, each again as soon as it is answered.

use crate::calls;
use anyhow::{Result, bail};
use hdrhistogram::Histogram;
use interaction_proto::v1;
use interaction_proto::v1::interaction_service_client::InteractionServiceClient;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tonic::transport::Channel;

/// The one who reads states; likes are of users above.
pub(crate) const READER: i64 = 1;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Counts,
    States,
    Summaries,
}

/// Calls of one kind.
#[derive(Debug, Clone)]
pub(crate) struct Reads {
    pub(crate) call: Call,
    /// Resources in one call.
    pub(crate) size: usize,
    /// Whose, in the order in which they are asked for, again and again.
    pub(crate) ids: Rc<Vec<i64>>,
    /// One call of so many is a like instead; 0: none is.
    pub(crate) like_every: u64,
    pub(crate) concurrency: u32,
    pub(crate) amount: Amount,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Amount {
    Seconds(f64),
    /// Of each caller.
    Calls(u64),
}

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) calls: u64,
    pub(crate) calls_per_s: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

struct Shared {
    latencies: Histogram<u64>,
    next: usize,
    calls: u64,
    users: i64,
}

impl Reads {
    /// An error unless every call was answered, by the cache.
    pub(crate) async fn send(&self, addr: &str, first_user: u64) -> Result<Sent> {
        let shared = Rc::new(RefCell::new(Shared {
            latencies: Histogram::new_with_bounds(1, 60_000_000, 3)?,
            next: 0,
            calls: 0,
            users: i64::try_from(first_user)?,
        }));
        let took = calls::in_flight(addr, self.concurrency, |channel, started| {
            caller(channel, self.clone(), started, Rc::clone(&shared))
        })
        .await?
        .as_secs_f64();
        let shared = shared.borrow();
        let ms = |share| shared.latencies.value_at_quantile(share) as f64 / 1e3;
        let calls = shared.calls;
        Ok(Sent { calls, calls_per_s: calls as f64 / took, p50_ms: ms(0.5), p99_ms: ms(0.99) })
    }

    fn resources(&self, shared: &RefCell<Shared>) -> Vec<v1::Resource> {
        let mut shared = shared.borrow_mut();
        let first = shared.next;
        shared.next = (first + self.size) % self.ids.len();
        let ids = (0..self.size).map(|i| self.ids[(first + i) % self.ids.len()]);
        ids.map(|id| v1::Resource { r#type: v1::ResourceType::Video.into(), id }).collect()
    }
}

async fn caller(channel: Channel, reads: Reads, started: Instant, shared: Rc<RefCell<Shared>>) -> Result<()> {
    let mut client = InteractionServiceClient::new(channel);
    let mut made = 0;
    loop {
        let over = match reads.amount {
            Amount::Seconds(seconds) => started.elapsed() >= Duration::from_secs_f64(seconds),
            Amount::Calls(calls) => made == calls,
        };
        if over {
            return Ok(());
        }
        let resources = reads.resources(&shared);
        let likes = {
            let mut shared = shared.borrow_mut();
            shared.calls += 1;
            shared.users += 1;
            shared.calls.is_multiple_of(reads.like_every).then_some(shared.users)
        };
        let asked = Instant::now();
        let degraded = match (likes, reads.call) {
            (Some(user_id), _) => {
                let resource = resources.first().copied();
                let request = v1::LikeRequest { user_id, resource, ..Default::default() };
                client.like(request).await?.into_inner().degraded
            }
            (None, Call::Counts) => {
                let request = v1::GetLikeCountsRequest { resources, ..Default::default() };
                let answer = client.get_like_counts(request).await?.into_inner();
                answer.degraded || answer.counts.len() != reads.size
            }
            (None, Call::States) => {
                let request = v1::GetLikeStatesRequest { user_id: READER, resources };
                let answer = client.get_like_states(request).await?.into_inner();
                answer.degraded || answer.states.len() != reads.size
            }
            (None, Call::Summaries) => {
                let request = v1::GetLikeSummariesRequest { user_id: READER, resources, ..Default::default() };
                let answer = client.get_like_summaries(request).await?.into_inner();
                answer.degraded || answer.summaries.len() != reads.size
            }
        };
        if degraded {
            bail!("{:?} of {}: an answer without the cache, or not to everything", reads.call, reads.size);
        }
        made += 1;
        let us = u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX);
        shared.borrow_mut().latencies.saturating_record(us);
    }
}
