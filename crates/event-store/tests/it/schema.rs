//! Schema and shard number.

use crate::support::{TestDb, at, like, on_both};
use domain::ShardCount;
use event_store::{DatabaseConfig, EventStore, StoreError};

on_both!(migrating_twice_is_harmless, another_shard_number_is_refused, what_a_newer_release_only_added_is_no_hindrance);

async fn migrating_twice_is_harmless(db: TestDb) {
    db.store.apply(&[like(1, 7, 100)], at(1_000)).await.unwrap();
    db.store.migrate().await.unwrap();
    assert_eq!(db.store.pending_migrations().await.unwrap(), Vec::<String>::new());
    assert_eq!(db.number("SELECT COUNT(*) FROM video_likes").await, 1);
}

async fn another_shard_number_is_refused(db: TestDb) {
    let shards = |count| ShardCount::new(count).unwrap();
    db.store.bind_shards(shards(16)).await.unwrap();
    db.store.bind_shards(shards(16)).await.unwrap();
    let error = db.store.bind_shards(shards(8)).await.unwrap_err();
    assert!(matches!(error, StoreError::ShardMismatch { stored: 16, configured: 8 }), "{error}");
    assert_eq!(error.to_string(), "database holds data of 16 shards, configured are 8");
    db.store.bind_shards(shards(16)).await.unwrap();
    // Whoever was there before learns of a later number, and a database that has lost it is told again.
    let resharded = shards(16).resharded_to(64).unwrap();
    db.store.change_shards(shards(8), shards(32).resharded_to(32).unwrap()).await.unwrap();
    assert_eq!(db.store.shards().await.unwrap(), Some(shards(16)));
    db.store.change_shards(shards(16), resharded).await.unwrap();
    assert_eq!(db.store.bind_shards(shards(16)).await.unwrap(), resharded);
    db.store.set_note("shards", Some("16")).await.unwrap();
    assert_eq!(db.store.bind_shards(resharded).await.unwrap(), resharded);
    assert_eq!(db.store.shards().await.unwrap(), Some(resharded));
    db.store.set_note("shards", Some("many")).await.unwrap();
    assert!(matches!(db.store.shards().await, Err(StoreError::Corrupt { .. })));
}

/// Back to this release after a later one has run: unless that took something away, and says so.
async fn what_a_newer_release_only_added_is_no_hindrance(db: TestDb) {
    let lookers = async || {
        let of = |auto_migrate| DatabaseConfig { auto_migrate, ..db.config.clone() };
        [EventStore::connect(&of(true)).await.unwrap(), EventStore::connect(&of(false)).await.unwrap()]
    };
    let needs = async |name: &str| {
        db.execute("DELETE FROM sync_meta WHERE name = 'minimum_compatible'").await;
        db.execute(&format!("INSERT INTO sync_meta (name, value) VALUES ('minimum_compatible', '{name}')")).await;
    };
    db.execute("INSERT INTO seaql_migrations (version, applied_at) VALUES ('m29990101_000001_later', 1)").await;
    for store in lookers().await {
        store.have_schema().await.unwrap();
        assert_eq!(store.pending_migrations().await.unwrap(), Vec::<String>::new());
        store.apply(&[like(1, 7, 100)], at(1_000)).await.unwrap();
    }
    needs("m20261129_000001_page").await;
    for store in lookers().await {
        store.have_schema().await.unwrap();
    }
    needs("m29990101_000001_later").await;
    for store in lookers().await {
        for error in [store.have_schema().await.unwrap_err(), store.pending_migrations().await.unwrap_err()] {
            assert!(matches!(&error, StoreError::TooOld { needed } if needed == "m29990101_000001_later"), "{error}");
            assert!(!error.is_unavailable(), "waited for: {error}");
        }
    }
}

/// The account that serves may not create tables; who may does it meanwhile.
#[tokio::test]
async fn a_program_that_does_not_migrate_waits_for_who_does() {
    for db in [TestDb::mysql_empty().await, TestDb::sqlite_empty().await] {
        let config = DatabaseConfig { auto_migrate: false, ..db.config.clone() };
        let waiting = EventStore::connect(&config).await.unwrap();
        let error = waiting.have_schema().await.unwrap_err();
        let said = error.to_string();
        assert!(error.is_unavailable() && said.contains("syncctl migrate") && said.contains("_page"), "{said}");
        assert_eq!(
            waiting.pending_migrations().await.unwrap().len(),
            migrations::known().len(),
            "something was created"
        );
        db.store.migrate().await.unwrap();
        waiting.have_schema().await.unwrap();
        waiting.apply(&[like(1, 7, 100)], at(1_000)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_start_together_all_come_up_on_mysql() {
    migrate_together(TestDb::mysql_empty().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_start_together_all_come_up_on_sqlite() {
    migrate_together(TestDb::sqlite_empty().await).await;
}

async fn migrate_together(db: TestDb) {
    assert_eq!(db.store.pending_migrations().await.unwrap().len(), migrations::known().len());
    let mut starts = Vec::new();
    for _ in 0..4 {
        let store = EventStore::connect(&db.config).await.unwrap();
        starts.push(tokio::spawn(async move {
            store.migrate().await.unwrap();
            store.bind_shards(ShardCount::default()).await.unwrap();
        }));
    }
    for start in starts {
        start.await.unwrap();
    }
    assert_eq!(db.store.pending_migrations().await.unwrap(), Vec::<String>::new());
    assert_eq!(db.number("SELECT COUNT(*) FROM seaql_migrations").await, migrations::known().len() as i64);
    db.store.apply(&[like(1, 7, 100)], at(1_000)).await.unwrap();
}

#[tokio::test]
async fn a_run_that_stopped_half_way_is_run_again() {
    let db = TestDb::mysql().await;
    db.execute("DELETE FROM seaql_migrations").await;
    db.execute("DROP TABLE sync_meta").await;
    db.store.migrate().await.unwrap();
    db.store.bind_shards(ShardCount::default()).await.unwrap();
}

#[tokio::test]
async fn a_wrong_url_is_refused_without_quoting_it() {
    for url in ["postgres://root:secret@localhost/x", "mysql://root:secret@localhost:notaport/x"] {
        let config = DatabaseConfig { url: url.to_owned().into(), ..DatabaseConfig::default() };
        let error = EventStore::connect(&config).await.unwrap_err();
        assert!(matches!(error, StoreError::Config(_)), "{error}");
        assert!(!format!("{error} {error:?} {config:?}").contains("secret"));
    }
}
