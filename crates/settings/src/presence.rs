//! Every process says again and again that it runs and how it is, so that one page shows them all.

use event_store::ProcessRow;
use futures::FutureExt;
use futures::future::BoxFuture;
use service_runtime::{Context, Report, Status};
use std::time::{Duration, Instant};
use sync_engine::Stores;
use sync_engine::clock::wall_clock;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// From one word to the next: who says none for a few times is missed within ten seconds.
const EVERY: Duration = Duration::from_secs(2);

/// A slow database hears the next one.
const PATIENCE: Duration = Duration::from_secs(5);

/// Says so until `stop`, and then that it has stopped.
pub fn announce(context: &Context, stores: &Stores, stop: CancellationToken) -> BoxFuture<'static, ()> {
    announce_inner(context.clone(), stores.clone(), stop).boxed()
}

async fn announce_inner(context: Context, stores: Stores, stop: CancellationToken) {
    let started_at = wall_clock();
    loop {
        if !stores.database_circuit.is_open() {
            let (status, detail) = in_words(&context.health.report().await);
            let row = ProcessRow {
                service: context.service.to_owned(),
                instance: context.instance.to_string(),
                version: context.version.to_owned(),
                status: status.to_owned(),
                detail,
                started_at,
                seen_at: wall_clock(),
            };
            let said = timeout(PATIENCE, stores.database.announce(&row)).await;
            match said {
                Ok(Ok(rows)) => stores.standings.saw_processes(Instant::now(), rows),
                // The probe opens the circuit; here nothing is lost but a word.
                Ok(Err(error)) => tracing::debug!("announcing this process: {error}"),
                Err(elapsed) => tracing::debug!("announcing this process: {elapsed}"),
            }
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
    if !stores.database_circuit.is_open() {
        let left = stores.database.leave(context.service, &context.instance);
        if let Ok(Err(error)) = timeout(PATIENCE, left).await {
            tracing::debug!("taking leave: {error}");
        }
    }
}

/// Of a process, and which of its parts are not well.
fn in_words(report: &Report) -> (&'static str, Option<String>) {
    let name = |status| match status {
        Status::Ok => "ok",
        Status::Degraded => "degraded",
        Status::Down => "down",
    };
    let unwell = report.parts.iter().filter(|(_, part)| part.status != Status::Ok);
    let words: Vec<String> = unwell
        .map(|(name, part)| {
            let last = part.last_error.as_ref().map(|last| format!("; {}", last.error)).unwrap_or_default();
            format!("{name}: {}{last}", part.detail)
        })
        .collect();
    (name(report.status), (!words.is_empty()).then(|| words.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use service_runtime::{Criticality, HealthRegistry, LastError, PartState};

    #[tokio::test]
    async fn a_process_says_which_of_its_parts_are_not_well() {
        let health = HealthRegistry::new();
        health.part("mysql", Criticality::Critical).ok();
        assert_eq!(in_words(&health.report().await), ("ok", None));
        // Another one: the answers of a report are kept for a moment.
        let health = HealthRegistry::new();
        health.probe("redis", Criticality::Optional, || async {
            let error = LastError { at: "now".to_owned(), error: "OOM; raise maxmemory".to_owned() };
            PartState::new(Status::Down, "unreachable").with_last_error(Some(error))
        });
        health.part("flow", Criticality::Optional).set(Status::Degraded, "slow");
        let (status, detail) = in_words(&health.report().await);
        assert_eq!(
            (status, detail.as_deref()),
            ("degraded", Some("flow: slow; redis: unreachable; OOM; raise maxmemory"))
        );
    }
}
