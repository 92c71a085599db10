//! What an installation agrees on: its number of shards, the write path that operators ordered, and how far long jobs have come.

use crate::sql::error::StoreError;
use crate::sql::script::Script;
use crate::sql::store::{EventStore, get, row, rows};
use chrono::{DateTime, Utc};
use domain::{ShardCount, WritePath};

const TABLE: &str = "sync_meta";

/// The number of shards of the data.
pub(crate) const SHARDS: &str = "shards";

/// Without it there is no table.
const FIRST_MIGRATION: &str = "m20260101_000001_create_tables";

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

    /// Stores the number of shards on first use, and looks at it ever after: what is stored now, which is ours or that of a later
    /// resharding.
    ///
    /// # Errors
    /// [`StoreError::ShardMismatch`] if the data was written with another number.
    pub async fn bind_shards(&self, shards: ShardCount) -> Result<ShardCount, StoreError> {
        // Read first: where it is known nothing is written.
        let stored = match self.shards().await? {
            Some(stored) => stored,
            None => {
                let mut script = self.script();
                script.begin("INSERT INTO sync_meta (name, value) VALUES ('shards', ").text(&shards.to_string());
                let keep = script.dialect().keep_existing("name");
                script.words(")").words(&keep);
                script.begin("SELECT value FROM sync_meta WHERE name = 'shards'");
                let results = self.write("bind_shards", &script).await?;
                read_shards(&get::<String>(row(&results, 1, TABLE)?, 0, TABLE)?)?
            }
        };
        if stored.epoch() < shards.epoch() {
            // The cache knows of a resharding that this database has lost again: nothing lives under the old number any more.
            self.change_shards(stored, shards).await?;
            return Ok(self.shards().await?.unwrap_or(shards));
        }
        if stored != shards && stored.epoch() == shards.epoch() {
            return Err(StoreError::ShardMismatch { stored: stored.get(), configured: shards.get() });
        }
        Ok(stored)
    }

    /// The number of shards of the data; none if nobody has stored it yet.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if somebody wrote nonsense there.
    pub async fn shards(&self) -> Result<Option<ShardCount>, StoreError> {
        self.note(SHARDS).await?.map(|text| read_shards(&text)).transpose()
    }

    /// The same of a database that may have no schema yet, and so no data either.
    pub async fn shards_if_any(&self) -> Result<Option<ShardCount>, StoreError> {
        match self.shards().await {
            Err(error) => match self.pending_migrations().await {
                Ok(pending) if pending.iter().any(|name| name == FIRST_MIGRATION) => Ok(None),
                _ => Err(error),
            },
            stored => stored,
        }
    }

    /// Changes the number of shards, if it is still this one.
    pub async fn change_shards(&self, from: ShardCount, to: ShardCount) -> Result<(), StoreError> {
        let mut script = self.script();
        script.begin("UPDATE sync_meta SET value = ").text(&to.to_string());
        script.words(" WHERE name = 'shards' AND value = ").text(&from.to_string());
        self.write("change_shards", &script).await.map(drop)
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

pub(crate) fn read_shards(stored: &str) -> Result<ShardCount, StoreError> {
    stored.parse().map_err(|error| StoreError::corrupt(TABLE, format!("shards: {error}")))
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
