//! Connections to MySQL and MariaDB, and what each of them is told first.

mod sessions;

pub(crate) use sessions::Sessions;

use crate::sql::config::DatabaseConfig;
use crate::sql::error::StoreError;
use crate::sql::hosts::{self, Hosts};
use crate::sql::place::{SSL_CA, SSL_CERT, SSL_KEY, SSL_MODE, TIME_ZONE};
use crate::sql::pool::bounded;
use domain::StoreUrl;
use sea_orm::sqlx::Row;
use sea_orm::sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};
use sea_orm::sqlx::pool::{PoolConnectionMetadata, PoolOptions};
use sea_orm::sqlx::{self, ConnectOptions, Connection, Executor, MySql, MySqlPool};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A connection that rested longer than this is asked whether it lives before it is used; so is one that rested already when
/// another one was lost.
const TRUSTED_IDLE_TIME: Duration = Duration::from_secs(1);

/// What our statements rely on, whatever the server's own settings are. How long one may take is `query_timeout`'s business.
/// MySQL skips the first comment, MariaDB the second.
pub(crate) const OURS: &str = "autocommit = 1, completion_type = 0, sql_safe_updates = 0, sql_big_selects = 1, \
                    timestamp = DEFAULT, sql_select_limit = 18446744073709551615, \
                    /*M! max_statement_time = 0, */ /*!50708 max_execution_time = 0, */ \
                    sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION,PIPES_AS_CONCAT'";

/// A connection that comes back to the pool, and may have a transaction to roll back, is closed after this long.
const RELEASE_LIMIT: Duration = Duration::from_secs(5);

/// A pool that connects when it is used.
pub(crate) fn pool(url: &StoreUrl, config: &DatabaseConfig) -> Result<(MySqlPool, Arc<Sessions>), StoreError> {
    let connect = connect_options(url).map_err(StoreError::Config)?.disable_statement_logging();
    let sessions = Sessions::new(url.clone(), config.query_timeout, Hosts::of(config, &connect)?, false);
    Ok((options(config, &sessions).connect_lazy_with(connect), sessions))
}

/// The same for a server that is only read from.
pub(crate) fn replica_pool(
    url: &StoreUrl,
    config: &DatabaseConfig,
    connect: MySqlConnectOptions,
) -> (MySqlPool, Arc<Sessions>) {
    let sessions = Sessions::new(url.clone(), config.query_timeout, None, true);
    (options(config, &sessions).connect_lazy_with(connect), sessions)
}

/// What the driver is told, which looks the host's name up whenever it connects.
pub(crate) fn connect_options(url: &StoreUrl) -> Result<MySqlConnectOptions, String> {
    let mut options = MySqlConnectOptions::new().host(&url.host).username(url.user.as_deref().unwrap_or("root"));
    if let Some(port) = url.port {
        options = options.port(port);
    }
    if let Some(password) = &url.password {
        options = options.password(password);
    }
    if let Some(database) = &url.path {
        options = options.database(database);
    }
    if let Some(mode) = url.option(SSL_MODE) {
        options = options.ssl_mode(mode.parse().map_err(|_| "url: option ssl-mode: unknown".to_owned())?);
    }
    if let Some(file) = url.option(SSL_CA) {
        options = options.ssl_ca(file);
    }
    if let Some((certificate, key)) = url.option(SSL_CERT).zip(url.option(SSL_KEY)) {
        options = options.ssl_client_cert(certificate).ssl_client_key(key);
    }
    if let Some(collation) = url.option(&["collation"]) {
        options = options.collation(collation);
    }
    if let Some(zone) = url.option(TIME_ZONE) {
        options = options.timezone(Some(zone.to_owned()));
    }
    Ok(options)
}

fn options(config: &DatabaseConfig, sessions: &Arc<Sessions>) -> PoolOptions<MySql> {
    let (told, asked) = (Arc::clone(sessions), Arc::clone(sessions));
    // Lock waits are counted in whole seconds. Of a table that somebody locks, too: the server does not notice that whoever
    // waits has gone, and would keep the connection for a day. The driver itself sets the time zone to UTC.
    let lock_seconds = config.lock_timeout.as_secs().max(1);
    // Longer than a resting connection is trusted.
    let silent_seconds = config.silence_limit.as_secs().max(2 * TRUSTED_IDLE_TIME.as_secs());
    // First, because the server may begin a transaction for each connection (init_connect): what is read in it is as old as it.
    let settings = format!(
        "ROLLBACK; SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
         SET SESSION innodb_lock_wait_timeout = {lock_seconds}, lock_wait_timeout = {lock_seconds}, \
         wait_timeout = {silent_seconds}, {OURS}; \
         SELECT CAST(@@max_allowed_packet AS CHAR), {}, CURRENT_USER()",
        hosts::ROLE
    );
    bounded::<MySql>(MySqlPoolOptions::new(), config)
        // Resting ones are closed by us, in good order.
        .idle_timeout(Duration::from_secs(silent_seconds) / 2)
        .after_connect(move |connection, _| {
            let (settings, told) = (settings.clone(), Arc::clone(&told));
            Box::pin(async move {
                let row = connection.fetch_one(sqlx::raw_sql(sqlx::AssertSqlSafe(settings))).await?;
                let max_packet = row.try_get::<String, _>(0)?.parse().unwrap_or(usize::MAX);
                told.max_packet.store(max_packet, Ordering::Relaxed);
                told.account.is(&row.try_get::<String, _>(2)?);
                if !told.only_read && !hosts::writes(&row.try_get::<String, _>(1)?) {
                    told.refuse();
                }
                Ok(())
            })
        })
        // Whoever left it, no transaction is open on one that rests. The driver asks whether it lives, too, but without a limit:
        // one whose other end is silent would keep its place for good.
        .after_release(|connection, _| {
            Box::pin(async move {
                let silent = |elapsed: tokio::time::error::Elapsed| sqlx::Error::Io(std::io::Error::other(elapsed));
                let ended = connection.execute(sqlx::raw_sql("ROLLBACK"));
                tokio::time::timeout(RELEASE_LIMIT, ended).await.map_err(silent)??;
                Ok(true)
            })
        })
        .before_acquire(move |connection, meta: PoolConnectionMetadata| {
            let (former, doubtful) = (asked.is_former(meta.age), asked.is_doubtful(meta.idle_for));
            Box::pin(async move { Ok(!former && (!doubtful || connection.ping().await.is_ok())) })
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::place::Place;
    use crate::sql::pool::Pool;
    use crate::sql::script::Script;
    use sea_orm::{ConnectionTrait, Statement};
    use test_support::{MariaDb, MariaDbOptions, Proxy, eventually, execute_sql, fresh_database, shared};

    #[test]
    fn the_driver_is_told_what_the_url_says() {
        let url = "mysql://me:p@s%2Fs@[::1]:3307/likes?ssl-mode=disabled";
        let Place::MySql(url) = Place::read(url).unwrap() else { panic!("another database") };
        let told = connect_options(&url).unwrap();
        let found = (told.get_host(), told.get_port(), told.get_username(), told.get_database());
        assert_eq!(found, ("::1", 3307, "me", Some("likes")));
        assert!(format!("{told:?}").contains("p@s/s"), "{told:?}");
    }

    #[tokio::test]
    async fn settings_of_the_server_do_not_matter() {
        let options = MariaDbOptions { durable: false, ..MariaDbOptions::default() };
        let server = MariaDb::start_with_arguments(options, &[]).await.unwrap();
        let others = "SET GLOBAL autocommit = 0, GLOBAL completion_type = 1, GLOBAL sql_safe_updates = 1, \
                      GLOBAL max_join_size = 1, GLOBAL sql_select_limit = 1, GLOBAL max_statement_time = 59, \
                      GLOBAL sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES', \
                      GLOBAL init_connect = 'SET SESSION timestamp = 1000000000'";
        execute_sql(server.url(), others).await.unwrap();
        // What the server runs for new connections it does not run for administrators'.
        execute_sql(server.url(), "CREATE USER app@'%'; GRANT ALL ON test.* TO app@'%'").await.unwrap();
        let url = server.url().replace("root@", "app@");
        let config = DatabaseConfig { url: url.clone().into(), ..DatabaseConfig::default() };
        let pool = Pool::new(&config).unwrap();
        let mut script = Script::new(pool.dialect());
        script.begin("SELECT CONCAT_WS(' ', @@autocommit, @@completion_type, @@sql_safe_updates, @@sql_big_selects, ");
        script.words("@@max_statement_time, @@sql_mode, @@timestamp > 1500000000)");
        script.begin("SELECT 1 UNION ALL SELECT 2");
        let results = pool.read(&script).await.unwrap();
        let told: String = results[0][0].try_get_by_index(0).unwrap();
        let ours = "ON NO_CHAIN OFF ON 0.000000 PIPES_AS_CONCAT,STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION 1";
        assert_eq!((told.as_str(), results[1].len()), (ours, 2));
        // Nor for who reads the tables without this store.
        let plain = crate::connect_plain(&url, 1).await.unwrap();
        let two = Statement::from_string(plain.get_database_backend(), "SELECT 1 UNION ALL SELECT 2");
        assert_eq!(plain.query_all_raw(two).await.unwrap().len(), 2);
    }

    /// In a transaction that somebody else began, what others commit would not be seen: the database would seem to have gone back.
    #[tokio::test]
    async fn no_transaction_is_open_on_a_connection_that_is_handed_out() {
        let options = MariaDbOptions { durable: false, ..MariaDbOptions::default() };
        let server = MariaDb::start_with_arguments(options, &[]).await.unwrap();
        let begin = "SET GLOBAL init_connect = 'START TRANSACTION WITH CONSISTENT SNAPSHOT'; \
                     CREATE USER app@'%'; GRANT ALL ON test.* TO app@'%'; CREATE TABLE seen (id INT PRIMARY KEY)";
        execute_sql(server.url(), begin).await.unwrap();
        let url = server.url().replace("root@", "app@");
        let config = DatabaseConfig { url: url.into(), max_connections: 1, ..DatabaseConfig::default() };
        let pool = Pool::new(&config).unwrap();
        let run = async |sql: &str| {
            let mut script = Script::new(pool.dialect());
            script.begin(sql);
            pool.read(&script).await.unwrap()
        };
        let seen = async || -> (i64, i64) {
            let results = run("SELECT COUNT(*), CAST(@@in_transaction AS SIGNED) FROM seen").await;
            let number = |column| results[0][0].try_get_by_index(column).unwrap();
            (number(0), number(1))
        };
        assert_eq!(seen().await, (0, 0));
        execute_sql(server.url(), "INSERT INTO seen VALUES (1)").await.unwrap();
        assert_eq!(seen().await, (1, 0), "what was committed meanwhile");
        // Nor is one left open for whoever comes next.
        run("START TRANSACTION WITH CONSISTENT SNAPSHOT").await;
        assert_eq!(seen().await, (1, 0));
    }

    #[tokio::test]
    async fn a_transaction_that_says_nothing_loses_its_locks() {
        let url = fresh_database(shared::mariadb().await.unwrap().url()).await.unwrap();
        execute_sql(&url, "CREATE TABLE held (id INT PRIMARY KEY); INSERT INTO held VALUES (1)").await.unwrap();
        let silence_limit = Duration::from_secs(2);
        let config = DatabaseConfig { url: url.clone().into(), silence_limit, ..DatabaseConfig::default() };
        let pool = Pool::new(&config).unwrap();
        let mut silent = pool.begin().await.unwrap();
        let mut script = Script::new(pool.dialect());
        script.begin("SELECT id FROM held WHERE id = 1 FOR UPDATE");
        assert_eq!(silent.run(&script).await.unwrap().len(), 1);
        // Waits as a process would whose rows a stopped one holds.
        execute_sql(&url, "SET innodb_lock_wait_timeout = 20; UPDATE held SET id = 2").await.unwrap();
        assert!(silent.commit().await.is_err(), "committed without its lock");
    }

    #[tokio::test]
    async fn a_caller_that_goes_while_its_transaction_begins_leaves_none_open() {
        let server = shared::mariadb().await.unwrap();
        let url = fresh_database(server.url()).await.unwrap();
        execute_sql(&url, "CREATE TABLE held (id INT PRIMARY KEY); INSERT INTO held VALUES (1)").await.unwrap();
        let link = Proxy::start(server.addr().unwrap()).await.unwrap();
        let config = DatabaseConfig { url: link.url_of(&url).into(), max_connections: 1, ..DatabaseConfig::default() };
        let pool = Pool::new(&config).unwrap();
        let mut lock = Script::new(pool.dialect());
        lock.begin("SELECT id FROM held WHERE id = 1 FOR UPDATE");
        // Connects, and comes back.
        pool.read(&lock).await.unwrap();
        let Pool::MySql(connections, _) = &pool else { panic!("another database") };
        eventually(Duration::from_secs(10), "a connection that rests", async || connections.num_idle() == 1).await;

        link.hold_answers();
        let gone = tokio::time::timeout(Duration::from_millis(200), pool.begin()).await;
        assert!(gone.is_err(), "it began without an answer");
        link.restore().await.unwrap();

        // On the same connection, and outside any transaction: the lock goes with the statement.
        pool.read(&lock).await.unwrap();
        execute_sql(&url, "SET innodb_lock_wait_timeout = 2; UPDATE held SET id = 2").await.unwrap();
    }

    /// Otherwise each of them would fail somebody's call, or the probe that is to find the next server.
    #[tokio::test]
    async fn of_connections_that_broke_together_one_fails_a_call() {
        let server = shared::mariadb().await.unwrap();
        let url = fresh_database(server.url()).await.unwrap();
        let link = Proxy::start(server.addr().unwrap()).await.unwrap();
        let config = DatabaseConfig { url: link.url_of(&url).into(), max_connections: 4, ..DatabaseConfig::default() };
        let pool = Pool::new(&config).unwrap();
        let (one, two, three, four) = tokio::try_join!(pool.begin(), pool.begin(), pool.begin(), pool.begin()).unwrap();
        drop((one, two, three, four));
        let Pool::MySql(connections, _) = &pool else { panic!("another database") };
        eventually(Duration::from_secs(10), "connections that rest", async || connections.num_idle() == 4).await;

        link.cut().await;
        link.restore().await.unwrap();
        let mut script = Script::new(pool.dialect());
        script.begin("SELECT 1");
        assert!(pool.read(&script).await.is_err(), "nothing broke");
        pool.lost();
        for _ in 0..4 {
            pool.read(&script).await.unwrap();
        }
    }

    /// Everything that was sent or comes is lost, and nobody says so.
    #[tokio::test]
    async fn silent_connections_make_way_for_new_ones() {
        let server = shared::mariadb().await.unwrap();
        let url = fresh_database(server.url()).await.unwrap();
        let link = Proxy::start(server.addr().unwrap()).await.unwrap();
        let config = DatabaseConfig {
            url: link.url_of(&url).into(),
            max_connections: 2,
            query_timeout: Duration::from_secs(1),
            ..DatabaseConfig::default()
        };
        let pool = Pool::new(&config).unwrap();
        let (one, other) = (pool.begin().await.unwrap(), pool.begin().await.unwrap());
        link.hold_answers();
        // One is given back, and one waits for an answer whose caller has gone.
        drop(one);
        assert!(tokio::time::timeout(Duration::from_millis(100), pool.begin()).await.is_err());
        drop(other);
        let begun = tokio::time::timeout(Duration::from_millis(100), pool.begin()).await;
        assert!(begun.is_err(), "it began without an answer");
        let Pool::MySql(connections, _) = &pool else { panic!("another database") };
        eventually(Duration::from_secs(30), "room for new ones", async || connections.size() == 0).await;
        link.restore().await.unwrap();
        pool.begin().await.unwrap();
    }
}
