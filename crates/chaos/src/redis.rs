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

/// Number of entries, and age of the oldest in milliseconds.
const OLDEST: &str = "\
local time = redis.call('TIME')
local now, oldest, count = time[1] * 1000 + math.floor(time[2] / 1000), nil, 0
for _, key in ipairs(KEYS) do
  count = count + redis.call('XLEN', key)
  local first = redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
  if first then
    local at = math.floor(tonumber(string.match(first[1], '^%d+')) / 1000)
    if not oldest or at < oldest then oldest = at end
  end
end
return { count, oldest and math.max(now - oldest, 0) or 0 }";

/// Entries of the journals by shard and version.
pub(crate) type Entries = HashSet<(u16, i64)>;

/// FLUSHALL; returns what was in the journals at that moment.
pub(crate) async fn flush(addr: &str) -> Result<Entries> {
    let answer = eval(addr, FLUSH).await?;
    let mut entries = Entries::new();
    for (shard, line) in (0..SHARDS).zip(answer.split('\n')) {
        for id in line.split(',').filter(|id| !id.is_empty()) {
            let version = id.split('-').next().and_then(|version| version.parse().ok());
            entries.insert((shard, version.with_context(|| format!("journal entry {id:?}"))?));
        }
    }
    Ok(entries)
}

/// Number of entries in all journals, and the age of the oldest.
pub(crate) async fn journals(addr: &str) -> Result<(u64, Duration)> {
    let answer = eval(addr, OLDEST).await?;
    let mut numbers = answer.lines().map(str::parse::<u64>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(count)), Some(Ok(age_ms))) => Ok((count, Duration::from_millis(age_ms))),
        _ => anyhow::bail!("redis answered {answer:?}"),
    }
}

async fn eval(addr: &str, script: &str) -> Result<String> {
    let (host, port) = addr.split_once(':').context("no port")?;
    let mut command = Command::new("redis-cli");
    command.args(["-h", host, "-p", port, "-e", "--raw", "EVAL", script, &SHARDS.to_string()]);
    command.args((0..SHARDS).map(|shard| format!("{{s{shard}}}:j"))).kill_on_drop(true);
    let output = timeout(LIMIT, command.output()).await.context("redis does not answer")??;
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "redis: {answer}{}", String::from_utf8_lossy(&output.stderr));
    Ok(answer)
}
