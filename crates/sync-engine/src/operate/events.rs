//! Failed events in operators' hands: replay and discard, by id or by filter, bounded, and written down.
//!
//! A replay has exactly-once effect whatever it meets, because it applies nothing itself. It makes a failed or dead row of
//! the ledger due, under that row's lock; the [`Retrier`](crate::apply::retry::Retrier) claims it alone and applies it through
//! the same transaction as every delivery. So, beside
//! - another replay of the same event: whoever comes second finds it due already and sets the same again; it is claimed once;
//! - a worker that has it claimed: the row is `processing`, and a replay leaves it alone;
//! - a redelivery, or the rescuer's copy: both transactions record the event in the ledger first and so come one after the
//!   other, and the second finds the pair's row at this version and changes nothing, counter included;
//! - newer likes of the same pair: the row is at a newer version, and the replayed event changes nothing but the ledger;
//! - a discard: whoever commits first decides. A discarded event is no longer failed, so nobody replays it; a claimed or
//!   completed one is not discarded.
//!
//! A discarded event is left out by [`EventStore::apply`](event_store::EventStore::apply) for as long as the ledger has
//! it. Its like was accepted, so the cache shows it: the pair is put on the list of what the cache must be told, in the
//! transaction that discards, and [`catch_up`] makes the cache ask the database again. The count needs
//! nothing: it fell back to the stored one when the event was parked.

use crate::clock::wall_clock;
use crate::recover::catch_up::{self, RefreshError};
use crate::stores::Stores;
use chrono::{DateTime, Utc};
use event_store::{EventFilter, EventStatus, LedgerEntry, Operation, OperatorAction, Pace, StoreError};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use uuid::Uuid;

/// Most events that one call replays or discards.
pub const MAX_OPERATED: u32 = 1_000;

/// Longest pages of the ledger that are looked at for one call: a rare resource may not be found at once.
const PAGES: usize = 10;

/// Replayed events become due at this pace, over all calls of one process.
pub const REPLAYS_PER_SECOND: u32 = 200;

/// Which events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// These.
    Ids(Vec<Uuid>),
    /// Those of a filter, newest first, from where the last call ended. Its status must be failed or dead; none: dead.
    Filter {
        /// The filter.
        filter: EventFilter,
        /// Where the last call ended.
        after: Option<Uuid>,
        /// At most so many; at most [`MAX_OPERATED`].
        limit: u32,
    },
}

/// Why an event that was named was left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skipped {
    /// Which.
    pub id: Uuid,
    /// What it is; none: the ledger does not have it.
    pub status: Option<EventStatus>,
}

/// What a call did, or would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operated {
    /// Whether nothing was done.
    pub dry_run: bool,
    /// The events, as they were before.
    pub events: Vec<LedgerEntry>,
    /// Named ones that were left alone.
    pub skipped: Vec<Skipped>,
    /// Where the next call goes on; none at the end.
    pub next: Option<Uuid>,
    /// When the last of them is due, of a replay.
    pub due_until: Option<DateTime<Utc>>,
}

/// Why a call did nothing.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    /// Only failed and dead events can be replayed or discarded.
    #[error("must be failed or dead, got {0}")]
    Status(EventStatus),
    /// More than [`MAX_OPERATED`] events were named.
    #[error("must have at most {MAX_OPERATED} items, got {0}")]
    TooMany(usize),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Replay,
    Discard,
}

/// Does what operators ask; cheap to clone.
#[derive(Clone)]
pub struct Operator {
    stores: Stores,
    /// Until when earlier replays of this process are spread.
    spread_until: Arc<Mutex<DateTime<Utc>>>,
}

impl Operator {
    /// On these stores.
    pub fn new(stores: Stores) -> Self {
        Self { stores, spread_until: Arc::new(Mutex::new(DateTime::UNIX_EPOCH)) }
    }

    /// Makes failed and dead events due again, at most [`REPLAYS_PER_SECOND`]; see the head of the module.
    pub fn replay(
        &self,
        selection: Selection,
        operation: Operation,
        dry_run: bool,
    ) -> BoxFuture<'_, Result<Operated, OperateError>> {
        self.replay_inner(selection, operation, dry_run).boxed()
    }

    async fn replay_inner(
        &self,
        selection: Selection,
        operation: Operation,
        dry_run: bool,
    ) -> Result<Operated, OperateError> {
        self.operate(Command::Replay, selection, operation, dry_run).await
    }

    /// Gives failed and dead events up for good; see the head of the module.
    pub fn discard(
        &self,
        selection: Selection,
        operation: Operation,
        dry_run: bool,
    ) -> BoxFuture<'_, Result<Operated, OperateError>> {
        self.discard_inner(selection, operation, dry_run).boxed()
    }

    async fn discard_inner(
        &self,
        selection: Selection,
        operation: Operation,
        dry_run: bool,
    ) -> Result<Operated, OperateError> {
        let operated = self.operate(Command::Discard, selection, operation, dry_run).await?;
        if !dry_run && !operated.events.is_empty() && !self.stores.cache_circuit.is_open() {
            // Now rather than within a second; what fails here stays on the list.
            match catch_up::drain(&self.stores).await {
                Ok(_) => {}
                Err(RefreshError::Cache(error)) => self.stores.cache_failed_somewhere(&error),
                Err(RefreshError::Store(error)) => tracing::warn!(%error, "the cache was not told of discarded events"),
            }
        }
        Ok(operated)
    }

    /// What operators did with these events, oldest first.
    pub fn actions_on<'a>(
        &'a self,
        events: &'a [LedgerEntry],
    ) -> BoxFuture<'a, Result<HashMap<Uuid, Vec<OperatorAction>>, StoreError>> {
        self.actions_on_inner(events).boxed()
    }

    async fn actions_on_inner(&self, events: &[LedgerEntry]) -> Result<HashMap<Uuid, Vec<OperatorAction>>, StoreError> {
        let ids: Vec<Uuid> = events.iter().map(|entry| entry.event.intent.id).collect();
        let mut by_event: HashMap<Uuid, Vec<OperatorAction>> = HashMap::new();
        for (id, action) in self.stores.database.actions_on(&ids).await? {
            by_event.entry(id).or_default().push(action);
        }
        Ok(by_event)
    }

    async fn operate(
        &self,
        command: Command,
        selection: Selection,
        operation: Operation,
        dry_run: bool,
    ) -> Result<Operated, OperateError> {
        let named = matches!(selection, Selection::Ids(_));
        let (chosen, next) = self.choose(selection).await?;
        let now = wall_clock();
        let mut operated = Operated { dry_run, events: Vec::new(), skipped: Vec::new(), next, due_until: None };
        if named || dry_run {
            let entries = self.stores.database.events(&chosen).await?;
            let of: HashMap<Uuid, EventStatus> =
                entries.iter().map(|entry| (entry.event.intent.id, entry.status)).collect();
            let left_alone = |id: &&Uuid| !of.get(*id).copied().is_some_and(is_given_up);
            if named {
                let skipped = chosen.iter().filter(left_alone);
                operated.skipped = skipped.map(|id| Skipped { id: *id, status: of.get(id).copied() }).collect();
            }
            if dry_run {
                operated.events = entries.into_iter().filter(|entry| is_given_up(entry.status)).collect();
                return Ok(operated);
            }
        }
        if command == Command::Discard {
            operated.events = self.stores.database.discard(&chosen, &operation, now).await?;
        } else {
            let pace = self.pace(now, chosen.len());
            operated.events = self.stores.database.replay(&chosen, &operation, pace, now).await?;
            operated.due_until = operated.events.len().checked_sub(1).map(|last| pace.due(last));
        }
        if !operated.events.is_empty() {
            let events = operated.events.len();
            tracing::info!(actor = operation.actor, events, "{} by an operator", command.done());
        }
        Ok(operated)
    }

    /// Ids, and where the next call goes on.
    async fn choose(&self, selection: Selection) -> Result<(Vec<Uuid>, Option<Uuid>), OperateError> {
        let (mut filter, mut after, limit) = match selection {
            Selection::Ids(mut ids) => {
                if ids.len() > MAX_OPERATED as usize {
                    return Err(OperateError::TooMany(ids.len()));
                }
                ids.sort_unstable();
                ids.dedup();
                return Ok((ids, None));
            }
            Selection::Filter { filter, after, limit } => (filter, after, limit.clamp(1, MAX_OPERATED)),
        };
        let status = filter.status.unwrap_or(EventStatus::Dead);
        if !is_given_up(status) {
            return Err(OperateError::Status(status));
        }
        filter.status = Some(status);
        let mut ids = Vec::new();
        for _ in 0..PAGES {
            let left = limit - u32::try_from(ids.len()).unwrap_or(limit);
            let page = self.stores.database.list_events(&filter, left, after).await?;
            ids.extend(page.events.iter().map(|entry| entry.event.intent.id));
            after = page.next;
            if after.is_none() || ids.len() >= limit as usize {
                break;
            }
        }
        Ok((ids, after))
    }

    /// Behind whatever is spread already.
    fn pace(&self, now: DateTime<Utc>, events: usize) -> Pace {
        let mut until = self.spread_until.lock().unwrap_or_else(PoisonError::into_inner);
        let pace = Pace { from: now.max(*until), per_second: REPLAYS_PER_SECOND };
        *until = pace.due(events);
        pace
    }
}

impl Command {
    const fn done(self) -> &'static str {
        match self {
            Self::Replay => "events replayed",
            Self::Discard => "events discarded",
        }
    }
}

const fn is_given_up(status: EventStatus) -> bool {
    matches!(status, EventStatus::Failed | EventStatus::Dead)
}
