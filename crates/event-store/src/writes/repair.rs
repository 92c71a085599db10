//! What the checker writes: under the same locks as everybody else, and only with the newest fencing token.

use crate::sql::error::StoreError;
use crate::sql::store::{EventStore, get, row};
use crate::tables::likes::{LikeTable, table_of};
use crate::tables::repair_token::Fenced;
use crate::tables::unpublished::note_count;
use crate::writes::apply::Applied;
use chrono::{DateTime, Utc};
use domain::{LikeEvent, Resource, StoredCount, Version};

/// A repaired counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountRepaired {
    /// As it was, under its lock; `None` if there was no row.
    pub before: Option<StoredCount>,
    /// As it is.
    pub after: StoredCount,
}

impl CountRepaired {
    /// Whether anything was wrong.
    pub fn changed(&self) -> bool {
        self.before != Some(self.after)
    }
}

impl EventStore {
    /// Makes a counter the number of its live rows, under its lock: every writer of the resource waits or has committed.
    ///
    /// Its revision grows, beyond `above` too (a cache may have heard of a larger one). A counter that is right, with a revision
    /// not below `above`, is left alone; one that nobody has is created.
    pub async fn repair_count(
        &self,
        resource: Resource,
        above: i64,
        token: u64,
        now: DateTime<Utc>,
    ) -> Result<Fenced<CountRepaired>, StoreError> {
        self.transaction("repair_count", || self.repair_count_once(resource, above, token, now)).await
    }

    async fn repair_count_once(
        &self,
        resource: Resource,
        above: i64,
        token: u64,
        now: DateTime<Utc>,
    ) -> Result<Fenced<CountRepaired>, StoreError> {
        const COUNTS: &str = "like_counts";
        let LikeTable { name, id } = table_of(resource.kind);
        let mut tx = self.begin().await?;
        if self.lock_token(&mut tx).await? > token {
            return Ok(Fenced::Refused);
        }
        let mut script = self.script();
        let (keep, lock) =
            (script.dialect().keep_existing("resource_type, resource_id"), script.dialect().for_update());
        let key = |script: &mut crate::sql::script::Script| {
            script.words(" WHERE resource_type = ").name(resource.kind.name());
            script.words(" AND resource_id = ").int(resource.id.get());
        };
        script.begin(
            "INSERT INTO like_counts (resource_type, resource_id, like_count, revision, last_version, updated_at) ",
        );
        script
            .words("VALUES (")
            .name(resource.kind.name())
            .words(",")
            .int(resource.id.get())
            .words(",0,0,0,")
            .time(now);
        script.words(")").words(&keep);
        script.begin("SELECT like_count, revision, last_version FROM like_counts");
        key(&mut script);
        script.words(lock);
        script.begin("SELECT COUNT(*), MAX(version) FROM ").words(name).words(" WHERE ").words(id).words(" = ");
        script.int(resource.id.get()).words(" AND deleted_at IS NULL");
        let results = tx.run(&script).await?;
        let held = row(&results, 1, COUNTS)?;
        let stored = StoredCount {
            count: get(held, 0, COUNTS)?,
            revision: get(held, 1, COUNTS)?,
            last_version: Version(get(held, 2, COUNTS)?),
        };
        let rows = row(&results, 2, name)?;
        let (live, newest): (i64, Option<i64>) = (get(rows, 0, name)?, get(rows, 1, name)?);
        let created = stored.revision == 0;
        let before = (!created).then_some(stored);
        if stored.count == live && !created && stored.revision >= above {
            return Ok(Fenced::Done(CountRepaired { before, after: stored }));
        }
        let after = StoredCount {
            count: live,
            revision: self.horizon.revision().max(stored.revision.max(above) + 1),
            last_version: stored.last_version.max(Version(newest.unwrap_or(0))),
        };
        let mut script = self.script();
        script
            .begin("UPDATE like_counts SET like_count = ")
            .int(after.count)
            .words(", revision = ")
            .int(after.revision);
        script.words(", last_version = ").int(after.last_version.0).words(", updated_at = ").time(now);
        key(&mut script);
        script.words(" AND revision = ").int(stored.revision);
        if self.notes_changes {
            note_count(&mut script, resource, now);
        }
        tx.run(&script).await?;
        tx.commit().await?;
        Ok(Fenced::Done(CountRepaired { before, after }))
    }

    /// [`apply`](Self::apply) for a repairer: rows that already hold these events, or newer ones, stay as they are.
    pub async fn restore(
        &self,
        events: &[LikeEvent],
        token: u64,
        now: DateTime<Utc>,
    ) -> Result<Fenced<Applied>, StoreError> {
        self.apply_fenced(events, token, now).await
    }
}
