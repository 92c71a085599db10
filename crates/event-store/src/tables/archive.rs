//! Tombstones that retention took out of the tables of likes.
//!
//! A pair without a row is not necessarily untouched: its tombstone may be here. Every writer asks, under the counter's lock,
//! when it holds an event that is older than what was archived last. So an old event comes too late however old it is, and
//! a new one, which is newer than all of the archive, costs nothing but a look at one note.
//!
//! Invariant: a tombstone moves in one transaction, together with the note. Whoever reads the pair first and the note
//! afterwards finds the row, or a note that sends it here.

use crate::sql::error::StoreError;
use crate::sql::horizon::Believed;
use crate::sql::pool::Results;
use crate::sql::script::{CHUNK, Script};
use crate::sql::store::{get, rows};
use crate::tables::likes::by_kind;
use crate::tables::meta::sortable;
use chrono::{DateTime, Utc};
use domain::{Pair, PairState, Resource, ResourceId, ResourceType, UserId, Version};

const TABLE: &str = "archived_tombstones";

/// Note: all archived tombstones are older than this, as [`sortable`].
const ARCHIVED_BEFORE: &str = "tombstones_archived_before";

/// A tombstone's user, resource and version.
pub(crate) type Tombstone = (i64, i64, Version);

/// Moves tombstones of a kind here; the caller deletes their rows in the same transaction, which holds their locks.
pub(crate) fn archive(script: &mut Script, kind: ResourceType, tombstones: &[Tombstone], before: DateTime<Utc>) {
    let newer = |column| format!("{column} >= {}", script.dialect().new_value(column));
    let raise = script.dialect().overwrite("name", &["value"], Some(&newer("value")));
    let upsert =
        script.dialect().overwrite("resource_type, user_id, resource_id", &["version"], Some(&newer("version")));
    script.begin("INSERT INTO sync_meta (name, value) VALUES (").text(ARCHIVED_BEFORE).words(",");
    script.text(&sortable(before)).words(")").words(&raise);
    for chunk in tombstones.chunks(CHUNK) {
        script.begin("INSERT INTO archived_tombstones (resource_type, user_id, resource_id, version) VALUES ");
        script.list(chunk, |script, (user, id, version)| {
            script.words("(").name(kind.name()).words(",").int(*user).words(",").int(*id).words(",");
            script.int(version.0).words(")");
        });
        script.words(&upsert);
    }
}

/// Reads how new archived tombstones can be; gives the statement for [`archived_before`].
pub(crate) fn read_archived_before(script: &mut Script) -> usize {
    let statement = script.statements();
    script.begin("SELECT value FROM sync_meta WHERE name = ").text(ARCHIVED_BEFORE);
    statement
}

/// All archived tombstones have lower versions; zero while nothing was ever archived.
pub(crate) fn archived_before(results: &Results, statement: usize) -> Result<Version, StoreError> {
    let Some(row) = rows(results, statement).first() else { return Ok(Version::ZERO) };
    let text: String = get(row, 0, "sync_meta")?;
    text.parse().map(Version).map_err(|error| StoreError::corrupt("sync_meta", format!("{ARCHIVED_BEFORE}: {error}")))
}

/// Reads the tombstones of some pairs; all of the script's statements are for [`recalled`].
pub(crate) fn recall(script: &mut Script, pairs: &[Pair]) {
    let (index, row_list) = (script.dialect().by_primary_key(), script.dialect().row_list());
    for (kind, keys) in by_kind(pairs.iter().map(|pair| (pair.resource.kind, (pair.user, pair.resource.id)))) {
        for chunk in keys.chunks(CHUNK) {
            script.begin("SELECT resource_type, user_id, resource_id, version FROM archived_tombstones").words(index);
            script.words(" WHERE (resource_type, user_id, resource_id) IN (").words(row_list);
            script.list(chunk, |script, (user, id)| {
                script.words("(").name(kind.name()).words(",").int(user.get()).words(",").int(id.get()).words(")");
            });
            script.words(")");
        }
    }
}

/// What [`recall`] read.
pub(crate) fn recalled(results: &Results, believed: Believed) -> Result<Vec<(Pair, PairState)>, StoreError> {
    let bad = |error| StoreError::corrupt(TABLE, error);
    results
        .iter()
        .flatten()
        .map(|row| {
            let kind: ResourceType = get::<String>(row, 0, TABLE)?.parse().map_err(bad)?;
            let user = UserId::new(get(row, 1, TABLE)?).map_err(bad)?;
            let id = ResourceId::new(get(row, 2, TABLE)?).map_err(bad)?;
            let version = believed.version(Version(get(row, 3, TABLE)?));
            let state = PairState { liked: false, version };
            Ok((Pair { resource: Resource { kind, id }, user }, state))
        })
        .collect()
}
