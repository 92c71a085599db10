//! Changes that listeners were not told of yet: noted in the transaction that makes them, where no message of the queue, that
//! would come again, stands for them. A note names what changed, not how: it is read anew when it is told.
//!
//! Notes are only added and deleted, each by its own id. So a change that is committed while another one of the same pair is
//! told is not taken for told, too.

use crate::sql::error::StoreError;
use crate::sql::script::{CHUNK, Script, utc};
use crate::sql::store::{EventStore, get, row, rows};
use crate::tables::archive::{recall, recalled};
use crate::tables::likes::Reading;
use chrono::{DateTime, NaiveDateTime, Utc};
use domain::{Pair, PairState, Resource, StoredCount, UserId};

const TABLE: &str = "unpublished_changes";

/// Note of the installation: listeners are to be told.
const WANTED: &str = "changes_wanted";

/// Stands for the user where only a counter changed.
const NOBODY: i64 = 0;

/// What one note is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unpublished {
    /// Names the note for [`EventStore::published`].
    pub id: i64,
    /// Its counter changed.
    pub resource: Resource,
    /// So did the row of this user's like, if it is set.
    pub user: Option<UserId>,
}

/// How many notes wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UnpublishedStanding {
    /// Notes, counted up to the limit of the call.
    pub waiting: u64,
    /// When the oldest was made.
    pub oldest: Option<DateTime<Utc>>,
}

/// Rows as they are: those that there are, without order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredStates {
    /// Counters.
    pub counts: Vec<(Resource, StoredCount)>,
    /// Pairs, tombstones included.
    pub pairs: Vec<(Pair, PairState)>,
}

impl EventStore {
    /// Whether changes that no message of the queue stands for are noted until somebody is told of them
    /// ([`unpublished`](Self::unpublished)), with whatever makes them; without this they are not.
    #[must_use]
    pub fn with_change_notes(mut self, notes_changes: bool) -> Self {
        self.notes_changes = notes_changes;
        self
    }

    /// Says whether changes are to be noted, for those who know no configuration.
    pub async fn order_change_notes(&self, wanted: bool) -> Result<(), StoreError> {
        self.set_note(WANTED, wanted.then_some("yes")).await
    }

    /// What was said last.
    pub async fn change_notes_ordered(&self) -> Result<bool, StoreError> {
        Ok(self.note(WANTED).await?.is_some())
    }

    /// Oldest notes, at most `limit`. They stay until deleted: telling twice is harmless.
    pub async fn unpublished(&self, limit: u32) -> Result<Vec<Unpublished>, StoreError> {
        let mut script = self.script();
        script.begin("SELECT id, resource_type, resource_id, user_id FROM unpublished_changes ORDER BY id LIMIT ");
        script.int(i64::from(limit));
        let results = self.read(&script).await?;
        let bad = |error| StoreError::corrupt(TABLE, error);
        rows(&results, 0)
            .iter()
            .map(|row| {
                let kind = get::<String>(row, 1, TABLE)?.parse().map_err(bad)?;
                let user: i64 = get(row, 3, TABLE)?;
                Ok(Unpublished {
                    id: get(row, 0, TABLE)?,
                    resource: Resource::new(kind, get(row, 2, TABLE)?).map_err(bad)?,
                    user: if user == NOBODY { None } else { Some(UserId::new(user).map_err(bad)?) },
                })
            })
            .collect()
    }

    /// Listeners were told of these.
    pub async fn published(&self, ids: &[i64]) -> Result<(), StoreError> {
        let mut script = self.script();
        for chunk in ids.chunks(CHUNK) {
            script.begin("DELETE FROM unpublished_changes WHERE id IN (");
            script.list(chunk, |script, id| {
                script.int(*id);
            });
            script.words(")");
        }
        self.write("published", &script).await.map(drop)
    }

    /// How much listeners were not told of, counted up to `limit`.
    pub async fn unpublished_standing(&self, limit: u32) -> Result<UnpublishedStanding, StoreError> {
        let mut script = self.script();
        script.begin("SELECT COUNT(*) FROM (SELECT id FROM unpublished_changes LIMIT ").int(i64::from(limit));
        script.words(") AS waiting");
        script.begin("SELECT created_at FROM unpublished_changes ORDER BY id LIMIT 1");
        let results = self.read(&script).await?;
        let waiting: i64 = get(row(&results, 0, TABLE)?, 0, TABLE)?;
        let oldest = rows(&results, 1).first().map(|row| get::<NaiveDateTime>(row, 0, TABLE)).transpose()?;
        Ok(UnpublishedStanding { waiting: waiting.unsigned_abs(), oldest: oldest.map(utc) })
    }

    /// Notes pairs whose changes are committed already, if changes are [noted](Self::with_change_notes) at all.
    pub async fn note_changes(&self, pairs: &[Pair], now: DateTime<Utc>) -> Result<(), StoreError> {
        let mut script = self.script();
        if self.notes_changes {
            note_pairs(&mut script, pairs.iter().copied(), now);
        }
        self.write("note_changes", &script).await.map(drop)
    }

    /// The rows of these resources and pairs. A tombstone that retention archived is found, too.
    pub async fn stored_states(&self, resources: &[Resource], pairs: &[Pair]) -> Result<StoredStates, StoreError> {
        let believed = self.horizon.for_reads();
        let mut script = self.script();
        let mut reading = Reading::default();
        reading.read_counts(&mut script, resources, "");
        reading.read_states(&mut script, pairs);
        let mut snapshot = reading.snapshot(&self.read(&script).await?, believed)?;
        let absent: Vec<Pair> = pairs.iter().copied().filter(|pair| snapshot.known_state(*pair).is_none()).collect();
        let mut script = self.script();
        recall(&mut script, &absent);
        snapshot.states.extend(recalled(&self.read(&script).await?, believed)?);
        // A counter that was created and not written yet has no revision.
        let counts = snapshot.counts.into_iter().filter(|(_, stored)| stored.revision > 0).collect();
        Ok(StoredStates { counts, pairs: snapshot.states.into_iter().collect() })
    }
}

/// Notes pairs, and with them the counters of their resources.
pub(crate) fn note_pairs(script: &mut Script, pairs: impl Iterator<Item = Pair>, now: DateTime<Utc>) {
    let pairs: Vec<Pair> = pairs.collect();
    for chunk in pairs.chunks(CHUNK) {
        note(script, chunk.iter().map(|pair| (pair.resource, pair.user.get())), now);
    }
}

/// Notes a counter alone.
pub(crate) fn note_count(script: &mut Script, resource: Resource, now: DateTime<Utc>) {
    note(script, [(resource, NOBODY)], now);
}

fn note(script: &mut Script, changes: impl IntoIterator<Item = (Resource, i64)>, now: DateTime<Utc>) {
    script.begin("INSERT INTO unpublished_changes (resource_type, resource_id, user_id, created_at) VALUES ");
    script.list(changes, |script, (resource, user)| {
        script.words("(").name(resource.kind.name()).words(",").int(resource.id.get()).words(",").int(user);
        script.words(",").time(now).words(")");
    });
}
