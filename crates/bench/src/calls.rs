//! Calls by gRPC, as many in flight as wanted.

use anyhow::{Context, Result};
use std::time::{Duration, Instant};
use tokio::task::LocalSet;
use tonic::transport::{Channel, Endpoint};

/// At least as many as the load generator has.
const CONNECTIONS: u32 = 2;
/// A server answers so many calls without a token at a time on one connection.
const PER_CONNECTION: u32 = 8;

/// Runs so many callers at a time, and says how long it took until the last one had ended. Each is given a connection, and when all
/// of them began.
pub(crate) async fn in_flight<F>(
    addr: &str,
    concurrency: u32,
    caller: impl Fn(Channel, Instant) -> F,
) -> Result<Duration>
where
    F: Future<Output = Result<()>> + 'static,
{
    let mut channels = Vec::new();
    for _ in 0..CONNECTIONS.max(concurrency.div_ceil(PER_CONNECTION)) {
        let endpoint = Endpoint::from_shared(format!("http://{addr}"))?;
        channels.push(endpoint.connect().await.with_context(|| format!("connect to {addr}"))?);
    }
    let started = Instant::now();
    let tasks = LocalSet::new();
    let callers: Vec<_> = (0..concurrency as usize)
        .map(|number| tasks.spawn_local(caller(channels[number % channels.len()].clone(), started)))
        .collect();
    tasks
        .run_until(async {
            for caller in callers {
                caller.await.context("a caller")??;
            }
            anyhow::Ok(())
        })
        .await?;
    Ok(started.elapsed())
}
