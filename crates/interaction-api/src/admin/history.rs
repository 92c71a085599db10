//! `GET /history`: samples of the last hours, one for each minute.
//!
//! Every server takes one a minute, and the database keeps the first of each minute for a day: it is there whatever cache is
//! used, all servers see it, and a restart of any of them loses nothing. While it cannot be asked, a server answers with what
//! it saw itself, and writes that down afterwards: the minutes of an outage are those that somebody wants to see.

use super::{Admin, overview};
use crate::request::Violations;
use crate::status::HttpError;
use axum::Json;
use axum::extract::{RawQuery, State};
use chrono::{DateTime, Utc};
use consistency::openapi::AnyObject;
use event_store::{EventStatus, Sample};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use service_runtime::listen::request::query;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use sync_engine::clock::wall_clock;
use sync_engine::stores::lag::{self, Lag};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use utoipa::IntoParams;

/// A day.
const MINUTES: i64 = 1_440;

/// Between two samples.
const MINUTE: Duration = Duration::from_secs(60);

/// What cannot be asked within this time is left out.
const PATIENCE: Duration = Duration::from_secs(5);

/// What this process saw itself; at most a day.
#[derive(Clone, Default)]
pub(super) struct Samples(Arc<Mutex<Own>>);

#[derive(Default)]
struct Own {
    samples: VecDeque<Sample>,
    /// So many of the newest ones are not in the database.
    unwritten: usize,
}

impl Samples {
    /// Takes a sample; gives all that are to be written.
    fn add(&self, sample: Sample) -> Vec<Sample> {
        let mut own = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if own.samples.back().is_some_and(|last| last.minute >= sample.minute) {
            return own.samples.iter().rev().take(own.unwritten).copied().collect();
        }
        own.samples.push_back(sample);
        own.unwritten += 1;
        while own.samples.len() as i64 > MINUTES {
            own.samples.pop_front();
        }
        own.unwritten = own.unwritten.min(own.samples.len());
        own.samples.iter().rev().take(own.unwritten).copied().collect()
    }

    fn written(&self, number: usize) {
        let mut own = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        own.unwritten = own.unwritten.saturating_sub(number);
    }

    fn since(&self, minute: i64) -> Vec<Sample> {
        let own = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        own.samples.iter().filter(|sample| sample.minute >= minute).copied().collect()
    }
}

impl Admin {
    /// Takes a sample at the start of each minute, until `stop`.
    pub(crate) fn sample(self, stop: CancellationToken) -> BoxFuture<'static, ()> {
        async move {
            loop {
                let unwritten = self.samples.add(take(&self).await);
                if !self.stores.database_circuit.is_open() {
                    match timeout(PATIENCE, self.stores.database.keep_samples(&unwritten)).await {
                        Ok(Ok(())) => self.samples.written(unwritten.len()),
                        // They are written with the next one.
                        Ok(Err(error)) => tracing::debug!("keeping {} samples: {error}", unwritten.len()),
                        Err(elapsed) => tracing::debug!(%elapsed, "keeping {} samples", unwritten.len()),
                    }
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(until_next_minute(wall_clock())) => {}
                }
            }
        }
        .boxed()
    }
}

fn until_next_minute(now: DateTime<Utc>) -> Duration {
    let gone = now.timestamp_millis().rem_euclid(60_000);
    MINUTE.saturating_sub(Duration::from_millis(gone.unsigned_abs()))
}

async fn take(admin: &Admin) -> Sample {
    let figures = overview::latest(admin).await;
    let of = |status| {
        let count = figures.ledger.as_ref()?.iter().find(|one| one.status == status)?.count;
        i64::try_from(count).ok()
    };
    let (lag, rate) = match timeout(PATIENCE, judged(admin)).await {
        Ok(judged) if !admin.stores.database_circuit.is_open() => judged,
        _ => (None, None),
    };
    let whole = |number: u64| i64::try_from(number).ok();
    Sample {
        minute: Sample::minute_of(figures.at),
        accepted: figures.journal.and_then(|journal| whole(journal.accepted)),
        journal: figures.journal.and_then(|journal| whole(journal.pending)),
        queue: figures.queue.map(|queue| i64::from(queue.ready)),
        lag_p50_ms: lag.map(|lag| lag.p50_ms),
        lag_p99_ms: lag.map(|lag| lag.p99_ms),
        failed: of(EventStatus::Failed),
        dead: of(EventStatus::Dead),
        // What was read before this minute is none of its figures.
        open_findings: Some(admin.stores.standings.latest(Instant::now(), figures.at))
            .filter(|seen| seen.unread.is_none())
            .and_then(|seen| whole(seen.standing?.open_findings)),
        // Cut off, not rounded: what is not all is not a million.
        consistent_ppm: rate.map(|rate| (rate * 1e6) as i64),
    }
}

async fn judged(admin: &Admin) -> (Option<Lag>, Option<f64>) {
    let lag = lag::recent(&admin.stores).await.ok().flatten();
    (lag, admin.checker.consistency_rate(1).await.ok().flatten())
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Parameters {
    /// How far to look back.
    #[param(minimum = 1, maximum = 1440, default = 1440)]
    minutes: Option<i64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Answer {
    at: DateTime<Utc>,
    /// Whether the database was asked; else these are the samples of this process since its start.
    complete: bool,
    /// Oldest first; minutes that nobody sampled are not there.
    samples: Vec<Sample>,
}

fn of_query(given: Option<&str>) -> Result<i64, HttpError> {
    let Parameters { minutes } = query(given)?;
    let minutes = minutes.unwrap_or(MINUTES);
    let mut violations = Violations::http();
    if !(1..=MINUTES).contains(&minutes) {
        violations.add("minutes", format!("must be 1 to {MINUTES}, got {minutes}"));
    }
    Ok(violations.given(Some(minutes))?)
}

/// Samples of the last hours, one for each minute.
#[utoipa::path(get, path = "/history", operation_id = "history", params(Parameters),
    responses((status = 200, description = "Samples.", body = AnyObject), (status = 400, description = "Names the parameter.")))]
pub(super) async fn http(State(admin): State<Admin>, RawQuery(given): RawQuery) -> Result<Json<Answer>, HttpError> {
    let minutes = of_query(given.as_deref())?;
    let at = wall_clock();
    let since = Sample::minute_of(at) - minutes + 1;
    let kept = async {
        if admin.stores.database_circuit.is_open() {
            return None;
        }
        admin.stores.database.samples_since(since).await.ok()
    };
    let kept = timeout(PATIENCE, kept).await.ok().flatten();
    let complete = kept.is_some();
    let of_minute = |sample: Sample| (sample.minute, sample);
    let mut samples: BTreeMap<i64, Sample> = admin.samples.since(since).into_iter().map(of_minute).collect();
    samples.extend(kept.unwrap_or_default().into_iter().map(of_minute));
    Ok(Json(Answer { at, complete, samples: samples.into_values().collect() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(minute: i64) -> Sample {
        Sample { minute, ..Sample::default() }
    }

    #[test]
    fn what_the_database_did_not_take_is_offered_again_and_a_day_is_kept() {
        let samples = Samples::default();
        assert_eq!(samples.add(sample(1)).len(), 1);
        assert_eq!(samples.add(sample(1)).len(), 1, "the same minute");
        assert_eq!(samples.add(sample(2)), [sample(2), sample(1)]);
        samples.written(2);
        assert_eq!(samples.add(sample(3)), [sample(3)]);
        for minute in 4..3_000 {
            samples.add(sample(minute));
        }
        assert_eq!(samples.add(sample(3_000)).len() as i64, MINUTES);
        assert_eq!(samples.since(2_999), [sample(2_999), sample(3_000)]);
    }

    #[test]
    fn a_sample_is_taken_when_a_minute_begins() {
        let at = |millis| until_next_minute(DateTime::from_timestamp_millis(millis).unwrap());
        assert_eq!((at(60_000), at(61_500)), (MINUTE, Duration::from_millis(58_500)));
    }

    #[test]
    fn a_day_can_be_asked_for() {
        assert_eq!((of_query(None).unwrap(), of_query(Some("minutes=60")).unwrap()), (1_440, 60));
        for wrong in ["minutes=0", "minutes=1441", "minutes=x", "hours=1"] {
            assert_eq!(of_query(Some(wrong)).unwrap_err().error.status, 400, "{wrong}");
        }
    }
}
