//! The full sweep: step by step through journals, ledger, history, cached pairs and counters, at a bounded rate. Its position is kept
//! in the database after every step, so the next leader goes on where the last one stopped.

use crate::error::CheckError;
use crate::finding::{Subject, Verdict, foreign_finding, history_finding};
use crate::metrics;
use crate::run::checker::Checker;
use crate::run::pass::Pass;
use chrono::{DateTime, Utc};
use domain::{Pair, PairState, Resource, ResourceType, ShardId};
use event_store::{RunRecord, RunStatus};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const POSITION: &str = "consistency_sweep";
const FOREIGN_ROWS: u32 = 500;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    Journals,
    Pending,
    Ledger,
    History,
    Cached,
    /// Resources of this type.
    #[serde(untagged)]
    Counters(ResourceType),
}

/// Short names: it is kept in 255 characters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Position {
    #[serde(rename = "r")]
    run: Uuid,
    /// Begin of the run in microseconds.
    #[serde(rename = "t")]
    started: i64,
    #[serde(rename = "p")]
    phase: Phase,
    #[serde(rename = "a")]
    after_id: i64,
    #[serde(rename = "e")]
    after_event: Option<Uuid>,
    /// Checked, inconsistent, repaired.
    #[serde(rename = "n")]
    numbers: (i64, i64, i64),
    /// Resources looked at, and how many there were at the beginning.
    #[serde(rename = "c")]
    resources: (u64, u64),
}

impl Position {
    pub(crate) const fn phase(&self) -> &'static str {
        match self.phase {
            Phase::Journals | Phase::Pending => "journals",
            Phase::Ledger => "ledger",
            Phase::History => "history",
            Phase::Cached => "cached",
            Phase::Counters(_) => "counters",
        }
    }

    /// Resources looked at, and how many there were at the beginning.
    pub(crate) const fn resources(&self) -> (u64, u64) {
        self.resources
    }
}

impl Checker {
    /// Runs or continues a full sweep; `None` if it was stopped before its end.
    pub fn sweep<'a>(&'a self, stop: &'a CancellationToken) -> BoxFuture<'a, Result<Option<RunRecord>, CheckError>> {
        self.sweep_inner(stop).boxed()
    }

    async fn sweep_inner(&self, stop: &CancellationToken) -> Result<Option<RunRecord>, CheckError> {
        let database = &self.inspector().stores.database;
        let mut pass = self.pass("full");
        let saved = database.remembered(POSITION).await?.and_then(|text| serde_json::from_str::<Position>(&text).ok());
        let mut position = match saved {
            Some(position) => {
                pass.run.id = position.run;
                pass.run.started_at = DateTime::from_timestamp_micros(position.started).unwrap_or_default();
                (pass.run.checked, pass.run.inconsistent, pass.run.repaired) = position.numbers;
                position
            }
            None => self.beginning(&pass).await?,
        };
        pass.save(RunStatus::Running).await?;
        loop {
            let began = Instant::now();
            let checked = pass.run.checked;
            if !self.step(&mut position, &mut pass).await? {
                pass.finish_all().await?;
                database.remember(POSITION, "").await?;
                return Ok(Some(pass.run));
            }
            pass.save(RunStatus::Running).await?;
            database.remember(POSITION, &serde_json::to_string(&position).unwrap_or_default()).await?;
            tokio::select! {
                () = stop.cancelled() => return Ok(None),
                () = self.pace(began, pass.run.checked - checked) => {}
            }
        }
    }

    pub(crate) async fn beginning(&self, pass: &Pass) -> Result<Position, CheckError> {
        Ok(Position {
            run: pass.run.id,
            started: pass.run.started_at.timestamp_micros(),
            phase: Phase::Journals,
            after_id: 0,
            after_event: None,
            numbers: (0, 0, 0),
            resources: (0, self.inspector().stores.database.count_resources().await?),
        })
    }

    /// Waits until so many comparisons have taken the time that they may take.
    pub(crate) async fn pace(&self, began: Instant, compared: i64) {
        let due = Duration::from_secs_f64(compared.max(0) as f64 / f64::from(self.config().max_rate));
        tokio::time::sleep_until(began + due).await;
    }

    /// One step, and how far that is; false after the last one.
    pub(crate) async fn step(&self, position: &mut Position, pass: &mut Pass) -> Result<bool, CheckError> {
        let more = self.step_on(position, pass).await?;
        position.numbers = (pass.run.checked, pass.run.inconsistent, pass.run.repaired);
        let (seen, known) = position.resources;
        pass.run.coverage = Some(if seen >= known { 1.0 } else { seen as f64 / known as f64 });
        metrics::coverage(pass.run.coverage.unwrap_or(0.0));
        Ok(more)
    }

    async fn step_on(&self, position: &mut Position, pass: &mut Pass) -> Result<bool, CheckError> {
        match position.phase {
            Phase::Journals => {
                self.journals(pass).await?;
                position.phase = Phase::Pending;
            }
            Phase::Pending => {
                self.pending(ShardId(u16::try_from(position.after_id).unwrap_or(0)), pass).await?;
                position.after_id += 1;
                if position.after_id >= i64::from(self.inspector().shards.get()) {
                    (position.phase, position.after_id) = (Phase::Ledger, 0);
                }
            }
            Phase::Ledger => {
                position.after_event = self.ledger(position.after_event, pass).await?;
                if position.after_event.is_none() {
                    position.phase = Phase::History;
                }
            }
            Phase::History => {
                let since = self.inspector().wall_clock() - self.config().history;
                position.after_event = self.history(position.after_event, since, pass).await?;
                if position.after_event.is_none() {
                    (position.phase, position.after_id) = (Phase::Cached, 0);
                }
            }
            Phase::Cached => {
                // Cursors are what the cache makes of them, bit by bit.
                position.after_id = self.cached(position.after_id.cast_unsigned(), pass).await?.cast_signed();
                if position.after_id == 0 {
                    position.phase = Phase::Counters(ResourceType::ALL[0]);
                }
            }
            Phase::Counters(kind) => match self.counters(kind, position, pass).await? {
                Some(next) => position.after_id = next,
                None => {
                    let Some(next) = ResourceType::ALL.into_iter().find(|next| *next > kind) else { return Ok(false) };
                    (position.phase, position.after_id) = (Phase::Counters(next), 0);
                }
            },
        }
        Ok(true)
    }

    /// Accounting, old entries, and events that the ledger holds and no row has.
    async fn journals(&self, pass: &mut Pass) -> Result<(), CheckError> {
        let inspector = self.inspector();
        let (status, wrong) = inspector.accounting().await?;
        pass.compared(status.len());
        pass.take(wrong).await?;
        for accounting in &status {
            let old = inspector.old_entries(accounting).await?;
            pass.compared(old.len());
            pass.take(old).await?;
        }
        let unfinished = inspector.unfinished(None).await?;
        pass.compared(unfinished.findings.len());
        pass.take(unfinished.findings).await?;
        Ok(())
    }

    /// Resources that a journal knows: those of them that the database does not know yet are seen nowhere else. What is
    /// wrong with the others is left to the steps that come to it.
    async fn pending(&self, shard: ShardId, pass: &mut Pass) -> Result<(), CheckError> {
        let inspector = self.inspector();
        let resources: Vec<Resource> = inspector.pending(shard).await?.into_iter().collect();
        for some in resources.chunks(self.config().batch_size as usize) {
            let mut findings = inspector.counts(some).await?;
            findings.retain(|finding| finding.verdict == Verdict::InFlight);
            pass.compared(some.len());
            pass.take(findings).await?;
        }
        Ok(())
    }

    async fn ledger(&self, after: Option<Uuid>, pass: &mut Pass) -> Result<Option<Uuid>, CheckError> {
        let limit = self.config().batch_size;
        let database = self.inspector().stores.database.on_replicas();
        // Retention may end the history of what is older before it ends the event itself, which an operator has decided late.
        let since = self.inspector().wall_clock() - self.config().history;
        let step = database.ledger_after(after, since, limit).await?;
        pass.compared(step.len());
        let lacking = step.iter().filter(|audit| !audit.in_history);
        pass.take(lacking.map(|audit| history_finding(audit.entry.event.clone())).collect()).await?;
        let full = step.len() as u64 >= u64::from(limit);
        Ok(step.last().map(|audit| audit.entry.event.intent.id).filter(|_| full))
    }

    async fn history(
        &self,
        after: Option<Uuid>,
        since: DateTime<Utc>,
        pass: &mut Pass,
    ) -> Result<Option<Uuid>, CheckError> {
        let inspector = self.inspector();
        let database = inspector.stores.database.on_replicas();
        let (step, next) = database.behaviors_after(after, since, self.config().batch_size).await?;
        pass.compared(step.len());
        let lacking = inspector.rows(&database, &step).await?;
        let told: HashSet<Subject> = lacking.iter().map(|finding| finding.subject).collect();
        pass.take(lacking).await?;
        let mut pairs: Vec<Pair> = step.iter().map(|behavior| behavior.pair).collect();
        // One pair is told once: what its row lacks, its cached pair has.
        pairs.retain(|pair| !told.contains(&Subject::Pair(*pair)));
        pairs.sort_unstable();
        pairs.dedup();
        let findings = inspector.pairs(&database, &pairs).await?;
        pass.take(findings).await?;
        Ok(next)
    }

    /// Pairs of the cache: one whose row and history are gone is seen nowhere else.
    async fn cached(&self, cursor: u64, pass: &mut Pass) -> Result<u64, CheckError> {
        let inspector = self.inspector();
        let (pairs, next) = inspector.stores.cache.cached_pairs(cursor, self.config().batch_size).await?;
        pass.compared(pairs.len());
        let mut findings = inspector.pairs(&inspector.stores.database.on_replicas(), &pairs).await?;
        // The history has shown the others.
        let untouched = Some(PairState::UNTOUCHED.into());
        let since = inspector.wall_clock() - self.config().history;
        findings.retain(|finding| match &finding.event {
            Some(event) => event.version.0 < since.timestamp_micros(),
            None => finding.verdict != Verdict::Missing || finding.stored == untouched,
        });
        pass.take(findings).await?;
        Ok(next)
    }

    async fn counters(
        &self,
        kind: ResourceType,
        position: &mut Position,
        pass: &mut Pass,
    ) -> Result<Option<i64>, CheckError> {
        let inspector = self.inspector();
        let database = inspector.stores.database.on_replicas();
        let step = database.audit_page(kind, position.after_id, self.config().batch_size).await?;
        pass.compared(step.resources.len());
        position.resources.0 += step.resources.len() as u64;
        let upto = step.next.unwrap_or(i64::MAX);
        let mut foreign = database.not_believed(kind, position.after_id, upto, FOREIGN_ROWS).await?;
        if !foreign.is_empty() && !database.age().is_zero() {
            let again = &inspector.stores.database;
            foreign = again.not_believed(kind, position.after_id, upto, FOREIGN_ROWS).await?;
        }
        pass.take(foreign.into_iter().map(foreign_finding).collect()).await?;
        let findings = inspector.counts_but(&database, &step.resources, &step.suspects).await?;
        pass.take(findings).await?;
        Ok(step.next)
    }
}
