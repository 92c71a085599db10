//! A long job that brings events into the database: batch by batch, each with the job's progress in one transaction, so it
//! goes on where it stopped; never faster than caches are told what changes.

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use domain::LikeEvent;
use event_store::{DatabaseConfig, EventStore, ImportOptions, StoreError};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// A database that is unreachable is waited for this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// With so much to tell caches the job waits ...
const BACKLOG_HIGH: u64 = 5_000;

/// ... until it is no more than this, looking this often ...
const BACKLOG_LOW: u64 = 1_000;
const BACKLOG_POLL: Duration = Duration::from_millis(100);

/// ... and gives up if none of it is told for so long.
const BACKLOG_PATIENCE: Duration = Duration::from_secs(30);

/// How a job goes about it.
#[derive(Debug, Clone, Copy)]
pub struct JobOptions {
    /// Most rows read, and events written, at once; 1 to 1000.
    pub batch_size: u32,
    /// Most rows per second; none: as fast as it goes.
    pub max_rate: Option<f64>,
    /// No server runs and no cache holds anything, so nothing need be told.
    pub offline: bool,
    /// Begin again, whatever was done before.
    pub restart: bool,
}

/// The write side of a job. What is written is counted in [`Job::events`] and [`Job::changed`].
pub(crate) struct Job {
    pub(crate) store: EventStore,
    options: JobOptions,
    history: bool,
    note: String,
    cursor: String,
    started: Instant,
    rows: u64,
    /// Events folded.
    pub(crate) events: u64,
    /// Pairs changed by them.
    pub(crate) changed: u64,
}

/// An event that the database itself refused, by its position in the batch.
pub(crate) type Refused = (usize, String);

impl Job {
    /// Whose progress is the note of this name; `history`: events are added to `user_behaviors`.
    pub(crate) async fn start(
        store: EventStore,
        options: JobOptions,
        note: String,
        history: bool,
    ) -> anyhow::Result<Self> {
        let before = if options.restart { None } else { store.note(&note).await.context("progress")? };
        let cursor = before.unwrap_or_default();
        let started = Instant::now();
        Ok(Self { store, options, history, note, cursor, started, rows: 0, events: 0, changed: 0 })
    }

    /// Where it stands; empty at the beginning.
    pub(crate) fn cursor(&self) -> &str {
        &self.cursor
    }

    /// Brings events in that `rows` rows gave, and notes the new cursor with the last of them. Returns what was refused.
    pub(crate) async fn write(
        &mut self,
        events: &[LikeEvent],
        rows: u64,
        cursor: String,
    ) -> anyhow::Result<Vec<Refused>> {
        let mut refused = Vec::new();
        let size = self.options.batch_size as usize;
        let mut pieces: Vec<(usize, &[LikeEvent])> =
            events.chunks(size).enumerate().map(|(n, piece)| (n * size, piece)).rev().collect();
        let mut noted = false;
        while let Some((first, piece)) = pieces.pop() {
            // Before the last piece is in, the job has not come further.
            let last = pieces.is_empty();
            let progress = if last { cursor.as_str() } else { self.cursor.as_str() };
            match self.import(piece, progress).await {
                Ok(changed) => {
                    self.events += piece.len() as u64;
                    self.changed += changed as u64;
                    noted = last;
                }
                Err(StoreError::Rejected(error)) => match piece.len() {
                    0 | 1 => refused.push((first, error.to_string())),
                    len => {
                        let (left, right) = piece.split_at(len / 2);
                        pieces.push((first + len / 2, right));
                        pieces.push((first, left));
                    }
                },
                Err(error) => return Err(error).context("could not write; run again to go on from here"),
            }
        }
        if !noted {
            self.store.set_note(&self.note, Some(&cursor)).await.context("could not note the progress")?;
        }
        self.cursor = cursor;
        self.rows += rows;
        if !self.options.offline {
            self.wait_for_caches().await?;
        }
        self.keep_rate().await;
        Ok(refused)
    }

    async fn import(&self, events: &[LikeEvent], progress: &str) -> Result<usize, StoreError> {
        let options = ImportOptions {
            history: self.history,
            tell_cache: !self.options.offline,
            progress: (&self.note, progress),
        };
        let end = Instant::now() + PATIENCE;
        loop {
            match self.store.import(events, options, now()).await {
                Ok(applied) => return Ok(applied.changed_pairs),
                // Nothing harmful in doing it twice.
                Err(error) if (error.is_unavailable() || error.is_conflict()) && Instant::now() < end => {
                    sleep(Duration::from_millis(500)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn wait_for_caches(&self) -> anyhow::Result<()> {
        let look = || self.store.refresh_backlog(BACKLOG_HIGH as u32);
        let mut backlog = look().await.context("could not read what caches must be told")?;
        if backlog < BACKLOG_HIGH {
            return Ok(());
        }
        let mut moved = Instant::now();
        while backlog > BACKLOG_LOW {
            sleep(BACKLOG_POLL).await;
            let now = look().await.context("could not read what caches must be told")?;
            if now < backlog {
                moved = Instant::now();
            } else if moved.elapsed() > BACKLOG_PATIENCE {
                bail!(
                    "nobody tells the caches what has changed: start a server, or give --offline if none runs and no cache \
                     holds anything; run again to go on from here"
                );
            }
            backlog = now;
        }
        Ok(())
    }

    async fn keep_rate(&self) {
        if let Some(rate) = self.options.max_rate {
            let due = Duration::from_secs_f64(self.rows as f64 / rate);
            sleep(due.saturating_sub(self.started.elapsed())).await;
        }
    }
}

/// A store that has not connected yet.
pub(crate) async fn open(database_url: &str) -> anyhow::Result<EventStore> {
    crate::has_client_of("--database-url", database_url)?;
    let config = DatabaseConfig { url: database_url.into(), max_connections: 4, ..DatabaseConfig::default() };
    config.validate().map_err(crate::UsageError)?;
    EventStore::connect(&config).await.context("could not connect to the database")
}

/// Connects, and checks that the schema is current. Listeners are told of what is written, if they are to be.
pub(crate) async fn connect(database_url: &str) -> anyhow::Result<EventStore> {
    let store = open(database_url).await?;
    let pending = store.pending_migrations().await.context("could not read the state of the schema")?;
    if !pending.is_empty() {
        bail!("the database is not at the current schema: run syncctl migrate first");
    }
    let ordered = store.change_notes_ordered().await.context("could not read whether listeners are to be told")?;
    Ok(store.with_change_notes(ordered))
}

/// This machine's clock.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub(crate) fn now() -> DateTime<Utc> {
    DateTime::from(std::time::SystemTime::now())
}
