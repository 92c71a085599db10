//! The fencing token of repairs, in `sync_meta`: whoever repairs with an older one is refused.

use crate::sql::error::StoreError;
use crate::sql::pool::Tx;
use crate::sql::store::{EventStore, get, rows};

const TOKEN: &str = "repair_token";

/// What a fenced write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fenced<T> {
    /// Somebody with a larger token repairs now; nothing was written.
    Refused,
    /// This.
    Done(T),
}

impl EventStore {
    /// A new fencing token, larger than all before it: they are refused from now on.
    pub async fn take_repair_token(&self) -> Result<u64, StoreError> {
        self.transaction("take_repair_token", || async {
            let mut tx = self.begin().await?;
            let mut script = self.script();
            let keep = script.dialect().keep_existing("name");
            script.begin("INSERT INTO sync_meta (name, value) VALUES ('repair_token', '0')").words(&keep);
            tx.run(&script).await?;
            let token = self.lock_token(&mut tx).await? + 1;
            let mut script = self.script();
            script
                .begin("UPDATE sync_meta SET value = '")
                .int(token.cast_signed())
                .words("' WHERE name = 'repair_token'");
            tx.run(&script).await?;
            tx.commit().await?;
            Ok(token)
        })
        .await
    }

    /// The newest fencing token, 0 if there never was one; locked until the transaction ends.
    pub(crate) async fn lock_token(&self, tx: &mut Tx) -> Result<u64, StoreError> {
        let mut script = self.script();
        let lock = script.dialect().for_update();
        script.begin("SELECT value FROM sync_meta WHERE name = '").words(TOKEN).words("'").words(lock);
        let results = tx.run(&script).await?;
        let Some(row) = rows(&results, 0).first() else { return Ok(0) };
        let value: String = get(row, 0, "sync_meta")?;
        value.parse().map_err(|error| StoreError::corrupt("sync_meta", format!("{TOKEN}: {error}")))
    }
}
