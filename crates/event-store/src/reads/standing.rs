//! Where the ledger and the findings stand now: what every process shows and is judged by.

use crate::sql::error::StoreError;
use crate::sql::script::utc;
use crate::sql::store::{EventStore, get, row};
use crate::tables::event_status::EventStatus;
use crate::tables::findings::count_open;
use crate::tables::ledger::uuid_of;
use chrono::{DateTime, NaiveDateTime, Utc};
use uuid::Uuid;

/// Statuses of events that are in no row yet, and that somebody may have to do something about.
const UNFINISHED: [EventStatus; 4] =
    [EventStatus::Pending, EventStatus::Processing, EventStatus::Failed, EventStatus::Dead];

/// Events of one status that are not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct LedgerStanding {
    /// Which.
    pub status: EventStatus,
    /// How many, at most the limit of the call.
    pub count: u64,
    /// When the oldest of them was made, by its id.
    pub oldest: Option<DateTime<Utc>>,
}

/// All of it, in one read.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Standing {
    /// Unfinished events: pending, processing, failed, dead.
    pub ledger: Vec<LedgerStanding>,
    /// Different subjects that the checkers found something wrong with, and not put right since.
    pub open_findings: u64,
    /// Since when the oldest of them is open.
    pub oldest_finding: Option<DateTime<Utc>>,
}

impl EventStore {
    /// Reads at most `limit` index entries of each status.
    pub async fn standing(&self, limit: u32) -> Result<Standing, StoreError> {
        const LEDGER: &str = "sync_events";
        const FINDINGS: &str = "consistency_findings";
        let mut script = self.script();
        for status in UNFINISHED {
            script.begin("SELECT COUNT(*), MIN(id) FROM (SELECT id FROM sync_events WHERE status = ");
            script.name(status.name()).words(" LIMIT ").int(i64::from(limit)).words(") AS counted");
        }
        count_open(&mut script);
        script.begin("SELECT MIN(opened_at) FROM consistency_findings WHERE closed_at IS NULL");
        let results = self.read(&script).await?;
        let mut ledger = Vec::with_capacity(UNFINISHED.len());
        for (statement, status) in UNFINISHED.into_iter().enumerate() {
            let row = row(&results, statement, LEDGER)?;
            let count = u64::try_from(get::<i64>(row, 0, LEDGER)?).unwrap_or(0);
            let first = get::<Option<Vec<u8>>>(row, 1, LEDGER)?.map(|id| uuid_of(&id)).transpose()?;
            ledger.push(LedgerStanding { status, count, oldest: first.and_then(made_at) });
        }
        let open: i64 = get(row(&results, UNFINISHED.len(), FINDINGS)?, 0, FINDINGS)?;
        let oldest: Option<NaiveDateTime> = get(row(&results, UNFINISHED.len() + 1, FINDINGS)?, 0, FINDINGS)?;
        Ok(Standing { ledger, open_findings: u64::try_from(open).unwrap_or(0), oldest_finding: oldest.map(utc) })
    }
}

/// Ids of events begin with the time they were made.
pub(crate) fn made_at(id: Uuid) -> Option<DateTime<Utc>> {
    let (seconds, nanos) = id.get_timestamp()?.to_unix();
    DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanos)
}
