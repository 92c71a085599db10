//! History that becomes rows: imports and backfills, beside live traffic, through the same fold as everything else.

use crate::Behavior;
use crate::sql::error::StoreError;
use crate::sql::parts::Parts;
use crate::sql::store::{EventStore, get, rows};
use crate::tables::fences::{self, Fences, Held};
use crate::tables::fold::{fold_events, pair_events};
use crate::tables::ledger::record_behaviors;
use crate::tables::likes::{Reading, Touched, create_missing, once_by_id, write_outcome};
use crate::tables::meta::write_note;
use crate::tables::refreshes::remember;
use crate::tables::unpublished::note_pairs;
use crate::writes::apply::{Applied, check_size};
use chrono::{DateTime, Utc};
use domain::{LikeEvent, Pair, PairState, ResourceType, Version};
use uuid::Uuid;

/// How a batch is brought in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportOptions<'a> {
    /// Whether the events are added to `user_behaviors`; a backfill reads them from there.
    pub history: bool,
    /// Whether the pairs that change are put on the list of what caches must be told ([`EventStore::take_refreshes`]).
    pub tell_cache: bool,
    /// Note, and its new value, written in the same transaction: how far the job has come.
    pub progress: (&'a str, &'a str),
}

/// One step through `user_behaviors`, oldest event id first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistoryPage {
    /// Likes and unlikes.
    pub behaviors: Vec<Behavior>,
    /// Rows that cannot be a like, with the reason.
    pub broken: Vec<(Uuid, String)>,
    /// Rows of other kinds of behaviour.
    pub others: u64,
    /// Where the next step begins; none if there was no row.
    pub last: Option<Uuid>,
}

impl EventStore {
    /// Folds a batch of past events into rows and counters, in one transaction with the job's progress. There are no
    /// ledger entries: nothing of it is on its way. At most [`domain::codec::MAX_BATCH`] events. What the server does not take
    /// at once (`max_allowed_packet`) goes in several transactions, the progress in the last one.
    ///
    /// Versions decide, so live traffic before, between and after is never overwritten by what is older, and bringing in
    /// the same events again changes nothing. That holds for history of any age: retention archives tombstones and forgets
    /// none. What is behind a fence is left out, as of every other way.
    ///
    /// # Errors
    /// [`StoreError::Rejected`] concerns one of the events; nothing was written.
    pub async fn import(
        &self,
        events: &[LikeEvent],
        options: ImportOptions<'_>,
        now: DateTime<Utc>,
    ) -> Result<Applied, StoreError> {
        check_size(events.len())?;
        let (mut parts, mut all) = (Parts::of(events.len()), Applied::default());
        if events.is_empty() {
            return self.import_part(events, options, true, now).await;
        }
        while let Some(part) = parts.next() {
            match self.import_part(&events[part.clone()], options, parts.is_last(&part), now).await {
                Ok(applied) => {
                    // What a resource and a pair are after the last part that has them.
                    all.counts.retain(|(resource, _)| applied.counts.iter().all(|(later, _)| later != resource));
                    all.pairs.retain(|(pair, _)| applied.pairs.iter().all(|(later, _)| later != pair));
                    all.counts.extend(applied.counts);
                    all.pairs.extend(applied.pairs);
                    all.changed_pairs += applied.changed_pairs;
                    parts.written(&part);
                }
                Err(error) => parts.failed(&part, error)?,
            }
        }
        Ok(all)
    }

    async fn import_part(
        &self,
        events: &[LikeEvent],
        options: ImportOptions<'_>,
        is_last: bool,
        now: DateTime<Utc>,
    ) -> Result<Applied, StoreError> {
        // Whoever is found fenced stays so: this ends.
        let mut kept = std::borrow::Cow::Borrowed(events);
        loop {
            match self.transaction("import", || self.import_once(&kept, options, is_last, now)).await? {
                Ok(applied) => return Ok(applied),
                Err(fences) => kept.to_mut().retain(|event| !fences.cover(event.pair(), event.version)),
            }
        }
    }

    /// The inner error are fences that some of the events are behind: nothing is written.
    async fn import_once(
        &self,
        events: &[LikeEvent],
        options: ImportOptions<'_>,
        is_last: bool,
        now: DateTime<Utc>,
    ) -> Result<Result<Applied, Fences>, StoreError> {
        let (by_id, pair_events) = (once_by_id(events), pair_events(events));
        let touched = Touched::by(&pair_events);
        let mut tx = self.begin().await?;
        let mut script = self.script();
        let held = fences::hold(&mut script);
        if options.history {
            record_behaviors(&mut script, &by_id);
        }
        let reading = Reading::lock_and_read(&mut script, &touched.resources, &touched.pairs);
        let results = tx.run(&script).await?;
        let held = Held::of(&mut tx, self.script(), &results, held).await?;
        let said = events.iter().map(|event| (event.pair(), event.version));
        let fences = held.fences(&mut tx, self.script(), said).await?;
        if events.iter().any(|event| fences.cover(event.pair(), event.version)) {
            return Ok(Err(fences));
        }
        let mut snapshot = reading.snapshot(&results, self.horizon.for_writes())?;
        create_missing(&mut tx, self.script(), &touched, &mut snapshot, now).await?;
        let outcome = fold_events(&snapshot, &pair_events, self.horizon.revision());
        let mut script = self.script();
        write_outcome(&mut script, &outcome, now);
        if options.tell_cache {
            let changed: Vec<(Pair, PairState)> =
                outcome.changed_pairs.iter().map(|change| (change.pair, change.state)).collect();
            remember(&mut script, &changed, now);
        }
        if self.notes_changes {
            note_pairs(&mut script, outcome.changed_pairs.iter().map(|change| change.pair), now);
        }
        if is_last {
            write_note(&mut script, options.progress.0, options.progress.1);
        }
        tx.run(&script).await?;
        tx.commit().await?;
        let changed_pairs = outcome.changed_pairs.len();
        Ok(Ok(Applied { counts: outcome.counts, pairs: outcome.pairs, changed_pairs, commit: None }))
    }

    /// The next step through the history, at most `limit` rows, whatever they hold.
    pub async fn history_page(&self, after: Option<Uuid>, limit: u32) -> Result<HistoryPage, StoreError> {
        const TABLE: &str = "user_behaviors";
        let mut script = self.script();
        script.begin("SELECT event_id, user_id, video_id, behavior_type, version FROM user_behaviors");
        if let Some(after) = after {
            script.words(" WHERE event_id > ").uuid(after);
        }
        script.words(" ORDER BY event_id LIMIT ").int(i64::from(limit));
        let results = self.read(&script).await?;
        let mut page = HistoryPage::default();
        for row in rows(&results, 0) {
            let id: Vec<u8> = get(row, 0, TABLE)?;
            let event_id = Uuid::from_slice(&id).map_err(|error| StoreError::corrupt(TABLE, error))?;
            page.last = Some(event_id);
            // Other services may write other behaviours here.
            let Some((kind, action)) = ResourceType::from_behavior(&get::<String>(row, 3, TABLE)?) else {
                page.others += 1;
                continue;
            };
            let version = Version(get(row, 4, TABLE)?);
            match Pair::new(get(row, 1, TABLE)?, kind, get(row, 2, TABLE)?) {
                Err(error) => page.broken.push((event_id, error.to_string())),
                Ok(_) if version <= Version::ZERO || version > Version::MAX => {
                    page.broken.push((event_id, format!("version {version} is none")));
                }
                Ok(pair) => page.behaviors.push(Behavior { event_id, pair, action, version }),
            }
        }
        Ok(page)
    }

    /// Rows of the history behind `after`, as of now.
    pub async fn history_len(&self, after: Option<Uuid>) -> Result<u64, StoreError> {
        let mut script = self.script();
        script.begin("SELECT COUNT(*) FROM user_behaviors");
        if let Some(after) = after {
            script.words(" WHERE event_id > ").uuid(after);
        }
        let results = self.read(&script).await?;
        let rows = rows(&results, 0).first().map_or(Ok(0), |row| get::<i64>(row, 0, "user_behaviors"))?;
        Ok(rows.unsigned_abs())
    }

    /// How much caches must still be told ([`crate::Refresh`]), counted up to `limit`.
    pub async fn refresh_backlog(&self, limit: u32) -> Result<u64, StoreError> {
        let mut script = self.script();
        script.begin("SELECT COUNT(*) FROM (SELECT id FROM cache_refreshes LIMIT ").int(i64::from(limit));
        script.words(") AS waiting");
        let results = self.read(&script).await?;
        let rows = rows(&results, 0).first().map_or(Ok(0), |row| get::<i64>(row, 0, "cache_refreshes"))?;
        Ok(rows.unsigned_abs())
    }
}
