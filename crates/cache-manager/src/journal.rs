//! The journals as the rescuer and the metrics see them.

use crate::keys::Keys;
use crate::mark::Marks;
use crate::meaning::{cache_error, naming, shard_error};
use crate::routes::Routes;
use crate::script::Script;
use crate::word::ShardWord;
use bytes::Bytes;
use deadpool_redis::redis::{RedisResult, Value, cmd};
use domain::cache::{CacheResult, CacheRules, ShardStanding, ShardStatus};
use domain::codec::EncodedEvent;
use domain::{Origin, ShardId, Version};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// `XRANGE` of at most one entry, and of a page: `[(id, [field, value])]`.
type Entries = Vec<(String, Vec<(Vec<u8>, Vec<u8>)>)>;

/// What a shard says of itself, and its server's time.
pub(crate) type Status = (Accounting, u64, Value, (i64, i64));

/// How far back a shard is unknown, and the last version that this process was given.
type Mark = (Option<i64>, Option<i64>);

pub(crate) type Accounting = (Option<i64>, Option<u64>, Option<u64>, Option<i64>);

pub(crate) fn status_script() -> Script {
    Script::new(include_str!("scripts/shard_status.lua"))
}

pub(crate) async fn status(
    script: &Script,
    routes: &Arc<Routes>,
    keys: &Keys,
    rules: &CacheRules,
) -> CacheResult<Vec<ShardStatus>> {
    let calls = rules.shards.all().map(|shard| async move {
        let mut call = script.call(2);
        call.arg(keys.journal(shard)).arg(keys.clock(shard));
        let reply = script.run_in_bulk::<Status>(routes, routes.slot(shard), &call).await;
        reply.map_err(|error| shard_error(error, keys, shard))
    });
    let replies = futures::future::try_join_all(calls).await?;
    rules.shards.all().zip(replies).map(|(shard, status)| told(shard, status).map(|told| heard(routes, told))).collect()
}

/// What a shard told.
pub(crate) fn told(shard: ShardId, status: Status) -> CacheResult<ShardWord> {
    let ((last, accepted, settled, settled_up_to), journal_len, head, (seconds, micros)) = status;
    let (now, last) = (seconds * 1_000_000 + micros, last.unwrap_or(0));
    let status = ShardStatus {
        shard,
        accepted: accepted.unwrap_or(0),
        settled: settled.unwrap_or(0),
        journal_len,
        oldest: oldest(&entries(head)?),
        settled_up_to: Version(settled_up_to.unwrap_or(0)),
        now: Version(now.max(last)),
    };
    Ok(ShardWord { last: Version(last), status })
}

/// Whoever heard it knows more of the shard.
pub(crate) fn heard(routes: &Routes, told: ShardWord) -> ShardStatus {
    // Ahead of Redis's own clock after that was set back: who writes around Redis must come later all the same.
    routes.common().answered(told.status.shard, told.last);
    told.status
}

/// What the shards know of what they answered this process: its mark, and how far the journal begins.
pub(crate) async fn standings(
    routes: &Arc<Routes>,
    keys: &Keys,
    rules: &CacheRules,
    marks: &Marks,
) -> CacheResult<Vec<ShardStanding>> {
    // Read before the marks in the shards, which can only have grown since, and before their journals: what was answered by now
    // had come there.
    let floors: Vec<Version> = rules.shards.all().map(|shard| marks.floor(shard)).collect();
    let calls = rules.shards.all().map(|shard| async move {
        // In this order: if the shard is whole afterwards, it was when its journal was looked at. One by one: either key may
        // be on its way to another node.
        let mut head = cmd("XRANGE");
        head.arg(keys.journal(shard)).arg("-").arg("+").arg("COUNT").arg(1);
        let mut fields = cmd("HMGET");
        fields.arg(keys.clock(shard)).arg(&["b", marks.field()]);
        let asked = async {
            let head: Value = routes.ask(routes.slot(shard), &head).await?;
            let fields: Mark = routes.ask(routes.slot(shard), &fields).await?;
            RedisResult::Ok((head, fields))
        };
        asked.await.map_err(|error| shard_error(error, keys, shard))
    });
    let replies = futures::future::try_join_all(calls).await?;
    let shards = rules.shards.all().zip(floors).zip(replies);
    let standing = |((shard, floor), (head, (back, mark))): ((ShardId, Version), (Value, Mark))| {
        let oldest = oldest(&entries(head)?);
        let whole = floor > Version::ZERO && mark.unwrap_or(0) >= floor.0;
        Ok(ShardStanding { shard, whole, back: Version(back.unwrap_or(0)), up_to: floor, oldest })
    };
    shards.map(standing).collect()
}

pub(crate) async fn page(
    routes: &Arc<Routes>,
    keys: &Keys,
    shard: ShardId,
    after: Version,
    limit: usize,
) -> CacheResult<Vec<EncodedEvent>> {
    let mut start = format!("({after}-0");
    loop {
        let mut call = cmd("XRANGE");
        call.arg(keys.journal(shard)).arg(&start).arg("+").arg("COUNT").arg(limit);
        let read = routes.ask_calmly(routes.slot(shard), &call).await;
        let read = entries(read.map_err(|error| naming(error, |_| keys.journal(shard)))?)?;
        let last = read.last().map(|(id, _)| format!("({id}"));
        let full = read.len() >= limit;
        let mut events = Vec::with_capacity(read.len());
        for (id, fields) in read {
            let Some(version) = version(&id).filter(|_| id.ends_with("-0")) else {
                // Nobody can settle it, so handing it on would never end; the shard's accounting show that it is there.
                if is_new_foreigner(shard, &id) {
                    tracing::warn!(%shard, id, "foreign entry in the journal");
                }
                continue;
            };
            // An entry without a payload can only be foreign, too; it is handed on and parked with its reason.
            let payload = fields.into_iter().find(|(name, _)| name == b"e").map(|(_, value)| value).unwrap_or_default();
            events.push(EncodedEvent { version, origin: Origin::Journal, payload: Bytes::from(payload) });
        }
        match last {
            Some(last) if full && events.is_empty() => start = last,
            _ => return Ok(events),
        }
    }
}

fn entries(reply: Value) -> CacheResult<Entries> {
    deadpool_redis::redis::from_redis_value::<Entries>(reply).map_err(|error| cache_error(error.into()))
}

/// The version of the first entry, unless it is nobody's.
fn oldest(entries: &Entries) -> Option<Version> {
    entries.first().and_then(|(id, _)| version(id))
}

/// None for an id that no version has: somebody else's.
fn version(id: &str) -> Option<Version> {
    let (version, _) = id.split_once('-')?;
    version.parse().ok().map(Version).filter(|version| *version <= Version::MAX)
}

/// Journals are read all the time: each foreign entry is said once, as long as there are few.
fn is_new_foreigner(shard: ShardId, id: &str) -> bool {
    const CAPACITY: usize = 64;
    static SAID: Mutex<BTreeSet<(ShardId, String)>> = Mutex::new(BTreeSet::new());
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    said.len() < CAPACITY && said.insert((shard, id.to_owned()))
}
