//! Brings a fault about, and undoes it.

use crate::broker;
use crate::plan::{Fault, Step};
use crate::redis;
use crate::rig::{QUEUE, QUEUE_LIMIT, Rig, lock};
use anyhow::{Context, Result};
use std::time::Duration;
use tokio::time::sleep;

/// Returns when it is healed: the process is started, the store answers, the link is whole.
/// `counts_as_lost`: whether what a flush of Redis takes may have been nowhere else.
pub(crate) async fn strike(rig: &Rig, step: Step, counts_as_lost: bool) -> Result<()> {
    sleep(step.after).await;
    if step.fault.needs_settled_broker() {
        rig.broker_rests().await;
    }
    act(rig, step.fault, step.lasts, counts_as_lost).await.with_context(|| step.fault.to_string())
}

async fn act(rig: &Rig, fault: Fault, lasts: Duration, counts_as_lost: bool) -> Result<()> {
    match fault {
        Fault::KillNode(node) => {
            let process = rig.node(node).process();
            process.kill9()?;
            sleep(lasts).await;
            process.restart()
        }
        Fault::PauseNode(node) => {
            let process = rig.node(node).process();
            process.pause()?;
            sleep(lasts).await;
            process.resume()
        }
        Fault::SkewServer(node, seconds) => {
            let library = rig.faketime.as_ref().context("libfaketime is not installed")?;
            let env = [
                ("LD_PRELOAD", library.display().to_string()),
                ("FAKETIME", format!("{seconds:+}")),
                // The name of the variable changed between versions.
                ("DONT_FAKE_MONOTONIC", "1".to_owned()),
                ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ];
            rig.node(node).replace(&env).await?;
            sleep(lasts).await;
            rig.node(node).replace(&[]).await
        }
        Fault::KillStore(store) => {
            rig.store(store).kill9()?;
            sleep(lasts).await;
            rig.store(store).restart().await
        }
        Fault::PauseStore(store) => {
            rig.store(store).pause()?;
            sleep(lasts).await;
            rig.store(store).resume()
        }
        Fault::RestartStore(store) => {
            rig.store(store).stop().await?;
            rig.store(store).restart().await
        }
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
        Fault::SlowLink(node, store, delay) => {
            rig.link(node, store).delay(delay);
            sleep(lasts).await;
            rig.link(node, store).restore().await
        }
        Fault::FillQueue => {
            pause_consumers(rig)?;
            sleep(lasts).await;
            resume_consumers(rig)
        }
        Fault::FlushRedis => {
            if !counts_as_lost {
                // What an earlier fault left in the journal alone must be out of it: then nothing at all may be lost.
                rig.earlier_faults_settled().await?;
            }
            // What a full queue refuses is in the journal alone, whoever it was that filled it.
            let alone = counts_as_lost
                || broker::ready_messages(&rig.deployment.rabbitmq().addr()?, QUEUE).await? >= QUEUE_LIMIT;
            let entries = redis::flush(&rig.deployment.redis().addr()?).await?;
            if alone {
                lock(&rig.flushed).extend(entries);
            }
            Ok(())
        }
        Fault::PurgeQueue | Fault::DeleteQueue => {
            // Nobody consumes for a while, so that there is something to lose.
            pause_consumers(rig)?;
            sleep(lasts).await;
            let addr = rig.deployment.rabbitmq().addr()?;
            let result = match fault {
                Fault::PurgeQueue => broker::purge_queue(&addr, QUEUE).await,
                _ => broker::delete_queue(&addr, QUEUE).await,
            };
            resume_consumers(rig)?;
            result
        }
        Fault::WipeBroker => rig.deployment.rabbitmq().wipe_and_restart().await,
    }
}

fn pause_consumers(rig: &Rig) -> Result<()> {
    rig.consumers().iter().try_for_each(|node| node.process().pause())
}

fn resume_consumers(rig: &Rig) -> Result<()> {
    rig.consumers().iter().try_for_each(|node| node.process().resume())
}
