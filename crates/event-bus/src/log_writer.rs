//! Looking after the redo log, and writing to it what took another way.

use crate::connection::within;
use crate::topology::{self, LOG_KEY};
use crate::{BusConfig, BusError, LogState, NotConfirmed, Publisher};
use domain::codec::{self, EncodedEvent, MAX_BATCH};
use domain::fence::{encode_deleted, encode_fences};
use domain::{DeletedMark, Resource, UserId, Version};
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use std::time::Duration;

impl BusConfig {
    /// Says how the log is, to the log of this process where that is news.
    fn log_is(&self, state: LogState) {
        let news = self.log_status.set(state.clone());
        match state {
            LogState::Down(reason) if news => {
                tracing::warn!(reason, "the redo log does not answer, likes go on without it");
            }
            LogState::Absent(reason) if self.said.is_new(format!("log: {reason}")) => {
                tracing::warn!(reason, "this broker keeps no redo log, likes go on without one");
            }
            LogState::Up if news => tracing::info!("what is published goes into the redo log, too"),
            _ => {}
        }
    }
}

impl Publisher {
    /// Looks whether the redo log is there and takes what is written to it; declares it, unless it is up already. The answer
    /// holds for all that have this configuration.
    ///
    /// # Errors
    /// About the broker, not about the log: nobody knows of that.
    pub async fn check_log(&mut self) -> Result<LogState, BusError> {
        if !self.config.log.enabled {
            return Ok(LogState::Off);
        }
        let link = self.open().await?;
        if link.is_blocked() {
            self.link = Some(link);
            return Err(BusError::Blocked);
        }
        let deadline = self.config.connect_timeout / 2;
        if self.config.log_status.is_up() {
            let asked = within(deadline, "asking for the redo log", async {
                // On a channel of its own: a log that is gone closes it.
                let channel = link.connection.create_channel().await;
                let channel = channel.map_err(BusError::unavailable("opening a channel"))?;
                let options = QueueDeclareOptions { passive: true, ..Default::default() };
                for name in [&self.names.likes, &self.names.log] {
                    let asked = channel.queue_declare(name.as_str().into(), options, FieldTable::default()).await;
                    asked.map_err(BusError::topology(name, "asking for the redo log"))?;
                }
                channel.close(200, "done".into()).await.map_err(BusError::unavailable("closing a channel"))
            });
            match asked.await {
                Ok(()) => {
                    self.link = Some(link);
                    return Ok(LogState::Up);
                }
                Err(error @ BusError::Unavailable { .. }) => return Err(error),
                // With a log a message finds its way although the queue is gone, and does not come back.
                Err(BusError::Topology { name, .. }) if name == self.names.likes => {
                    link.close(deadline).await;
                    let link = self.open().await?;
                    self.link = Some(link);
                    return Ok(LogState::Up);
                }
                // Deleted, or silent: declared again.
                Err(error) => self.log_is_down(&error.to_string()),
            }
        }
        let declaring = topology::declare_log(&link.connection, &self.config, &self.names);
        match within(deadline, "declaring the redo log", declaring).await {
            Ok(()) => self.link = Some(link),
            // The queue has been deleted just now: that says nothing of the log.
            Err(BusError::Topology { name, reason }) if reason.starts_with("NOT_FOUND") => {
                if name == self.names.likes {
                    link.close(deadline).await;
                    self.link = Some(self.open().await?);
                } else {
                    // So says a cluster whose node of the log is away, until another one has taken over. It has a log.
                    self.link = Some(link);
                }
                self.log_is_down(&reason);
                return Ok(self.config.log_state());
            }
            Err(BusError::Topology { reason, .. }) => {
                self.link = Some(link);
                self.config.log_is(LogState::Absent(reason));
                return Ok(self.config.log_state());
            }
            Err(BusError::TimedOut { .. }) => {
                self.log_is_down("it cannot be declared in time");
                return Ok(self.config.log_state());
            }
            Err(other) => return Err(other),
        }
        // Whether it takes anything. An empty message is nobody's.
        match self.append_body(self.config.log_confirm_timeout(), b"").await {
            Ok(()) => self.config.log_is(LogState::Up),
            Err(BusError::NotConfirmed(why)) => self.log_is_down(&why.to_string()),
            Err(other) => return Err(other),
        }
        Ok(self.config.log_state())
    }

    /// Writes 1 to [`MAX_BATCH`] events to the redo log alone; an empty slice is done already.
    ///
    /// `Ok` means that the log has them. Twice there is harmless, so after an error they are written again.
    pub async fn append(&mut self, events: &[EncodedEvent]) -> Result<(), BusError> {
        if events.is_empty() {
            return Ok(());
        }
        if events.len() > MAX_BATCH {
            return Err(BusError::BatchTooLarge { len: events.len(), max: MAX_BATCH });
        }
        let sent = self.append_body(self.config.confirm_timeout, &codec::encode_batch(events)).await;
        if let Err(BusError::NotConfirmed(why @ (NotConfirmed::Timeout(_) | NotConfirmed::Returned { .. }))) = &sent {
            self.log_is_down(&why.to_string());
        }
        sent
    }

    /// Writes at most [`MAX_FENCES`](domain::fence::MAX_FENCES) fences of users to the redo log, as [`append`](Self::append) does events.
    pub async fn append_fences(&mut self, fences: &[(UserId, Version)]) -> Result<(), BusError> {
        if fences.is_empty() {
            return Ok(());
        }
        self.append_body(self.config.confirm_timeout, &encode_fences(fences)).await
    }

    /// The same of resources.
    pub async fn append_deleted(&mut self, marks: &[(Resource, DeletedMark)]) -> Result<(), BusError> {
        if marks.is_empty() {
            return Ok(());
        }
        self.append_body(self.config.confirm_timeout, &encode_deleted(marks)).await
    }

    async fn append_body(&mut self, deadline: Duration, body: &[u8]) -> Result<(), BusError> {
        let exchange = self.names.events.clone();
        self.send_within(deadline, &exchange, LOG_KEY, body, FieldTable::default()).await
    }

    pub(crate) fn log_is_down(&self, reason: &str) {
        self.config.log_is(LogState::Down(reason.to_owned()));
    }
}
