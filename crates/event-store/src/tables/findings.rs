//! The life of a finding: opened when it is first seen, seen again by later looks, closed when it is repaired or a look finds it
//! consistent. One row for each thing that was compared and subject; what is open is what is wrong now. Wrong again after that is
//! a new life: the one before it moves to `past_findings`.

use crate::sql::error::StoreError;
use crate::sql::script::{Script, utc};
use crate::sql::store::{EventStore, get, row, rows};
use crate::tables::check_runs::{FindingRecord, int_or_null};
use chrono::{DateTime, NaiveDateTime, Utc};
use domain::Resource;
use sea_orm::QueryResult;

const TABLE: &str = "consistency_findings";

/// The newest life of each, and those before it.
pub(crate) const TABLES: [&str; 2] = [TABLE, "past_findings"];

const COLUMNS: &str = "kind, verdict, resource_type, resource_id, user_id, cache_value, stored_value, details, sightings, \
                       opened_at, seen_at, outcome, closed_at";

/// Counting what is open ends here.
const COUNTED: i64 = 100_000;

/// Why a finding is no longer open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClosedBy {
    /// A repair wrote what was missing.
    Repaired,
    /// A later look found nothing wrong.
    Consistent,
}

impl ClosedBy {
    /// As stored.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Repaired => "repaired",
            Self::Consistent => "consistent",
        }
    }
}

/// What became of one finding.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FindingLife {
    /// What was compared.
    pub kind: String,
    /// What was wrong at the latest look that saw it.
    pub verdict: String,
    /// `video`, `comment` or `shard`.
    pub resource_type: String,
    /// Id of the resource, number of the shard.
    pub resource_id: i64,
    /// Of a pair.
    pub user_id: Option<i64>,
    /// The cache's value at the latest look that saw it.
    pub cache_value: Option<i64>,
    /// The database's value then.
    pub stored_value: Option<i64>,
    /// Everything else, JSON.
    pub details: String,
    /// How many looks saw it since it was opened.
    pub sightings: i64,
    /// First seen.
    pub opened_at: DateTime<Utc>,
    /// Last seen.
    pub seen_at: DateTime<Utc>,
    /// `repaired` or `consistent`; none while it is open.
    pub outcome: Option<String>,
    /// None while it is open.
    pub closed_at: Option<DateTime<Utc>>,
    /// How often the same was found before, and closed; as far back as reports are kept.
    pub earlier: i64,
}

/// How many findings there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct FindingTotals {
    /// Different subjects with something open, at most 100,000.
    pub open: u64,
    /// Findings that were opened within the range.
    pub opened: i64,
    /// Findings that were closed within the range.
    pub closed: i64,
}

impl EventStore {
    /// Notes that nothing is wrong any more with these, as they were seen; one that was seen again meanwhile stays open.
    pub async fn close_findings(
        &self,
        lives: &[FindingLife],
        by: ClosedBy,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        if lives.is_empty() {
            return Ok(());
        }
        let mut script = self.script();
        for life in lives {
            script
                .begin("UPDATE consistency_findings SET outcome = ")
                .name(by.name())
                .words(", closed_at = ")
                .time(now);
            script.words(" WHERE closed_at IS NULL AND kind = ").text(&life.kind);
            of_subject(&mut script, &life.resource_type, life.resource_id, life.user_id);
            script.words(" AND seen_at <= ").time(life.seen_at);
        }
        self.write("close_findings", &script).await.map(drop)
    }

    /// The same for all that was last seen before a look at everything began.
    pub async fn close_findings_not_seen_since(
        &self,
        since: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let mut script = self.script();
        script.begin("UPDATE consistency_findings SET outcome = 'consistent', closed_at = ").time(now);
        script.words(" WHERE closed_at IS NULL AND seen_at < ").time(since);
        self.write("close_findings_not_seen", &script).await.map(drop)
    }

    /// What is open, of one resource or of all; those first that were not seen for longest.
    pub async fn open_findings(&self, of: Option<Resource>, limit: u32) -> Result<Vec<FindingLife>, StoreError> {
        let mut script = self.script();
        select_lives(&mut script, |script, table| {
            // What is open is in the first table only.
            script.words(if table == TABLE { "closed_at IS NULL" } else { "1 = 0" });
            if let Some(resource) = of {
                script.words(" AND resource_type = ").name(resource.kind.name()).words(" AND resource_id = ");
                script.int(resource.id.get());
            }
        });
        script.words(" ORDER BY seen_at LIMIT ").int(i64::from(limit));
        rows(&self.read(&script).await?, 0).iter().map(life_of).collect()
    }

    /// What became of all findings of a resource that are of these kinds: open ones first, then the newest.
    pub async fn findings_of(
        &self,
        resource: Resource,
        kinds: &[&'static str],
        limit: u32,
    ) -> Result<Vec<FindingLife>, StoreError> {
        let mut script = self.script();
        // The tables are in the order of kind and resource.
        select_lives(&mut script, |script, _| {
            script.words("kind IN (").list(kinds, |script, kind| {
                script.name(kind);
            });
            script.words(") AND resource_type = ").name(resource.kind.name()).words(" AND resource_id = ");
            script.int(resource.id.get());
        });
        script.words(" ORDER BY closed_at IS NULL DESC, seen_at DESC LIMIT ");
        script.int(i64::from(limit));
        rows(&self.read(&script).await?, 0).iter().map(life_of).collect()
    }

    /// What is open or was last seen since then: open ones first, then the newest.
    pub async fn finding_lives(&self, since: DateTime<Utc>, limit: u32) -> Result<Vec<FindingLife>, StoreError> {
        let mut script = self.script();
        select_lives(&mut script, |script, table| {
            script.words(if table == TABLE { "closed_at IS NULL OR seen_at >= " } else { "seen_at >= " }).time(since);
        });
        script.words(" ORDER BY closed_at IS NULL DESC, seen_at DESC LIMIT ").int(i64::from(limit));
        rows(&self.read_lately(&script).await?, 0).iter().map(life_of).collect()
    }

    /// Totals: open now, opened and closed since then.
    pub async fn finding_totals(&self, since: DateTime<Utc>) -> Result<FindingTotals, StoreError> {
        let mut script = self.script();
        count_open(&mut script);
        for end in ["opened_at", "closed_at"] {
            for table in TABLES {
                script
                    .begin("SELECT COUNT(*) FROM ")
                    .words(table)
                    .words(" WHERE ")
                    .words(end)
                    .words(" >= ")
                    .time(since);
            }
        }
        let results = self.read_lately(&script).await?;
        let number = |statement| get::<i64>(row(&results, statement, TABLE)?, 0, TABLE);
        let open = u64::try_from(number(0)?).unwrap_or(0);
        Ok(FindingTotals { open, opened: number(1)? + number(2)?, closed: number(3)? + number(4)? })
    }
}

/// Opens a finding, or notes that it was seen again.
pub(crate) fn see(script: &mut Script, finding: &FindingRecord) {
    let dialect = script.dialect();
    // What was closed before stays known. Who does the same at the same moment moves the same.
    let key = "kind, resource_type, resource_id, user_id, opened_at";
    script.begin("INSERT INTO past_findings (").words(COLUMNS).words(") SELECT ").words(COLUMNS);
    script.words(" FROM consistency_findings WHERE closed_at IS NOT NULL AND kind = ").text(&finding.kind);
    of_subject(script, &finding.resource_type, finding.resource_id, finding.user_id);
    let same = dialect.update_existing(key, "sightings = past_findings.sightings");
    script.words(&same);
    script.begin("INSERT INTO consistency_findings (kind, resource_type, resource_id, user_id, verdict, cache_value, ");
    script.words("stored_value, details, sightings, opened_at, seen_at, outcome, closed_at) VALUES (");
    script.text(&finding.kind).words(",").text(&finding.resource_type).words(",").int(finding.resource_id);
    script.words(",").int(finding.user_id.unwrap_or(0)).words(",").text(&finding.verdict);
    int_or_null(script.words(","), finding.cache_value).words(",");
    int_or_null(script, finding.stored_value).words(",").text(&finding.details).words(",1,");
    script.time(finding.created_at).words(",").time(finding.created_at).words(",NULL,NULL)");
    // MySQL assigns from left to right: what is read comes last.
    let mut set: Vec<String> = ["verdict", "cache_value", "stored_value", "details", "seen_at"]
        .map(|column| format!("{column} = {}", dialect.new_value(column)))
        .into();
    set.push("sightings = CASE WHEN closed_at IS NULL THEN sightings + 1 ELSE 1 END".to_owned());
    let opened = dialect.new_value("opened_at");
    set.push(format!("opened_at = CASE WHEN closed_at IS NULL THEN opened_at ELSE {opened} END"));
    set.push("outcome = NULL".to_owned());
    set.push("closed_at = NULL".to_owned());
    let words = dialect.update_existing("kind, resource_type, resource_id, user_id", &set.join(", "));
    script.words(&words);
}

/// Notes what a repair did to an open finding; it closes where it wrote something.
pub(crate) fn note_repair(script: &mut Script, finding: &FindingRecord) {
    script.begin("UPDATE consistency_findings SET details = ").text(&finding.details);
    if let Some(at) = finding.repaired_at {
        script.words(", outcome = 'repaired', closed_at = ").time(at);
    }
    script.words(" WHERE closed_at IS NULL AND kind = ").text(&finding.kind);
    of_subject(script, &finding.resource_type, finding.resource_id, finding.user_id);
}

/// Different subjects with something open.
pub(crate) fn count_open(script: &mut Script) {
    script.begin("SELECT COUNT(*) FROM (SELECT 1 FROM consistency_findings WHERE closed_at IS NULL ");
    script.words("GROUP BY resource_type, resource_id, user_id LIMIT ").int(COUNTED).words(") AS opened");
}

fn of_subject(script: &mut Script, resource_type: &str, resource_id: i64, user_id: Option<i64>) {
    script.words(" AND resource_type = ").text(resource_type).words(" AND resource_id = ").int(resource_id);
    script.words(" AND user_id = ").int(user_id.unwrap_or(0));
}

/// All lives for which `which` says so of each table, with how many of the same there were before.
fn select_lives(script: &mut Script, mut which: impl FnMut(&mut Script, &'static str)) -> &mut Script {
    script.begin("SELECT ").words(COLUMNS).words(", (SELECT COUNT(*) FROM past_findings AS past WHERE ");
    script.words("past.kind = lives.kind AND past.resource_type = lives.resource_type AND ");
    script.words("past.resource_id = lives.resource_id AND past.user_id = lives.user_id AND ");
    script.words("past.opened_at < lives.opened_at) FROM (");
    for (n, table) in TABLES.into_iter().enumerate() {
        script.words(if n > 0 { " UNION ALL SELECT " } else { "SELECT " }).words(COLUMNS).words(" FROM ");
        script.words(table).words(" WHERE ");
        which(script, table);
    }
    script.words(") AS lives")
}

fn life_of(row: &QueryResult) -> Result<FindingLife, StoreError> {
    Ok(FindingLife {
        kind: get(row, 0, TABLE)?,
        verdict: get(row, 1, TABLE)?,
        resource_type: get(row, 2, TABLE)?,
        resource_id: get(row, 3, TABLE)?,
        user_id: Some(get::<i64>(row, 4, TABLE)?).filter(|user| *user > 0),
        cache_value: get(row, 5, TABLE)?,
        stored_value: get(row, 6, TABLE)?,
        details: get::<Option<String>>(row, 7, TABLE)?.unwrap_or_default(),
        sightings: get(row, 8, TABLE)?,
        opened_at: utc(get(row, 9, TABLE)?),
        seen_at: utc(get(row, 10, TABLE)?),
        outcome: get(row, 11, TABLE)?,
        closed_at: get::<Option<NaiveDateTime>>(row, 12, TABLE)?.map(utc),
        earlier: get(row, 13, TABLE)?,
    })
}
