//! Confirm: "unchanged" is answered only if the row has not moved on without the cache.
//!
//! A server that cannot reach the cache writes rows directly, and the cache is told a moment later. Meanwhile another
//! server may find the pair as wanted although the user has changed it since: "unchanged" would then lose the user's
//! last word. What that user did before this call is committed, so a row read after the cache has answered shows it. A
//! write that is decided but not committed is an older word whose caller may have given up on it: it holds the row, and
//! "unchanged" is then not confirmed but written, so that it comes later.
//!
//! Callers that arrive while a query runs share the next one: repeated likes cost the database one query per round trip,
//! however many there are.

use crate::stores::like_database::LikeDatabase;
use domain::Pair;
use event_store::{FreeState, StoreError};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

/// Most pairs in one query.
const BATCH: usize = 500;

type Rows = Result<Vec<FreeState>, Arc<StoreError>>;

struct Waiting {
    pairs: Vec<Pair>,
    answer: oneshot::Sender<Rows>,
}

/// Reads rows for many callers at once. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Confirm {
    likes: Arc<dyn LikeDatabase>,
    /// Bounded by the calls under way.
    waiting: Arc<Mutex<Vec<Waiting>>>,
    /// Held by the caller that asks for all.
    asking: Arc<tokio::sync::Mutex<()>>,
}

impl Confirm {
    pub(crate) fn new(likes: Arc<dyn LikeDatabase>) -> Self {
        Self { likes, waiting: Arc::default(), asking: Arc::default() }
    }

    /// The rows of these pairs, read after this call began.
    pub(crate) async fn rows(&self, pairs: Vec<Pair>) -> Rows {
        let (answer, mut answered) = oneshot::channel();
        self.waiting().push(Waiting { pairs: pairs.clone(), answer });
        let _asking = tokio::select! {
            biased;
            rows = &mut answered => {
                // The one that asked for us was cancelled before it had the answer.
                return match rows {
                    Ok(rows) => rows,
                    Err(_) => self.likes.load_free_states(&pairs).await.map_err(Arc::new),
                };
            }
            asking = self.asking.lock() => asking,
        };
        // It may have come with the lock.
        if let Ok(rows) = answered.try_recv() {
            return rows;
        }
        let mut mine = None;
        while mine.is_none() {
            let batch = self.next_batch();
            if batch.is_empty() {
                break;
            }
            self.ask(batch).await;
            mine = answered.try_recv().ok();
        }
        match mine {
            Some(rows) => rows,
            None => self.likes.load_free_states(&pairs).await.map_err(Arc::new),
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_batch(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting();
        let mut pairs = 0;
        let fit = waiting
            .iter()
            .take_while(|one| {
                pairs += one.pairs.len();
                pairs <= BATCH
            })
            .count();
        let count = fit.max(1).min(waiting.len());
        waiting.drain(..count).collect()
    }

    async fn ask(&self, batch: Vec<Waiting>) {
        let pairs: Vec<Pair> = batch.iter().flat_map(|one| one.pairs.iter().copied()).collect();
        let mut rows = match self.likes.load_free_states(&pairs).await {
            Ok(rows) => Ok(rows.into_iter()),
            Err(error) => Err(Arc::new(error)),
        };
        for one in batch {
            let answer = match &mut rows {
                Ok(rows) => Ok(rows.take(one.pairs.len()).collect()),
                Err(error) => Err(Arc::clone(error)),
            };
            // A caller that has gone away needs no answer.
            let _ = one.answer.send(answer);
        }
    }
}
