//! In place of the client, where it is not built in: the same calls, all refused, so that callers need not care.

use crate::{BusConfig, BusError, ChangeMessage, Delivery, Headers, LogMessage, LogStart, LogState, QueueDepth};
use domain::codec::EncodedEvent;
use domain::{DeletedMark, Resource, UserId, Version};

fn refused<T>() -> Result<T, BusError> {
    let reason = "this program was built without a RabbitMQ client (feature `amqp` of event-bus)".to_owned();
    Err(BusError::Config { key: "url", reason })
}

/// Refuses to publish.
#[derive(Debug)]
pub struct Publisher(());

impl Publisher {
    /// A publisher that refuses.
    pub fn new(_: BusConfig) -> Self {
        Self(())
    }

    /// Refused.
    pub async fn connect(&mut self) -> Result<(), BusError> {
        refused()
    }

    /// Never.
    pub fn is_connected(&self) -> bool {
        false
    }

    /// Refused.
    pub async fn publish(&mut self, _: &[EncodedEvent], _: &Headers) -> Result<(), BusError> {
        refused()
    }

    /// Refused.
    pub async fn publish_dead(&mut self, _: &[u8], _: &str, _: &Headers) -> Result<(), BusError> {
        refused()
    }

    /// Refused.
    pub async fn probe(&mut self) -> Result<(), BusError> {
        refused()
    }

    /// Refused.
    pub async fn queue_depth(&mut self) -> Result<QueueDepth, BusError> {
        refused()
    }

    /// Refused.
    pub async fn dead_depth(&mut self) -> Result<QueueDepth, BusError> {
        refused()
    }

    /// Refused.
    pub async fn check_log(&mut self) -> Result<LogState, BusError> {
        refused()
    }

    /// Refused.
    pub async fn append(&mut self, _: &[EncodedEvent]) -> Result<(), BusError> {
        refused()
    }

    /// Refused.
    pub async fn append_fences(&mut self, _: &[(UserId, Version)]) -> Result<(), BusError> {
        refused()
    }

    /// Refused.
    pub async fn append_deleted(&mut self, _: &[(Resource, DeletedMark)]) -> Result<(), BusError> {
        refused()
    }

    /// Nothing is open.
    pub async fn close(self) {}
}

/// Refuses to publish changes.
#[derive(Debug)]
pub struct ChangePublisher(());

impl ChangePublisher {
    /// A publisher that refuses.
    pub fn new(_: BusConfig) -> Self {
        Self(())
    }

    /// Refused.
    pub async fn connect(&mut self) -> Result<(), BusError> {
        refused()
    }

    /// Refused.
    pub async fn publish(&mut self, _: &[ChangeMessage]) -> Result<(), BusError> {
        refused()
    }

    /// Nothing is open.
    pub async fn close(&mut self) {}
}

/// Cannot be had: listening is refused.
#[derive(Debug)]
pub struct ChangeListener(std::convert::Infallible);

impl ChangeListener {
    /// Refused.
    pub async fn open(_: &BusConfig, _: &str) -> Result<Self, BusError> {
        refused()
    }

    /// Never called.
    pub async fn next(&mut self) -> Result<ChangeMessage, BusError> {
        match self.0 {}
    }

    /// Never called.
    pub async fn close(self) {
        match self.0 {}
    }
}

/// Cannot be had: opening is refused.
#[derive(Debug)]
pub struct LogReader(std::convert::Infallible);

impl LogReader {
    /// Refused.
    pub async fn open(_: &BusConfig, _: LogStart) -> Result<Self, BusError> {
        refused()
    }

    /// Never called.
    pub async fn next(&mut self) -> Result<Option<LogMessage>, BusError> {
        match self.0 {}
    }

    /// Never called.
    pub fn end(&self) -> Option<u64> {
        match self.0 {}
    }

    /// Refused.
    pub async fn newest(_: &BusConfig) -> Result<Option<LogMessage>, BusError> {
        refused()
    }

    /// Never called.
    pub async fn close(self) {
        match self.0 {}
    }
}

/// Cannot be had: connecting is refused.
#[derive(Debug)]
pub struct Consumer(std::convert::Infallible);

impl Consumer {
    /// Refused.
    pub async fn connect(_: &BusConfig) -> Result<Self, BusError> {
        refused()
    }

    /// Refused.
    pub async fn connect_again(_: &BusConfig) -> Result<Self, BusError> {
        refused()
    }

    /// Refused.
    pub async fn connect_dead(_: &BusConfig) -> Result<Self, BusError> {
        refused()
    }

    /// Never called.
    pub async fn next(&mut self) -> Result<Delivery, BusError> {
        match self.0 {}
    }

    /// Never called.
    pub fn try_next(&mut self) -> Result<Option<Delivery>, BusError> {
        match self.0 {}
    }

    /// Never called.
    pub fn cause(&mut self) -> Option<BusError> {
        match self.0 {}
    }

    /// Never called.
    pub async fn depth(&self) -> Result<QueueDepth, BusError> {
        match self.0 {}
    }

    /// Never called.
    pub async fn bind_again(&mut self) -> Result<(), BusError> {
        match self.0 {}
    }

    /// Never called.
    pub async fn ack<'a>(&mut self, _: impl IntoIterator<Item = &'a Delivery>) -> Result<(), BusError> {
        match self.0 {}
    }

    /// Never called.
    pub async fn nack<'a>(&mut self, _: impl IntoIterator<Item = &'a Delivery>, _: bool) -> Result<(), BusError> {
        match self.0 {}
    }

    /// Never called.
    pub fn outstanding(&self) -> usize {
        match self.0 {}
    }

    /// Never called.
    pub async fn stop(&mut self) -> Result<(), BusError> {
        match self.0 {}
    }

    /// Never called.
    pub async fn go_on(&mut self) -> Result<(), BusError> {
        match self.0 {}
    }

    /// Never called.
    pub async fn close(self) {
        match self.0 {}
    }
}
