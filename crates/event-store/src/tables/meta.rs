//! What an installation agrees on: the write path that operators ordered, and how far long jobs have come.

use crate::sql::error::StoreError;
use crate::sql::script::Script;
use crate::sql::store::{EventStore, get, rows};
use chrono::{DateTime, Utc};
use domain::WritePath;

const TABLE: &str = "sync_meta";

const WRITE_PATH: &str = "write_path";

impl EventStore {
    /// The write path that an operator ordered; none if the configuration decides.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if somebody wrote nonsense there.
    pub async fn write_path(&self) -> Result<Option<WritePath>, StoreError> {
        let text = self.note(WRITE_PATH).await?;
        text.map(|text| text.parse().map_err(|error| StoreError::corrupt(TABLE, error))).transpose()
    }

    /// Orders a write path for all servers, which follow within about a second; none: the configuration decides again.
    pub async fn set_write_path(&self, path: Option<WritePath>) -> Result<(), StoreError> {
        self.set_note(WRITE_PATH, path.map(|path| path.to_string()).as_deref()).await
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

pub(crate) fn write_note(script: &mut Script, name: &str, value: &str) {
    let overwrite = script.dialect().overwrite("name", &["value"], None);
    script.begin("INSERT INTO sync_meta (name, value) VALUES (").text(name).words(",").text(value).words(")");
    script.words(&overwrite);
}

/// A time as text that sorts by time.
pub(crate) fn sortable(time: DateTime<Utc>) -> String {
    format!("{:020}", time.timestamp_micros().max(0))
}
