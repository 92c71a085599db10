//! The processes of an installation, as each of them says again and again. Who stops leaves the table; who died stays in it and
//! grows old.

use crate::sql::error::StoreError;
use crate::sql::pool::Results;
use crate::sql::script::{Script, utc};
use crate::sql::store::{EventStore, get, rows};
use chrono::{DateTime, TimeDelta, Utc};

const TABLE: &str = "sync_processes";

/// Longest name of an instance in characters.
const MAX_INSTANCE: usize = 128;

/// Longest word.
const MAX_WORD: usize = 24;

/// Longest detail in characters.
const MAX_DETAIL: usize = 500;

/// Who has not been seen for so long is forgotten.
const FORGOTTEN: TimeDelta = TimeDelta::hours(24);

/// Most processes that are listed.
const MOST: i64 = 500;

/// A process, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ProcessRow {
    /// Which program.
    pub service: String,
    /// Its name among its kind.
    pub instance: String,
    /// Version of the program.
    pub version: String,
    /// `ok`, `degraded` or `down`.
    pub status: String,
    /// Which parts are not well; none if all are.
    pub detail: Option<String>,
    /// Since when it runs.
    pub started_at: DateTime<Utc>,
    /// When it last said so.
    pub seen_at: DateTime<Utc>,
}

impl EventStore {
    /// Notes that a process runs, and says who else does, like [`processes`](Self::processes). Texts that are too long are cut.
    pub async fn announce(&self, process: &ProcessRow) -> Result<Vec<ProcessRow>, StoreError> {
        let cut = |text: &str, most| text.chars().take(most).collect::<String>();
        let word = |text: &str| cut(text, MAX_WORD);
        let mut script = self.script();
        script.begin(
            "INSERT INTO sync_processes (service, instance, version, status, detail, started_at, seen_at) VALUES (",
        );
        script.text(&word(&process.service)).words(",").text(&cut(&process.instance, MAX_INSTANCE)).words(",");
        script.text(&word(&process.version)).words(",").text(&word(&process.status)).words(",");
        script.text_or_null(process.detail.as_deref().map(|detail| cut(detail, MAX_DETAIL)).as_deref()).words(",");
        script.time(process.started_at).words(",").time(process.seen_at).words(")");
        let columns = ["version", "status", "detail", "started_at", "seen_at"];
        let overwrite = script.dialect().overwrite("service, instance", &columns, None);
        script.words(&overwrite);
        let written = script.statements();
        list(&mut script);
        let mut listed = listed(&self.run_each("announce", &script).await?, written)?;
        let before = process.seen_at - FORGOTTEN;
        if listed.iter().any(|one| one.seen_at < before) {
            let mut script = self.script();
            script.begin("DELETE FROM sync_processes WHERE seen_at < ").time(before);
            self.write("forget_processes", &script).await?;
            listed.retain(|one| one.seen_at >= before);
        }
        Ok(listed)
    }

    /// Notes that a process has stopped.
    pub async fn leave(&self, service: &str, instance: &str) -> Result<(), StoreError> {
        let instance: String = instance.chars().take(MAX_INSTANCE).collect();
        let mut script = self.script();
        script.begin("DELETE FROM sync_processes WHERE service = ").text(service);
        script.words(" AND instance = ").text(&instance);
        self.write("leave", &script).await.map(drop)
    }

    /// Who runs, and who died within the last day; by service and name.
    pub async fn processes(&self) -> Result<Vec<ProcessRow>, StoreError> {
        let mut script = self.script();
        list(&mut script);
        listed(&self.read(&script).await?, 0)
    }
}

fn list(script: &mut Script) {
    script.begin("SELECT service, instance, version, status, detail, started_at, seen_at FROM sync_processes");
    script.words(" ORDER BY service, instance LIMIT ").int(MOST);
}

fn listed(results: &Results, statement: usize) -> Result<Vec<ProcessRow>, StoreError> {
    let process = |row| {
        Ok(ProcessRow {
            service: get(row, 0, TABLE)?,
            instance: get(row, 1, TABLE)?,
            version: get(row, 2, TABLE)?,
            status: get(row, 3, TABLE)?,
            detail: get(row, 4, TABLE)?,
            started_at: utc(get(row, 5, TABLE)?),
            seen_at: utc(get(row, 6, TABLE)?),
        })
    };
    rows(results, statement).iter().map(process).collect()
}
