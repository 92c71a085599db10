//! Confirm: "unchanged" is answered only if the row has not moved on without the cache.
//!
//! A server that cannot reach the cache writes rows directly, and the cache is told a moment later. Meanwhile another
//! server may find the pair as wanted although the user has changed it since: "unchanged" would then lose the user's
//! last word. What that user did before this call is committed, so a row read after the cache has answered shows it. A
//! write that is decided but not committed is an older word whose caller may have given up on it: it holds the row, and
//! "unchanged" is then not confirmed but written, so that it comes later.
//!
//! A pair whose row is older than its word has an event on its way. That is as good as the row as long as the journal holds
//! the event and the ledger does not: one that failed may be discarded at any moment, and the cache hears of that later.
//!
//! Callers that arrive while a query runs share the next one: repeated likes cost the database one query per round trip,
//! however many there are.

use event_store::StoreError;
use futures::future::BoxFuture;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

/// Most keys in one query.
const BATCH: usize = 500;

type Answers<V> = Result<Vec<V>, Arc<StoreError>>;

/// The query: one value for each key, in their order.
type Query<K, V> = dyn Fn(Vec<K>) -> BoxFuture<'static, Result<Vec<V>, StoreError>> + Send + Sync;

struct Waiting<K, V> {
    keys: Vec<K>,
    answer: oneshot::Sender<Answers<V>>,
}

/// Asks the database for many callers at once. Cheap to clone.
pub(crate) struct Confirm<K, V> {
    query: Arc<Query<K, V>>,
    /// Bounded by the calls under way.
    waiting: Arc<Mutex<Vec<Waiting<K, V>>>>,
    /// Held by the caller that asks for all.
    asking: Arc<tokio::sync::Mutex<()>>,
}

impl<K, V> Clone for Confirm<K, V> {
    fn clone(&self) -> Self {
        Self { query: Arc::clone(&self.query), waiting: Arc::clone(&self.waiting), asking: Arc::clone(&self.asking) }
    }
}

impl<K: Copy, V> Confirm<K, V> {
    pub(crate) fn new(
        query: impl Fn(Vec<K>) -> BoxFuture<'static, Result<Vec<V>, StoreError>> + Send + Sync + 'static,
    ) -> Self {
        Self { query: Arc::new(query), waiting: Arc::default(), asking: Arc::default() }
    }

    /// What the database says of these keys, read after this call began.
    pub(crate) async fn ask(&self, keys: Vec<K>) -> Answers<V> {
        let (answer, mut answered) = oneshot::channel();
        self.waiting().push(Waiting { keys: keys.clone(), answer });
        let _asking = tokio::select! {
            biased;
            answers = &mut answered => {
                // The one that asked for us was cancelled before it had the answer.
                return match answers {
                    Ok(answers) => answers,
                    Err(_) => (self.query)(keys).await.map_err(Arc::new),
                };
            }
            asking = self.asking.lock() => asking,
        };
        // It may have come with the lock.
        if let Ok(answers) = answered.try_recv() {
            return answers;
        }
        let mut mine = None;
        while mine.is_none() {
            let batch = self.next_batch();
            if batch.is_empty() {
                break;
            }
            self.ask_for(batch).await;
            mine = answered.try_recv().ok();
        }
        match mine {
            Some(answers) => answers,
            None => (self.query)(keys).await.map_err(Arc::new),
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Waiting<K, V>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_batch(&self) -> Vec<Waiting<K, V>> {
        let mut waiting = self.waiting();
        let mut keys = 0;
        let fit = waiting
            .iter()
            .take_while(|one| {
                keys += one.keys.len();
                keys <= BATCH
            })
            .count();
        let count = fit.max(1).min(waiting.len());
        waiting.drain(..count).collect()
    }

    async fn ask_for(&self, batch: Vec<Waiting<K, V>>) {
        let keys: Vec<K> = batch.iter().flat_map(|one| one.keys.iter().copied()).collect();
        let mut answers = match (self.query)(keys).await {
            Ok(answers) => Ok(answers.into_iter()),
            Err(error) => Err(Arc::new(error)),
        };
        for one in batch {
            let answer = match &mut answers {
                Ok(answers) => Ok(answers.take(one.keys.len()).collect()),
                Err(error) => Err(Arc::clone(error)),
            };
            // A caller that has gone away needs no answer.
            let _ = one.answer.send(answer);
        }
    }
}
