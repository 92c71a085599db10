//! The checker: what runs by itself, and what is asked for.

use crate::config::ConsistencyConfig;
use crate::error::CheckError;
use crate::finding::{Finding, Verdict};
use crate::inspect::Inspector;
use crate::metrics;
use crate::openapi::{ResourceName, VerdictName};
use crate::repair::Repairer;
use crate::repair::leader::Leader;
use crate::run::pass::Pass;
use domain::{Pair, Resource};
use event_store::{RunStatus, Within};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use sync_engine::Stores;
use sync_engine::stores::faults;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;
use uuid::Uuid;

/// Latest likers of a resource whose cached pairs are compared.
const SAMPLE: u32 = 100;

/// How often it is looked whether something is due.
const TICK: Duration = Duration::from_millis(200);

/// From one look at what is open to the next: somebody who has put it right looks at the page.
const OPEN_EVERY: Duration = Duration::from_secs(5);

const PURGED: u32 = 1_000;

/// Compares and repairs. Clones are the same checker.
#[derive(Clone)]
pub struct Checker(Arc<Parts>);

struct Parts {
    repairer: Repairer,
    leader: Leader,
    config: ConsistencyConfig,
}

/// What a check on demand found.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct CheckOutcome {
    /// The resource.
    #[serde(flatten)]
    #[schema(value_type = ResourceName)]
    pub resource: Resource,
    /// The worst of all findings; `consistent` if there is none.
    #[schema(value_type = VerdictName)]
    pub verdict: Verdict,
    /// Its run.
    pub run_id: Uuid,
    /// Whether this process may repair.
    pub leader: bool,
    /// Everything that is not consistent, what is in flight included.
    #[schema(value_type = Vec<Object>)]
    pub findings: Vec<Finding>,
}

impl Checker {
    /// Not the leader until it [`run`](Self::run)s. `owner` must differ between processes.
    pub fn new(stores: Stores, config: ConsistencyConfig, owner: impl Into<Arc<str>>) -> Self {
        metrics::register();
        let inspector = Inspector {
            shards: stores.shards(),
            stores: stores.clone(),
            stuck_after: config.stuck_after,
            confirm_after: config.confirm_after,
        };
        let leader = Leader::new(stores, owner, config.lease);
        let repairer = Repairer { inspector, leader: leader.clone(), fix: config.auto_fix };
        Self(Arc::new(Parts { repairer, leader, config }))
    }

    /// This process as a candidate.
    pub fn leader(&self) -> &Leader {
        &self.0.leader
    }

    pub(crate) fn inspector(&self) -> &Inspector {
        &self.0.repairer.inspector
    }

    pub(crate) fn config(&self) -> &ConsistencyConfig {
        &self.0.config
    }

    pub(crate) fn pass(&self, kind: &'static str) -> Pass {
        Pass::new(self.0.repairer.clone(), kind, self.0.config.report.max_findings)
    }

    /// Stands for election, and while it leads: full sweeps, hot resources, retention. Until `stop`.
    ///
    /// Boxed, so that all of it is compiled here and not with every program.
    pub fn run(self, stop: CancellationToken) -> BoxFuture<'static, ()> {
        self.lead(stop).boxed()
    }

    async fn lead(self, stop: CancellationToken) {
        let leader = tokio::spawn(self.0.leader.clone().run(stop.clone()));
        let mut sweep_due = Instant::now();
        // A full sweep comes first, and looks at everything.
        let mut hot_due = Instant::now() + self.0.config.hot_data_check;
        let mut open_due = Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(TICK) => {}
            }
            let stores = &self.inspector().stores;
            if self.0.leader.token().is_none() || stores.cache_circuit.is_open() || stores.database_circuit.is_open() {
                continue;
            }
            // What is compared now would be found wrong, and is put right by who recovers the database.
            if stores.history.is_latched() {
                continue;
            }
            if Instant::now() >= hot_due {
                hot_due = Instant::now() + self.0.config.hot_data_check;
                self.conclude("hot resources", self.check_hot().await);
                self.conclude("retention", self.purge().await);
            }
            if Instant::now() >= open_due {
                self.conclude("open findings", self.close_cured().await);
                open_due = Instant::now() + OPEN_EVERY;
            }
            if Instant::now() >= sweep_due {
                let began = Instant::now();
                // Hot resources and what is open are not left alone for as long as a sweep takes.
                let swept = tokio::select! {
                    () = stop.cancelled() => break,
                    swept = self.sweep_as_leader(&stop) => swept,
                    () = self.watch_hot() => Ok(()),
                    () = self.watch_open() => Ok(()),
                };
                sweep_due = match &swept {
                    Ok(()) => began + self.0.config.check_interval,
                    Err(_) => Instant::now() + Duration::from_secs(5),
                };
                self.conclude("full sweep", swept);
            }
        }
        // Gives the lease back.
        let _ = leader.await;
    }

    async fn sweep_as_leader(&self, stop: &CancellationToken) -> Result<(), CheckError> {
        let lost = stop.child_token();
        let watch = async {
            while self.0.leader.token().is_some() {
                tokio::time::sleep(TICK).await;
            }
            lost.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            swept = self.sweep(&lost) => {
                if let Some(run) = swept? {
                    tracing::info!(
                        checked = run.checked,
                        inconsistent = run.inconsistent,
                        repaired = run.repaired,
                        "full sweep finished"
                    );
                }
                Ok(())
            }
            () = watch => Ok(()),
        }
    }

    async fn watch_hot(&self) {
        loop {
            tokio::time::sleep(self.0.config.hot_data_check).await;
            self.conclude("hot resources", self.check_hot().await);
        }
    }

    async fn watch_open(&self) {
        loop {
            tokio::time::sleep(OPEN_EVERY).await;
            self.conclude("open findings", self.close_cured().await);
        }
    }

    fn conclude(&self, what: &str, result: Result<(), CheckError>) {
        let Err(error) = result else { return };
        faults::tell(what, &error);
        let stores = &self.inspector().stores;
        match &error {
            CheckError::Cache(error) if error.is_unavailable() => stores.cache_failed_somewhere(error),
            CheckError::Store(error) if error.is_unavailable() => stores.database_circuit.failure(error),
            _ => {}
        }
    }

    /// Compares the hottest resources, the pairs that changed last, what the ledger holds unfinished, and what is open.
    pub fn check_hot(&self) -> BoxFuture<'_, Result<(), CheckError>> {
        self.check_hot_inner().boxed()
    }

    async fn check_hot_inner(&self) -> Result<(), CheckError> {
        let mut pass = self.pass("hot");
        let hot = self.inspector().hot(self.0.config.hot_resources).await?;
        pass.compared(hot.resources.len() + hot.pairs.len());
        let findings = self.inspector().counts(&hot.resources).await?;
        pass.take(findings).await?;
        for pairs in hot.pairs.chunks(self.0.config.batch_size as usize) {
            let findings = self.inspector().pairs(&self.inspector().stores.database, pairs).await?;
            pass.take(findings).await?;
        }
        let unfinished = self.inspector().unfinished(None).await?;
        pass.compared(unfinished.findings.len());
        pass.take(unfinished.findings).await?;
        self.look_again(&mut pass, None, unfinished.complete).await?;
        pass.finish(RunStatus::Finished).await
    }

    /// Whether the configuration repairs anything.
    pub fn repairs(&self) -> bool {
        self.0.config.auto_fix.effective() != crate::Strategy::ReportOnly && !self.0.config.auto_fix.dry_run
    }

    /// What is wrong with the counters of one resource now, or on its way: as [`check`](Self::check) sees them. Repairs nothing, and
    /// writes nothing down.
    pub fn counts_of(&self, resource: Resource) -> BoxFuture<'_, Result<Vec<Finding>, CheckError>> {
        async move { self.inspector().counts(&[resource]).await }.boxed()
    }

    /// Compares one resource: its rows with its newest events, its counters, the cached pairs of its latest likers, and what the
    /// ledger holds unfinished; and
    /// looks again at what is open. Repairs as configured, if this process is the leader and not `dry_run`.
    pub fn check(&self, resource: Resource, dry_run: bool) -> BoxFuture<'_, Result<CheckOutcome, CheckError>> {
        self.check_inner(resource, dry_run).boxed()
    }

    async fn check_inner(&self, resource: Resource, dry_run: bool) -> Result<CheckOutcome, CheckError> {
        let mut pass = self.pass("demand").dry(dry_run);
        let database = &self.inspector().stores.database;
        let likers = database.list_likers(resource, Within::default(), SAMPLE, None).await?;
        let pairs: Vec<Pair> = likers.likes.iter().map(|liked| liked.pair).collect();
        let since = self.inspector().wall_clock() - self.config().history;
        let applied = self.inspector().applied_of(resource, since).await?;
        pass.compared(1 + pairs.len() + applied.len());
        // Before the counters: recounted without a row that comes back, they would be wrong once more.
        let rows = self.inspector().rows(database, &applied).await?;
        let rows = pass.take(rows).await?;
        let mut findings = self.inspector().counts(&[resource]).await?;
        findings.extend(self.inspector().pairs(database, &pairs).await?);
        let unfinished = self.inspector().unfinished(Some(resource)).await?;
        pass.compared(unfinished.findings.len());
        findings.extend(unfinished.findings);
        let found = pass.take(findings).await?;
        let mut findings = [rows, found].concat();
        let again = self.look_again(&mut pass, Some(resource), unfinished.complete).await?;
        let told = |one: &Finding| findings.iter().any(|other| (other.kind, other.subject) == (one.kind, one.subject));
        let again: Vec<Finding> = again.into_iter().filter(|one| !told(one)).collect();
        findings.extend(again);
        pass.finish(RunStatus::Finished).await?;
        let worst = |one: &Finding| match one.verdict {
            Verdict::Consistent => 0,
            Verdict::InFlight => 1,
            Verdict::Stale => 2,
            Verdict::Stuck => 3,
            Verdict::Orphan => 4,
            Verdict::Missing => 5,
            Verdict::Drift => 6,
            Verdict::WentBack => 7,
        };
        let verdict = findings.iter().max_by_key(|one| worst(one)).map_or(Verdict::Consistent, |one| one.verdict);
        let leader = self.0.leader.token().is_some();
        Ok(CheckOutcome { resource, verdict, run_id: pass.run.id, leader, findings })
    }

    /// One bounded step of forgetting old reports.
    async fn purge(&self) -> Result<(), CheckError> {
        let database = &self.inspector().stores.database;
        let before = database.now().await? - self.0.config.report.retention;
        database.purge_reports(before, PURGED).await?;
        Ok(())
    }
}
