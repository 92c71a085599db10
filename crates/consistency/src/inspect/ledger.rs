//! The ledger: accepted events that are in no row, because the database refused them or nobody took them up.

use crate::error::CheckError;
use crate::finding::{Finding, ledger_finding};
use crate::inspect::Inspector;
use chrono::{DateTime, Utc};
use domain::Resource;
use event_store::{Behavior, EventFilter, EventStatus, LedgerEntry};

/// Events of one status that are looked at; beyond them is more of the same.
const EVENTS: usize = 1_000;

/// Longest pages for one look: a rare resource may not be found at once.
const PAGES: usize = 10;

const UNFINISHED: [EventStatus; 4] =
    [EventStatus::Dead, EventStatus::Failed, EventStatus::Processing, EventStatus::Pending];

/// What the ledger holds unfinished.
#[derive(Debug, Default)]
pub(crate) struct Unfinished {
    pub(crate) findings: Vec<Finding>,
    /// Nothing was left out.
    pub(crate) complete: bool,
}

impl Inspector {
    /// The newest completed events of a resource that were accepted since, as the history has them: what its rows must hold. Of a
    /// long ledger only the newest part is searched; a full sweep goes through all of it.
    pub(crate) async fn applied_of(
        &self,
        resource: Resource,
        since: DateTime<Utc>,
    ) -> Result<Vec<Behavior>, CheckError> {
        let status = Some(EventStatus::Completed);
        let filter = EventFilter { status, resource: Some(resource), since: Some(since), ..EventFilter::default() };
        let (mut after, mut applied) = (None, Vec::new());
        for _ in 0..PAGES {
            let left = u32::try_from(EVENTS.saturating_sub(applied.len())).unwrap_or(0);
            let page = self.stores.database.list_events(&filter, left, after).await?;
            applied.extend(page.events.into_iter().map(|LedgerEntry { event, .. }| Behavior {
                event_id: event.intent.id,
                pair: event.pair(),
                action: event.intent.action,
                version: event.version,
            }));
            after = page.next;
            if after.is_none() || applied.len() >= EVENTS {
                break;
            }
        }
        Ok(applied)
    }

    /// Unfinished events, of one resource or of all: those that wait for a person, or for too long, are stuck; the others are in
    /// flight.
    pub(crate) async fn unfinished(&self, resource: Option<Resource>) -> Result<Unfinished, CheckError> {
        let now = self.stores.now();
        let mut seen = Unfinished { findings: Vec::new(), complete: true };
        for status in UNFINISHED {
            let filter = EventFilter { status: Some(status), resource, ..EventFilter::default() };
            let (mut after, mut left, mut pages) = (None, EVENTS, 0);
            loop {
                let page = self.stores.database.list_events(&filter, u32::try_from(left).unwrap_or(0), after).await?;
                left = left.saturating_sub(page.events.len());
                seen.findings.extend(page.events.iter().map(|entry| ledger_finding(entry, now, self.stuck_after)));
                (after, pages) = (page.next, pages + 1);
                if after.is_none() {
                    break;
                }
                if left == 0 || pages == PAGES {
                    seen.complete = false;
                    break;
                }
            }
        }
        Ok(seen)
    }
}
