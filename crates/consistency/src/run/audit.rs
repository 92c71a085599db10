//! A full sweep for somebody who waits for it: it begins at the beginning, says how far it is, and hands over every finding.

use crate::error::CheckError;
use crate::finding::{Finding, RepairResult};
use crate::run::checker::Checker;
use event_store::{RunRecord, RunStatus};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How far an audit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// `journals`, `ledger`, `history`, `cached` or `counters`.
    pub phase: &'static str,
    /// Things compared.
    pub checked: i64,
    /// Things found wrong.
    pub inconsistent: i64,
    /// Those of them that were repaired.
    pub repaired: i64,
    /// Resources looked at.
    pub resources: u64,
    /// How many there were at the beginning.
    pub known_resources: u64,
}

impl Checker {
    /// Compares everything, as [`sweep`](Self::sweep) does, but is continued by nobody; `None` if it was stopped.
    ///
    /// `each` gets what was found since it was last called, what is in flight included: a resource that is in flight
    /// may come several times. If `take_over`, repairs are made whoever leads (see
    /// [`Leader::take_over`](crate::repair::leader::Leader::take_over)); the token is renewed as long as this runs.
    pub async fn audit(
        &self,
        take_over: bool,
        stop: &CancellationToken,
        mut each: impl FnMut(Progress, Vec<Finding>),
    ) -> Result<Option<RunRecord>, CheckError> {
        let mut pass = self.pass("audit").dry(!take_over).listening();
        let mut position = self.beginning(&pass).await?;
        pass.save(RunStatus::Running).await?;
        let mut took_over: Option<Instant> = None;
        loop {
            let began = Instant::now();
            let stale = took_over.is_none_or(|at| at.elapsed() > self.config().lease / 3);
            if take_over && (stale || self.leader().token().is_none()) {
                self.leader().take_over().await?;
                took_over = Some(began);
            }
            let (phase, checked) = (position.phase(), pass.run.checked);
            let more = self.step(&mut position, &mut pass).await?;
            let (resources, known_resources) = position.resources();
            let run = &pass.run;
            let progress = Progress {
                phase,
                checked: run.checked,
                inconsistent: run.inconsistent,
                repaired: run.repaired,
                resources,
                known_resources,
            };
            each(progress, pass.heard());
            if !more {
                pass.finish_all().await?;
                return Ok(Some(pass.run));
            }
            pass.save(RunStatus::Running).await?;
            tokio::select! {
                () = stop.cancelled() => {
                    pass.finish(RunStatus::Aborted).await?;
                    return Ok(None);
                }
                () = self.pace(began, progress.checked - checked) => {}
            }
        }
    }

    /// [`check`](Self::check) that repairs whoever has the leader.
    pub fn repair(&self, resource: domain::Resource) -> BoxFuture<'_, Result<crate::CheckOutcome, CheckError>> {
        self.repair_inner(resource).boxed()
    }

    async fn repair_inner(&self, resource: domain::Resource) -> Result<crate::CheckOutcome, CheckError> {
        let mut outcome = None;
        for _ in 0..TRIES {
            self.leader().take_over().await?;
            let checked = self.check(resource, false).await?;
            let fenced = checked
                .findings
                .iter()
                .any(|one| one.repair.as_ref().is_some_and(|note| note.outcome == RepairResult::Fenced));
            outcome = Some(checked);
            if !fenced {
                break;
            }
            // The leader has just taken a newer token; it is done with it soon.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        match outcome {
            Some(outcome) => Ok(outcome),
            None => self.check(resource, false).await,
        }
    }
}

/// How often a repair is tried again that another repairer came before.
const TRIES: u32 = 3;
