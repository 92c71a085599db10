//! What happens to the old shards: drained, closed, opened again if it comes to nothing, and sealed.

use super::lease::Lease;
use super::steps::{PAUSE, SAY_EVERY, Work, at};
use super::under_way::{NOTE, UnderWay};
use anyhow::{bail, ensure};
use cache_manager::{Closing, RedisCache, Standing};
use domain::cache::LikeCache;
use domain::{ShardId, Version, WritePath};
use futures::future::try_join_all;
use std::time::Duration;
use tokio::time::{Instant, sleep};

impl Work {
    /// The highest version that the old shards gave.
    pub(super) async fn drain_and_close(&self, under_way: &UnderWay, lease: &Lease) -> anyhow::Result<Version> {
        self.open_all(under_way).await?;
        self.database.set_note(NOTE, Some(&under_way.written())).await?;
        at("noted");
        self.database.set_write_path(Some(WritePath::Synchronous)).await?;
        eprintln!("all servers write to the database first from now on; waiting until the journals are empty");
        at("ordered");
        let until = Instant::now() + Duration::from_secs_f64(self.args.drain_for);
        let mut said = Instant::now();
        loop {
            lease.held()?;
            let status = self.old.shard_status().await?;
            let held: Vec<String> = status
                .iter()
                .filter(|shard| shard.journal_len > 0)
                .map(|shard| {
                    let age = shard.oldest.map_or(0, |oldest| shard.now.since(oldest).as_secs());
                    format!("shard {} {} (oldest {age} s)", shard.shard, shard.journal_len)
                })
                .collect();
            if held.is_empty()
                && let Some(highest) = self.close_all(under_way).await?
            {
                eprintln!("{} shards are empty, and closed", under_way.from.get());
                return Ok(highest);
            }
            let interrupted = self.interrupt.is_cancelled();
            if interrupted || Instant::now() >= until {
                self.undo(under_way, lease).await?;
                if interrupted {
                    bail!("interrupted; all is as it was before");
                }
                bail!(
                    "still unsettled after {:.0} s, so all is as it was before: {}; syncctl explain and syncctl events say why",
                    self.args.drain_for,
                    if held.is_empty() { "what comes in meanwhile".to_owned() } else { held.join(", ") }
                );
            }
            if said.elapsed() >= SAY_EVERY {
                said = Instant::now();
                eprintln!("unsettled: {}", held.join(", "));
            }
            sleep(PAUSE).await;
        }
    }

    /// All at once; none if one is not empty any more. Then all are open again, so that it is settled.
    async fn close_all(&self, under_way: &UnderWay) -> anyhow::Result<Option<Version>> {
        let count = usize::from(under_way.from.get());
        let (first, second): (Vec<ShardId>, Vec<ShardId>) =
            under_way.from.all().partition(|shard| usize::from(shard.0) < count.div_ceil(2));
        let mut highest = Version::ZERO;
        for some in [first, second] {
            let closing = some.into_iter().map(|shard| self.old.close_shard(shard, under_way.to));
            for closed in try_join_all(closing).await? {
                match closed {
                    Closing::Closed(version) => highest = highest.max(version),
                    Closing::Holds(_) => {
                        self.open_all(under_way).await?;
                        return Ok(None);
                    }
                }
            }
            at("half_closed");
        }
        at("closed");
        Ok(Some(highest))
    }

    async fn open_all(&self, under_way: &UnderWay) -> anyhow::Result<()> {
        try_join_all(under_way.from.all().map(|shard| self.old.open_shard(shard, under_way.to))).await?;
        Ok(())
    }

    async fn undo(&self, under_way: &UnderWay, lease: &Lease) -> anyhow::Result<()> {
        // Another one may be at it, and what is undone here would be his.
        lease.held()?;
        self.open_all(under_way).await?;
        self.take_order_back(under_way).await?;
        self.database.set_note(NOTE, None).await?;
        Ok(())
    }

    /// The write path of before, unless somebody has ordered another one meanwhile.
    pub(super) async fn take_order_back(&self, under_way: &UnderWay) -> anyhow::Result<()> {
        let ordered = self.database.write_path().await?;
        let named = |path: Option<WritePath>| path.map_or_else(|| "as configured".to_owned(), |path| path.to_string());
        if ordered == under_way.path {
            return Ok(());
        }
        if ordered == Some(WritePath::Synchronous) {
            self.database.set_write_path(under_way.path).await?;
            eprintln!("the write path is that of before again: {}", named(under_way.path));
        } else {
            eprintln!("the write path was ordered meanwhile and stays: {}", named(ordered));
        }
        Ok(())
    }

    /// How the old shards stand; an error if one is closed for something else.
    pub(super) async fn standings(&self, under_way: &UnderWay) -> anyhow::Result<Vec<Standing>> {
        let all = try_join_all(under_way.from.all().map(|shard| self.old.standing(shard, under_way.to))).await?;
        for (shard, standing) in under_way.from.all().zip(&all) {
            if let Standing::Foreign(word) = standing {
                bail!("in place of the clock of shard {shard} stands {word:?}: end that first");
            }
        }
        Ok(all)
    }

    /// Closed shards stay closed from now on. One that is open again, because Redis has lost that it was closed, as a replica may that
    /// was behind when it was promoted, is drained and closed as before; whatever may have come in there is handed over then, and before
    /// anything is sealed that was not. `handed` says that all was since the shards were closed.
    pub(super) async fn seal(
        &mut self,
        under_way: &UnderWay,
        new: &RedisCache,
        lease: &Lease,
        mut handed: bool,
    ) -> anyhow::Result<()> {
        let until = Instant::now() + Duration::from_secs_f64(self.args.drain_for);
        loop {
            lease.held()?;
            let (mut highest, mut held) = (Version::ZERO, Vec::new());
            let standings = self.standings(under_way).await?;
            let unsealed: Vec<(ShardId, Standing)> =
                under_way.from.all().zip(standings).filter(|(_, standing)| *standing != Standing::Sealed).collect();
            for (shard, standing) in &unsealed {
                handed &= *standing == Standing::Closed;
                match self.old.close_shard(*shard, under_way.to).await? {
                    Closing::Closed(version) => highest = highest.max(version),
                    Closing::Holds(entries) => held.push(format!("shard {shard} {entries}")),
                }
            }
            if !held.is_empty() {
                let held = held.join(", ");
                let over = self.interrupt.is_cancelled() || Instant::now() >= until;
                ensure!(!over, "opened again, and not settled: {held}; run this again, it cannot be undone any more");
                sleep(PAUSE).await;
                continue;
            }
            if !handed && !unsealed.is_empty() {
                self.hand_over(new, highest, lease).await?;
                handed = true;
            }
            let mut sealed = true;
            for shard in under_way.from.all() {
                sealed &= self.old.seal_shard(shard, under_way.to).await?;
                if shard.0 == under_way.from.get() / 2 {
                    at("half_sealed");
                }
            }
            if sealed {
                at("sealed");
                return Ok(());
            }
        }
    }
}
