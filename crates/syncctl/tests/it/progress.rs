//! Bars of long jobs: they count what is left to do, and end at their total.

use chrono::FixedOffset;
use domain::{Action, LikeEvent, ResourceType};
use event_store::{DatabaseConfig, EventStore};
use indicatif::ProgressBar;
use sea_orm::ConnectionTrait;
use std::path::Path;
use syncctl::backfill;
use syncctl::job::JobOptions;
use syncctl::legacy::table::Table;
use syncctl::legacy::{self, ImportLegacy};
use test_support::build::event;
use test_support::wall_clock;

const OPTIONS: JobOptions = JobOptions { batch_size: 64, max_rate: None, offline: true, restart: false };

async fn database(dir: &Path) -> (String, EventStore) {
    let url = format!("sqlite:{}?mode=rwc", dir.join("new.db").display());
    let config = DatabaseConfig { url: url.clone().into(), ..DatabaseConfig::default() };
    let store = EventStore::connect(&config).await.unwrap();
    store.migrate().await.unwrap();
    (url, store)
}

fn end(bar: &ProgressBar) -> (u64, Option<u64>, bool) {
    (bar.position(), bar.length(), bar.is_finished())
}

#[tokio::test]
async fn a_backfill_that_goes_on_counts_what_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let (url, store) = database(dir.path()).await;
    let now = chrono::DateTime::<chrono::Utc>::from(wall_clock());
    let like = |user| event(user, 1 + user % 4, Action::Like, now.timestamp_micros() - 10_000 + user);
    let events: Vec<LikeEvent> = (1..=300).map(like).collect();
    store.apply(&events, now).await.unwrap();
    // As a run leaves it that was stopped.
    let page = store.history_page(None, 100).await.unwrap();
    store.set_note("backfill", Some(&page.last.unwrap().to_string())).await.unwrap();
    let bar = ProgressBar::hidden();
    let report = backfill::run(&url, OPTIONS, &bar).await.unwrap();
    assert_eq!((report.rows, end(&bar)), (200, (200, Some(200), true)));
    let bar = ProgressBar::hidden();
    let report = backfill::run(&url, OPTIONS, &bar).await.unwrap();
    assert_eq!((report.rows, end(&bar)), (300, (300, Some(300), true)));
    store.close().await;
}

#[tokio::test]
async fn an_import_that_goes_on_counts_what_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let (database_url, store) = database(dir.path()).await;
    let source_url = format!("sqlite:{}?mode=rwc", dir.path().join("old.db").display());
    let old = sea_orm::Database::connect(&source_url).await.unwrap();
    let columns = "id INTEGER PRIMARY KEY, user_id INTEGER, comment_id INTEGER, created_at TEXT, deleted INTEGER";
    old.execute_unprepared(&format!("CREATE TABLE comment_likes ({columns})")).await.unwrap();
    let import = ImportLegacy {
        source_url,
        database_url,
        tables: vec![Table::Likes(ResourceType::Comment)],
        table_prefix: String::new(),
        renamed: Vec::new(),
        ignored_columns: Vec::new(),
        zone: FixedOffset::east_opt(0).unwrap(),
        rejects: dir.path().join("rejects.tsv"),
        job: OPTIONS,
    };
    for rows in [1..=150, 151..=160] {
        let values: Vec<_> = rows.clone().map(|n| format!("({n}, {n}, 5, '2024-05-01 01:00:00', 0)")).collect();
        old.execute_unprepared(&format!("INSERT INTO comment_likes VALUES {}", values.join(", "))).await.unwrap();
        let bar = ProgressBar::hidden();
        let report = legacy::run(&import, &bar).await.unwrap();
        let expected = rows.count() as u64;
        assert_eq!((report.tables[0].rows, end(&bar)), (expected, (expected, Some(expected), true)));
    }
    old.close().await.unwrap();
    store.close().await;
}
