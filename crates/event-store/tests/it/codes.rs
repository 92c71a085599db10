//! Errors by their codes, as a real server sends them. Those that need another server than this one, or a broken disk, are said
//! by a trigger: code, state and text travel as they would.

use crate::direct::soon;
use crate::meanings::{PATIENCE, Server};
use crate::support::{at, like};
use domain::{Action, LikeEvent, Version};
use event_store::{DirectResult, ImportOptions, Reserved, StoreError};
use test_support::build::{intent, video_pair};
use test_support::{eventually, execute_sql, expect_eq};

impl Server {
    /// From now on every write fails with this.
    async fn refuse_writes(&self, number: u16, state: &str, text: &str) {
        for table in ["sync_events", "sync_meta"] {
            self.admin(&format!(
                "CREATE TRIGGER likes.mood_{table} BEFORE INSERT ON likes.{table} FOR EACH ROW \
                 SIGNAL SQLSTATE '{state}' SET MYSQL_ERRNO = {number}, MESSAGE_TEXT = '{text}'"
            ))
            .await;
        }
    }

    async fn take_writes(&self) {
        self.admin("DROP TRIGGER likes.mood_sync_events; DROP TRIGGER likes.mood_sync_meta").await;
    }
}

#[tokio::test]
async fn what_is_nobodys_fault_is_waited_for() {
    let server = Server::with_rights(&[]).await;
    for (number, state, text, says) in [
        // Read-only after a failover; tables of a server that only reads; a node outside of its cluster.
        (1836, "HY000", "Running in read-only mode", "only reads"),
        (1036, "HY000", "Table is read only", "only reads"),
        (1047, "08S01", "WSREP has not yet prepared node for application use", "not part of the cluster"),
        (1053, "08S01", "Server shutdown in progress", "shutdown"),
        // Settings of a session, which it keeps.
        (1175, "HY000", "You are using safe update mode", "sql_safe_updates"),
        (1104, "42000", "The SELECT would examine more than MAX_JOIN_SIZE rows", "max_join_size"),
        (1969, "70100", "Query execution was interrupted", "max_statement_time"),
        // Disks: at the commit, of the storage engine, of the binary log.
        (1180, "HY000", "Got error 28 during COMMIT", "during COMMIT"),
        (1030, "HY000", "Got error 122 from storage engine", "storage engine"),
        (1026, "HY000", "Error writing file", "disk"),
        (1021, "HY000", "Disk full", "disk is full"),
        (1114, "HY000", "The table is full", "disk is full"),
        (1105, "HY000", "Unknown error", "Unknown error"),
        // Of a later release.
        (65_000, "HY000", "nobody knows this one", "nobody knows"),
    ] {
        let before = server.newest_connection().await;
        server.refuse_writes(number, state, text).await;
        server.of_no_use(says).await;
        server.take_writes().await;
        server.works_again().await;
        if says == "only reads" || [1104, 1175, 1969].contains(&number) {
            let former =
                format!("SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'app' AND id <= {before}");
            assert_eq!(server.admin(&former).await.trim(), "0", "{number}: a connection of before is used");
        }
    }
}

/// A member of a group that came second, and what else another transaction makes: repeated, and in the end said to be that.
#[tokio::test]
async fn what_another_transaction_makes_is_contention() {
    let server = Server::with_rights(&[]).await;
    for (number, state) in [(3101, "HY000"), (1213, "40001"), (1205, "HY000"), (1020, "HY000"), (3572, "HY000")] {
        server.refuse_writes(number, state, "in the way").await;
        let error = server.store.apply(&[like(1, 7, 1)], at(1_000)).await.unwrap_err();
        assert!(matches!(error, StoreError::Conflict(_)), "{number}: {error}");
        server.take_writes().await;
        server.works_again().await;
    }
}

/// A real deadlock: whoever is chosen to give way, nobody is blamed and all of it is committed.
#[tokio::test]
async fn a_deadlock_is_repeated() {
    let server = Server::with_rights(&[]).await;
    let deadlocks = async || {
        let said = server.admin("SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'").await;
        said.split_whitespace().last().unwrap().parse::<u64>().unwrap()
    };
    server.store.apply(&[like(1, 7, 1), like(2, 8, 2)], at(1_000)).await.unwrap();
    // Heavier than a batch, and in the other order: the batch is chosen.
    let rows: Vec<String> = (1..=2_000).map(|n| format!("({n}, 1)")).collect();
    let url = server.mariadb.url().to_owned();
    let lock = |id: i64| {
        format!("SELECT * FROM likes.like_counts WHERE resource_type = 'video' AND resource_id = {id} FOR UPDATE")
    };
    let other = format!(
        "CREATE TABLE IF NOT EXISTS likes.heavy (id INT PRIMARY KEY, n INT); BEGIN; INSERT INTO likes.heavy VALUES {}; \
         {}; DO GET_LOCK('go', 60); {}; ROLLBACK",
        rows.join(","),
        lock(8),
        lock(7)
    );
    let seen = async |what: &str, from: &str| {
        let query = format!("SELECT COUNT(*) FROM information_schema.{from}");
        eventually(PATIENCE, what, async || expect_eq(server.admin(&query).await, "1\n".to_owned())).await;
    };
    // It asks for the second row when the batch has that one and waits for the first: whoever holds the lock goes then.
    let gate = {
        let url = url.clone();
        tokio::spawn(async move { execute_sql(&url, "DO GET_LOCK('go', 0); DO SLEEP(120)").await })
    };
    seen("the gate", "processlist WHERE info = 'DO SLEEP(120)'").await;
    let other = tokio::spawn(async move { execute_sql(&url, &other).await });
    seen("the row to be held", "processlist WHERE info LIKE 'DO GET_LOCK%'").await;
    let open = async {
        seen("the batch to wait", "innodb_trx WHERE trx_state = 'LOCK WAIT'").await;
        let id = server.admin("SELECT id FROM information_schema.processlist WHERE info = 'DO SLEEP(120)'").await;
        server.admin(&format!("KILL {}", id.trim())).await;
    };
    let batch = [like(3, 7, 3), like(4, 8, 4)];
    let (applied, ()) = tokio::join!(server.store.apply(&batch, at(1_000)), open);
    applied.unwrap();
    gate.await.unwrap().unwrap_err();
    other.await.unwrap().unwrap();
    assert!(deadlocks().await > 0, "there was no deadlock");
    let counts = "SELECT SUM(like_count), COUNT(*) FROM likes.like_counts";
    assert_eq!(server.admin(counts).await.split_whitespace().collect::<Vec<_>>(), ["4", "2"]);
}

/// More than the binary log takes in one transaction: less at once works.
#[tokio::test]
async fn a_transaction_that_is_too_large_for_the_binary_log_may_be_split() {
    let server = Server::with_rights(&["--log-bin=log", "--binlog-format=ROW", "--max-binlog-cache-size=8192"]).await;
    let events: Vec<LikeEvent> = (1..=500).map(|user| like(user, user, user)).collect();
    let error = server.store.apply(&events, at(1_000)).await.unwrap_err();
    assert!(error.is_too_large() && error.is_unavailable(), "{error}");
    for few in events.chunks(5) {
        server.store.apply(few, at(1_000)).await.unwrap();
    }
}

/// Direct writes and imports are split like batches. What cannot be less is refused with the setting's name, and written as soon
/// as the server takes it.
#[tokio::test]
async fn direct_writes_and_imports_that_are_too_long_are_split() {
    let server = Server::with_rights(&[]).await;
    let limit = async |bytes: u32| {
        server.admin(&format!("SET GLOBAL max_allowed_packet = {bytes}")).await;
        server.kill_connections().await;
        let _broken = server.store.ping().await;
        eventually(PATIENCE, "a ping", || server.store.ping()).await;
    };
    limit(16_384).await;
    let now = at(1_000);
    let intents: Vec<_> = (1..=400).map(|user| intent(video_pair(user, user % 7 + 1), Action::Like)).collect();
    let direct = server.store.apply_direct(&intents, now, soon(), true).await.unwrap();
    assert!(direct.iter().all(|one| matches!(one, DirectResult::Decided(outcome) if outcome.changed)), "{direct:?}");
    let versions: Vec<Version> = (0..400).map(|n| Version(5_000_000 + n)).collect();
    let reserved: Vec<Reserved> = versions.iter().copied().map(Reserved::from).collect();
    let intents: Vec<_> = (401..=800).map(|user| intent(video_pair(user, user % 7 + 1), Action::Like)).collect();
    let synchronous = server.store.apply_synchronous(&intents, &reserved, now, soon()).await.unwrap();
    for (result, version) in synchronous.iter().zip(&versions) {
        assert!(matches!(result, DirectResult::Decided(outcome) if outcome.version == *version), "{result:?}");
    }
    assert_eq!(synchronous.len(), 400);
    let events: Vec<LikeEvent> = (801..=1_200).map(|user| like(user, user % 7 + 1, user)).collect();
    let options = ImportOptions { history: true, tell_cache: true, progress: ("job", "done") };
    let imported = server.store.import(&events, options, now).await.unwrap();
    assert_eq!((imported.changed_pairs, imported.pairs.len(), imported.counts.len()), (400, 400, 7));
    assert_eq!(server.store.remembered("job").await.unwrap().as_deref(), Some("done"));
    let counted = server.admin("SELECT SUM(like_count) FROM likes.like_counts").await;
    assert_eq!(counted.trim(), "1200");
    let stored = imported.counts.iter().map(|(_, stored)| stored.count).sum::<i64>();
    assert_eq!(stored, 1_200, "counts of an earlier part");

    limit(1_024).await;
    let one = [intent(video_pair(2_000, 1), Action::Like)];
    let error = server.store.apply_direct(&one, now, soon(), true).await.unwrap_err().error;
    assert!(error.is_unavailable() && error.to_string().contains("max_allowed_packet"), "{error}");
    limit(16_384).await;
    server.store.apply_direct(&one, now, soon(), true).await.unwrap();
}
