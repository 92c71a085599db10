//! The table of errors, row by row, each produced by a real server: nobody's fault, nothing ends, and when the cause is gone
//! the same store works again.

use crate::support::{at, like};
use domain::{LikeEvent, ShardCount};
use event_store::{DatabaseConfig, EventStore, StoreError};
use std::time::Duration;
use test_support::{MariaDb, MariaDbOptions, eventually, execute_sql};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What work needs, and no more.
const RIGHTS: &str = "GRANT SELECT, INSERT, UPDATE, DELETE ON likes.* TO app@'%'";

/// A server with a schema, and a store of a user who is no administrator.
pub(crate) struct Server {
    pub(crate) mariadb: MariaDb,
    pub(crate) store: EventStore,
}

impl Server {
    async fn start(arguments: &[&str]) -> Self {
        let options = MariaDbOptions { durable: false, ..MariaDbOptions::default() };
        let mariadb = MariaDb::start_with_arguments(options, arguments).await.unwrap();
        // Of `test` everybody has all rights.
        execute_sql(mariadb.url(), "CREATE DATABASE likes").await.unwrap();
        let root = DatabaseConfig { url: mariadb.url().replace("/test", "/likes").into(), ..DatabaseConfig::default() };
        EventStore::connect(&root).await.unwrap().migrate().await.unwrap();
        execute_sql(mariadb.url(), "CREATE USER app@'%' IDENTIFIED BY 'pw'").await.unwrap();
        let store = Self::store_at(&mariadb, "app:pw@").await;
        Self { mariadb, store }
    }

    pub(crate) async fn with_rights(arguments: &[&str]) -> Self {
        let server = Self::start(arguments).await;
        server.admin(RIGHTS).await;
        server.store.bind_shards(ShardCount::default()).await.unwrap();
        server
    }

    async fn store_at(mariadb: &MariaDb, login: &str) -> EventStore {
        let url = mariadb.url().replace("root@", login).replace("/test", "/likes");
        let config = DatabaseConfig { url: url.into(), max_connections: 4, ..DatabaseConfig::default() };
        EventStore::connect(&config).await.unwrap()
    }

    pub(crate) async fn admin(&self, sql: &str) -> String {
        execute_sql(self.mariadb.url(), sql).await.unwrap()
    }

    pub(crate) async fn newest_connection(&self) -> u64 {
        let ids = "SELECT COALESCE(MAX(id), 0) FROM information_schema.processlist";
        self.admin(ids).await.trim().parse().unwrap()
    }

    /// Ends the connections that the store has. Who is killed still answers for a moment: comes back when nobody of before does.
    pub(crate) async fn kill_connections(&self) {
        let before = self.newest_connection().await;
        self.admin("KILL USER app").await;
        let left = format!("SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'app' AND id <= {before}");
        eventually(PATIENCE, "connections that end", async || match self.admin(&left).await.trim() {
            "0" => Ok(()),
            left => Err(format!("{left} are left")),
        })
        .await;
    }

    /// Whoever writes, and the probe: both fail, say the same and blame nobody.
    pub(crate) async fn of_no_use(&self, says: &str) {
        for error in [self.store.apply(&[like(1, 7, 1)], at(1_000)).await.map(drop), self.store.probe().await] {
            let error = error.unwrap_err();
            assert!(error.is_unavailable() && error.to_string().contains(says), "{error} does not say {says}");
        }
    }

    pub(crate) async fn works_again(&self) {
        eventually(PATIENCE, "the probe", || self.store.probe()).await;
        // A connection that was used a moment ago is not asked again before it is used: one that was killed fails one call.
        eventually(PATIENCE, "a batch", async || self.store.apply(&[like(1, 7, 1)], at(1_000)).await).await;
    }
}

#[tokio::test]
async fn a_server_that_only_reads_loses_its_connections() {
    let server = Server::with_rights(&[]).await;
    for (spoil, mend) in [
        ("SET GLOBAL read_only = 1", "SET GLOBAL read_only = 0"),
        ("SET GLOBAL tx_read_only = 1", "SET GLOBAL tx_read_only = 0"),
    ] {
        let before = server.newest_connection().await;
        server.admin(spoil).await;
        // What was opened before may still have been told otherwise.
        server.kill_connections().await;
        eventually(PATIENCE, "a probe that fails for it", async || match server.store.probe().await {
            Err(error) if error.to_string().contains("only reads") => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        server.of_no_use("only reads").await;
        server.admin(mend).await;
        server.works_again().await;
        let former =
            format!("SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'app' AND id <= {before}");
        assert_eq!(server.admin(&former).await.trim(), "0", "{spoil}: a connection of before is used");
    }
}

/// Each missing right is named with its statement, and these statements are enough; nothing is created, nothing is asked for
/// that work does not need.
#[tokio::test]
async fn a_missing_right_is_named_with_the_statement_that_grants_it() {
    let server = Server::start(&[]).await;
    let denied = server.store.migrate().await.unwrap_err();
    assert!(
        denied.is_unavailable() && denied.to_string().contains("GRANT SELECT, INSERT, UPDATE, DELETE ON"),
        "{denied}"
    );
    server.admin("GRANT SELECT ON likes.* TO app@'%'").await;
    server.store.migrate().await.unwrap();
    let mut granted = Vec::new();
    while let Err(error) = server.store.probe().await {
        assert!(error.is_unavailable() && granted.len() < 5, "{error} after {granted:?}");
        let text = error.to_string();
        let statement = text.split("it is granted by: ").nth(1).unwrap_or_else(|| panic!("no statement: {text}"));
        granted
            .push(statement.replace("<database>", "likes").replace("'127.0.0.1'", "'%'").replace("'localhost'", "'%'"));
        server.admin(granted.last().unwrap()).await;
    }
    assert!(!granted.is_empty());
    server.store.bind_shards(ShardCount::default()).await.unwrap();
    server.works_again().await;
}

#[tokio::test]
async fn a_wrong_password_says_so() {
    let server = Server::with_rights(&[]).await;
    let store = Server::store_at(&server.mariadb, "app:wrong@").await;
    for error in [store.ping().await.unwrap_err(), store.migrate().await.unwrap_err()] {
        assert!(error.is_unavailable() && error.to_string().contains("password"), "{error}");
    }
}

/// The server cannot log what is written. Whoever starts meanwhile waits and does not end.
#[tokio::test]
async fn a_binary_log_of_statements_is_waited_for() {
    let server = Server::with_rights(&["--log-bin=log", "--binlog-format=ROW"]).await;
    server.works_again().await;
    server.admin("SET GLOBAL binlog_format = 'STATEMENT'").await;
    server.kill_connections().await;
    eventually(PATIENCE, "a probe that fails for it", async || match server.store.probe().await {
        Err(error) if error.to_string().contains("binlog_format") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    server.of_no_use("binlog_format must be ROW or MIXED").await;
    let starting = Server::store_at(&server.mariadb, "app:pw@").await;
    starting.migrate().await.unwrap();
    starting.bind_shards(ShardCount::default()).await.unwrap();
    assert!(starting.probe().await.unwrap_err().is_unavailable());
    // Sessions keep what they were told when they connected: the store takes new ones.
    server.admin("SET GLOBAL binlog_format = 'ROW'").await;
    server.works_again().await;
}

/// Too long for the server: not its absence, and nobody's fault. Less at once works, on a sound connection.
#[tokio::test]
async fn a_statement_that_is_too_long_is_not_sent() {
    let server = Server::with_rights(&[]).await;
    server.admin("SET GLOBAL max_allowed_packet = 16384").await;
    server.kill_connections().await;
    let _broken = server.store.ping().await;
    eventually(PATIENCE, "a ping", || server.store.ping()).await;
    let events: Vec<LikeEvent> = (1..=500).map(|user| like(user, user, user)).collect();
    let error = server.store.apply(&events, at(1_000)).await.unwrap_err();
    assert!(error.is_too_large() && error.is_unavailable(), "{error}");
    for few in events.chunks(10) {
        server.store.apply(few, at(1_000)).await.unwrap();
    }
    server.store.probe().await.unwrap();
}

#[tokio::test]
async fn a_killed_connection_is_replaced() {
    let server = Server::with_rights(&[]).await;
    server.works_again().await;
    server.kill_connections().await;
    match server.store.apply(&[like(2, 7, 2)], at(1_000)).await {
        Ok(_) => {}
        Err(error) => assert!(error.is_unavailable(), "{error}"),
    }
    server.works_again().await;
}

#[tokio::test]
async fn a_row_that_somebody_holds_is_contention() {
    let server = Server::with_rights(&[]).await;
    server.works_again().await;
    let config = DatabaseConfig {
        url: server.mariadb.url().replace("root@", "app:pw@").replace("/test", "/likes").into(),
        lock_timeout: Duration::from_secs(1),
        query_timeout: Duration::from_secs(60),
        ..DatabaseConfig::default()
    };
    let waiting = EventStore::connect(&config).await.unwrap();
    let url = server.mariadb.url().to_owned();
    let holder = tokio::spawn(async move {
        execute_sql(&url, "BEGIN; SELECT * FROM likes.like_counts FOR UPDATE; SELECT SLEEP(25); ROLLBACK").await
    });
    eventually(PATIENCE, "the row to be held", async || {
        let held = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_rows_locked > 0";
        if server.admin(held).await.trim() == "0" { Err("not yet") } else { Ok(()) }
    })
    .await;
    let error = waiting.apply(&[like(3, 7, 3)], at(1_000)).await.unwrap_err();
    assert!(matches!(error, StoreError::Conflict(_)), "{error}");
    // A probe asks for no row that work may hold.
    server.store.probe().await.unwrap();
    holder.abort();
}

/// A lock of a table, or of the whole server, that an administrator holds: the probe touches no row, so it can be nothing else.
/// No connection waits for it on the server when its caller has gone.
#[tokio::test]
async fn a_table_that_somebody_locks_is_said_to_be_locked() {
    let server = Server::with_rights(&[]).await;
    for lock in ["LOCK TABLES likes.video_likes READ", "FLUSH TABLES WITH READ LOCK"] {
        let url = server.mariadb.url().to_owned();
        let held = format!("{lock}; SELECT SLEEP(1000)");
        let holder = tokio::spawn(async move { execute_sql(&url, &held).await });
        eventually(PATIENCE, "a probe that fails for it", async || match server.store.probe().await {
            Err(error) if error.is_unavailable() && error.to_string().contains("UNLOCK TABLES") => Ok(()),
            other => Err(format!("{lock}: {other:?}")),
        })
        .await;
        // A caller that goes, as all do in the end.
        let event = [like(2, 8, 2)];
        let write = server.store.apply(&event, at(1_000));
        tokio::time::timeout(Duration::from_millis(500), write).await.unwrap_err();
        eventually(PATIENCE, "nobody who waits for good", async || {
            let waiting =
                "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'app' AND state LIKE 'Waiting%lock%'";
            match server.admin(waiting).await.trim() {
                "0" => Ok(()),
                waiting => Err(format!("{lock}: {waiting} connections wait")),
            }
        })
        .await;
        let sleeping = "SELECT id FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP%'";
        let id = server.admin(sleeping).await;
        server.admin(&format!("KILL {}", id.trim())).await;
        holder.await.unwrap().unwrap_err();
        server.works_again().await;
    }
}

/// A limit of the user's own is not that of the server.
#[tokio::test]
async fn a_limit_of_the_user_is_named() {
    let server = Server::with_rights(&[]).await;
    for limit in ["MAX_UPDATES_PER_HOUR", "MAX_QUERIES_PER_HOUR"] {
        // Who is connected already may have another limit.
        server.admin(&format!("ALTER USER app@'%' WITH {limit} 1")).await;
        server.kill_connections().await;
        eventually(PATIENCE, "a probe that fails for it", async || match server.store.probe().await {
            Err(error) if error.is_unavailable() && error.to_string().contains("ALTER USER") => Ok(()),
            other => Err(format!("{limit}: {other:?}")),
        })
        .await;
        server.of_no_use("max_user_connections or the one that the error names").await;
        server.admin(&format!("ALTER USER app@'%' WITH {limit} 0; FLUSH USER_RESOURCES")).await;
        server.kill_connections().await;
        server.works_again().await;
    }
}
