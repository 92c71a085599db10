//! `raise_clock.lua`, `sweep.lua`, `keep_fences.lua`: what the erasure of users, or the deletion of resources, asks of Redis.

use crate::connection::CHUNK;
use crate::keys::Keys;
use crate::meaning::{cache_error, naming, shard_error};
use crate::read::scan;
use crate::routes::Routes;
use crate::script::Script;
use deadpool_redis::redis::cmd;
use domain::cache::{CacheResult, Sweep, Swept};
use domain::{ShardId, UserId, Version};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) struct Erase {
    raise: Script,
    sweep: Script,
    fences: Script,
}

impl Erase {
    pub(crate) fn new() -> Self {
        Self {
            raise: Script::new(include_str!("scripts/raise_clock.lua")),
            sweep: Script::new(include_str!("scripts/sweep.lua")),
            fences: Script::new(include_str!("scripts/keep_fences.lua")),
        }
    }

    pub(crate) async fn raise_clocks(
        &self,
        routes: &Arc<Routes>,
        keys: &Keys,
        shards: impl Iterator<Item = ShardId>,
        at_least: Version,
    ) -> CacheResult<Version> {
        let calls = shards.map(|shard| async move {
            let mut call = self.raise.call(1);
            call.arg(keys.clock(shard)).arg(at_least.0);
            let before = self.raise.run::<i64>(routes, routes.slot(shard), &call).await;
            before.map_err(|error| shard_error(error, keys, shard))
        });
        let before = futures::future::try_join_all(calls).await?;
        Ok(Version(before.into_iter().max().unwrap_or(0)))
    }

    pub(crate) async fn sweep(
        &self,
        routes: &Arc<Routes>,
        keys: &Keys,
        sweep: &Sweep<'_>,
        from: (u64, u32),
    ) -> CacheResult<(Vec<Swept>, u64)> {
        let (cursor, about) = from;
        let (names, next) = scan(routes, &keys.any_of(sweep.fences), cursor, about).await?;
        let index = sweep.index();
        let mut of_shards: BTreeMap<ShardId, Vec<(String, usize, Version)>> = BTreeMap::new();
        for name in names.into_iter().filter_map(|name| String::from_utf8(name).ok()) {
            let Some((shard, pair)) = keys.place_of(&name) else { continue };
            if let Some((place, up_to)) = index.of(pair) {
                of_shards.entry(shard).or_default().push((name, place, up_to));
            }
        }
        let pieces = of_shards.iter().flat_map(|(shard, found)| found.chunks(CHUNK).map(move |piece| (shard, piece)));
        let calls = pieces.map(|(shard, piece)| async move {
            let mut call = self.sweep.call(piece.len());
            for (name, ..) in piece {
                call.arg(name);
            }
            call.arg(piece.len()).arg(i32::from(sweep.remove));
            for (.., up_to) in piece {
                call.arg(up_to.0);
            }
            let were = self.sweep.run_in_turn::<Vec<u8>>(routes, routes.slot(*shard), &call).await?;
            Ok((piece, were))
        });
        let mut swept = vec![Swept::default(); sweep.fences.len()];
        for (piece, were) in futures::future::try_join_all(calls).await.map_err(cache_error)? {
            for ((_, place, _), was) in piece.iter().zip(were) {
                match was {
                    b'p' => swept[*place].pairs += 1,
                    b'i' => swept[*place].keys += 1,
                    _ => {}
                }
            }
        }
        Ok((swept, next))
    }

    pub(crate) async fn keep_fences(
        &self,
        routes: &Arc<Routes>,
        keys: &Keys,
        fences: &[(UserId, Version)],
    ) -> CacheResult<()> {
        let name = keys.fences();
        for piece in fences.chunks(CHUNK) {
            let mut call = self.fences.call(1);
            call.arg(&name);
            for (user, up_to) in piece {
                call.arg(user.get()).arg(up_to.0);
            }
            let kept = self.fences.run_in_turn::<i64>(routes, routes.slot(Keys::FENCES), &call).await;
            kept.map_err(|error| naming(cache_error(error), |_| format!("{name} (ours is a hash)")))?;
        }
        Ok(())
    }

    pub(crate) async fn kept_fences(
        &self,
        routes: &Arc<Routes>,
        keys: &Keys,
        cursor: u64,
        about: u32,
    ) -> CacheResult<(Vec<(UserId, Version)>, u64)> {
        let mut call = cmd("HSCAN");
        call.arg(keys.fences()).arg(cursor).arg("COUNT").arg(about);
        let (next, fields): (u64, Vec<(String, String)>) = routes.ask_calmly(routes.slot(Keys::FENCES), &call).await?;
        let fence = |(user, up_to): &(String, String)| {
            let user = UserId::new(user.parse().ok()?).ok()?;
            Some((user, Version(up_to.parse().ok()?).if_possible()))
        };
        Ok((fields.iter().filter_map(fence).collect(), next))
    }
}
