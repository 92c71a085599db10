//! Writing down what was [gained](crate::sql::gains), and forgetting it.

use crate::sql::error::StoreError;
use crate::sql::gains::{SliceGain, Window};
use crate::sql::script::{CHUNK, Script};
use crate::sql::store::{EventStore, get, rows};
use domain::ResourceType;

/// Slices that are deleted at a time, of each length and type.
const DELETED: i64 = 8;

impl EventStore {
    /// From now on what resources gain is counted: somebody calls [`write_gains`](Self::write_gains) again and again.
    pub fn count_gains(&self) {
        self.gains.want();
    }

    /// Adds what this process has committed since the last time to what is liked most; gives the number of rows.
    ///
    /// A part whose commit was answered by nobody may be added twice.
    pub async fn write_gains(&self) -> Result<usize, StoreError> {
        let gained = self.gains.unwritten();
        for some in gained.chunks(CHUNK) {
            let mut script = self.script();
            add(&mut script, some);
            self.write("write_gains", &script).await?;
            self.gains.written(some);
        }
        self.gains.forget_before(self.horizon.latest());
        Ok(gained.len())
    }

    /// Deletes slices that belong to no window any more; gives the number of rows.
    pub async fn purge_gains(&self) -> Result<u64, StoreError> {
        const TABLE: &str = "liked_slices";
        let now = self.horizon.latest();
        let groups = Window::ALL.into_iter().flat_map(|window| ResourceType::ALL.map(|kind| (window, kind)));
        let of_group = |script: &mut Script, (window, kind): (Window, ResourceType)| {
            script.words(" FROM liked_slices WHERE slice_seconds = ").int(window.slice());
            script.words(" AND resource_type = ").name(kind.name());
        };
        let mut script = self.script();
        for group in groups.clone() {
            of_group(script.begin("SELECT slice_start, COUNT(*)"), group);
            script.words(" AND slice_start < ").int(group.0.begin(now));
            script.words(" GROUP BY slice_start ORDER BY slice_start LIMIT ").int(DELETED);
        }
        let found = self.read(&script).await?;
        let (mut script, mut deleted) = (self.script(), 0);
        for (statement, group) in groups.enumerate() {
            for row in rows(&found, statement) {
                of_group(script.begin("DELETE"), group);
                script.words(" AND slice_start = ").int(get(row, 0, TABLE)?);
                deleted += get::<i64>(row, 1, TABLE)?.unsigned_abs();
            }
        }
        self.write("purge_gains", &script).await?;
        Ok(deleted)
    }
}

fn add(script: &mut Script, gained: &[SliceGain]) {
    let new = script.dialect().new_value("gained");
    let key = "slice_seconds, resource_type, slice_start, resource_id";
    let sum = script.dialect().update_existing(key, &format!("gained = liked_slices.gained + {new}"));
    script.begin("INSERT INTO liked_slices (slice_seconds, resource_type, slice_start, resource_id, gained) VALUES ");
    script.list(gained, |script, row| {
        script.words("(").int(row.window.slice()).words(",").name(row.kind.name()).words(",").int(row.start);
        script.words(",").int(row.resource.id.get()).words(",").int(row.more).words(")");
    });
    script.words(&sum);
}
