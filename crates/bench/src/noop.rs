//! Reference: unary calls that do nothing, on the same server.
//!
//! They need no token, and who only makes such calls stays a stranger, whose heads are read at a rate: so each connection is
//! that of a caller first.

use crate::calls;
use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use interaction_proto::v1::GetLikeCountsRequest;
use interaction_proto::v1::interaction_service_client::InteractionServiceClient;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Called {
    pub(crate) calls: u64,
    pub(crate) per_second: f64,
}

/// Asks the standard health service, `concurrency` calls in flight, each again as soon as it is answered.
pub(crate) async fn call(addr: &str, concurrency: u32, seconds: f64) -> Result<Called> {
    let latencies = Rc::new(RefCell::new(Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?));
    let length = Duration::from_secs_f64(seconds);
    let took = calls::in_flight(addr, concurrency, |channel, started| {
        caller(channel, started + length, Rc::clone(&latencies))
    })
    .await?;
    let calls = latencies.borrow().len();
    Ok(Called { calls, per_second: calls as f64 / took.as_secs_f64() })
}

async fn caller(channel: Channel, end: Instant, latencies: Rc<RefCell<Histogram<u64>>>) -> Result<()> {
    // What it answers does not matter: whoever asks was let in.
    let _let_in = InteractionServiceClient::new(channel.clone()).get_like_counts(GetLikeCountsRequest::default()).await;
    let mut client = HealthClient::new(channel);
    loop {
        let started = Instant::now();
        if started >= end {
            return Ok(());
        }
        client.check(HealthCheckRequest::default()).await.context("health check")?;
        // As much work per call as the load generator's.
        let us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        latencies.borrow_mut().saturating_record(us);
    }
}
