//! `migrate`: the schema, what accounts may do, and partitions of tables that are large already.

use crate::Verdict;
use crate::output::{Format, print_one};
use anyhow::Context;
use event_store::{Cut, CutStep, EventStore};
use serde::Serialize;
use std::time::Duration;

/// Steps of one table, those that are tried again among them.
const MOST_STEPS: usize = 60;

/// So often rows of a clock that is ahead may come in between.
const MOST_IN_VAIN: usize = 3;

/// After a step that others were in the way of.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Serialize)]
struct Migrated {
    applied: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    granted: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    partitioned: Vec<String>,
}

/// Applies pending migrations, gives accounts what their programs do, and cuts tables.
pub(crate) async fn migrate(
    database_url: &str,
    accounts: &[event_store::Account],
    partition: bool,
    format: Format,
) -> anyhow::Result<Verdict> {
    let store = crate::job::open(database_url).await?;
    let pending = store.pending_migrations().await.context("could not read the state of the schema")?;
    store.migrate().await.context("migration failed")?;
    let mut partitioned = Vec::new();
    if partition {
        for cut in Cut::ALL {
            let steps = cut_table(&store, cut).await?;
            partitioned.extend((steps > 0).then(|| cut.table().to_owned()));
        }
    }
    let mut granted = Vec::new();
    for account in accounts {
        store.grant(account).await.with_context(|| format!("could not grant {account} what it needs"))?;
        granted.push(format!("{} to {account}", account.role.name()));
    }
    store.close().await;
    let migrated = Migrated { applied: pending, granted, partitioned };
    print_one(format, &migrated, || {
        match migrated.applied.as_slice() {
            [] => println!("the schema is current"),
            names => println!("applied {}", names.join(", ")),
        }
        match migrated.partitioned.as_slice() {
            [] if partition => println!("all partitions are there"),
            [] => {}
            tables => println!("partitioned {}", tables.join(", ")),
        }
        if !migrated.granted.is_empty() {
            println!("granted {}", migrated.granted.join(", "));
        }
    })?;
    Ok(Verdict::Fine)
}

/// Gives how many steps there were.
async fn cut_table(store: &EventStore, cut: Cut) -> anyhow::Result<usize> {
    let (mut steps, mut away, mut in_vain) = (0, false, 0);
    for _ in 0..MOST_STEPS {
        match store.cut_step(cut).await {
            Ok(CutStep::Done) => return Ok(steps),
            Ok(step) => {
                steps += 1;
                in_vain += usize::from(step == CutStep::TakenBack);
                if in_vain > MOST_IN_VAIN {
                    anyhow::bail!("{}: a row is later than the first partition, again and again", stopped(cut, false));
                }
                away = matches!(step, CutStep::Away | CutStep::Exchanged);
                eprintln!("{}: {}", cut.table(), said(step));
            }
            Err(error) if error.is_conflict() => {
                eprintln!("{}: tried again: {error}", cut.table());
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(error).with_context(|| stopped(cut, away)),
        }
    }
    anyhow::bail!("{}: others use it, or are at it; try again later", stopped(cut, away))
}

const fn said(step: CutStep) -> &'static str {
    match step {
        CutStep::Done => "done",
        CutStep::Made => "an empty table with partitions is made",
        CutStep::Away => "is away; likes wait",
        CutStep::Exchanged => "its rows are in the first partition",
        CutStep::Back => "is back, with partitions",
        CutStep::Extended => "partitions that were missing are made",
        CutStep::Dropped => "what was left over is dropped",
        CutStep::TakenBack => "is back as it was, because a row is later than the first partition",
    }
}

fn stopped(cut: Cut, away: bool) -> String {
    let state = if away { "is away and nothing is written until this command is run again" } else { "works as before" };
    format!("{} is not cut yet, and {state}", cut.table())
}
