//! Reference: `redis-benchmark` reads what our calls read, pipelined, over counters and pairs of its own.

use crate::redis::Redis;
use crate::rig::Rig;
use anyhow::{Context, Result, bail};
use std::process::Stdio;
use tokio::process::Command;

/// Beside the services' own data.
const DATABASE: u32 = 1;

const CONNECTIONS: &str = "4";

/// Which command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asks {
    /// Of one counter, with every field.
    Hmget,
    /// Of one counter, with the field that is served.
    Hget,
    /// Of so many pairs.
    Mget(usize),
}

impl Asks {
    /// `__rand_int__` is twelve digits, another number wherever it stands.
    fn arguments(self) -> Vec<String> {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect();
        match self {
            Self::Hmget => words("HMGET {s1}:c:v__rand_int__ n p v dn dr"),
            Self::Hget => words("HGET {s1}:c:v__rand_int__ n"),
            Self::Mget(pairs) => {
                let keys = std::iter::repeat_n("{s1}:p:v1:__rand_int__".to_owned(), pairs);
                std::iter::once("MGET".to_owned()).chain(keys).collect()
            }
        }
    }
}

/// So many counters and pairs, all there.
pub(crate) async fn prepare(rig: &Rig, ids: u64) -> Result<()> {
    let mut redis = Redis::connect(&rig.redis_addr, DATABASE).await?;
    redis.flush().await?;
    let counters = (0..ids).map(|id| counter(format!("{{s1}}:c:v{id:012}"), 7));
    redis.send_all(counters).await?;
    redis.send_all((0..ids).map(|id| pair(format!("{{s1}}:p:v1:{id:012}")))).await
}

/// What makes a counter as the cache has it, when nothing of it is pending.
pub(crate) fn counter(key: String, count: u64) -> Vec<String> {
    let count = count.to_string();
    let fields = ["n", &count, "p", "0", "v", "0", "dn", &count, "dr", "1"].map(str::to_owned);
    ["HSET".to_owned(), key].into_iter().chain(fields).collect()
}

/// What makes a pair that is liked.
pub(crate) fn pair(key: String) -> Vec<String> {
    vec!["SET".to_owned(), key, "1760000000000001".to_owned()]
}

/// Commands per second, `pipelined` at a time on each of four connections.
pub(crate) async fn call(rig: &Rig, asks: Asks, ids: u64, pipelined: usize, commands: u64) -> Result<f64> {
    let (host, port) = rig.redis_addr.rsplit_once(':').context("redis: no port")?;
    let mut command = Command::new("redis-benchmark");
    command.args(["-h", host, "-p", port, "--dbnum", &DATABASE.to_string(), "--csv", "-c", CONNECTIONS]);
    command.args(["-r", &ids.to_string(), "-P", &pipelined.to_string(), "-n", &commands.max(1).to_string()]);
    command.args(asks.arguments()).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.context("redis-benchmark: apt-get install redis-tools")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("redis-benchmark: {text}{}", String::from_utf8_lossy(&output.stderr));
    }
    rate(&text).with_context(|| format!("redis-benchmark: {text}"))
}

/// Of the last line: the command's words, then the rate and six latencies, all in quotes.
fn rate(csv: &str) -> Option<f64> {
    let line = csv.lines().rfind(|line| line.starts_with('"'))?;
    line.trim_matches('"').rsplit("\",\"").nth(6)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_taken_from_the_end() {
        let csv =
            "\"test\",\"rps\"\n\"HGET {s1}:c:v n\",\"412000.50\",\"1.2\",\"0.1\",\"1.1\",\"1.5\",\"2.5\",\"9.0\"\n";
        assert_eq!(rate(csv), Some(412_000.5));
        assert_eq!(rate("\"test\",\"rps\"\n"), None);
    }

    #[test]
    fn keys_are_those_of_the_cache() {
        let keys = cache_manager::Keys::new("", domain::ShardCount::default());
        let pair = test_support::build::video_pair(1, 123_456_789_012);
        let of = |asks: Asks| asks.arguments()[1].replace("__rand_int__", "123456789012").split_off(4);
        assert!(keys.counter(pair.resource).ends_with(&of(Asks::Hget)));
        assert!(keys.pair(pair).ends_with(&of(Asks::Mget(3))));
        assert_eq!(Asks::Mget(3).arguments().len(), 4);
    }
}
