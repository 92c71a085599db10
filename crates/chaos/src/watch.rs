//! Looks at the running stack from outside.

use crate::kinds::NodeId;
use crate::redis::{self, Ends};
use crate::rig::{Rig, lock};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

const POLL: Duration = Duration::from_millis(150);
/// All must be well this many times in a row; the time of the first one counts.
const LOOKS: u32 = 3;
const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// Waits until all is well: every one of these processes has all of its stores, whatever was in the journals at the first look is
/// settled, nothing in the ledger is unfinished. The time that took, or what was still wrong after `limit`.
pub(crate) async fn converged(rig: &Rig, nodes: &[NodeId], limit: Duration) -> Result<Duration, String> {
    let start = Instant::now();
    let mut well_since = None;
    let mut looks = 0;
    let mut ends = None;
    loop {
        let seen = match timeout(LOOK_LIMIT, look(rig, nodes, &mut ends)).await {
            Ok(seen) => seen,
            Err(_) => Err("looking takes too long".to_owned()),
        };
        match seen {
            Ok(()) => {
                looks += 1;
                let since = *well_since.get_or_insert_with(|| start.elapsed());
                if looks >= LOOKS {
                    return Ok(since);
                }
            }
            Err(problem) => {
                (well_since, looks) = (None, 0);
                if start.elapsed() > limit {
                    return Err(problem);
                }
            }
        }
        sleep(POLL).await;
    }
}

async fn look(rig: &Rig, nodes: &[NodeId], ends: &mut Option<Ends>) -> Result<(), String> {
    for id in nodes {
        let node = rig.node(*id);
        if !node.process().is_running() {
            return Err(format!("{} has ended", node.id));
        }
        node.healthy().await?;
    }
    let text = |error: anyhow::Error| format!("{error:#}");
    let addrs = rig.redis_addrs().map_err(text)?;
    // With load going on the journals are never empty.
    let ends = match ends {
        Some(ends) => ends,
        None => ends.insert(redis::ends(&addrs).await.map_err(text)?),
    };
    let left = redis::left_of(&addrs, ends).await.map_err(text)?;
    if left > 0 {
        return Err(format!("{left} journal entries of before the heal"));
    }
    let unfinished = "SELECT COUNT(*) FROM sync_events WHERE status IN ('pending', 'processing', 'failed')";
    match rig.deployment.sql(unfinished).await.map_err(text)?.trim() {
        "0" => Ok(()),
        number => Err(format!("{number} unfinished events in the ledger")),
    }
}

/// Highest resident memory in MiB, by process.
pub(crate) type Memory = Mutex<BTreeMap<String, u64>>;

/// Samples until dropped.
pub(crate) async fn memory(rig: &Rig, peaks: &Memory) {
    loop {
        let nodes = rig.nodes.iter().map(|node| (node.id.to_string(), node.process().pid()));
        let stores = [
            ("redis", rig.deployment.redis().pid()),
            ("mariadb", rig.deployment.mariadb().pid()),
            ("rabbitmq", rig.deployment.rabbitmq().pid()),
        ];
        for (name, pid) in nodes.chain(stores.map(|(name, pid)| (name.to_owned(), pid))) {
            if let Some(mib) = pid.and_then(peak_mib) {
                let mut peaks = lock(peaks);
                let peak = peaks.entry(name).or_default();
                *peak = mib.max(*peak);
            }
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// What servers say of themselves, however often they begin anew.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    asked_again: AtomicU64,
    confirm_rewrites: AtomicU64,
}

impl Observed {
    /// Calls that were sent to the cache a second time, and "unchanged" answers that were written instead.
    pub(crate) fn numbers(&self) -> (u64, u64) {
        (self.asked_again.load(Ordering::Relaxed), self.confirm_rewrites.load(Ordering::Relaxed))
    }
}

/// Samples until dropped.
pub(crate) async fn observe(rig: &Rig, observed: &Observed) {
    let mut before: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    loop {
        for node in rig.nodes.iter().filter(|node| node.id.is_server()) {
            let process = node.process();
            let Ok(Ok(metrics)) = timeout(Duration::from_secs(1), process.metrics()).await else { continue };
            let number = |name: &str| -> u64 {
                let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
                value.and_then(|value| value.parse().ok()).unwrap_or(0)
            };
            let now = (number("interaction_cache_calls_repeated_total"), number("interaction_confirm_rewrites_total"));
            let last = before.insert(node.id.to_string(), now).unwrap_or_default();
            // A smaller number is a new process's.
            let grown = |now: u64, last: u64| if now >= last { now - last } else { now };
            observed.asked_again.fetch_add(grown(now.0, last.0), Ordering::Relaxed);
            observed.confirm_rewrites.fetch_add(grown(now.1, last.1), Ordering::Relaxed);
        }
        sleep(Duration::from_millis(400)).await;
    }
}

fn peak_mib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib / 1024)
}
