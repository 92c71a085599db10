//! What the cache does not know is loaded once for all who ask for it at the same time, and for many in one query.
//!
//! A *flight* is one load. Who asks for a key that is on a flight waits for it; other keys board the next one, which departs
//! as soon as a turn is free. Whoever waits keeps a flight going, and the last one that goes away ends it.
//!
//! A flight that has departed may not see what is committed meanwhile. So whoever would not tell its passengers apart from a
//! read before their own write does not join it: not long after it departed, not after a write of this process around the cache
//! (the cache is not told of that where it does not know the key), not for counts that must contain a version, and for states
//! of pairs never.

use super::ReadError;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared, try_join_all};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Most keys of one flight.
const SEATS: usize = 500;

/// A flight that departed this long ago takes nobody any more.
const JOINED_FOR: Duration = Duration::from_millis(100);

/// Flights that are under way at a time.
const TURNS: usize = 4;

type Loaded<V> = Result<Arc<Vec<V>>, ReadError>;
type Landing<V> = Shared<BoxFuture<'static, Loaded<V>>>;
type Load<K, V> = dyn Fn(Vec<K>) -> BoxFuture<'static, Result<Vec<V>, ReadError>> + Send + Sync;

/// See the head of the module. Clones share their flights.
pub(super) struct Flights<K, V>(Arc<Airport<K, V>>);

impl<K, V> Clone for Flights<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Airport<K, V> {
    load: Box<Load<K, V>>,
    /// Writes of this process around the cache.
    written: Arc<AtomicU64>,
    turns: Arc<Semaphore>,
    flights: Mutex<Board<K, V>>,
}

struct Board<K, V> {
    /// On which flight a key is, and its seat.
    seats: HashMap<K, (u64, usize)>,
    flights: HashMap<u64, Flight<K, V>>,
    /// The one that takes more keys.
    boarding: Option<u64>,
    next: u64,
}

struct Flight<K, V> {
    landing: WeakShared<BoxFuture<'static, Loaded<V>>>,
    keys: Vec<K>,
    /// When it departed, and how much was written then; none before.
    departed: Option<(Instant, u64)>,
}

/// A flight's end, whatever is why.
struct Ends<K: Eq + Hash, V>(Arc<Airport<K, V>>, u64);

impl<K: Eq + Hash, V> Drop for Ends<K, V> {
    fn drop(&mut self) {
        let mut board = self.0.board();
        if board.boarding == Some(self.1) {
            board.boarding = None;
        }
        let Some(flight) = board.flights.remove(&self.1) else { return };
        for key in flight.keys {
            // It may be on a later one by now.
            if board.seats.get(&key).is_some_and(|(number, _)| *number == self.1) {
                board.seats.remove(&key);
            }
        }
    }
}

impl<K, V> Airport<K, V> {
    fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    fn board(&self) -> MutexGuard<'_, Board<K, V>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Copy + Eq + Hash + Send + Sync + 'static, V: Copy + Send + Sync + 'static> Flights<K, V> {
    /// `written` grows with every write of this process around the cache, before it is answered.
    pub(super) fn new(
        written: Arc<AtomicU64>,
        load: impl Fn(Vec<K>) -> BoxFuture<'static, Result<Vec<V>, ReadError>> + Send + Sync + 'static,
    ) -> Self {
        let board = Board { seats: HashMap::new(), flights: HashMap::new(), boarding: None, next: 0 };
        Self(Arc::new(Airport {
            load: Box::new(load),
            written,
            turns: Arc::new(Semaphore::new(TURNS)),
            flights: Mutex::new(board),
        }))
    }

    /// What the load says of these keys, in their order; without `joins` only one that begins after this call.
    pub(super) async fn ask(&self, keys: &[K], joins: bool) -> Result<Vec<V>, ReadError> {
        let (landings, seats) = self.take_seats(keys, joins);
        let landed = try_join_all(landings).await?;
        // A load that says too little says nothing.
        let values = seats.into_iter().map(|(landing, seat)| landed[landing].get(seat).copied());
        values.collect::<Option<_>>().ok_or_else(|| ReadError("the database said too little".to_owned()))
    }

    /// The flights that these keys are on, and of each key on which of them, and its seat.
    fn take_seats(&self, keys: &[K], joins: bool) -> (Vec<Landing<V>>, Vec<(usize, usize)>) {
        let (now, written) = (Instant::now(), self.0.written());
        let joins = |(at, before): (Instant, u64)| joins && before == written && now.duration_since(at) < JOINED_FOR;
        let (mut taken, mut seats) = (Taken::new(), Vec::with_capacity(keys.len()));
        // Declared after what is taken: a flight whose last passenger goes away looks at the board.
        let mut board = self.0.board();
        for key in keys {
            let known = board.seats.get(key).copied();
            let seat = known.and_then(|(number, seat)| {
                let flight = board.flights.get(&number)?;
                if flight.departed.is_none_or(joins) { Some((taken.take(number, flight)?, seat)) } else { None }
            });
            seats.push(seat.unwrap_or_else(|| {
                let (number, at) = self.board_next(&mut board, &mut taken);
                let seat = board.flights.get_mut(&number).map_or(0, |flight| {
                    flight.keys.push(*key);
                    flight.keys.len() - 1
                });
                board.seats.insert(*key, (number, seat));
                (at, seat)
            }));
        }
        drop(board);
        (taken.landings, seats)
    }

    /// The flight that takes a key now, and where it is among those that are taken.
    fn board_next(&self, board: &mut Board<K, V>, taken: &mut Taken<V>) -> (u64, usize) {
        let next = board.boarding.and_then(|number| {
            let flight = board.flights.get(&number).filter(|flight| flight.keys.len() < SEATS)?;
            Some((number, taken.take(number, flight)?))
        });
        if let Some(next) = next {
            return next;
        }
        let number = board.next;
        board.next += 1;
        let (airport, ends) = (Arc::clone(&self.0), Ends(Arc::clone(&self.0), number));
        let landing = async move {
            let ends = ends;
            // Nobody closes it.
            let _turn = Arc::clone(&airport.turns).acquire_owned().await.ok();
            let keys = airport.depart(ends.1);
            (airport.load)(keys).await.map(Arc::new)
        };
        let landing = landing.boxed().shared();
        // It is there as long as somebody waits for it.
        if let Some(weak) = landing.downgrade() {
            board.flights.insert(number, Flight { landing: weak, keys: Vec::new(), departed: None });
        }
        board.boarding = Some(number);
        (number, taken.add(number, landing))
    }
}

/// Flights of one who asks; held until the board is free again.
struct Taken<V> {
    numbers: Vec<u64>,
    landings: Vec<Landing<V>>,
}

impl<V> Taken<V> {
    const fn new() -> Self {
        Self { numbers: Vec::new(), landings: Vec::new() }
    }

    fn add(&mut self, number: u64, landing: Landing<V>) -> usize {
        self.numbers.push(number);
        self.landings.push(landing);
        self.numbers.len() - 1
    }

    /// None if nobody waits for it any more.
    fn take<K>(&mut self, number: u64, flight: &Flight<K, V>) -> Option<usize> {
        let known = self.numbers.iter().position(|known| *known == number);
        known.or_else(|| flight.landing.upgrade().map(|landing| self.add(number, landing)))
    }
}

impl<K: Copy, V> Airport<K, V> {
    fn depart(&self, number: u64) -> Vec<K> {
        let mut board = self.board();
        if board.boarding == Some(number) {
            board.boarding = None;
        }
        let departed = (Instant::now(), self.written());
        let Some(flight) = board.flights.get_mut(&number) else { return Vec::new() };
        flight.departed = Some(departed);
        flight.keys.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use tokio::sync::Notify;
    use tokio::task::JoinSet;

    type Loads = Arc<Mutex<Vec<Vec<u32>>>>;

    struct Rig {
        flights: Flights<u32, u32>,
        /// Keys of each load.
        loads: Loads,
        written: Arc<AtomicU64>,
        gate: Arc<Semaphore>,
        began: Arc<Notify>,
        under_way: Arc<AtomicUsize>,
    }

    /// Every load waits until it is let through, and says ten times the key; 13 cannot be loaded.
    fn rig() -> Rig {
        let (loads, written): (Loads, Arc<AtomicU64>) = Default::default();
        let (gate, began, under_way) = (Arc::new(Semaphore::new(0)), Arc::new(Notify::new()), Arc::default());
        let (told, through, begun, running) =
            (Arc::clone(&loads), Arc::clone(&gate), Arc::clone(&began), Arc::clone(&under_way));
        let load = move |keys: Vec<u32>| {
            let (told, through, begun) = (Arc::clone(&told), Arc::clone(&through), Arc::clone(&begun));
            let running: Arc<AtomicUsize> = Arc::clone(&running);
            async move {
                told.lock().unwrap().push(keys.clone());
                running.fetch_add(1, Ordering::SeqCst);
                begun.notify_one();
                through.acquire().await.unwrap().forget();
                running.fetch_sub(1, Ordering::SeqCst);
                if keys.contains(&13) {
                    Err(ReadError("13".to_owned()))
                } else {
                    Ok(keys.iter().map(|k| k * 10).collect())
                }
            }
            .boxed()
        };
        Rig { flights: Flights::new(Arc::clone(&written), load), loads, written, gate, began, under_way }
    }

    impl Rig {
        fn ask(&self, keys: impl IntoIterator<Item = u32>) -> BoxFuture<'static, Result<Vec<u32>, ReadError>> {
            self.ask_where(true, keys)
        }

        fn ask_where(
            &self,
            joins: bool,
            keys: impl IntoIterator<Item = u32>,
        ) -> BoxFuture<'static, Result<Vec<u32>, ReadError>> {
            let (flights, keys): (_, Vec<u32>) = (self.flights.clone(), keys.into_iter().collect());
            async move { flights.ask(&keys, joins).await }.boxed()
        }

        fn loads(&self) -> Vec<Vec<u32>> {
            self.loads.lock().unwrap().clone()
        }

        fn is_empty(&self) -> bool {
            let board = self.flights.0.board();
            board.seats.is_empty() && board.flights.is_empty() && board.boarding.is_none()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn four_hundred_that_ask_for_the_same_load_it_once() {
        let rig = rig();
        let mut all = JoinSet::new();
        (0..400).for_each(|_| drop(all.spawn(rig.ask(101..=600))));
        rig.began.notified().await;
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        rig.gate.add_permits(1);
        while let Some(read) = all.join_next().await {
            assert_eq!(read.unwrap().unwrap(), (101..=600).map(|key| key * 10).collect::<Vec<_>>());
        }
        assert_eq!(rig.loads(), [(101..=600).collect::<Vec<_>>()]);
        assert!(rig.is_empty(), "keys of flights that landed stay");
    }

    #[tokio::test(start_paused = true)]
    async fn many_small_reads_share_a_load_and_some_are_under_way_at_a_time() {
        let rig = rig();
        let mut all = JoinSet::new();
        (0..1_000).for_each(|key| drop(all.spawn(rig.ask([key + 100, key + 101]))));
        rig.began.notified().await;
        for _ in 0..2_000 {
            tokio::task::yield_now().await;
        }
        assert_eq!(rig.under_way.load(Ordering::SeqCst), TURNS);
        rig.gate.add_permits(1_000);
        while let Some(read) = all.join_next().await {
            assert!(read.unwrap().unwrap().iter().all(|value| *value >= 1_000));
        }
        let loads = rig.loads();
        let most = TURNS + 1_001_usize.div_ceil(SEATS);
        assert!(loads.len() <= most, "{} loads", loads.len());
        assert_eq!(loads.iter().map(Vec::len).sum::<usize>(), 1_001, "a key was loaded twice");
        assert!(rig.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_joins_a_flight_that_departed_before_a_write_around_the_cache() {
        let rig = rig();
        let first = tokio::spawn(rig.ask([1, 2]));
        rig.began.notified().await;
        rig.written.fetch_add(1, Ordering::Release);
        let second = tokio::spawn(rig.ask([2, 3]));
        rig.began.notified().await;
        let third = tokio::spawn(rig.ask([2]));
        tokio::task::yield_now().await;
        rig.gate.add_permits(2);
        assert_eq!(first.await.unwrap().unwrap(), [10, 20]);
        assert_eq!((second.await.unwrap().unwrap(), third.await.unwrap().unwrap()), (vec![20, 30], vec![20]));
        assert_eq!(rig.loads(), [vec![1, 2], vec![2, 3]]);
        assert!(rig.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_joins_a_flight_that_departed_long_ago_or_who_needs_a_later_one() {
        for (joins, later) in [(true, JOINED_FOR), (false, Duration::ZERO)] {
            let rig = rig();
            let first = tokio::spawn(rig.ask([1]));
            rig.began.notified().await;
            tokio::time::advance(later).await;
            let second = tokio::spawn(rig.ask_where(joins, [1]));
            rig.began.notified().await;
            rig.gate.add_permits(2);
            assert_eq!((first.await.unwrap().unwrap(), second.await.unwrap().unwrap()), (vec![10], vec![10]));
            assert_eq!(rig.loads(), [[1], [1]]);
            assert!(rig.is_empty());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_flight_goes_on_for_whoever_waits_and_ends_with_the_last() {
        let rig = rig();
        let first = tokio::spawn(rig.ask([1]));
        rig.began.notified().await;
        let second = tokio::spawn(rig.ask([1]));
        tokio::task::yield_now().await;
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        rig.gate.add_permits(1);
        assert_eq!(second.await.unwrap().unwrap(), [10]);
        assert_eq!(rig.loads().len(), 1);
        // The last one goes: its keys are nobody's, and its turn is free.
        for _ in 0..2 * TURNS {
            let only = tokio::spawn(rig.ask([2]));
            rig.began.notified().await;
            only.abort();
            assert!(only.await.unwrap_err().is_cancelled());
            assert!(rig.is_empty());
        }
        rig.gate.add_permits(1);
        assert_eq!(rig.ask([2]).await.unwrap(), [20]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_loaded_fails_for_all_and_is_tried_again() {
        let rig = rig();
        let (one, other, ()) = tokio::join!(rig.ask([13, 1]), rig.ask([13]), async { rig.gate.add_permits(3) });
        assert!(one.is_err() && other.is_err());
        assert_eq!(rig.loads().len(), 1);
        assert!(rig.ask([13]).await.is_err());
        assert_eq!(rig.ask([1, 1]).await.unwrap(), [10, 10], "a key may be asked for twice");
        assert!(rig.is_empty());
    }
}
