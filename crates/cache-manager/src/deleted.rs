//! `keep_deleted.lua`: marks of deleted resources, which `accept.lua` asks for.

use crate::connection::CHUNK;
use crate::keys::Keys;
use crate::meaning::{cache_error, naming, of_shard};
use crate::routes::Routes;
use crate::script::Script;
use deadpool_redis::redis::cmd;
use domain::cache::CacheResult;
use domain::{DeletedMark, Resource, ShardCount, ShardId, Version};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Arguments of a mark.
type Mark = (String, i64, i64, i32);

pub(crate) struct Deleted {
    keep: Script,
}

impl Deleted {
    pub(crate) fn new() -> Self {
        Self { keep: Script::new(include_str!("scripts/keep_deleted.lua")) }
    }

    pub(crate) async fn keep(
        &self,
        routes: &Arc<Routes>,
        keys: &Keys,
        shards: ShardCount,
        marks: &[(Resource, DeletedMark)],
    ) -> CacheResult<()> {
        let mut of_shards: BTreeMap<ShardId, Vec<Mark>> = BTreeMap::new();
        for (resource, mark) in marks {
            let (at, up_to) = (mark.at.if_possible().0, mark.up_to.if_possible().0);
            let mark = (Keys::mark_of(*resource), at, up_to, i32::from(mark.deleted));
            of_shards.entry(shards.of(*resource)).or_default().push(mark);
        }
        let pieces = of_shards.iter().flat_map(|(shard, marks)| marks.chunks(CHUNK).map(move |piece| (*shard, piece)));
        let calls = pieces.map(|(shard, piece)| async move {
            let mut call = self.keep.call(2);
            call.arg(keys.clock(shard)).arg(keys.deleted(shard));
            for (field, at, up_to, deleted) in piece {
                call.arg(field).arg(at).arg(up_to).arg(deleted);
            }
            let kept = self.keep.run_in_turn::<i64>(routes, routes.slot(shard), &call).await;
            kept.map_err(|error| naming(cache_error(error), |_| of_shard(keys, shard)))
        });
        futures::future::try_join_all(calls).await.map(drop)
    }

    /// One shard after the other: the cursor is that of the shard, times the number of shards, plus the shard.
    pub(crate) async fn kept(
        &self,
        routes: &Arc<Routes>,
        keys: &Keys,
        shards: ShardCount,
        (cursor, about): (u64, u32),
    ) -> CacheResult<(Vec<(Resource, DeletedMark)>, u64)> {
        let count = u64::from(shards.get());
        let at = cursor % count;
        let shard = ShardId(u16::try_from(at).unwrap_or(0));
        let mut call = cmd("HSCAN");
        call.arg(keys.deleted(shard)).arg(cursor / count).arg("COUNT").arg(about);
        let (next, fields): (u64, Vec<(String, String)>) = routes
            .ask_calmly(routes.slot(shard), &call)
            .await
            .map_err(|error| naming(error, |_| format!("{} (ours is a hash)", keys.deleted(shard))))?;
        let kept = fields.iter().filter_map(|(field, mark)| Some((Keys::marked(field)?, read(mark)?)));
        let next = match next {
            0 if at + 1 == count => 0,
            0 => at + 1,
            next => next * count + at,
        };
        Ok((kept.collect(), next))
    }
}

/// `at:up_to:deleted`; none if it is nothing of ours.
fn read(mark: &str) -> Option<DeletedMark> {
    let mut parts = mark.split(':');
    let mut version = || Some(Version(parts.next()?.parse().ok()?).if_possible());
    let (at, up_to) = (version()?, version()?);
    match (parts.next(), parts.next()) {
        (Some("1"), None) => Some(DeletedMark { up_to, at, deleted: true }),
        (Some("0"), None) => Some(DeletedMark { up_to, at, deleted: false }),
        _ => None,
    }
}
