//! The steps, in their order.

use super::ReshardArgs;
use super::facts::{Facts, cache};
use super::lease::Lease;
use super::under_way::{NOTE, UnderWay};
use crate::cli::interrupt_on_signal;
use crate::output::{Format, print_one};
use crate::{UsageError, Verdict};
use anyhow::{Context, ensure};
use cache_manager::{RedisCache, SlotsNow, Standing};
use chrono::TimeDelta;
use domain::cache::LikeCache;
use domain::{ShardCount, Version, WritePath};
use event_store::{EventStore, ProcessRow};
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
pub(super) const PAUSE: Duration = Duration::from_millis(200);
/// From one line about the same to the next.
pub(super) const SAY_EVERY: Duration = Duration::from_secs(5);
/// Keys looked at, at once.
const ABOUT: u32 = 2_000;
/// Who has not said for so long that it runs does not run.
const ALIVE: TimeDelta = TimeDelta::seconds(10);

const LOST: &str = "shards are closed for good already, and the note about that is lost: going on from there. What the write path was \
                    before is lost, too";

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
    args.cache.tell(&mut settings.redis);
    // No caller waits; who ends here leaves likes on the way around Redis until somebody comes back.
    settings.redis.response_timeout = PATIENCE;
    settings.redis.connect_timeout = PATIENCE;
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
    let work = Work { database, old, interrupt: interrupt(), args, told };
    if !facts.is_noted && facts.stored == under_way.to {
        let standings = work.standings(&under_way).await?;
        ensure!(
            standings.iter().all(|standing| *standing == Standing::Sealed),
            "the database has {} shards, the cache {}, and those are not closed: another Redis or --redis-prefix was meant",
            under_way.to,
            under_way.from
        );
        eprintln!("{LOST}");
        work.database.set_note(NOTE, Some(&under_way.written())).await?;
    }
    work.go(under_way, facts.stored, new, lease, format).await
}

fn interrupt() -> CancellationToken {
    let interrupt = CancellationToken::new();
    tokio::spawn(interrupt_on_signal(interrupt.clone()));
    interrupt
}

/// Here a test has the process die.
pub(super) fn at(point: &str) {
    if fail::has_failpoints() && std::env::var("SYNCCTL_DIES_AT").is_ok_and(|wanted| wanted == point) {
        std::process::abort();
    }
}

pub(super) struct Work {
    pub(super) database: EventStore,
    pub(super) old: RedisCache,
    pub(super) interrupt: CancellationToken,
    pub(super) args: ReshardArgs,
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
        self.believed().await?;
        if now != under_way.to {
            let handed = !under_way.sealing && !self.noted_again(&mut under_way).await?;
            if handed {
                let highest = self.drain_and_close(&under_way, &lease).await?;
                self.hand_over(&new, highest, &lease).await?;
                lease.held()?;
                self.believed().await?;
                under_way.sealing = true;
                self.database.set_note(NOTE, Some(&under_way.written())).await?;
                at("sealing");
            }
            self.seal(&under_way, &new, &lease, handed).await?;
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
        self.take_order_back(&under_way).await?;
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

    /// A database that lacks commits is recovered by what the cache has under the number of now.
    async fn believed(&self) -> anyhow::Result<()> {
        for note in ["went_back", "recovery"] {
            ensure!(
                self.database.note(note).await?.is_none(),
                "the database went back in time and is not recovered yet: wait for that, or syncctl recover; then this once more"
            );
        }
        Ok(())
    }

    /// Whether shards are sealed of which no note says so: the database has lost it. Then it goes on from there.
    async fn noted_again(&self, under_way: &mut UnderWay) -> anyhow::Result<bool> {
        if !self.standings(under_way).await?.contains(&Standing::Sealed) {
            return Ok(false);
        }
        eprintln!("{LOST}");
        under_way.sealing = true;
        self.database.set_note(NOTE, Some(&under_way.written())).await?;
        self.database.set_write_path(Some(WritePath::Synchronous)).await?;
        Ok(true)
    }

    async fn rehearse(mut self, format: Format) -> anyhow::Result<Verdict> {
        let status = self.old.shard_status().await.unwrap_or_default();
        self.told.unsettled = status.iter().map(|shard| shard.journal_len).sum();
        self.told.to_restart = self.running(None).await?;
        if self.told.from == self.told.to {
            self.told.to_restart.clear();
            print_one(format, &self.told, || println!("the data has {} shards: nothing to do", self.told.to))?;
            return Ok(Verdict::Fine);
        }
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

    pub(super) async fn hand_over(&mut self, new: &RedisCache, highest: Version, lease: &Lease) -> anyhow::Result<()> {
        self.empty(new, lease).await?;
        new.raise_clocks(highest).await?;
        self.old.hand_over(new).await?;
        at("half_handed_over");
        // Keys of a slot that moves are seen by no walk that passes one node before they leave the other, and that one after.
        let mut slots = self.slots_at_rest().await?;
        loop {
            self.hand_over_answers(new, lease).await?;
            let now = self.slots_at_rest().await?;
            if now == slots {
                break;
            }
            eprintln!("slots of the cluster were moved meanwhile: looking through all keys again");
            slots = now;
        }
        eprintln!("handed over what is known of erased users and deleted resources, and {} answers", self.told.answers);
        at("handed_over");
        Ok(())
    }

    /// What an earlier attempt, that came to nothing, has handed over, goes: users may have been erased since, and resources deleted.
    async fn empty(&self, new: &RedisCache, lease: &Lease) -> anyhow::Result<()> {
        // Nobody uses these shards before they are recorded.
        if !new.was_begun().await? || self.old.recorded_shards().await? == Some(new.number()) {
            return Ok(());
        }
        let mut cursor = 0;
        loop {
            lease.held()?;
            cursor = new.remove_handed_over(cursor, ABOUT).await?;
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    async fn hand_over_answers(&mut self, new: &RedisCache, lease: &Lease) -> anyhow::Result<()> {
        let (mut cursor, mut said) = (0, Instant::now());
        self.told.answers = 0;
        loop {
            lease.held()?;
            let (answers, next) = self.old.hand_over_answers(new, cursor, ABOUT).await?;
            self.told.answers += answers;
            cursor = next;
            if next == 0 {
                return Ok(());
            }
            if said.elapsed() >= SAY_EVERY {
                said = Instant::now();
                eprintln!("handed over {} answers to idempotency keys", self.told.answers);
            }
        }
    }

    /// Waits until no slot of a cluster moves.
    async fn slots_at_rest(&self) -> anyhow::Result<SlotsNow> {
        let mut said = false;
        loop {
            let now = self.old.slots_now().await.context("cache")?;
            if !now.moving {
                return Ok(now);
            }
            ensure!(
                !self.interrupt.is_cancelled(),
                "interrupted while slots of the cluster move: run this again, soon"
            );
            if !std::mem::replace(&mut said, true) {
                eprintln!("slots of the cluster are on their way: waiting until they are where they go");
            }
            sleep(PAUSE).await;
        }
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
        if self.database.write_path().await? == Some(WritePath::Synchronous) {
            eprintln!("the write path is ordered to be synchronous: syncctl write-path");
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
