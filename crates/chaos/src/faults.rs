//! Brings a fault about, and undoes it.

use crate::account::Flush;
use crate::broker;
use crate::kinds::{Clock, Lease};
use crate::notice::Before;
use crate::plan::{Fault, Step, Store};
use crate::redis;
use crate::rig::{QUEUE, Rig, lock};
use anyhow::{Context, Result};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use test_support::{Preload, try_eventually};
use tokio::time::sleep;
use traffic::history::now_micros;

/// A lease that nobody renews runs out within it, and another process takes it, on a busy machine too.
const TAKE_OVER_LIMIT: Duration = Duration::from_secs(25);

/// Two primaries at once.
const LONGEST_SPLIT: Duration = Duration::from_secs(1);

/// A transaction that the server chose to end for another one's sake is begun again so often.
const ATTEMPTS: usize = 5;

/// Returns when it is healed: the process is started, the store answers, the link is whole.
pub(crate) async fn strike(rig: &Rig, step: Step) -> Result<()> {
    sleep(step.after).await;
    if step.fault.needs_settled_broker() {
        rig.broker_rests().await;
    }
    act(rig, step).await.with_context(|| step.fault.to_string())
}

async fn act(rig: &Rig, step: Step) -> Result<()> {
    let lasts = step.lasts;
    match step.fault {
        Fault::Switch(store) => rig.groups()?.switch(store).await,
        Fault::FailOver(Store::Redis, behind) => rig.groups()?.fail_over_redis(behind).await,
        Fault::FailOver(_, behind) => fail_over_database(rig, behind).await,
        Fault::SplitRedis => rig.groups()?.split_redis(lasts.min(LONGEST_SPLIT)).await,
        Fault::LagDatabase => rig.groups()?.lag_database(lasts).await,
        Fault::KillBrokerNode => match rig.cluster() {
            Ok(cluster) => cluster.kill_broker_node(lasts).await,
            Err(_) => rig.groups()?.kill_broker_node(lasts).await,
        },
        Fault::LosePrimary(loss) => rig.cluster()?.lose_primary(rig, loss).await,
        Fault::MoveSlot(shard, keys) => rig.cluster()?.move_slot(rig, shard, keys, lasts).await,
        Fault::LoseHalf(shard) => rig.cluster()?.lose_half(rig, shard, lasts).await,
        Fault::MinorityBroker => rig.groups()?.minority_broker(lasts).await,
        Fault::AlarmBroker => rig.groups()?.alarm_broker(lasts).await,
        Fault::KillNode(node) => {
            rig.node(node).kill9()?;
            sleep(lasts).await;
            rig.node(node).process().restart()
        }
        Fault::PauseNode(node) => {
            let process = rig.node(node).process();
            stop(step, || process.pause(), || process.resume()).await
        }
        Fault::SkewServer(node, seconds) => {
            rig.node(node).replace(seconds).await?;
            sleep(lasts).await;
            rig.node(node).replace(0).await
        }
        Fault::StepClock(clock, seconds) => {
            let preload = match clock {
                Clock::Redis => {
                    rig.clock_was_set.store(true, Ordering::Relaxed);
                    rig.store(Store::Redis).preload()?
                }
                Clock::Node(node) => rig.node(node).preload()?,
            };
            preload.set_clock(seconds * 1_000_000)?;
            sleep(lasts).await;
            preload.set_clock(0)
        }
        Fault::KillStore(store) => {
            rig.store(store).kill9()?;
            sleep(lasts).await;
            rig.store(store).restart().await
        }
        Fault::PauseStore(store) => {
            let server = rig.store(store);
            stop(step, || server.pause(), || server.resume()).await
        }
        Fault::RestartStore(store) => {
            rig.store(store).stop().await?;
            rig.store(store).restart().await
        }
        Fault::SlowSync(store, delay) => slow_sync(rig, store, delay, lasts).await,
        Fault::LockRows => lock_rows(rig, lasts).await,
        Fault::CutLink(node, store) => {
            rig.link(node, store).cut().await;
            sleep(lasts).await;
            rig.link(node, store).restore().await
        }
        Fault::FreezeLink(node, store) => {
            rig.link(node, store).freeze();
            sleep(lasts).await;
            rig.link(node, store).restore().await
        }
        Fault::HoldRequests(node, store) => {
            rig.link(node, store).hold_requests();
            sleep(lasts).await;
            rig.link(node, store).restore().await
        }
        Fault::HoldAnswers(node, store) => {
            rig.link(node, store).hold_answers();
            sleep(lasts).await;
            rig.link(node, store).restore().await
        }
        Fault::SlowLink(node, store, delay) => {
            rig.link(node, store).delay(delay);
            sleep(lasts).await;
            rig.link(node, store).restore().await
        }
        Fault::CutHolder(lease, store) => cut_holder(rig, lease, store, lasts).await,
        Fault::FillQueue => {
            pause_consumers(rig)?;
            sleep(lasts).await;
            resume_consumers(rig)
        }
        Fault::FlushRedis => flush(rig).await,
        Fault::PurgeQueue | Fault::DeleteQueue => {
            // Nobody consumes for a while, so that there is something to lose.
            pause_consumers(rig)?;
            sleep(lasts).await;
            let addr = rig.deployment.rabbitmq().addr()?;
            let result = match step.fault {
                Fault::PurgeQueue => broker::purge_queue(&addr, QUEUE).await,
                _ => broker::delete_queue(&addr, QUEUE).await,
            };
            rig.queue_is_lost(step.fault.kind());
            resume_consumers(rig)?;
            result
        }
        Fault::WipeBroker => {
            let broker = rig.deployment.rabbitmq();
            broker.kill9()?;
            rig.queue_is_lost(step.fault.kind());
            broker.wipe_and_restart().await
        }
    }
}

/// What the new primary lacks must be noticed.
async fn fail_over_database(rig: &Rig, behind: Duration) -> Result<()> {
    let url = rig.deployment.database_url();
    let (_, schema) = url.rsplit_once('/').context("no schema")?;
    let before = Before::look(rig);
    let promotion = rig.groups()?.fail_over_database(behind, schema).await?;
    match before.noticed(rig, promotion).await {
        Ok(notice) => lock(&rig.notices).extend(notice),
        Err(error) => lock(&rig.findings).push(format!("failover_database {behind:?}: {error:#}")),
    }
    Ok(())
}

/// Once, or twice with hardly a moment in between.
async fn stop(step: Step, pause: impl Fn() -> Result<()>, resume: impl Fn() -> Result<()>) -> Result<()> {
    pause()?;
    sleep(step.lasts).await;
    resume()?;
    if let Some((between, lasts)) = step.again {
        sleep(between).await;
        pause()?;
        sleep(lasts).await;
        resume()?;
    }
    Ok(())
}

async fn slow_sync(rig: &Rig, store: Store, delay: Duration, lasts: Duration) -> Result<()> {
    let preload: &Preload = rig.store(store).preload()?;
    let before = preload.delayed_syncs()?;
    // Otherwise it syncs once a second, whatever is committed: see the deployment.
    let sync_commits = async |value: u8| match store {
        Store::MariaDb => {
            rig.deployment.sql(&format!("SET GLOBAL innodb_flush_log_at_trx_commit = {value}")).await.map(drop)
        }
        Store::Redis | Store::RabbitMq => Ok(()),
    };
    sync_commits(1).await?;
    preload.slow_sync(delay)?;
    sleep(lasts).await;
    preload.slow_sync(Duration::ZERO)?;
    sync_commits(2).await?;
    let delayed = preload.delayed_syncs()? - before;
    lock(&rig.notes).push(format!("slow_sync_{}: {delayed} syncs took {delay:?} longer", store.name()));
    Ok(())
}

/// Locks the counters and pairs that were written last: those are the hot ones.
async fn lock_rows(rig: &Rig, lasts: Duration) -> Result<()> {
    let mut locks = String::new();
    for (table, key, newest) in [
        ("like_counts", "resource_type, resource_id", "last_version DESC LIMIT 3"),
        ("video_likes", "user_id, video_id", "version DESC LIMIT 5"),
        ("comment_likes", "user_id, comment_id", "version DESC LIMIT 3"),
    ] {
        let rows = rig.deployment.sql(&format!("SELECT {key} FROM {table} ORDER BY {newest}")).await?;
        for row in rows.lines() {
            let values = row.split('\t').map(|value| format!("'{value}'")).collect::<Vec<_>>().join(", ");
            locks += &format!("SELECT 1 FROM {table} WHERE ({key}) = ({values}) FOR UPDATE; ");
        }
    }
    let transaction = format!("START TRANSACTION; {locks} SELECT SLEEP({}); ROLLBACK", lasts.as_secs_f64());
    let mut attempt = 0;
    loop {
        attempt += 1;
        match rig.deployment.sql(&transaction).await {
            Ok(_) => return Ok(()),
            Err(error) if attempt >= ATTEMPTS || !format!("{error:#}").contains("try restarting") => return Err(error),
            Err(_) => {}
        }
    }
}

/// Another process must take the lease from a holder that has lost what it needs.
async fn cut_holder(rig: &Rig, lease: Lease, store: Store, lasts: Duration) -> Result<()> {
    let addr = rig.deployment.redis().addr()?;
    let held_by_other = async |than: Option<&str>| match redis::holder(&addr, lease.name()).await {
        Ok(Some(name)) if than != Some(name.as_str()) => Ok(name),
        other => Err(format!("{other:?}")),
    };
    let what = format!("a holder of the lease {}", lease.name());
    let holder = try_eventually(TAKE_OVER_LIMIT, what, async || held_by_other(None).await).await?;
    let node = rig.node_named(&holder).with_context(|| format!("the lease is held by {holder:?}"))?;
    rig.link(node, store).cut().await;
    let cut = Instant::now();
    sleep(lasts).await;
    // Without the broker it goes on: it applies directly.
    if store != Store::RabbitMq {
        let what = format!("another holder of the lease {} than {holder}", lease.name());
        match try_eventually(TAKE_OVER_LIMIT, what, async || held_by_other(Some(&holder)).await).await {
            Ok(other) => {
                let took = cut.elapsed().as_secs_f64();
                let note = format!("cut_holder {}-{}: {holder}, after {took:.1} s {other}", lease.name(), store.name());
                lock(&rig.notes).push(note);
            }
            Err(error) => lock(&rig.findings).push(format!("{holder} without {}: {error:#}", store.name())),
        }
    }
    rig.link(node, store).restore().await
}

async fn flush(rig: &Rig) -> Result<()> {
    let Some(mut entries) = redis::flush(&rig.deployment.redis().addr()?).await? else {
        lock(&rig.notes).push("flush_redis: not done, because versions are ahead of the clock of Redis".to_owned());
        return Ok(());
    };
    if rig.clock_was_set.load(Ordering::Relaxed) {
        entries.iter_mut().for_each(|(_, age)| *age = None);
    }
    lock(&rig.flushes).push(Flush { at: now_micros(), entries });
    Ok(())
}

fn pause_consumers(rig: &Rig) -> Result<()> {
    rig.consumers().iter().try_for_each(|node| node.process().pause())
}

fn resume_consumers(rig: &Rig) -> Result<()> {
    rig.consumers().iter().try_for_each(|node| node.process().resume())
}
