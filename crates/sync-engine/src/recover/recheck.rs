//! Fill, then look again: closes the race between a fill and a settle.
//!
//! A count is loaded, then filled. A settle between the two finds no counter and changes nothing; the fill then
//! carries an old count, and nothing would ever correct it. So after every fill the row is read once more and settled:
//! a commit before that second read is seen by it, and a commit after it settles a counter that is cached. The same
//! holds for pairs.

use crate::recover::catch_up::RefreshError;
use crate::stores::Stores;
use domain::cache::Settlement;
use domain::{Pair, Resource};
use futures::FutureExt;
use futures::future::BoxFuture;
use planted_bugs::planted;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const CAPACITY: usize = 16_384;
const BATCH: usize = 500;

#[derive(Debug, Clone, Copy)]
enum Filled {
    Count(Resource),
    State(Pair),
}

/// Hands fills to the task that looks again. When it is behind, a warm-up waits for it; what is read is served without
/// being cached; and a like waits for nobody.
#[derive(Debug, Clone)]
pub struct Recheck {
    filled: mpsc::Sender<Filled>,
    liked: mpsc::Sender<Filled>,
}

/// Room for what is about to be filled.
pub(crate) struct Room<'a>(mpsc::PermitIterator<'a, Filled>);

impl Room<'_> {
    pub(crate) fn resources(self, resources: &[Resource]) {
        self.0.zip(resources).for_each(|(place, resource)| place.send(Filled::Count(*resource)));
    }

    pub(crate) fn pairs(self, pairs: &[Pair]) {
        self.0.zip(pairs).for_each(|(place, pair)| place.send(Filled::State(*pair)));
    }
}

impl Recheck {
    /// The handle, and the task to run beside it.
    pub fn new(stores: Stores) -> (Self, RecheckTask) {
        let (filled, fills) = mpsc::channel(CAPACITY);
        let (liked, likes) = mpsc::channel(CAPACITY);
        (Self { filled, liked }, RecheckTask { stores, fills, likes })
    }

    /// Room for so many fills; none if the task is too far behind, or has ended with the process: then nothing should be filled.
    pub(crate) fn room(&self, fills: usize) -> Option<Room<'_>> {
        self.filled.try_reserve_many(fills).ok().map(Room)
    }

    pub(crate) async fn resources(&self, resources: Vec<Resource>) {
        for resource in resources {
            // Fails only when the process ends; what is cached then lives on, and the checker will look at it.
            let _ = self.filled.send(Filled::Count(resource)).await;
        }
    }

    pub(crate) async fn pairs(&self, pairs: Vec<Pair>) {
        for pair in pairs {
            let _ = self.filled.send(Filled::State(pair)).await;
        }
    }

    /// Counters that were filled with a like. Where there is no room the settlement of that like looks at them, and one that
    /// nobody changed is forgotten soon.
    pub(crate) fn liked(&self, resources: impl Iterator<Item = Resource>) {
        for resource in resources {
            let _ = self.liked.try_send(Filled::Count(resource));
        }
    }
}

/// Looks again at what was filled.
pub struct RecheckTask {
    stores: Stores,
    fills: mpsc::Receiver<Filled>,
    likes: mpsc::Receiver<Filled>,
}

fn has_ended(queue: &mpsc::Receiver<Filled>) -> bool {
    queue.is_closed() && queue.is_empty()
}

impl RecheckTask {
    /// Runs until every handle is gone and everything they handed over was looked at, or `stop`.
    pub fn run(self, stop: CancellationToken) -> BoxFuture<'static, ()> {
        self.run_inner(stop).boxed()
    }

    async fn run_inner(mut self, stop: CancellationToken) {
        let (mut filled, mut liked) = (Vec::with_capacity(BATCH), Vec::new());
        while !(has_ended(&self.likes) && has_ended(&self.fills)) {
            filled.clear();
            liked.clear();
            // The last handle goes away while fills may still be waiting: one queue that has ended does not end the other.
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = self.likes.recv_many(&mut liked, BATCH), if !has_ended(&self.likes) => {}
                _ = self.fills.recv_many(&mut filled, BATCH), if !has_ended(&self.fills) => {}
            }
            filled.append(&mut liked);
            if let Err(error) = self.look_again(&filled).await {
                // A store that is unreachable is met by its circuit; these fills wait for the next settle or the checker.
                tracing::debug!(%error, fills = filled.len(), "could not look again at fills");
            }
        }
    }

    async fn look_again(&self, filled: &[Filled]) -> Result<(), RefreshError> {
        planted!("fill_without_recheck" => Ok(()));
        let mut resources: Vec<Resource> =
            filled.iter().filter_map(|f| if let Filled::Count(r) = f { Some(*r) } else { None }).collect();
        let mut pairs: Vec<Pair> =
            filled.iter().filter_map(|f| if let Filled::State(p) = f { Some(*p) } else { None }).collect();
        resources.sort_unstable();
        resources.dedup();
        pairs.sort_unstable();
        pairs.dedup();
        let counts = self.stores.likes.load_counts(&resources).await?;
        let states = self.stores.likes.load_states(&pairs).await?;
        let settlement = Settlement::of_rows(resources.into_iter().zip(counts), pairs.into_iter().zip(states));
        self.stores.cache.settle(&settlement).await?;
        Ok(())
    }
}
