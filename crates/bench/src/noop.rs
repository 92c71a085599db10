//! Reference: unary calls that do nothing, on the same server.

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::LocalSet;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// At least as many as the load generator has.
const CONNECTIONS: u32 = 2;
/// A server answers so many calls without a token at a time on one connection.
const PER_CONNECTION: u32 = 8;

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Called {
    pub(crate) calls: u64,
    pub(crate) per_second: f64,
}

/// Asks the standard health service, `concurrency` calls in flight, each again as soon as it is answered.
pub(crate) async fn call(addr: &str, concurrency: u32, seconds: f64) -> Result<Called> {
    let mut channels = Vec::new();
    for _ in 0..CONNECTIONS.max(concurrency.div_ceil(PER_CONNECTION)) {
        let endpoint = Endpoint::from_shared(format!("http://{addr}"))?;
        channels.push(endpoint.connect().await.with_context(|| format!("connect to {addr}"))?);
    }
    let latencies = Rc::new(RefCell::new(Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?));
    let started = Instant::now();
    let end = started + Duration::from_secs_f64(seconds);
    let tasks = LocalSet::new();
    let callers: Vec<_> = (0..concurrency as usize)
        .map(|number| {
            let channel = channels[number % channels.len()].clone();
            tasks.spawn_local(caller(channel, end, Rc::clone(&latencies)))
        })
        .collect();
    tasks
        .run_until(async {
            for caller in callers {
                caller.await.context("a caller")??;
            }
            anyhow::Ok(())
        })
        .await?;
    let calls = latencies.borrow().len();
    Ok(Called { calls, per_second: calls as f64 / started.elapsed().as_secs_f64() })
}

async fn caller(channel: Channel, end: Instant, latencies: Rc<RefCell<Histogram<u64>>>) -> Result<()> {
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
