//! The store itself: connecting, schema, shard number, and how a call is bounded and retried.

use crate::sql::config::DatabaseConfig;
use crate::sql::error::{StoreError, TimedOut};
use crate::sql::gains::Gains;
use crate::sql::horizon::Horizon;
use crate::sql::lanes::Writer;
use crate::sql::lately::Oldest;
#[cfg(feature = "mysql")]
use crate::sql::place::Place;
use crate::sql::pool::{Pool, Results, Tx};
#[cfg(feature = "mysql")]
use crate::sql::replicas::Replicas;
use crate::sql::script::{Script, utc};
use crate::sql::verdict::History;
use backon::{ExponentialBuilder, Retryable};
use chrono::{DateTime, NaiveDateTime, Utc};
use sea_orm::QueryResult;
use secrecy::{ExposeSecret, SecretString};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Attempts after the first at a call that met a deadlock.
const CONFLICT_RETRIES: usize = 8;

/// Which server answers, in its own words.
pub(crate) const SERVER: &str = "CONCAT(@@hostname, ':', @@port, ':', @@server_id)";

const IDEMPOTENCY_TTL: Duration = Duration::from_secs(24 * 3600);

/// The database; cheap to clone.
#[derive(Debug, Clone)]
pub struct EventStore {
    pub(crate) pool: Pool,
    auto_migrate: bool,
    pub(crate) horizon: Arc<Horizon>,
    /// Whether what the redo log lacks is marked.
    unlogged: Arc<AtomicBool>,
    /// Whether changes that no message of the queue stands for are noted.
    pub(crate) notes_changes: bool,
    pub(crate) gains: Arc<Gains>,
    pub(crate) writer: Arc<Writer>,
    pub(crate) history: Arc<History>,
    pub(crate) idempotency_ttl: Duration,
    /// When a probe committed last; none since something failed.
    pub(crate) probe_committed: Arc<Mutex<Option<Instant>>>,
    pub(crate) ping_timeout: Duration,
    query_timeout: Duration,
    /// Where there are some.
    #[cfg(feature = "mysql")]
    pub(crate) replicas: Option<Arc<Replicas>>,
    /// Of who may read from them.
    pub(crate) oldest: Option<Arc<Oldest>>,
}

impl EventStore {
    /// Checks the configuration. Does not connect: that happens on first use, so a database that is unreachable does not
    /// keep a process from starting.
    ///
    /// # Errors
    /// [`StoreError::Config`] only.
    pub async fn connect(config: &DatabaseConfig) -> Result<Self, StoreError> {
        let pool = Pool::new(config)?;
        Ok(Self {
            #[cfg(feature = "mysql")]
            replicas: pool.replicas(config)?,
            oldest: None,
            pool,
            auto_migrate: config.auto_migrate,
            horizon: Arc::new(Horizon::new()),
            unlogged: Arc::default(),
            notes_changes: false,
            gains: Arc::default(),
            writer: Arc::new(Writer::new()),
            history: Arc::default(),
            idempotency_ttl: IDEMPOTENCY_TTL,
            probe_committed: Arc::default(),
            ping_timeout: config.connect_timeout,
            query_timeout: config.query_timeout,
        })
    }

    /// Whether events that the redo log lacks are to be found again: not where there is none. At first they are not.
    pub fn keep_unlogged(&self, wanted: bool) {
        self.unlogged.store(wanted, Ordering::Relaxed);
    }

    pub(crate) fn marks_unlogged(&self) -> bool {
        self.unlogged.load(Ordering::Relaxed)
    }

    /// Another lifetime of idempotency keys than a day: that of the cache's.
    #[must_use]
    pub fn with_idempotency_ttl(self, idempotency_ttl: Duration) -> Self {
        Self { idempotency_ttl, ..self }
    }

    /// What a program does when it starts: [`migrate`](Self::migrate), or where that is somebody else's
    /// (`database.auto_migrate`) only a look whether it was done.
    pub async fn have_schema(&self) -> Result<(), StoreError> {
        if self.auto_migrate {
            return self.migrate().await;
        }
        match self.pending_migrations().await?.as_slice() {
            [] => Ok(()),
            pending => self.noticed(Err(StoreError::lacks_schema(pending))),
        }
    }

    /// Creates or updates the schema, under a lock that other processes wait for. Where nothing is to do nothing is asked for
    /// but to read, so that a user who may not create tables will do.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        if self.pending_migrations().await?.is_empty() {
            return Ok(());
        }
        let done = migrations::run(&self.pool.orm()).await.map_err(StoreError::from);
        self.noticed(done)
    }

    /// Names of migrations that are not applied; reads only. Those of a newer release only add something, unless one of them says
    /// otherwise.
    ///
    /// # Errors
    /// [`StoreError::TooOld`] if the schema is of a release that this one must not run beside.
    pub async fn pending_migrations(&self) -> Result<Vec<String>, StoreError> {
        let standing = self.bounded(async { Ok(migrations::standing(&self.pool.orm()).await?) }).await?;
        if !standing.newer.is_empty()
            && let Some(needed) = self.remembered(migrations::MINIMUM_COMPATIBLE).await?
            && !migrations::known().contains(&needed)
        {
            return Err(StoreError::TooOld { needed });
        }
        Ok(standing.pending)
    }

    /// From now on connections log in with user and password of this url, if the database lets us in. It must lead to the same
    /// place as before.
    pub async fn renew_login(&self, url: &SecretString) -> Result<(), StoreError> {
        self.pool.renew_login(url.expose_secret(), self.ping_timeout).await?;
        #[cfg(feature = "mysql")]
        if let (Some(replicas), Ok(Place::MySql(url))) = (&self.replicas, Place::read(url.expose_secret())) {
            replicas.renew(&url)?;
        }
        Ok(())
    }

    /// Answers if the database does, within `connect_timeout`.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let mut script = self.script();
        script.begin("SELECT 1");
        match tokio::time::timeout(self.ping_timeout, self.pool.read(&script)).await {
            Ok(answer) => self.noticed(answer).map(drop),
            Err(_) => self.noticed(Err(self.silent(self.ping_timeout).await)),
        }
    }

    /// Which server answers, in its own words; none if there is only one.
    pub async fn server(&self) -> Result<Option<String>, StoreError> {
        if self.script().dialect().is_sqlite() {
            return Ok(None);
        }
        let mut script = self.script();
        script.begin("SELECT ").words(SERVER);
        let results = self.read(&script).await?;
        get(row(&results, 0, "variables")?, 0, "variables").map(Some)
    }

    /// The database's clock. By it all processes agree on how old something is, whatever their own clocks say.
    pub async fn now(&self) -> Result<DateTime<Utc>, StoreError> {
        let mut script = self.script();
        let now = script.dialect().now();
        script.begin("SELECT ").words(now);
        let results = self.read(&script).await?;
        let now = utc(get::<NaiveDateTime>(row(&results, 0, "clock")?, 0, "clock")?);
        self.horizon.learn(now);
        Ok(now)
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.pool.close().await;
        #[cfg(feature = "mysql")]
        if let Some(replicas) = &self.replicas {
            replicas.close().await;
        }
    }

    pub(crate) fn script(&self) -> Script {
        Script::new(self.pool.dialect())
    }

    /// Runs a script that only reads.
    pub(crate) async fn read(&self, script: &Script) -> Result<Results, StoreError> {
        if script.is_empty() {
            return Ok(Results::default());
        }
        self.bounded(self.pool.read(script)).await
    }

    /// Runs a script in a transaction of its own.
    pub(crate) async fn write(&self, name: &'static str, script: &Script) -> Result<Results, StoreError> {
        if script.is_empty() {
            return Ok(Results::default());
        }
        self.transaction(name, || async {
            let mut tx = self.begin().await?;
            let results = tx.run(script).await?;
            tx.commit().await?;
            Ok(results)
        })
        .await
    }

    /// Runs a script whose statements may be transactions of their own.
    pub(crate) async fn run_each(&self, name: &'static str, script: &Script) -> Result<Results, StoreError> {
        // SQLite's writers stand in a line.
        if script.dialect().is_sqlite() { self.write(name, script).await } else { self.read(script).await }
    }

    pub(crate) async fn begin(&self) -> Result<Tx, StoreError> {
        self.pool.begin().await
    }

    /// Runs a named transaction, from its beginning again after a deadlock or a lock wait.
    pub(crate) async fn transaction<T, F>(
        &self,
        name: &'static str,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let pauses = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(2))
            .with_max_delay(Duration::from_millis(250))
            .with_max_times(CONFLICT_RETRIES)
            .with_jitter();
        (|| self.bounded(attempt()))
            .retry(pauses)
            .when(StoreError::is_conflict)
            .notify(|error, pause| tracing::debug!(transaction = name, %error, ?pause, "transaction is tried again"))
            .await
    }

    /// No answer in time, and why, where that is told at once.
    pub(crate) async fn silent(&self, limit: Duration) -> StoreError {
        StoreError::Unavailable(TimedOut { limit, why: self.pool.why_silent().await }.into())
    }

    pub(crate) fn noticed<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if result.as_ref().is_err_and(StoreError::ends_connections) {
            self.pool.renounce();
        }
        if result.as_ref().is_err_and(StoreError::is_unavailable) {
            self.pool.lost();
            *self.probe_committed() = None;
        }
        result.map_err(|error| self.pool.named(error))
    }

    async fn bounded<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        match tokio::time::timeout(self.query_timeout, call).await {
            Ok(result) => self.noticed(result),
            Err(_) => self.noticed(Err(self.silent(self.query_timeout).await)),
        }
    }
}

/// Reads a column of a row.
pub(crate) fn get<T: sea_orm::TryGetable>(
    row: &QueryResult,
    column: usize,
    table: &'static str,
) -> Result<T, StoreError> {
    row.try_get_by_index(column).map_err(|error| StoreError::corrupt(table, error))
}

/// Rows of a script's statement.
pub(crate) fn rows(results: &Results, statement: usize) -> &[QueryResult] {
    results.get(statement).map_or(&[], Vec::as_slice)
}

/// The only row of a script's statement.
pub(crate) fn row<'r>(
    results: &'r Results,
    statement: usize,
    table: &'static str,
) -> Result<&'r QueryResult, StoreError> {
    rows(results, statement).first().ok_or_else(|| StoreError::corrupt(table, "a row is missing"))
}
