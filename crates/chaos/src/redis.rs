//! Looks at the journals, and flushes Redis so that it is known what was in them.

use crate::account::{self, EventName};
use anyhow::{Context, Result, ensure};
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

/// Of an installation that configures nothing else.
pub(crate) const SHARDS: u16 = 64;

const LIMIT: Duration = Duration::from_secs(5);

/// Versions are ahead of the clock by no more than their steps under load.
const AHEAD_US: u64 = 100_000;

/// The time, then id and payload of every entry of every journal, a line for each; in one step with the flush. Nothing is
/// flushed while versions are ahead of the clock: they would begin again below those that are still on their way, which
/// the documents say is not survived.
const FLUSH: &str = "\
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local lines = { string.format('%.0f', now) }
for _, key in ipairs(KEYS) do
  local last = tonumber(redis.call('HGET', string.gsub(key, ':j$', ':t'), 'v')) or 0
  if last > now + tonumber(ARGV[1]) then return { 'ahead' } end
end
for i, key in ipairs(KEYS) do
  for _, entry in ipairs(redis.call('XRANGE', key, '-', '+')) do
    local payload = string.gsub(entry[2][2], '.', function(c) return string.format('%02x', string.byte(c)) end)
    lines[#lines + 1] = entry[1] .. ' ' .. payload
  end
end
redis.call('FLUSHALL')
return lines";

/// The last entry's id of every journal, or nothing, a line per shard; of a journal that another node of a cluster has, its
/// absence. The keys stand in no argument, or they would have to be in one slot.
const ENDS: &str = "\
local ends = {}
for shard = 0, tonumber(ARGV[1]) - 1 do
  local last = redis.pcall('XREVRANGE', '{s' .. shard .. '}:j', '+', '-', 'COUNT', 1)
  ends[shard + 1] = last.err and 'elsewhere' or last[1] and last[1][1] or ''
end
return ends";

/// Number of entries up to those ids, in the same form.
const UP_TO: &str = "\
local counts = {}
for shard = 0, #ARGV - 1 do
  local last = ARGV[shard + 1]
  local left = redis.pcall('XRANGE', '{s' .. shard .. '}:j', '-', last == '' and '0' or last)
  counts[shard + 1] = left.err and 'elsewhere' or tostring(#left)
end
return counts";

/// FLUSHALL; what was in the journals at that moment, with its age. None: versions are ahead of the clock.
pub(crate) async fn flush(addr: &str) -> Result<Option<Vec<(EventName, Option<Duration>)>>> {
    let answer = eval(addr, FLUSH, &[AHEAD_US.to_string()]).await?;
    let mut lines = answer.lines().filter(|line| !line.is_empty());
    let wrong = || format!("redis answered {answer:?}");
    let first = lines.next().with_context(wrong)?;
    if first == "ahead" {
        return Ok(None);
    }
    let now: i64 = first.parse().with_context(wrong)?;
    let entry = |line: &str| {
        let (id, payload) = line.split_once(' ')?;
        let version: i64 = id.split('-').next()?.parse().ok()?;
        let name = account::entry_name(version, from_hex(payload)?).ok()?;
        Some((name, u64::try_from(now - version).ok().map(Duration::from_micros)))
    };
    lines.map(|line| entry(line).with_context(|| format!("journal entry {line:?}"))).collect::<Result<_>>().map(Some)
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(text.get(i..i + 2)?, 16).ok()).collect()
}

/// Name of the process that holds a lease.
pub(crate) async fn holder(addr: &str, lease: &str) -> Result<Option<String>> {
    let answer = client(addr, &["GET", &format!("{{l:{lease}}}:o")]).await?;
    Ok(Some(answer.trim().to_owned()).filter(|name| !name.is_empty()))
}

/// How far the journals reach at a moment. Not a time: versions are not always one.
#[derive(Debug, Clone)]
pub(crate) struct Ends(Vec<String>);

/// Where the journals end now, on these nodes.
pub(crate) async fn ends(addrs: &[String]) -> Result<Ends> {
    per_shard(addrs, ENDS, &[SHARDS.to_string()]).await.map(Ends)
}

/// Entries that were there then, and still are.
pub(crate) async fn left_of(addrs: &[String], Ends(ends): &Ends) -> Result<u64> {
    let counts = per_shard(addrs, UP_TO, ends).await?;
    counts.iter().map(|count| count.parse::<u64>().with_context(|| format!("redis answered {count:?}"))).sum()
}

/// The shards whose journals this node of a cluster has.
pub(crate) async fn shards_of(addr: &str) -> Result<Vec<u16>> {
    let said = lines(addr, ENDS, &[SHARDS.to_string()]).await?;
    Ok((0..SHARDS).zip(said).filter(|(_, end)| end != ELSEWHERE).map(|(shard, _)| shard).collect())
}

const ELSEWHERE: &str = "elsewhere";

/// What the node that has it says of every shard.
async fn per_shard(addrs: &[String], script: &str, args: &[String]) -> Result<Vec<String>> {
    let mut all = vec![None; SHARDS.into()];
    for addr in addrs {
        let said = lines(addr, script, args).await?;
        for (known, said) in all.iter_mut().zip(said).filter(|(_, said)| said != ELSEWHERE) {
            ensure!(known.replace(said).is_none(), "two nodes have a shard");
        }
    }
    let missing = all.iter().filter(|said| said.is_none()).count();
    ensure!(missing == 0, "{missing} shards are on no node");
    Ok(all.into_iter().flatten().collect())
}

async fn lines(addr: &str, script: &str, args: &[String]) -> Result<Vec<String>> {
    let all: Vec<&str> = ["EVAL", script, "0"].into_iter().chain(args.iter().map(String::as_str)).collect();
    let answer = client(addr, &all).await?;
    let mut lines: Vec<String> = answer.split('\n').map(str::to_owned).collect();
    ensure!(lines.len() >= usize::from(SHARDS), "redis answered {answer:?}");
    lines.truncate(SHARDS.into());
    Ok(lines)
}

async fn eval(addr: &str, script: &str, args: &[String]) -> Result<String> {
    let (shards, keys) = (SHARDS.to_string(), (0..SHARDS).map(|shard| format!("{{s{shard}}}:j")).collect::<Vec<_>>());
    let keys_and_args = keys.iter().chain(args).map(String::as_str);
    let all: Vec<&str> = ["EVAL", script, &shards].into_iter().chain(keys_and_args).collect();
    client(addr, &all).await
}

async fn client(addr: &str, args: &[&str]) -> Result<String> {
    let (host, port) = addr.split_once(':').context("no port")?;
    let mut command = Command::new("redis-cli");
    command.args(["-h", host, "-p", port, "-e", "--raw"]).args(args).kill_on_drop(true);
    let output = timeout(LIMIT, command.output()).await.context("redis does not answer")??;
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "redis: {answer}{}", String::from_utf8_lossy(&output.stderr));
    Ok(answer)
}
