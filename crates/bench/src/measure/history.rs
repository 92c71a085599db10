//! m: what retention keeps while likes come at the rate that can be sustained.
//!
//! No installation keeps less than an hour, and an hour of likes at that rate, several times over, takes longer than anybody waits here. So
//! the tables are cut eight times into the history that this measurement keeps, as every installation's are into its own, and the retention
//! that runs is the consumer's own, in this process.

use super::{Bench, Figures};
use crate::load::{self, Amount, Load};
use crate::raw_sql::Sql;
use crate::report::Target;
use crate::rig::{Rig, Settings};
use anyhow::Result;
use cache_manager::RedisConfig;
use domain::cache::CacheRules;
use event_store::{Cut, DatabaseConfig, EventStore};
use migrations::partitions::{Holds, Partition, list};
use std::time::{Duration, Instant};
use sync_engine::operate::retention::Retention;
use sync_engine::{RetentionConfig, Stores, SyncConfig};
use tokio_util::sync::CancellationToken;

/// The consumer's own rounds do not come.
const SETTINGS: Settings = &[("EVENT_DRIVEN_SYNC__RETENTION__INTERVAL", "30d")];

const LIKES_PER_CALL: u32 = 500;

/// Of what a load without pauses achieved.
const STEADY: f64 = 0.8;

/// A history's partitions.
const PARTS: u64 = 8;

/// Between two looks at the tables, of the history.
const LOOKS: u32 = 12;

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    let Bench { rig, sizes, report, .. } = bench;
    rig.start(SETTINGS, 1).await?;
    let mut sql = rig.sql().await?;
    let kept = Duration::from_secs_f64(sizes.history);
    let whole = Duration::from_secs_f64(5.0 * sizes.history);
    cut(&mut sql, kept, 2 * whole).await?;
    let stop = CancellationToken::new();
    let retention = tokio::spawn(retention(rig, kept).await?.run(stop.clone()));

    load::warm_up(rig, sizes.warm_up, sizes.resources).await?;
    let full = Load::batches(8, LIKES_PER_CALL, Amount::Seconds(sizes.seconds), sizes.resources);
    let rate = full.send_and_settle(rig).await?.per_second() * STEADY;
    let mut figures = Figures::default();
    figures.note("likes", "1/s", rate);
    let load = Load::paced_batches(rate, LIKES_PER_CALL, whole.as_secs_f64(), sizes.resources);
    let (sending, began) = (load.spawn(rig)?, Instant::now());
    let mut looks = tokio::time::interval(kept / LOOKS);
    let sent = tokio::spawn(load::finish(sending));
    let mut bytes = Vec::new();
    while !sent.is_finished() {
        looks.tick().await;
        // Until then there is nothing to be dropped; and where nothing was, nothing is compared.
        if began.elapsed() < kept.mul_f64(1.0 + 1.0 / PARTS as f64) || sent.is_finished() {
            continue;
        }
        for (name, table) in [("ledger", "sync_events"), ("history", "user_behaviors")] {
            let rows = sql.number(&format!("SELECT COUNT(*) FROM {table}")).await? as f64;
            figures.note(format!("{name} / likes of the history"), "", rows / (rate * kept.as_secs_f64()));
        }
        bytes.push(sql.number(BYTES).await? as f64);
    }
    let sent = sent.await??;
    rig.all_settled().await?;
    stop.cancel();
    retention.await?;
    figures.note("likes sent at that rate", "", sent.acknowledged as f64);
    figures.note("p99 of a call", "ms", sent.latencies_ms()[1]);
    if let Some((first, last)) = bytes.first().zip(bytes.last()) {
        figures.note("bytes of both tables, last look / first", "", last / first);
    }
    figures.add_to(report, "m")?;
    for name in ["ledger", "history"] {
        let of = figures.of(&format!("{name} / likes of the history"));
        let most = of.iter().copied().fold(0.0, f64::max);
        report.judge("m", format!("largest {name} / likes of the history"), "", &[most], Target::AtMost(1.2))?;
    }
    Ok(())
}

/// Of all partitions, as far as the server knows.
const BYTES: &str = "SELECT CAST(SUM(data_length + index_length) AS SIGNED) FROM information_schema.partitions \
                     WHERE table_schema = DATABASE() AND table_name IN ('sync_events', 'user_behaviors')";

/// Cuts both tables, which are empty, for so long ahead.
async fn cut(sql: &mut Sql, kept: Duration, ahead: Duration) -> Result<()> {
    let now: u64 = sql.number("SELECT CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)").await?.try_into()?;
    let period = u64::try_from(kept.as_millis())? / PARTS;
    let count = u64::try_from(ahead.as_millis())? / period;
    // Behind them is one that nobody finds too near.
    let far = now + 10 * 365 * 86_400_000;
    let bounds = (1..=count).map(|number| now + number * period).chain([far]);
    let parts: Vec<Partition> = bounds.map(|bound| Partition { holds: Holds::Period, bound }).collect();
    for cut in Cut::ALL {
        let (table, key, list) = (cut.table(), cut.key(), list(&parts, true));
        sql.run(&format!("ALTER TABLE {table} PARTITION BY RANGE COLUMNS({key}) {list}")).await?;
    }
    Ok(())
}

/// The consumer's, with a history that no consumer may be told.
async fn retention(rig: &Rig, kept: Duration) -> Result<Retention> {
    let retention = RetentionConfig {
        completed_events: kept,
        behaviors: kept,
        interval: kept / u32::try_from(PARTS)? / 10,
        ..RetentionConfig::default()
    };
    let sync = SyncConfig { retention, ..SyncConfig::default() };
    let redis = RedisConfig { url: rig.redis_url.clone().into(), key_prefix: String::new(), ..RedisConfig::default() };
    let hour = Duration::from_secs(3_600);
    let rules = CacheRules {
        shards: sync.shards,
        pair_ttl: hour,
        counter_ttl: hour,
        unknown_ttl: hour,
        idempotency_ttl: sync.idempotency_ttl,
        journal_limit: sync.journal_limit,
        user_limit: None,
    };
    let database = DatabaseConfig { url: rig.database_url().to_owned().into(), ..DatabaseConfig::default() };
    let database = EventStore::connect(&database).await?;
    let stores = Stores::new(std::sync::Arc::new(redis.build(rules)?), database, sync.shards, sync.circuit);
    stores.prepare().await?;
    Ok(Retention::new(stores, "bench".to_owned(), &sync))
}
