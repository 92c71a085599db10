//! The steps, in their order.

use super::ReshardArgs;
use super::facts::{Facts, cache};
use super::lease::Lease;
use super::under_way::{NOTE, UnderWay};
use crate::cli::interrupt_on_signal;
use crate::output::{Format, print_one};
use crate::{UsageError, Verdict};
use anyhow::{Context, bail, ensure};
use cache_manager::{Closing, RedisCache};
use chrono::TimeDelta;
use domain::cache::LikeCache;
use domain::{ShardCount, ShardId, Version, WritePath};
use event_store::{EventStore, ProcessRow};
use futures::future::try_join_all;
use serde::Serialize;
use settings::Settings;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// When the number was changed last, by the database's clock.
const CHANGED: &str = "resharded_at";
/// For an answer of Redis.
const PATIENCE: Duration = Duration::from_secs(5);
/// From one look to the next.
const PAUSE: Duration = Duration::from_millis(200);
/// From one line about the same to the next.
const SAY_EVERY: Duration = Duration::from_secs(5);
/// Keys looked at, at once.
const ABOUT: u32 = 2_000;
/// Who has not said for so long that it runs does not run.
const ALIVE: TimeDelta = TimeDelta::seconds(10);

/// What it came to.
#[derive(Debug, Serialize)]
struct Told {
    from: u16,
    to: u16,
    /// False of a rehearsal.
    done: bool,
    /// Unsettled entries, of a rehearsal.
    unsettled: u64,
    /// Answers to idempotency keys that were handed over.
    answers: u64,
    /// Keys of the old shards that were removed.
    removed: u64,
    /// Processes that still work with another number.
    to_restart: Vec<String>,
}

pub(super) async fn run(args: ReshardArgs, format: Format) -> anyhow::Result<Verdict> {
    let mut settings = Settings::default();
    settings.database.url = args.database_url.clone().into();
    settings.redis.url = args.redis_url.clone().into();
    settings.redis.cluster = args.redis_cluster;
    // No caller waits; who ends here leaves likes on the way around Redis until somebody comes back.
    settings.redis.response_timeout = PATIENCE;
    settings.redis.connect_timeout = PATIENCE;
    settings.redis.key_prefix.clone_from(&args.redis_prefix);
    settings.redis.ca_file.clone_from(&args.redis_ca_file);
    settings.database.validate().map_err(UsageError)?;
    settings.redis.validate().map_err(UsageError)?;
    let database = EventStore::connect(&settings.database).await?;
    let pending = database.pending_migrations().await.context("could not read the state of the schema")?;
    ensure!(pending.is_empty(), "the schema is not current: syncctl migrate, or another database was meant");
    let facts = Facts::read(&settings, &database).await?;
    if args.dry_run {
        let under_way = facts.under_way(args.to)?;
        let from = under_way.map_or(facts.stored, |under_way| under_way.from);
        let to = under_way.map_or(facts.stored, |under_way| under_way.to);
        let told = Told::of(from, to);
        let old = cache(&settings, from)?;
        return Work { database, old, interrupt: interrupt(), args, told }.rehearse(format).await;
    }
    // The lease has the same name whatever the number of shards is.
    let lease = Lease::take(Arc::new(cache(&settings, facts.stored)?)).await?;
    // What was read before may be another one's, who was at it until now.
    let facts = Facts::read(&settings, &database).await?;
    let Some(under_way) = facts.under_way(args.to)? else {
        let mut told = Told::of(facts.stored, facts.stored);
        told.done = true;
        let old = cache(&settings, facts.stored)?;
        lease.give_back().await;
        return Work { database, old, interrupt: interrupt(), args, told }.end(format).await;
    };
    let (old, new) = (cache(&settings, under_way.from)?, cache(&settings, under_way.to)?);
    let told = Told::of(under_way.from, under_way.to);
    Work { database, old, interrupt: interrupt(), args, told }.go(under_way, facts.stored, new, lease, format).await
}

fn interrupt() -> CancellationToken {
    let interrupt = CancellationToken::new();
    tokio::spawn(interrupt_on_signal(interrupt.clone()));
    interrupt
}

/// Here a test has the process die.
fn at(point: &str) {
    if fail::has_failpoints() && std::env::var("SYNCCTL_DIES_AT").is_ok_and(|wanted| wanted == point) {
        std::process::abort();
    }
}

struct Work {
    database: EventStore,
    old: RedisCache,
    interrupt: CancellationToken,
    args: ReshardArgs,
    told: Told,
}

impl Told {
    fn of(from: ShardCount, to: ShardCount) -> Self {
        let (from, to, to_restart) = (from.get(), to.get(), Vec::new());
        Self { from, to, done: false, unsettled: 0, answers: 0, removed: 0, to_restart }
    }
}

impl Work {
    async fn go(
        mut self,
        mut under_way: UnderWay,
        now: ShardCount,
        new: RedisCache,
        lease: Lease,
        format: Format,
    ) -> anyhow::Result<Verdict> {
        ensure!(
            self.database.note("went_back").await?.is_none(),
            "the database went back in time and is not recovered: syncctl recover, then this once more"
        );
        if now != under_way.to {
            if !under_way.sealing {
                let highest = self.drain_and_close(&under_way, &lease).await?;
                self.hand_over(&new, highest, &lease).await?;
                lease.held()?;
                under_way.sealing = true;
                self.database.set_note(NOTE, Some(&under_way.written())).await?;
                at("sealing");
            }
            self.seal(&under_way, &new).await?;
            lease.held()?;
            eprintln!("recording {} shards", under_way.to.get());
            // Who started before this has the old number.
            let changed_at = self.database.now().await?.timestamp_micros();
            self.database.set_note(CHANGED, Some(&changed_at.to_string())).await?;
            self.database.change_shards(under_way.from, under_way.to).await?;
            let stored = self.database.shards().await?;
            ensure!(stored == Some(under_way.to), "the database has another number of shards than was to be recorded");
            let changed_at = self.database.now().await?.timestamp_micros();
            self.database.set_note(CHANGED, Some(&changed_at.to_string())).await?;
            at("recorded_in_database");
        }
        lease.held()?;
        new.record_shards().await?;
        at("recorded_in_cache");
        lease.held()?;
        self.database.set_write_path(under_way.path).await?;
        eprintln!("likes go the way of before, by servers that start from now on");
        at("path_restored");
        let mut cursor = 0;
        loop {
            let (removed, next) = self.old.remove_closed(cursor, ABOUT).await?;
            self.told.removed += removed;
            cursor = next;
            if next == 0 {
                break;
            }
        }
        eprintln!("removed {} keys of the {} shards of before", self.told.removed, under_way.from.get());
        at("removed");
        lease.held()?;
        self.database.set_note(NOTE, None).await?;
        self.told.done = true;
        lease.give_back().await;
        self.end(format).await
    }

    async fn rehearse(mut self, format: Format) -> anyhow::Result<Verdict> {
        let status = self.old.shard_status().await.unwrap_or_default();
        self.told.unsettled = status.iter().map(|shard| shard.journal_len).sum();
        self.told.to_restart = self.running(None).await?;
        print_one(format, &self.told, || {
            println!(
                "{} shards would become {}; {} unsettled entries would be waited for; to be restarted afterwards: {}",
                self.told.from,
                self.told.to,
                self.told.unsettled,
                listed(&self.told.to_restart)
            );
        })?;
        Ok(Verdict::Fine)
    }

    /// The highest version that the old shards gave.
    async fn drain_and_close(&self, under_way: &UnderWay, lease: &Lease) -> anyhow::Result<Version> {
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
        self.database.set_write_path(under_way.path).await?;
        self.database.set_note(NOTE, None).await?;
        Ok(())
    }

    async fn hand_over(&mut self, new: &RedisCache, highest: Version, lease: &Lease) -> anyhow::Result<()> {
        new.raise_clocks(highest).await?;
        self.old.hand_over(new).await?;
        at("half_handed_over");
        let (mut cursor, mut said) = (0, Instant::now());
        loop {
            lease.held()?;
            let (answers, next) = self.old.hand_over_answers(new, cursor, ABOUT).await?;
            self.told.answers += answers;
            cursor = next;
            if next == 0 {
                break;
            }
            if said.elapsed() >= SAY_EVERY {
                said = Instant::now();
                eprintln!("handed over {} answers to idempotency keys", self.told.answers);
            }
        }
        eprintln!("handed over what is known of erased users and deleted resources, and {} answers", self.told.answers);
        at("handed_over");
        Ok(())
    }

    async fn seal(&self, under_way: &UnderWay, new: &RedisCache) -> anyhow::Result<()> {
        for shard in under_way.from.all() {
            while !self.old.seal_shard(shard, under_way.to).await? {
                // Redis has lost that it was closed, as a replica may that was behind when it was promoted.
                match self.old.close_shard(shard, under_way.to).await? {
                    Closing::Closed(version) => drop(new.raise_clocks(version).await?),
                    Closing::Holds(entries) => bail!(
                        "shard {shard} was opened again and holds {entries} entries: run this again when they are settled"
                    ),
                }
            }
            if shard.0 == under_way.from.get() / 2 {
                at("half_sealed");
            }
        }
        at("sealed");
        Ok(())
    }

    /// Says who works with another number still, and waits for them.
    async fn end(mut self, format: Format) -> anyhow::Result<Verdict> {
        let changed_at = self.database.note(CHANGED).await?.and_then(|text| text.parse::<i64>().ok());
        let mut said = Vec::new();
        loop {
            self.told.to_restart = match changed_at {
                Some(at) => self.running(Some(at)).await?,
                None => Vec::new(),
            };
            if self.told.to_restart.is_empty() || self.args.no_wait || self.interrupt.is_cancelled() {
                break;
            }
            if said != self.told.to_restart {
                eprintln!(
                    "waiting until these are restarted, which write to the database meanwhile: {}",
                    listed(&self.told.to_restart)
                );
                said.clone_from(&self.told.to_restart);
            }
            sleep(PAUSE * 5).await;
        }
        self.database.close().await;
        print_one(format, &self.told, || {
            let left = if self.told.to_restart.is_empty() { "" } else { "; to be restarted: " };
            let left = format!("{left}{}", self.told.to_restart.join(", "));
            println!("the data has {} shards{left}", self.told.to);
        })?;
        Ok(Verdict::from_fine(self.told.to_restart.is_empty() || self.args.no_wait))
    }

    /// Processes that run, and have since before this time.
    async fn running(&self, before: Option<i64>) -> anyhow::Result<Vec<String>> {
        let now = self.database.now().await?;
        let is_old = |row: &ProcessRow| before.is_none_or(|before| row.started_at.timestamp_micros() < before);
        let rows = self.database.processes().await?;
        let running = rows.into_iter().filter(|row| now - row.seen_at < ALIVE && is_old(row));
        Ok(running.map(|row| format!("{} {}", row.service, row.instance)).collect())
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
