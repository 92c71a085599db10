//! Looks at the journals, and flushes Redis so that it is known what was in them.

use anyhow::{Context, Result, ensure};
use std::collections::HashSet;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

/// Of an installation that configures nothing else.
pub(crate) const SHARDS: u16 = 16;

const LIMIT: Duration = Duration::from_secs(5);

/// Every entry's id of every journal, a line per shard; in one step with the flush.
const FLUSH: &str = "\
local journals = {}
for i, key in ipairs(KEYS) do
  local ids = {}
  for _, entry in ipairs(redis.call('XRANGE', key, '-', '+')) do ids[#ids + 1] = entry[1] end
  journals[i] = table.concat(ids, ',')
end
redis.call('FLUSHALL')
return journals";

/// The last entry's id of every journal, or nothing, a line per shard.
const ENDS: &str = "\
local ends = {}
for i, key in ipairs(KEYS) do
  local last = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
  ends[i] = last and last[1] or ''
end
return ends";

/// Number of entries up to those ids.
const UP_TO: &str = "\
local count = 0
for i, key in ipairs(KEYS) do
  if ARGV[i] ~= '' then count = count + #redis.call('XRANGE', key, '-', ARGV[i]) end
end
return count";

/// Entries of the journals by shard and version.
pub(crate) type Entries = HashSet<(u16, i64)>;

/// FLUSHALL; returns what was in the journals at that moment.
pub(crate) async fn flush(addr: &str) -> Result<Entries> {
    let answer = eval(addr, FLUSH, &[]).await?;
    let mut entries = Entries::new();
    for (shard, line) in (0..SHARDS).zip(answer.split('\n')) {
        for id in line.split(',').filter(|id| !id.is_empty()) {
            let version = id.split('-').next().and_then(|version| version.parse().ok());
            entries.insert((shard, version.with_context(|| format!("journal entry {id:?}"))?));
        }
    }
    Ok(entries)
}

/// How far the journals reach at a moment. Not a time: versions are not always one.
#[derive(Debug, Clone)]
pub(crate) struct Ends(Vec<String>);

/// Where the journals end now.
pub(crate) async fn ends(addr: &str) -> Result<Ends> {
    let answer = eval(addr, ENDS, &[]).await?;
    let mut ends: Vec<String> = answer.split('\n').map(str::to_owned).collect();
    ensure!(ends.len() >= usize::from(SHARDS), "redis answered {answer:?}");
    ends.truncate(SHARDS.into());
    Ok(Ends(ends))
}

/// Entries that were there then, and still are.
pub(crate) async fn left_of(addr: &str, Ends(ends): &Ends) -> Result<u64> {
    let answer = eval(addr, UP_TO, ends).await?;
    answer.trim().parse().with_context(|| format!("redis answered {answer:?}"))
}

async fn eval(addr: &str, script: &str, args: &[String]) -> Result<String> {
    let (host, port) = addr.split_once(':').context("no port")?;
    let mut command = Command::new("redis-cli");
    command.args(["-h", host, "-p", port, "-e", "--raw", "EVAL", script, &SHARDS.to_string()]);
    command.args((0..SHARDS).map(|shard| format!("{{s{shard}}}:j"))).args(args).kill_on_drop(true);
    let output = timeout(LIMIT, command.output()).await.context("redis does not answer")??;
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "redis: {answer}{}", String::from_utf8_lossy(&output.stderr));
    Ok(answer)
}
