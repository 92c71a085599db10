//! What the cache must be told of after degraded writes and discarded events: a list in the database, written with them.

use crate::sql::error::StoreError;
use crate::sql::script::{CHUNK, Script, utc};
use crate::sql::store::{EventStore, get, rows};
use chrono::{DateTime, Utc};
use domain::{Pair, PairState, Version};

const TABLE: &str = "cache_refreshes";

/// One entry of the list: the cache may hold an older state of this pair and of its resource's counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refresh {
    /// Names the entry for [`EventStore::delete_refreshes`].
    pub id: i64,
    /// What to refresh; read its row anew, it may have changed since.
    pub pair: Pair,
    /// Version of the degraded write, or of the discarded event: the row has it, or a newer one, only in the first case.
    pub version: Version,
    /// When it was put on the list.
    pub listed_at: DateTime<Utc>,
}

impl EventStore {
    /// Oldest entries of the list, at most `limit`. They stay until deleted: refreshing twice is harmless.
    pub async fn take_refreshes(&self, limit: u32) -> Result<Vec<Refresh>, StoreError> {
        self.refreshes_after(0, limit).await
    }

    /// The same, of entries after this one.
    pub async fn refreshes_after(&self, after: i64, limit: u32) -> Result<Vec<Refresh>, StoreError> {
        let mut script = self.script();
        script.begin(
            "SELECT id, resource_type, resource_id, user_id, version, created_at FROM cache_refreshes WHERE id > ",
        );
        script.int(after).words(" ORDER BY id LIMIT ");
        script.int(i64::from(limit));
        let results = self.read(&script).await?;
        rows(&results, 0)
            .iter()
            .map(|row| {
                let kind = get::<String>(row, 1, TABLE)?.parse().map_err(|error| StoreError::corrupt(TABLE, error))?;
                let pair = Pair::new(get(row, 3, TABLE)?, kind, get(row, 2, TABLE)?)
                    .map_err(|error| StoreError::corrupt(TABLE, error))?;
                Ok(Refresh {
                    id: get(row, 0, TABLE)?,
                    pair,
                    version: Version(get(row, 4, TABLE)?),
                    listed_at: utc(get(row, 5, TABLE)?),
                })
            })
            .collect()
    }

    /// Deletes entries that the cache has been told of.
    pub async fn delete_refreshes(&self, ids: &[i64]) -> Result<(), StoreError> {
        let mut script = self.script();
        for chunk in ids.chunks(CHUNK) {
            script.begin("DELETE FROM cache_refreshes WHERE id IN (");
            script.list(chunk, |script, id| {
                script.int(*id);
            });
            script.words(")");
        }
        self.write("delete_refreshes", &script).await.map(drop)
    }
}

/// Puts pairs on the list.
pub(crate) fn remember(script: &mut Script, pairs: &[(Pair, PairState)], now: DateTime<Utc>) {
    for chunk in pairs.chunks(CHUNK) {
        script.begin("INSERT INTO cache_refreshes (resource_type, resource_id, user_id, version, created_at) VALUES ");
        script.list(chunk, |script, (pair, state)| {
            script.words("(").name(pair.resource.kind.name()).words(",").int(pair.resource.id.get()).words(",");
            script.int(pair.user.get()).words(",").int(state.version.0).words(",").time(now).words(")");
        });
    }
}
