//! Replicas, and what is read from them: nothing that is older than it may be.
//!
//! While somebody reads, a task looks at the [beat](crate::sql::beats) of the database that writes, and at that of each replica:
//! one that is behind, or does not answer, is left out until it is asked again. The proof comes with each answer all the same:
//! the beat is read before it, over the same connection, in the same round trip. So an address may lead to several replicas.
//! What cannot be read from any of them in time is read from the database that writes.

use crate::sql::beats::{self, Beats, beat_of};
use crate::sql::config::DatabaseConfig;
use crate::sql::error::StoreError;
use crate::sql::mysql::{self, Sessions, connect_options};
use crate::sql::pool::{Results, run};
use crate::sql::script::Script;
use crate::sql::store::EventStore;
use domain::StoreUrl;
use domain::addresses::split;
use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use sea_orm::sqlx::{ConnectOptions, MySql, MySqlPool};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::timeout;

/// After so long without a read nobody looks at replicas any more, until the next one.
const KEPT_READY: Duration = Duration::from_secs(60);

/// The task looks so often while what is shown is as old as it may be.
const LOOKS: u32 = 5;

const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// All of them.
#[derive(Debug)]
pub(crate) struct Replicas {
    all: Vec<Replica>,
    max_lag: Duration,
    every: Duration,
    ask_limit: Duration,
    read_limit: Duration,
    beats: Beats,
    next: AtomicUsize,
    readers: Mutex<Readers>,
}

#[derive(Debug, Default)]
struct Readers {
    /// When somebody wanted to read last.
    last: Option<Instant>,
    /// Whether the task runs.
    watched: bool,
}

#[derive(Debug)]
struct Replica {
    address: String,
    pool: MySqlPool,
    sessions: Arc<Sessions>,
    state: watch::Sender<State>,
}

/// What is known of a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Nobody has asked it yet.
    Unknown,
    Fresh,
    /// Further behind than it may be.
    Behind,
    Away(String),
}

impl Replicas {
    /// None if there are none.
    pub(crate) fn of(config: &DatabaseConfig, url: &StoreUrl) -> Result<Option<Arc<Self>>, StoreError> {
        if config.replicas.is_empty() {
            return Ok(None);
        }
        let every = (config.replica_max_lag / LOOKS).min(LONGEST_PAUSE);
        let replica = |address: &String| Replica::new(address, config, url);
        Ok(Some(Arc::new(Self {
            all: config.replicas.iter().map(replica).collect::<Result<_, _>>()?,
            max_lag: config.replica_max_lag,
            every,
            ask_limit: config.connect_timeout,
            read_limit: config.query_timeout,
            beats: Beats::new(every),
            next: AtomicUsize::new(0),
            readers: Mutex::default(),
        })))
    }

    /// Reads from a replica that is not too far behind: the results, and how old they are at most. None if no replica can.
    pub(crate) fn read<'a>(
        self: &'a Arc<Self>,
        store: &'a EventStore,
        script: &'a Script,
    ) -> BoxFuture<'a, Option<(Results, Duration)>> {
        self.read_now(store, script).boxed()
    }

    async fn read_now(self: &Arc<Self>, store: &EventStore, script: &Script) -> Option<(Results, Duration)> {
        self.want(store);
        let sql = format!("{};{}", beats::SELECT, script.as_str());
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        for number in 0..self.all.len() {
            let replica = &self.all[first.wrapping_add(number) % self.all.len()];
            if *replica.state.borrow() != State::Fresh {
                continue;
            }
            match replica.read(&sql, self.read_limit).await {
                Ok(results) => match self.age(&results) {
                    Some(age) if age <= self.max_lag => return Some((results.behind_first(), age)),
                    age => replica.is(self.judge(age)),
                },
                Err(error) => replica.failed(&error),
            }
        }
        None
    }

    /// Of results with a beat in front.
    fn age(&self, results: &Results) -> Option<Duration> {
        let beat = beat_of(results).ok().flatten()?;
        self.beats.age(&beat, Instant::now())
    }

    fn judge(&self, age: Option<Duration>) -> State {
        if age.is_some_and(|age| age <= self.max_lag) { State::Fresh } else { State::Behind }
    }

    /// Somebody reads.
    fn want(self: &Arc<Self>, store: &EventStore) {
        let mut readers = self.readers();
        readers.last = Some(Instant::now());
        if !std::mem::replace(&mut readers.watched, true) {
            tokio::spawn(watch_all(Arc::clone(self), store.clone()));
        }
    }

    /// Whether the task has nobody left to look for; then it is over.
    fn unwanted(&self) -> bool {
        let mut readers = self.readers();
        let wanted = readers.last.is_some_and(|last| last.elapsed() < KEPT_READY);
        readers.watched = wanted && !self.all.iter().all(|replica| replica.pool.is_closed());
        !readers.watched
    }

    fn readers(&self) -> MutexGuard<'_, Readers> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, replica: &Replica) {
        let asked = timeout(self.ask_limit, replica.run(beats::SELECT)).await;
        match asked.unwrap_or_else(|late| Err(StoreError::Unavailable(late.into()))) {
            Ok(results) => {
                let age = self.age(&results);
                replica.show(age.unwrap_or(Duration::MAX));
                replica.is(self.judge(age));
            }
            Err(error) => replica.failed(&error),
        }
    }

    /// From now on all are connected to with user and password of this url.
    pub(crate) fn renew(&self, url: &StoreUrl) -> Result<(), StoreError> {
        for replica in &self.all {
            replica.pool.set_connect_options(at(&replica.address, url)?);
            replica.sessions.reopen();
        }
        Ok(())
    }

    pub(crate) async fn close(&self) {
        join_all(self.all.iter().map(|replica| replica.pool.close())).await;
    }
}

/// Looks at everything, as long as somebody reads.
async fn watch_all(replicas: Arc<Replicas>, store: EventStore) {
    while !replicas.unwanted() {
        let began = tokio::time::Instant::now();
        match timeout(replicas.ask_limit, store.beat(&replicas.beats)).await {
            Ok(Ok(())) => {}
            // Beats grow old, and replicas with them.
            Ok(Err(error)) => tracing::debug!(%error, "no beat for replicas"),
            Err(late) => tracing::debug!(error = %late, "no beat for replicas"),
        }
        join_all(replicas.all.iter().map(|replica| replicas.ask(replica))).await;
        tokio::time::sleep_until(began + replicas.every).await;
    }
}

fn at(address: &str, url: &StoreUrl) -> Result<sea_orm::sqlx::mysql::MySqlConnectOptions, StoreError> {
    let wrong = || StoreError::Config(format!("replicas: {address:?} is not host:port"));
    let (host, port) = split(address).ok_or_else(wrong)?;
    let options = connect_options(url).map_err(StoreError::Config)?;
    Ok(options.host(host).port(port).disable_statement_logging())
}

impl Replica {
    fn new(address: &str, config: &DatabaseConfig, url: &StoreUrl) -> Result<Self, StoreError> {
        let (pool, sessions) = mysql::replica_pool(url, config, at(address, url)?);
        let (state, _) = watch::channel(State::Unknown);
        Ok(Self { address: address.to_owned(), pool, sessions, state })
    }

    async fn run(&self, sql: &str) -> Result<Results, StoreError> {
        let mut connection = self.sessions.acquire(&self.pool).await?;
        self.sessions.check_length(sql)?;
        run::<MySql, _>(&mut *connection, sql, |done| done.rows_affected()).await
    }

    /// The same for a reader: not longer than until the task finds that the replica says nothing.
    async fn read(&self, sql: &str, limit: Duration) -> Result<Results, StoreError> {
        let mut state = self.state.subscribe();
        let gone = state.wait_for(|state| matches!(state, State::Away(_)));
        tokio::select! {
            results = timeout(limit, self.run(sql)) => results.map_err(|late| StoreError::Unavailable(late.into()))?,
            _ = gone => Err(StoreError::Unavailable("the replica does not answer any more".into())),
        }
    }

    fn failed(&self, error: &StoreError) {
        self.sessions.lost();
        self.is(State::Away(error.to_string()));
    }

    /// Says it once.
    fn is(&self, now: State) {
        let changed = self.state.send_if_modified(|state| {
            let changed = *state != now;
            state.clone_from(&now);
            changed
        });
        let address = self.address.as_str();
        match now {
            _ if !changed => {}
            State::Fresh => tracing::info!(address, "a replica is read from"),
            State::Behind => tracing::warn!(address, "a replica is too far behind to be read from"),
            State::Away(error) => tracing::warn!(address, error, "a replica cannot be read from"),
            State::Unknown => {}
        }
    }

    fn show(&self, age: Duration) {
        // Further behind than anything that is remembered.
        let seconds = if age == Duration::MAX { f64::INFINITY } else { age.as_secs_f64() };
        metrics::gauge!("interaction_database_replica_age_seconds", "replica" => self.address.clone()).set(seconds);
    }
}
