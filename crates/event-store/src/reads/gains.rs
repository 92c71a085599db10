//! What is liked most within a window.

use crate::sql::error::StoreError;
use crate::sql::gains::Window;
use crate::sql::store::{EventStore, get, rows};
use domain::{Resource, ResourceType};

impl EventStore {
    /// Resources that gained most likes within a window that ends now, at most `limit` of each type, the largest first, as far as
    /// it is [written down](Self::write_gains).
    pub async fn most_gained(&self, window: Window, limit: u32) -> Result<Vec<(Resource, i64)>, StoreError> {
        const TABLE: &str = "liked_slices";
        let begin = window.begin(self.horizon.latest());
        // An integer again: the sum of such is a decimal on MySQL.
        let integer = if self.script().dialect().is_sqlite() { "INTEGER" } else { "SIGNED" };
        let mut script = self.script();
        for kind in ResourceType::ALL {
            script
                .begin("SELECT resource_id, CAST(SUM(gained) AS ")
                .words(integer)
                .words(") AS total FROM liked_slices");
            script.words(" WHERE slice_seconds = ").int(window.slice());
            script.words(" AND resource_type = ").name(kind.name()).words(" AND slice_start >= ").int(begin);
            // A deleted one gained nothing that is left; restored, it begins with the next slice.
            script.words(" AND NOT EXISTS (SELECT 1 FROM deleted_resources AS gone WHERE gone.resource_type = ");
            script.name(kind.name()).words(" AND gone.resource_id = liked_slices.resource_id");
            script.words(" AND gone.up_to >= liked_slices.slice_start * 1000000)");
            script.words(" GROUP BY resource_id HAVING total > 0 ORDER BY total DESC, resource_id LIMIT ");
            script.int(i64::from(limit));
        }
        let results = self.read(&script).await?;
        let mut most = Vec::new();
        for (statement, kind) in ResourceType::ALL.into_iter().enumerate() {
            for row in rows(&results, statement) {
                let resource = Resource::new(kind, get(row, 0, TABLE)?);
                most.push((resource.map_err(|error| StoreError::corrupt(TABLE, error))?, get(row, 1, TABLE)?));
            }
        }
        most.sort_by_key(|(_, gained)| std::cmp::Reverse(*gained));
        Ok(most)
    }
}
