//! What an installation agrees on: its number of shards, the write path that operators ordered, and how far long jobs have come.

use crate::sql::error::StoreError;
use crate::sql::script::Script;
use crate::sql::store::{EventStore, get, row, rows};
use chrono::{DateTime, Utc};
use domain::{ShardCount, WritePath};

const TABLE: &str = "sync_meta";

pub(crate) const WRITE_PATH: &str = "write_path";

impl EventStore {
    /// The write path that an operator ordered; none if the configuration decides.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if somebody wrote nonsense there.
    pub async fn write_path(&self) -> Result<Option<WritePath>, StoreError> {
        let text = self.note(WRITE_PATH).await?;
        text.map(|text| Self::ordered(&text)).transpose()
    }

    pub(crate) fn ordered(text: &str) -> Result<WritePath, StoreError> {
        text.parse().map_err(|error| StoreError::corrupt(TABLE, error))
    }

    /// Orders a write path for all servers, which follow within about a second; none: the configuration decides again.
    pub async fn set_write_path(&self, path: Option<WritePath>) -> Result<(), StoreError> {
        self.set_note(WRITE_PATH, path.map(|path| path.to_string()).as_deref()).await
    }

    /// Stores the number of shards on first use, and checks it ever after.
    ///
    /// # Errors
    /// [`StoreError::ShardMismatch`] if the data was written with another number.
    pub async fn bind_shards(&self, shards: ShardCount) -> Result<(), StoreError> {
        // Read first: where it is known nothing is written.
        if let Some(stored) = self.note("shards").await? {
            return check_shards(&stored, shards);
        }
        let mut script = self.script();
        script.begin("INSERT INTO sync_meta (name, value) VALUES ('shards', '");
        let keep = script.dialect().keep_existing("name");
        script.int(i64::from(shards.get())).words("')").words(&keep);
        script.begin("SELECT value FROM sync_meta WHERE name = 'shards'");
        let results = self.write("bind_shards", &script).await?;
        let stored: String = get(row(&results, 1, "sync_meta")?, 0, "sync_meta")?;
        check_shards(&stored, shards)
    }

    /// A note under a name of at most 64 bytes, such as how far a job has come.
    pub async fn note(&self, name: &str) -> Result<Option<String>, StoreError> {
        let mut script = self.script();
        script.begin("SELECT value FROM sync_meta WHERE name = ").text(name);
        let results = self.read(&script).await?;
        rows(&results, 0).first().map(|row| get(row, 0, TABLE)).transpose()
    }

    /// Writes a note of at most 255 bytes, or removes it.
    pub async fn set_note(&self, name: &str, value: Option<&str>) -> Result<(), StoreError> {
        let mut script = self.script();
        match value {
            Some(value) => write_note(&mut script, name, value),
            None => {
                script.begin("DELETE FROM sync_meta WHERE name = ").text(name);
            }
        }
        self.write("set_note", &script).await.map(drop)
    }
}

fn check_shards(stored: &str, shards: ShardCount) -> Result<(), StoreError> {
    let stored = stored.parse().map_err(|error| StoreError::corrupt("sync_meta", format!("shards: {error}")))?;
    if stored == shards.get() { Ok(()) } else { Err(StoreError::ShardMismatch { stored, configured: shards.get() }) }
}

pub(crate) fn write_note(script: &mut Script, name: &str, value: &str) {
    let overwrite = script.dialect().overwrite("name", &["value"], None);
    script.begin("INSERT INTO sync_meta (name, value) VALUES (").text(name).words(",").text(value).words(")");
    script.words(&overwrite);
}

/// A time as text that sorts by time.
pub(crate) fn sortable(time: DateTime<Utc>) -> String {
    format!("{:020}", time.timestamp_micros().max(0))
}
