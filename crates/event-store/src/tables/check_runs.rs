//! The checker's own tables: runs, and one row per inconsistency found; and small values it must not forget.

use crate::sql::error::StoreError;
use crate::sql::script::{Script, utc};
use crate::sql::store::{EventStore, get, row, rows};
use crate::tables::findings;
use chrono::{DateTime, NaiveDateTime, Utc};
use sea_orm::QueryResult;
use uuid::Uuid;

const RUNS: &str = "consistency_runs";
const CHECKS: &str = "data_consistency_checks";

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Not at its end; forever, if its process died.
    Running,
    /// At its end.
    Finished,
    /// Stopped by an error, or by the loss of the leadership.
    Aborted,
}

impl RunStatus {
    /// As stored.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Aborted => "aborted",
        }
    }
}

/// One run of the checker.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct RunRecord {
    /// UUID v7.
    pub id: Uuid,
    /// `full`, `hot` or `demand`.
    pub kind: String,
    /// How it repaired.
    pub strategy: String,
    /// `running`, `finished` or `aborted`.
    pub status: String,
    /// Begin.
    pub started_at: DateTime<Utc>,
    /// End.
    pub finished_at: Option<DateTime<Utc>>,
    /// Things compared.
    pub checked: i64,
    /// Things found wrong; what is in flight is not among them.
    pub inconsistent: i64,
    /// Those of them that were repaired.
    pub repaired: i64,
    /// Part of all resources that was looked at, 0 to 1; full runs only.
    pub coverage: Option<f64>,
}

/// One inconsistency.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FindingRecord {
    /// Its run.
    pub run_id: Uuid,
    /// `video`, `comment` or `shard`.
    pub resource_type: String,
    /// Id of the resource, number of the shard.
    pub resource_id: i64,
    /// Of a pair.
    pub user_id: Option<i64>,
    /// What was compared.
    pub kind: String,
    /// What is wrong.
    pub verdict: String,
    /// The cache's value.
    pub cache_value: Option<i64>,
    /// The database's value.
    pub stored_value: Option<i64>,
    /// Everything else, JSON.
    pub details: String,
    /// When it was repaired.
    pub repaired_at: Option<DateTime<Utc>>,
    /// When it was found.
    pub created_at: DateTime<Utc>,
}

/// What was found of one kind.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct KindRecord {
    /// What was compared.
    pub kind: String,
    /// What is wrong.
    pub verdict: String,
    /// How often.
    pub found: i64,
    /// How many of them were repaired.
    pub repaired: i64,
}

/// The runs that began in one hour.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct HourRecord {
    /// `2026-01-31 07`, UTC.
    pub hour: String,
    /// Runs.
    pub runs: i64,
    /// Things compared.
    pub checked: i64,
    /// Things found wrong.
    pub inconsistent: i64,
    /// Those of them that were repaired.
    pub repaired: i64,
}

/// Findings written in one round trip.
const AT_ONCE: usize = 50;

impl EventStore {
    /// Writes a run, or what changed of it. Words are the caller's constants: lower case letters and `_`.
    pub async fn save_run(
        &self,
        run: &RunRecord,
        kind: &'static str,
        strategy: &'static str,
        status: RunStatus,
    ) -> Result<(), StoreError> {
        let columns = ["status", "finished_at", "checked", "inconsistent", "repaired", "coverage"];
        let mut script = self.script();
        let overwrite = script.dialect().overwrite("id", &columns, None);
        script.begin("INSERT INTO consistency_runs (id, kind, strategy, status, started_at, finished_at, checked, ");
        script.words("inconsistent, repaired, coverage) VALUES (").uuid(run.id).words(",").name(kind).words(",");
        script.name(strategy).words(",").name(status.name()).words(",").time(run.started_at).words(",");
        script.time_or_null(run.finished_at).words(",").int(run.checked).words(",").int(run.inconsistent);
        script.words(",").int(run.repaired).words(",");
        match run.coverage.filter(|coverage| coverage.is_finite()) {
            Some(coverage) => script.words(&format!("{coverage:.6}")),
            None => script.words("NULL"),
        };
        script.words(")").words(&overwrite);
        self.write("save_run", &script).await.map(drop)
    }

    /// Writes down an inconsistency, and opens its [life](crate::FindingLife) or notes that it was seen again.
    pub async fn record_finding(&self, finding: &FindingRecord) -> Result<(), StoreError> {
        let mut script = self.script();
        insert(&mut script, finding);
        findings::see(&mut script, finding);
        self.write("record_finding", &script).await.map(drop)
    }

    /// Writes down many that were put right as they were found: their lives are over.
    pub async fn record_repaired(&self, repaired: &[FindingRecord]) -> Result<(), StoreError> {
        for some in repaired.chunks(AT_ONCE) {
            let mut script = self.script();
            for finding in some {
                insert(&mut script, finding);
                findings::see(&mut script, finding);
                findings::note_repair(&mut script, finding);
            }
            self.write("record_repaired", &script).await?;
        }
        Ok(())
    }

    /// Notes what a repair did to a finding, and when it succeeded: then its life is over.
    pub async fn record_repair(&self, finding: &FindingRecord) -> Result<(), StoreError> {
        let mut script = self.script();
        script.begin("UPDATE data_consistency_checks SET details = ").text(&finding.details).words(", repaired_at = ");
        script.time_or_null(finding.repaired_at).words(" WHERE run_id = ").uuid(finding.run_id);
        script.words(" AND kind = ").text(&finding.kind).words(" AND resource_type = ").text(&finding.resource_type);
        script.words(" AND resource_id = ").int(finding.resource_id).words(" AND COALESCE(user_id, 0) = ");
        // A sweep that another process continues has the same run: its findings are others.
        script.int(finding.user_id.unwrap_or(0)).words(" AND created_at = ").time(finding.created_at);
        findings::note_repair(&mut script, finding);
        self.write("record_repair", &script).await.map(drop)
    }

    /// Runs that began at or after `since`, newest first.
    pub async fn runs_since(&self, since: DateTime<Utc>, limit: u32) -> Result<Vec<RunRecord>, StoreError> {
        let mut script = self.script();
        select_runs(&mut script).words(" WHERE started_at >= ").time(since);
        script.words(" ORDER BY started_at DESC LIMIT ").int(i64::from(limit));
        let results = self.read_lately(&script).await?;
        rows(&results, 0).iter().map(run_of).collect()
    }

    /// The newest run of each of these kinds since that came to its end; whatever else ran meanwhile.
    pub async fn latest_finished(&self, kinds: &[&str], since: DateTime<Utc>) -> Result<Vec<RunRecord>, StoreError> {
        let mut script = self.script();
        for kind in kinds {
            select_runs(&mut script).words(" WHERE kind = ").text(kind).words(" AND status = 'finished'");
            script.words(" AND started_at >= ").time(since).words(" ORDER BY started_at DESC LIMIT 1");
        }
        let results = self.read_lately(&script).await?;
        results.iter().flatten().map(run_of).collect()
    }

    /// Totals of runs by the hour in which they began, oldest first.
    pub async fn runs_by_hour(&self, since: DateTime<Utc>) -> Result<Vec<HourRecord>, StoreError> {
        let mut script = self.script();
        script.begin("SELECT SUBSTR(started_at, 1, 13), COUNT(*), CAST(SUM(checked) AS SIGNED), ");
        script.words("CAST(SUM(inconsistent) AS SIGNED), CAST(SUM(repaired) AS SIGNED) FROM consistency_runs ");
        script.words("WHERE started_at >= ").time(since).words(" GROUP BY 1 ORDER BY 1");
        let results = self.read_lately(&script).await?;
        let hour = |row: &QueryResult| {
            Ok(HourRecord {
                hour: get(row, 0, RUNS)?,
                runs: get(row, 1, RUNS)?,
                checked: get(row, 2, RUNS)?,
                inconsistent: get(row, 3, RUNS)?,
                repaired: get(row, 4, RUNS)?,
            })
        };
        rows(&results, 0).iter().map(hour).collect()
    }

    /// How often what was found since.
    pub async fn findings_by_kind(&self, since: DateTime<Utc>) -> Result<Vec<KindRecord>, StoreError> {
        let mut script = self.script();
        script.begin(
            "SELECT kind, verdict, COUNT(*), COUNT(repaired_at) FROM data_consistency_checks WHERE created_at >= ",
        );
        script.time(since).words(" GROUP BY kind, verdict ORDER BY 3 DESC, kind, verdict");
        let results = self.read_lately(&script).await?;
        let kind = |row: &QueryResult| {
            Ok(KindRecord {
                kind: get(row, 0, CHECKS)?,
                verdict: get(row, 1, CHECKS)?,
                found: get(row, 2, CHECKS)?,
                repaired: get(row, 3, CHECKS)?,
            })
        };
        rows(&results, 0).iter().map(kind).collect()
    }

    /// What was found since, newest first.
    pub async fn findings_since(&self, since: DateTime<Utc>, limit: u32) -> Result<Vec<FindingRecord>, StoreError> {
        let mut script = self.script();
        script.begin("SELECT run_id, resource_type, resource_id, user_id, kind, verdict, cache_value, stored_value, ");
        script.words("details, repaired_at, created_at FROM data_consistency_checks WHERE created_at >= ").time(since);
        script.words(" ORDER BY id DESC LIMIT ").int(i64::from(limit));
        let results = self.read_lately(&script).await?;
        rows(&results, 0).iter().map(finding_of).collect()
    }

    /// Deletes up to `limit` runs and as many findings that are older than `before`; gives how many rows. They are dated by
    /// their checker's clock, which is the one that its readers see: one that is behind keeps its reports for less long.
    pub async fn purge_reports(&self, before: DateTime<Utc>, limit: u32) -> Result<u64, StoreError> {
        let mut script = self.script();
        // MySQL does not delete by a subquery of the same table with a LIMIT, so the bound is read first.
        for (table, time) in [(RUNS, "started_at"), (CHECKS, "created_at")] {
            script.begin("SELECT COUNT(*), MAX(at) FROM (SELECT ").words(time).words(" AS at FROM ").words(table);
            script.words(" WHERE ").words(time).words(" < ").time(before).words(" ORDER BY ").words(time);
            script.words(" LIMIT ").int(i64::from(limit)).words(") AS old");
        }
        let results = self.read(&script).await?;
        let mut script = self.script();
        let mut purged = 0;
        for (statement, (table, time)) in [(RUNS, "started_at"), (CHECKS, "created_at")].into_iter().enumerate() {
            let row = row(&results, statement, table)?;
            let Some(newest) = get::<Option<NaiveDateTime>>(row, 1, table)? else { continue };
            purged += u64::try_from(get::<i64>(row, 0, table)?).unwrap_or(0);
            script.begin("DELETE FROM ").words(table).words(" WHERE ").words(time).words(" <= ").time(utc(newest));
        }
        // What is open is forgotten by nobody; lives are few beside looks.
        for table in findings::TABLES {
            script.begin("DELETE FROM ").words(table).words(" WHERE closed_at < ").time(before);
        }
        self.write("purge_reports", &script).await?;
        Ok(purged)
    }

    /// Number of counters.
    pub async fn count_resources(&self) -> Result<u64, StoreError> {
        let mut script = self.script();
        script.begin("SELECT COUNT(*) FROM like_counts");
        let results = self.read_lately(&script).await?;
        Ok(u64::try_from(get::<i64>(row(&results, 0, "like_counts")?, 0, "like_counts")?).unwrap_or(0))
    }

    /// A remembered value of this name (a constant: lower case letters and `_`).
    pub async fn remembered(&self, name: &'static str) -> Result<Option<String>, StoreError> {
        let mut script = self.script();
        script.begin("SELECT value FROM sync_meta WHERE name = ").name(name);
        let results = self.read(&script).await?;
        rows(&results, 0).first().map(|row| get(row, 0, "sync_meta")).transpose()
    }

    /// Remembers a value of at most 255 characters.
    pub async fn remember(&self, name: &'static str, value: &str) -> Result<(), StoreError> {
        let mut script = self.script();
        let overwrite = script.dialect().overwrite("name", &["value"], None);
        script.begin("INSERT INTO sync_meta (name, value) VALUES (").name(name).words(",").text(value).words(")");
        script.words(&overwrite);
        self.write("remember", &script).await.map(drop)
    }
}

pub(crate) fn int_or_null(script: &mut Script, value: Option<i64>) -> &mut Script {
    match value {
        Some(value) => script.int(value),
        None => script.words("NULL"),
    }
}

fn select_runs(script: &mut Script) -> &mut Script {
    script.begin("SELECT id, kind, strategy, status, started_at, finished_at, checked, inconsistent, repaired, ");
    script.words("coverage FROM consistency_runs")
}

fn run_of(row: &QueryResult) -> Result<RunRecord, StoreError> {
    let id: Vec<u8> = get(row, 0, RUNS)?;
    Ok(RunRecord {
        id: Uuid::from_slice(&id).map_err(|error| StoreError::corrupt(RUNS, error))?,
        kind: get(row, 1, RUNS)?,
        strategy: get(row, 2, RUNS)?,
        status: get(row, 3, RUNS)?,
        started_at: utc(get(row, 4, RUNS)?),
        finished_at: get::<Option<NaiveDateTime>>(row, 5, RUNS)?.map(utc),
        checked: get(row, 6, RUNS)?,
        inconsistent: get(row, 7, RUNS)?,
        repaired: get(row, 8, RUNS)?,
        coverage: get(row, 9, RUNS)?,
    })
}

fn finding_of(row: &QueryResult) -> Result<FindingRecord, StoreError> {
    let run_id: Vec<u8> = get(row, 0, CHECKS)?;
    Ok(FindingRecord {
        run_id: Uuid::from_slice(&run_id).map_err(|error| StoreError::corrupt(CHECKS, error))?,
        resource_type: get(row, 1, CHECKS)?,
        resource_id: get(row, 2, CHECKS)?,
        user_id: get(row, 3, CHECKS)?,
        kind: get(row, 4, CHECKS)?,
        verdict: get(row, 5, CHECKS)?,
        cache_value: get(row, 6, CHECKS)?,
        stored_value: get(row, 7, CHECKS)?,
        details: get(row, 8, CHECKS)?,
        repaired_at: get::<Option<NaiveDateTime>>(row, 9, CHECKS)?.map(utc),
        created_at: utc(get(row, 10, CHECKS)?),
    })
}

fn insert(script: &mut Script, finding: &FindingRecord) {
    script.begin("INSERT INTO data_consistency_checks (run_id, resource_type, resource_id, user_id, kind, verdict, ");
    script.words("cache_value, stored_value, details, repaired_at, created_at) VALUES (").uuid(finding.run_id);
    script.words(",").text(&finding.resource_type).words(",").int(finding.resource_id).words(",");
    int_or_null(script, finding.user_id).words(",").text(&finding.kind).words(",").text(&finding.verdict);
    int_or_null(script.words(","), finding.cache_value).words(",");
    int_or_null(script, finding.stored_value).words(",").text(&finding.details).words(",");
    script.time_or_null(finding.repaired_at).words(",").time(finding.created_at).words(")");
}
