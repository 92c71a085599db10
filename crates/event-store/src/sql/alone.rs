//! One connection that nobody else gets, neither now nor afterwards: for statements that outlive their transaction, such as locks of
//! tables. However it ends, the connection is closed, and with it the server takes everything back that is not done.

use crate::sql::error::StoreError;
#[cfg(feature = "mysql")]
use crate::sql::mysql::Sessions;
use crate::sql::pool::{Pool, Results};
use crate::sql::script::Script;
use crate::sql::store::{get, row};
#[cfg(feature = "mysql")]
use crate::sql::{dialect::Dialect, pool};
#[cfg(feature = "mysql")]
use sea_orm::sqlx::{MySql, pool::PoolConnection};
#[cfg(feature = "mysql")]
use std::{sync::Arc, time::Duration};

/// Who waits for a table longer than so many seconds gives up: whoever came later waits behind.
#[cfg(feature = "mysql")]
const LOCK_WAIT: i64 = 1;

/// Longest round trip.
#[cfg(feature = "mysql")]
const LONGEST: Duration = Duration::from_secs(3_600);

/// The connection; SQLite needs none.
pub(crate) enum Alone {
    #[cfg(feature = "mysql")]
    MySql(PoolConnection<MySql>, Arc<Sessions>),
}

impl Alone {
    /// One of the pool's, which does not come back there.
    pub(crate) async fn of(pool: &Pool) -> Result<Self, StoreError> {
        match pool {
            #[cfg(feature = "mysql")]
            Pool::MySql(pool, sessions) => {
                let mut connection = sessions.acquire(pool).await?;
                connection.close_on_drop();
                let mut alone = Self::MySql(connection, Arc::clone(sessions));
                let mut script = Script::new(Dialect::MySql);
                script.begin("SET SESSION lock_wait_timeout = ").int(LOCK_WAIT);
                alone.run(&script).await?;
                Ok(alone)
            }
            Pool::Sqlite(..) => Err(StoreError::Config("SQLite locks no tables".into())),
        }
    }

    /// Nobody else who asks for it is at it from now on, until the connection ends; the one of the step before may still be ending.
    pub(crate) async fn one_at_a_time(&mut self, mut script: Script) -> Result<(), StoreError> {
        script.begin("SELECT COALESCE(GET_LOCK(CONCAT('retire:', LEFT(SHA2(DATABASE(), 256), 32)), 1), 0)");
        let results = self.run(&script).await?;
        match get::<i64>(row(&results, 0, "locks")?, 0, "locks")? {
            1 => Ok(()),
            _ => Err(StoreError::Conflict("another process drops what is old".into())),
        }
    }

    /// Runs statements in one round trip, each in a transaction of its own; the first that fails ends it.
    #[cfg_attr(not(feature = "mysql"), expect(clippy::unused_async, unused_variables, reason = "there is none"))]
    pub(crate) async fn run(&mut self, script: &Script) -> Result<Results, StoreError> {
        match *self {
            #[cfg(feature = "mysql")]
            Self::MySql(ref mut connection, ref sessions) => {
                sessions.check_length(script.as_str())?;
                let run = pool::run::<MySql, _>(&mut **connection, script.as_str(), |done| done.rows_affected());
                match tokio::time::timeout(LONGEST, run).await {
                    Ok(results) => results,
                    Err(late) => Err(StoreError::Unavailable(late.into())),
                }
            }
        }
    }
}
