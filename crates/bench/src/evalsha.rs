//! Reference: `redis-benchmark` with the very script that accepts likes.

use crate::redis::Redis;
use crate::rig::Rig;
use anyhow::{Context, Result, bail};
use std::process::Stdio;
use tokio::process::Command;

/// Beside the services' own data, so that nobody takes its journal for theirs.
const DATABASE: u32 = 1;

/// Users are random below this: practically every like is a new pair.
const USERS: &str = "2000000000";

/// As long as an encoded like, and without zero bytes: `redis-benchmark` looks for `__rand_int__` up to the first one.
const PAYLOAD: &str = "#####################################";

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Called {
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

/// Accepts `likes` likes over `connections` connections, `pipelined` at a time on each. One like per call, keys and
/// arguments as the server sends them, all on one resource of one shard.
pub(crate) async fn call(rig: &Rig, connections: u32, pipelined: u32, likes: u64) -> Result<Called> {
    let mut redis = Redis::connect(&rig.redis_addr, DATABASE).await?;
    redis.flush().await?;
    // With a count, as after the first like of a resource.
    redis.set_fields("{s1}:c:v1", &["n", "0", "p", "0", "v", "0", "dn", "0", "dr", "0"]).await?;
    let digest = redis.load_script(&cache_manager::accept_script()).await?;
    let (host, port) = rig.redis_addr.rsplit_once(':').context("redis: no port")?;
    let mut command = Command::new("redis-benchmark");
    command.args(["-h", host, "-p", port, "--dbnum", &DATABASE.to_string(), "--csv", "-r", USERS]);
    command.args(["-c", &connections.to_string(), "-P", &pipelined.to_string(), "-n", &likes.to_string()]);
    command.args(arguments(&digest)).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.context("redis-benchmark: apt-get install redis-tools")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("redis-benchmark: {text}{}", String::from_utf8_lossy(&output.stderr));
    }
    // Each must have been accepted, or something cheaper was measured.
    let accepted = redis.stream_lengths(&["{s1}:j".to_owned()]).await?;
    if accepted < likes * 99 / 100 {
        bail!("redis-benchmark: only {accepted} of {likes} likes were accepted");
    }
    redis.flush().await?;
    parse(&text).with_context(|| format!("redis-benchmark: {text}"))
}

fn arguments(digest: &str) -> Vec<&str> {
    let mut arguments =
        vec!["EVALSHA", digest, "5", "{s1}:j", "{s1}:t", "{s1}:x", "{s1}:p:v__rand_int__:1", "{s1}:c:v1"];
    // Items, journal limit, lifetimes of a pair, of a filled counter and of a key, no user limit, a far deadline, no ceiling.
    arguments.extend(["1", "1000000000", "86400", "60", "86400", "0", "0", "4000000000000000", "0"]);
    // Whose mark, the highest version that it was answered, the server's run, and a version that none before it had.
    arguments.extend(["m:0f3a5c7e91bd", "1", "5d1c8a0f3b7e2946c1d05a8f7b3e92460c1d5a8f", "0"]);
    // Of the one item: it is a like.
    arguments.extend(["1", PAYLOAD]);
    arguments
}

/// The last line: name, rate, then average, least, p50, p95, p99 and most in milliseconds, all in quotes.
fn parse(csv: &str) -> Option<Called> {
    let line = csv.lines().rfind(|line| line.starts_with('"'))?;
    let fields: Vec<&str> = line.trim_matches('"').rsplit("\",\"").take(7).collect();
    let number = |from_end: usize| fields.get(from_end)?.parse::<f64>().ok();
    Some(Called { per_second: number(6)?, p50_ms: number(3)?, p99_ms: number(1)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_taken_from_the_end() {
        let csv = "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\"p95_latency_ms\",\
                   \"p99_latency_ms\",\"max_latency_ms\"\n\
                   \"EVALSHA abc 4 {s1}:j\",\"41000.50\",\"1.2\",\"0.1\",\"1.1\",\"1.5\",\"2.5\",\"9.0\"\n";
        assert_eq!(parse(csv), Some(Called { per_second: 41000.5, p50_ms: 1.1, p99_ms: 2.5 }));
        assert_eq!(parse(""), None);
        assert_eq!(parse("\"test\",\"rps\"\n"), None);
    }

    #[test]
    fn a_call_is_as_long_as_the_servers() {
        use domain::Action;
        let pair = test_support::build::video_pair(1, 1);
        let payload = domain::codec::encode_payload(&test_support::build::intent(pair, Action::Like));
        assert_eq!(PAYLOAD.len(), payload.len());
        // Script, digest, number of keys, 5 keys, 13 arguments of the call and 2 of the item.
        assert_eq!(arguments("digest").len(), 3 + 5 + 13 + 2);
    }
}
