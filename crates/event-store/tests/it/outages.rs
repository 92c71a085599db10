//! A server that is unreachable, comes back, hangs or only reads.

use crate::support::{TestDb, at, like, video_pair};
use event_store::{DatabaseConfig, EventStore, FreeState};
use secrecy::ExposeSecret;
use std::time::Duration;
use test_support::{MariaDb, MariaDbOptions, Proxy, eventually, execute_sql, expect_eq};
use tokio::time::Instant;

async fn private() -> (MariaDb, EventStore) {
    let server = MariaDb::start_with(MariaDbOptions { durable: false, ..MariaDbOptions::default() }).await.unwrap();
    let config = DatabaseConfig {
        url: server.url().to_owned().into(),
        connect_timeout: Duration::from_secs(1),
        acquire_timeout: Duration::from_secs(1),
        query_timeout: Duration::from_secs(2),
        ..DatabaseConfig::default()
    };
    let store = EventStore::connect(&config).await.unwrap();
    store.migrate().await.unwrap();
    (server, store)
}

#[tokio::test]
async fn a_killed_server_is_unavailable_and_comes_back() {
    let (server, store) = private().await;
    store.apply(&[like(1, 7, 1)], at(1_000)).await.unwrap();
    server.kill9().unwrap();
    let before = Instant::now();
    let error = store.apply(&[like(2, 7, 2)], at(1_000)).await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    assert!(store.ping().await.unwrap_err().is_unavailable());
    assert!(before.elapsed() < Duration::from_secs(10), "{:?}", before.elapsed());

    server.restart().await.unwrap();
    eventually(Duration::from_secs(20), "a ping after the restart", || store.ping()).await;
    let applied = store.apply(&[like(2, 7, 2)], at(1_000)).await.unwrap();
    assert_eq!(applied.counts.first().unwrap().1.count, 2);
}

#[tokio::test]
async fn a_hanging_server_does_not_hang_its_callers() {
    let (server, store) = private().await;
    server.pause().unwrap();
    // A stop takes a moment to reach all of its threads.
    eventually(Duration::from_secs(20), "a server that hangs", || async {
        store.ping().await.map_or_else(|_| Ok(()), |()| Err("answers"))
    })
    .await;
    let before = Instant::now();
    assert!(store.ping().await.unwrap_err().is_unavailable());
    assert!(store.probe().await.unwrap_err().is_unavailable());
    assert!(store.apply(&[like(1, 7, 1)], at(1_000)).await.unwrap_err().is_unavailable());
    assert!(before.elapsed() < Duration::from_secs(10), "{:?}", before.elapsed());
    server.resume().unwrap();
    eventually(Duration::from_secs(20), "an apply after the pause", || async {
        store.apply(&[like(1, 7, 1)], at(1_000)).await
    })
    .await;
    assert_eq!(store.load_counts(&[like(1, 7, 1).pair().resource]).await.unwrap()[0].count, 1);
}

#[tokio::test]
async fn a_read_only_server_is_unavailable() {
    let (server, store) = private().await;
    let user = "CREATE USER app@'%' IDENTIFIED BY 'pw'; GRANT SELECT, INSERT, UPDATE, DELETE ON test.* TO app@'%'";
    test_support::execute_sql(server.url(), user).await.unwrap();
    drop(store);
    let config = DatabaseConfig { url: server.url().replace("root@", "app:pw@").into(), ..DatabaseConfig::default() };
    let store = EventStore::connect(&config).await.unwrap();
    store.apply(&[like(1, 7, 1)], at(1_000)).await.unwrap();
    test_support::execute_sql(server.url(), "SET GLOBAL read_only = 1").await.unwrap();
    let error = store.apply(&[like(2, 7, 2)], at(1_000)).await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
}

/// The row is held at the first look, and free at the second one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_let_go_between_two_looks_is_not_missing() {
    let db = TestDb::mysql().await;
    db.store.apply(&[like(1, 7, 5)], at(1_000)).await.unwrap();
    let url = db.config.url.expose_secret().to_owned();
    let link = Proxy::start(url.rsplit_once('@').unwrap().1.split('/').next().unwrap()).await.unwrap();
    let far =
        EventStore::connect(&DatabaseConfig { url: link.url_of(&url).into(), ..db.config.clone() }).await.unwrap();
    far.load_free_states(&[video_pair(1, 7)]).await.unwrap();

    let hold = "BEGIN; SELECT version FROM video_likes WHERE user_id = 1 FOR UPDATE; SELECT SLEEP(1.0625)";
    let holder = tokio::spawn({
        let url = url.clone();
        async move { execute_sql(&url, hold).await }
    });
    let asleep = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP(1.0625)%' \
                  AND db = DATABASE()";
    eventually(Duration::from_secs(20), "a row that is held", async || expect_eq(db.number(asleep).await, 1)).await;
    link.delay(Duration::from_millis(600));
    let state = far.load_free_states(&[video_pair(1, 7)]).await.unwrap()[0];
    assert_ne!(state, FreeState::Missing);
    holder.await.unwrap().unwrap();
}

/// How long likes took is read from the ledger: an attempt that stands still must not say that it was quick, wherever it stood.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stood_still_within_its_attempt_was_not_quick() {
    const STOOD: Duration = Duration::from_millis(1_200);
    let (server, _) = private().await;
    let config = DatabaseConfig { url: server.url().to_owned().into(), ..DatabaseConfig::default() };
    let store = EventStore::connect(&config).await.unwrap();
    store.apply(&[like(1, 7, 1_000)], at(1_000)).await.unwrap();
    let before_it_is_read = "BEGIN; SELECT version FROM video_likes WHERE user_id = 1 FOR UPDATE";
    let before_it_is_committed =
        "BACKUP STAGE START; BACKUP STAGE FLUSH; BACKUP STAGE BLOCK_DDL; BACKUP STAGE BLOCK_COMMIT";
    for (hold, version) in [(before_it_is_read, 2_000), (before_it_is_committed, 3_000)] {
        let (url, hold) = (server.url().to_owned(), format!("{hold}; SELECT SLEEP(98.0625)"));
        let holder = tokio::spawn(async move { execute_sql(&url, &hold).await });
        let of_holder = "SELECT id FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP(98.0625)%'";
        let id = eventually(Duration::from_secs(20), "what holds it up", async || {
            let id = execute_sql(server.url(), of_holder).await.unwrap();
            if id.trim().is_empty() { Err("nobody") } else { Ok(id) }
        })
        .await;
        let event = like(1, 7, version);
        let batch = [event.clone()];
        let let_go = async {
            tokio::time::sleep(STOOD).await;
            execute_sql(server.url(), &format!("KILL {}", id.trim())).await.unwrap();
        };
        let (applied, ()) = tokio::join!(store.apply(&batch, at(version)), let_go);
        applied.unwrap();
        holder.await.unwrap().unwrap_err();
        let processed = store.event(event.intent.id).await.unwrap().unwrap().processed_at.unwrap();
        assert!((processed - at(version)).to_std().unwrap() >= STOOD, "{version}: {processed}");
    }
}

/// A backup holds up commits, or a replica that must confirm them is gone: everything else answers.
#[tokio::test]
async fn a_server_on_which_commits_hang_is_unavailable() {
    let (server, store) = private().await;
    eventually(Duration::from_secs(20), "a probe", || store.probe()).await;
    let url = server.url().to_owned();
    let backup = "BACKUP STAGE START; BACKUP STAGE FLUSH; BACKUP STAGE BLOCK_DDL; BACKUP STAGE BLOCK_COMMIT; \
                  SELECT SLEEP(12); BACKUP STAGE END";
    let backup = tokio::spawn(async move { execute_sql(&url, backup).await });
    eventually(Duration::from_secs(10), "a commit that hangs", || async {
        store.apply(&[like(1, 7, 1)], at(1_000)).await.map_or_else(|_| Ok(()), |_| Err("it was committed"))
    })
    .await;
    // After an error the next probe commits, and so does the one after it.
    for _ in 0..2 {
        assert!(store.probe().await.is_err_and(|error| error.is_unavailable()), "it cannot be committed to");
    }
    backup.await.unwrap().unwrap();
    eventually(Duration::from_secs(20), "a probe", || store.probe()).await;
    assert_eq!(
        execute_sql(server.url(), "SELECT COUNT(*) FROM sync_meta WHERE name LIKE 'probe%'").await.unwrap(),
        "0\n"
    );
}
