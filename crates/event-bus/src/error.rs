//! What can go wrong between here and the broker.
//!
//! Policy: no call retries by itself, and after any error but [`BusError::Config`] and [`BusError::BatchTooLarge`] the
//! connection it happened on is gone. [`BusError::is_unavailable`] is what a circuit breaker counts.

use std::time::Duration;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// A call that did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// A configured value that cannot be used.
    #[error("{key}: {reason}")]
    Config {
        /// Key below `rabbitmq`.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The connection could not be made, or broke.
    #[error("rabbitmq: {doing} failed: {source}")]
    Unavailable {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: Source,
    },
    /// The broker did not answer in time; what was asked may still have happened.
    #[error("rabbitmq: {doing} took longer than {after:?}")]
    TimedOut {
        /// What was being done.
        doing: &'static str,
        /// The deadline.
        after: Duration,
    },
    /// A message that the broker did not take over. It may be published again.
    #[error("message not confirmed: {0}")]
    NotConfirmed(NotConfirmed),
    /// An exchange or queue is missing, or exists with other arguments; someone has to look.
    #[error("rabbitmq: {name}: {reason}")]
    Topology {
        /// Exchange or queue.
        name: String,
        /// As the broker says it.
        reason: String,
    },
    /// The broker ended the consumer, for example because its queue was deleted.
    #[error("consumer of {queue} was cancelled by the broker")]
    Cancelled {
        /// Queue that was consumed.
        queue: String,
    },
    /// More events than one message carries.
    #[error("a batch of {len} events is beyond the bound of {max}")]
    BatchTooLarge {
        /// What was given.
        len: usize,
        /// What is allowed.
        max: usize,
    },
}

/// Why a message does not count as published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotConfirmed {
    /// The broker refused it: the queue is full, or could not store it.
    #[error("refused by the broker (queue full?)")]
    Nack,
    /// No queue is bound: it came back.
    #[error("returned: {code} {text}")]
    Returned {
        /// AMQP reply code.
        code: u16,
        /// AMQP reply text.
        text: String,
    },
    /// No answer in time; the broker may have it all the same.
    #[error("no confirm within {0:?}")]
    Timeout(Duration),
    /// The channel was not in confirm mode.
    #[error("the channel does not confirm")]
    NotRequested,
}

impl BusError {
    /// Whether the connection broke over something that cannot be read, such as a message with a name that is no UTF-8: it
    /// will come again with the next connection.
    pub fn is_unreadable(&self) -> bool {
        #[cfg(feature = "amqp")]
        if let Self::Unavailable { source, .. } = self {
            let error = source.downcast_ref::<lapin::Error>();
            return error.is_some_and(|error| matches!(error.kind(), lapin::ErrorKind::ParsingError(_)));
        }
        false
    }

    /// Whether the broker is unreachable, as opposed to having refused this one thing.
    pub const fn is_unavailable(&self) -> bool {
        match self {
            Self::Unavailable { .. }
            | Self::TimedOut { .. }
            | Self::Cancelled { .. }
            | Self::NotConfirmed(NotConfirmed::Timeout(_)) => true,
            Self::Config { .. } | Self::NotConfirmed(_) | Self::Topology { .. } | Self::BatchTooLarge { .. } => false,
        }
    }
}

#[cfg(feature = "amqp")]
impl BusError {
    pub(crate) fn unavailable(doing: &'static str) -> impl Fn(lapin::Error) -> Self {
        move |error| Self::Unavailable { doing, source: Box::new(error) }
    }

    /// A broker's refusal to declare something, told from a broken connection.
    pub(crate) fn topology(name: &str, doing: &'static str) -> impl Fn(lapin::Error) -> Self {
        move |error| match error.kind() {
            lapin::ErrorKind::ProtocolError(refusal) if error.is_amqp_soft_error() => {
                Self::Topology { name: name.to_owned(), reason: refusal.get_message().to_string() }
            }
            _ => Self::Unavailable { doing, source: Box::new(error) },
        }
    }
}
