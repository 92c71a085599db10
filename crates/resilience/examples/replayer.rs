//! Replays every dead event of the ledger, two at a time, and ends: what an operator does after an incident.

use anyhow::Result;
use event_store::{EventFilter, EventStatus, EventStore, Operation, Pace};
use service_runtime::{Context, Options};
use settings::Settings;
use std::process::ExitCode;

/// Few, so that a process that dies in between has replayed some of them and not the others.
const BATCH: u32 = 2;

fn main() -> ExitCode {
    match Options::from_args("replayer", env!("CARGO_PKG_VERSION")) {
        Ok(options) => service_runtime::run(options, replay),
        Err(code) => code,
    }
}

async fn replay(_context: Context, settings: Settings) -> Result<()> {
    let store = EventStore::connect(&settings.database).await?;
    let dead = EventFilter { status: Some(EventStatus::Dead), ..EventFilter::default() };
    let operation = Operation { actor: "replayer".to_owned(), ..Operation::default() };
    loop {
        let page = store.list_events(&dead, BATCH, None).await?;
        if page.events.is_empty() && page.next.is_none() {
            return Ok(());
        }
        let ids: Vec<_> = page.events.iter().map(|entry| entry.event.intent.id).collect();
        let now = test_support::wall_clock().into();
        store.replay(&ids, &operation, Pace { from: now, per_second: 1_000 }, now).await?;
    }
}
