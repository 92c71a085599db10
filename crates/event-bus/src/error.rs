//! What can go wrong between here and the broker, and what it means.
//!
//! Rule: an error that is not about the one thing that was asked means that the broker is of no use *now*: whoever has
//! another way goes it, everybody waits, nothing ends. It says what is missing, with the statement that grants it.
//!
//! | meaning | errors |
//! |---|---|
//! | of no use now ([`BusError::is_unavailable`]) | connection lost or refused, timeouts, 320, 402, 403, 404, 406, 530, no queue to route to (312), a resource alarm, all others |
//! | one message was refused | `basic.nack`: the queue is full, as it was asked to say |
//! | ours | configuration, too large a batch |
//!
//! An existing queue or exchange with other arguments (406), or one that our user may not declare (403), is used as it is.
//!
//! Policy: no call retries by itself, but that a message which waits for the redo log goes once more without it. After any
//! error but [`BusError::Config`] and [`BusError::BatchTooLarge`] the connection it happened on is gone. [`BusError::is_unavailable`] is what a circuit breaker counts.

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
    /// The broker holds back all publishers: a resource alarm. What was sent may be published when it ends.
    #[error("rabbitmq: publishing is blocked by an alarm of the broker (memory or disk)")]
    Blocked,
    /// An exchange or queue is missing, and may not be declared; someone has to look.
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

    /// Whether the broker is unreachable or of no use now, as opposed to having refused this one message.
    pub const fn is_unavailable(&self) -> bool {
        match self {
            Self::Unavailable { .. }
            | Self::TimedOut { .. }
            | Self::Blocked
            | Self::Topology { .. }
            | Self::Cancelled { .. }
            | Self::NotConfirmed(
                NotConfirmed::Timeout(_) | NotConfirmed::Returned { .. } | NotConfirmed::NotRequested,
            ) => true,
            Self::Config { .. } | Self::NotConfirmed(NotConfirmed::Nack) | Self::BatchTooLarge { .. } => false,
        }
    }
}

#[cfg(feature = "amqp")]
impl BusError {
    pub(crate) fn unavailable(doing: &'static str) -> impl Fn(lapin::Error) -> Self {
        move |error| Self::failed(doing, error)
    }

    fn failed(doing: &'static str, error: lapin::Error) -> Self {
        let advice = advice(&error);
        let source: Source = if advice.is_empty() { Box::new(error) } else { Box::new(Advised { error, advice }) };
        Self::Unavailable { doing, source }
    }

    /// With what its advice stands for.
    pub(crate) fn naming(mut self, prefix: &str) -> Self {
        match &mut self {
            Self::Unavailable { source, .. } => {
                if let Some(advised) = source.downcast_mut::<Advised>() {
                    advised.advice = advised.advice.replace(PREFIX, prefix);
                }
            }
            Self::Topology { reason, .. } => *reason = reason.replace(PREFIX, prefix),
            _ => {}
        }
        self
    }

    /// A broker's refusal to declare something, told from a broken connection.
    pub(crate) fn topology(name: &str, doing: &'static str) -> impl Fn(lapin::Error) -> Self {
        move |error| match error.kind() {
            lapin::ErrorKind::ProtocolError(refusal) if error.is_amqp_soft_error() => {
                let (reason, advice) = (refusal.get_message(), advice(&error));
                let between = if advice.is_empty() { "" } else { "; " };
                Self::Topology { name: name.to_owned(), reason: format!("{reason}{between}{advice}") }
            }
            _ => Self::failed(doing, error),
        }
    }
}

/// A broker's refusal, and what to do about it.
#[cfg(feature = "amqp")]
#[derive(Debug, thiserror::Error)]
#[error("{error}; {advice}")]
struct Advised {
    #[source]
    error: lapin::Error,
    advice: String,
}

/// The code of the broker's refusal; none if it is no refusal.
#[cfg(feature = "amqp")]
pub(crate) fn refusal(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        lapin::ErrorKind::ProtocolError(refusal) => Some(refusal.get_id()),
        _ => None,
    }
}

/// Stands for `rabbitmq.prefix`.
#[cfg(feature = "amqp")]
const PREFIX: &str = "<rabbitmq.prefix>";

#[cfg(feature = "amqp")]
fn advice(error: &lapin::Error) -> String {
    refusal(error).map(|code| advice_on(code, &error.to_string())).unwrap_or_default()
}

/// `... access to exchange 'x' in vhost 'v' refused for user 'u'`, `... vhost v not found`: the broker names what it is about.
#[cfg(feature = "amqp")]
fn advice_on(code: u16, text: &str) -> String {
    let quoted =
        |before: &str| text.split_once(before).and_then(|(_, rest)| rest.split_once('\'')).map(|(name, _)| name);
    match code {
        403 if text.contains("Login was refused") => "user or password in rabbitmq.url is wrong".to_owned(),
        530 if text.contains("not found") => {
            let named = text.split_once("vhost ").and_then(|(_, rest)| rest.split_once(" not found"));
            let vhost = named.map_or("<vhost>", |(vhost, _)| vhost.trim_matches('\''));
            format!("it is created by: rabbitmqctl add_vhost '{vhost}'")
        }
        530 if text.contains("limit") => "the broker allows no more connections".to_owned(),
        403 | 530 => {
            let (vhost, user) = (quoted("vhost '").unwrap_or("<vhost>"), quoted("user '").unwrap_or("<user>"));
            let rights = format!(r"'^{PREFIX}\.'");
            format!("it is granted by: rabbitmqctl set_permissions -p '{vhost}' '{user}' {rights} {rights} {rights}")
        }
        _ => String::new(),
    }
}

#[cfg(all(test, feature = "amqp"))]
mod tests {
    use super::*;

    #[test]
    fn the_statement_that_helps_names_what_the_broker_named() {
        let text = "ACCESS_REFUSED - access to exchange 'likes.x' in vhost '/' refused for user 'few'";
        let reason = format!("{text}; {}", advice_on(403, text));
        let said = BusError::Topology { name: "likes.x".to_owned(), reason }.naming("likes").to_string();
        let granted = r"rabbitmqctl set_permissions -p '/' 'few' '^likes\.' '^likes\.' '^likes\.'";
        assert!(said.ends_with(granted), "{said}");
        let denied = advice_on(530, "NOT_ALLOWED - access to vhost 'v' refused for user 'few'");
        assert!(denied.contains("-p 'v' 'few' "), "{denied}");
        assert_eq!(
            advice_on(530, "NOT_ALLOWED - vhost likes not found"),
            "it is created by: rabbitmqctl add_vhost 'likes'"
        );
        assert_eq!(advice_on(404, "NOT_FOUND"), "");
    }
}
