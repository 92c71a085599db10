//! Traces: what became of single likes, of those that are sampled.
//!
//! A like's trace *is* its event: the trace's id is the event's id, its first span's id the end of that, and the same id
//! decides whether it is sampled. So journal and messages carry the trace by carrying the event, nothing is added to
//! either, and every process that meets the event, however late and in whichever order, adds to the same trace. And
//! whoever has an event of the ledger has its trace.

use crate::clock::wall_clock;
use domain::{LikeEvent, LikeIntent, Pair, Version};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use uuid::Uuid;

/// The part of an id (version 7) that is random: below version and variant.
const RANDOM: u64 = (1 << 62) - 1;

/// What a process does with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The call: until the caller has its answer. The first span, and the others' parent.
    Accept,
    /// The message with it: until the broker's confirm.
    Publish,
    /// The transaction with it.
    Apply,
    /// The cache is told.
    Settle,
}

impl Stage {
    /// Name of its spans.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept like",
            Self::Publish => "publish likes",
            Self::Apply => "apply likes",
            Self::Settle => "settle likes",
        }
    }
}

/// One stage of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The event.
    pub trace: Uuid,
    /// This span.
    pub id: u64,
    /// The first span, unless this is it.
    pub parent: Option<u64>,
    /// `traceparent` of whoever called, for a first span.
    pub caller: Option<Arc<str>>,
    /// What was done.
    pub stage: Stage,
    /// When it began.
    pub start: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// Whose like of what.
    pub pair: Pair,
    /// Its version, once it has one.
    pub version: Option<Version>,
    /// Events that shared the call, message, transaction or settlement.
    pub batch: usize,
    /// What went wrong.
    pub error: Option<String>,
}

/// Where spans go. Must not wait: it is called between an event and the next one.
pub trait SpanSink: Debug + Send + Sync {
    /// Takes a span, or drops it if there are too many.
    fn take(&self, span: Span);
}

/// Which events are traced, and where to; none by default.
#[derive(Debug, Clone, Default)]
pub struct Traces(Option<Arc<Parts>>);

#[derive(Debug)]
struct Parts {
    one_in: u32,
    sink: Arc<dyn SpanSink>,
}

tokio::task_local! {
    static CALLER: Option<Arc<str>>;
}

/// Runs a call on behalf of somebody who is traced: `caller` is the `traceparent` that came with it.
pub async fn on_behalf<T>(caller: Option<Arc<str>>, call: impl Future<Output = T>) -> T {
    match caller {
        Some(_) => CALLER.scope(caller, call).await,
        None => call.await,
    }
}

impl Traces {
    /// Of `one_in` events one is traced.
    pub fn new(one_in: u32, sink: Arc<dyn SpanSink>) -> Self {
        Self(Some(Arc::new(Parts { one_in: one_in.max(1), sink })))
    }

    fn of(&self, event: Uuid) -> Option<&Parts> {
        let parts = self.0.as_deref()?;
        let random = event.as_u128() as u64 & RANDOM;
        random.is_multiple_of(u64::from(parts.one_in)).then_some(parts)
    }

    /// The sampled ones of a call; empty, and free, without tracing.
    pub(crate) fn called(&self, intents: &[LikeIntent]) -> Vec<(usize, Uuid, Pair)> {
        if self.0.is_none() {
            return Vec::new();
        }
        let sampled = intents.iter().enumerate().filter(|(_, intent)| self.of(intent.id).is_some());
        sampled.map(|(position, intent)| (position, intent.id, intent.pair)).collect()
    }

    /// A call's answer.
    pub(crate) fn answered(
        &self,
        (event, pair): (Uuid, Pair),
        took: Duration,
        batch: usize,
        result: Result<Version, String>,
    ) {
        let Some(parts) = self.of(event) else { return };
        let start = start_of(took);
        let caller = CALLER.try_with(Clone::clone).unwrap_or_default();
        let (version, error) = result.map_or_else(|error| (None, Some(error)), |version| (Some(version), None));
        let (id, stage) = (first_span(event), Stage::Accept);
        parts.sink.take(Span {
            trace: event,
            id,
            parent: None,
            caller,
            stage,
            start,
            took,
            pair,
            version,
            batch,
            error,
        });
    }

    /// A stage that began then and is over now, for each of its events that is sampled.
    pub(crate) fn stage<'a>(
        &self,
        stage: Stage,
        began: Instant,
        events: impl ExactSizeIterator<Item = &'a LikeEvent>,
        error: Option<&str>,
    ) {
        if self.0.is_none() {
            return;
        }
        let (batch, took) = (events.len(), began.elapsed());
        let start = start_of(took);
        for event in events {
            let Some(parts) = self.of(event.intent.id) else { continue };
            parts.sink.take(Span {
                trace: event.intent.id,
                // A stage may come twice: after a redelivery, or from the rescuer.
                id: Uuid::now_v7().as_u128() as u64,
                parent: Some(first_span(event.intent.id)),
                caller: None,
                stage,
                start,
                took,
                pair: event.pair(),
                version: Some(event.version),
                batch,
                error: error.map(str::to_owned),
            });
        }
    }

    /// Whether anything is traced at all.
    pub(crate) const fn are_on(&self) -> bool {
        self.0.is_some()
    }
}

const fn first_span(event: Uuid) -> u64 {
    event.as_u128() as u64
}

/// When something began that is over now.
fn start_of(took: Duration) -> SystemTime {
    SystemTime::from(wall_clock()).checked_sub(took).unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Nowhere;

    impl SpanSink for Nowhere {
        fn take(&self, _span: Span) {}
    }

    #[test]
    fn about_one_in_that_many_is_sampled_and_always_the_same() {
        let traces = Traces::new(10, Arc::new(Nowhere));
        let events: Vec<Uuid> = (0..10_000).map(|_| Uuid::now_v7()).collect();
        let sampled = events.iter().filter(|event| traces.of(**event).is_some()).count();
        assert!((700..1_300).contains(&sampled), "{sampled}");
        let again = Traces::new(10, Arc::new(Nowhere));
        assert!(events.iter().all(|event| traces.of(*event).is_some() == again.of(*event).is_some()));
        assert!(events.iter().all(|event| Traces::default().of(*event).is_none()));
        assert!(events.iter().all(|event| Traces::new(0, Arc::new(Nowhere)).of(*event).is_some()));
    }
}
