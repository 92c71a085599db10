//! One question instead of a full look: who looks, and what the question finds by itself.

use crate::support::{TestDb, at, like};
use event_store::{DatabaseConfig, EventStore, Glance, Turn};
use std::time::Duration;
use test_support::{MariaDb, MariaDbOptions, execute_sql, fresh_database};

/// Of a store that has connected.
async fn glance(store: &EventStore) -> Glance {
    store.ping().await.unwrap();
    store.glance().await.unwrap().unwrap()
}

async fn turn(store: &EventStore) -> Turn {
    store.take_turn(&glance(store).await).await.unwrap()
}

async fn another(db: &TestDb) -> EventStore {
    EventStore::connect(&db.config).await.unwrap()
}

#[tokio::test]
async fn one_looks_for_all_and_the_next_one_a_second_later() {
    let db = TestDb::mysql().await;
    let (one, other) = (another(&db).await, another(&db).await);
    assert_eq!(turn(&one).await, Turn::Ours { asks: true });
    assert_eq!((turn(&one).await, turn(&other).await), (Turn::Others, Turn::Others));
    tokio::time::sleep(Duration::from_millis(950)).await;
    // Both find that nobody has looked; the cache was asked lately.
    let (seen, also) = (glance(&one).await, glance(&other).await);
    let both = (other.take_turn(&also).await.unwrap(), one.take_turn(&seen).await.unwrap());
    assert_eq!(both, (Turn::Ours { asks: false }, Turn::Others));
    tokio::time::sleep(Duration::from_millis(4_100)).await;
    assert_eq!(turn(&one).await, Turn::Ours { asks: true });
}

#[tokio::test]
async fn trouble_of_one_is_looked_at_by_all_for_a_while() {
    let db = TestDb::mysql().await;
    let (one, other) = (another(&db).await, another(&db).await);
    let seen = glance(&one).await;
    assert_eq!(one.take_turn(&seen).await.unwrap(), Turn::Ours { asks: true });
    one.warn_others(&seen).await;
    assert_eq!((turn(&one).await, turn(&other).await), (Turn::Everybodys, Turn::Everybodys));
    tokio::time::sleep(Duration::from_millis(950)).await;
    assert_eq!(turn(&other).await, Turn::Ours { asks: true });
    // Nor is nonsense a word, or one that is dated later than now.
    for word in ["x", "9000000000000000 0"] {
        db.execute(&format!("UPDATE sync_meta SET value = '{word}' WHERE name LIKE 'looked:%'")).await;
        assert_eq!(turn(&one).await, Turn::Ours { asks: true }, "{word}");
    }
}

#[tokio::test]
async fn what_operators_ordered_and_others_found_comes_along() {
    let db = TestDb::mysql().await;
    assert!(glance(&db.store).await.is_calm);
    assert_eq!(glance(&db.store).await.write_path.unwrap(), None);
    let path = domain::WritePath::Percentage(7);
    db.store.set_write_path(Some(path)).await.unwrap();
    assert_eq!(glance(&db.store).await.write_path.unwrap(), Some(path));
    db.execute("UPDATE sync_meta SET value = 'x' WHERE name = 'write_path'").await;
    assert!(glance(&db.store).await.write_path.is_err());
    for note in ["went_back", "recovery"] {
        db.execute(&format!("INSERT INTO sync_meta (name, value) VALUES ('{note}', 'whatever')")).await;
        assert!(!glance(&db.store).await.is_calm, "{note}");
        db.execute(&format!("DELETE FROM sync_meta WHERE name = '{note}'")).await;
    }
    assert!(glance(&db.store).await.is_calm);
}

/// Whoever else has looked: what a process committed, or saw others have, it misses by itself.
#[tokio::test]
async fn a_database_that_lacks_commits_is_not_calm() {
    let db = TestDb::mysql().await;
    let (writer, onlooker) = (another(&db).await, another(&db).await);
    let commit = writer.apply(&[like(1, 7, 1)], at(1_000)).await.unwrap().commit.unwrap();
    let told =
        domain::cache::ToldCommit { commit, at: domain::Version(writer.now().await.unwrap().timestamp_micros()) };
    assert_eq!(onlooker.look_back(&[told]).await.unwrap(), None);
    assert!(glance(&writer).await.is_calm && glance(&onlooker).await.is_calm);
    db.execute("UPDATE sync_writers SET seq = seq - 1").await;
    assert!(!glance(&writer).await.is_calm && !glance(&onlooker).await.is_calm);
    assert!(glance(&another(&db).await).await.is_calm, "nobody has told this one");
}

#[tokio::test]
async fn a_server_that_only_reads_is_not_glanced_at() {
    let options = MariaDbOptions { durable: false, ..MariaDbOptions::default() };
    let server = MariaDb::start_with_arguments(options, &[]).await.unwrap();
    let url = fresh_database(server.url()).await.unwrap();
    let config = DatabaseConfig { url: url.into(), ..DatabaseConfig::default() };
    let store = EventStore::connect(&config).await.unwrap();
    store.migrate().await.unwrap();
    assert!(glance(&store).await.is_calm);
    execute_sql(server.url(), "SET GLOBAL read_only = ON").await.unwrap();
    let error = store.glance().await.unwrap_err();
    assert!(error.only_reads_there(), "{error}");
}

/// SQLite is one process's: there is nobody to leave anything to.
#[tokio::test]
async fn who_is_alone_looks_by_itself() {
    let db = TestDb::sqlite().await;
    db.store.ping().await.unwrap();
    assert!(db.store.glance().await.unwrap().is_none());
}
