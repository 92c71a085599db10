//! A database of one's own, and looks into it that do not go through the store.

use chrono::{DateTime, Utc};
use domain::{Action, LikeEvent, Resource};
use event_store::{DatabaseConfig, EventStore};
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, Statement};
use tempfile::TempDir;
pub(crate) use test_support::build::{comment_event, event, event_of, intent, video_pair};

/// Makes a `mysql` and a `sqlite` test of each named `async fn(TestDb)`.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod mysql {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name($crate::support::TestDb::mysql().await).await;
                }
            )+
        }
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name($crate::support::TestDb::sqlite().await).await;
                }
            )+
        }
    };
}
pub(crate) use on_both;

pub(crate) struct TestDb {
    pub(crate) store: EventStore,
    pub(crate) config: DatabaseConfig,
    _dir: Option<TempDir>,
}

impl TestDb {
    pub(crate) async fn mysql() -> Self {
        Self::mysql_empty().await.migrated().await
    }

    pub(crate) async fn sqlite() -> Self {
        Self::sqlite_empty().await.migrated().await
    }

    pub(crate) async fn mysql_empty() -> Self {
        let server = test_support::shared::mariadb().await.unwrap();
        let url = test_support::fresh_database(server.url()).await.unwrap();
        Self::at(url, None).await
    }

    pub(crate) async fn sqlite_empty() -> Self {
        let dir = TempDir::new().unwrap();
        let url = format!("sqlite:{}", dir.path().join("likes.db").display());
        Self::at(url, Some(dir)).await
    }

    async fn at(url: String, dir: Option<TempDir>) -> Self {
        let config = DatabaseConfig { url: url.into(), ..DatabaseConfig::default() };
        Self { store: EventStore::connect(&config).await.unwrap(), config, _dir: dir }
    }

    async fn migrated(self) -> Self {
        self.store.migrate().await.unwrap();
        self
    }

    pub(crate) async fn connection(&self) -> DatabaseConnection {
        use secrecy::ExposeSecret;
        Database::connect(self.config.url.expose_secret()).await.unwrap()
    }

    /// First column of each row.
    pub(crate) async fn numbers(&self, sql: &str) -> Vec<i64> {
        let db = self.connection().await;
        let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), sql)).await.unwrap();
        let numbers = rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
        db.close().await.unwrap();
        numbers
    }

    pub(crate) async fn number(&self, sql: &str) -> i64 {
        self.numbers(sql).await.first().copied().unwrap()
    }

    pub(crate) async fn words(&self, sql: &str) -> Vec<String> {
        let db = self.connection().await;
        let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), sql)).await.unwrap();
        let words = rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
        db.close().await.unwrap();
        words
    }

    pub(crate) async fn execute(&self, sql: &str) {
        let db = self.connection().await;
        db.execute_unprepared(sql).await.unwrap();
        db.close().await.unwrap();
    }

    /// Stored count equals live rows, for every resource of either kind.
    pub(crate) async fn assert_counts_are_live_rows(&self) {
        let wrong = "SELECT COUNT(*) FROM like_counts c WHERE c.like_count <> CASE c.resource_type \
            WHEN 'video' THEN (SELECT COUNT(*) FROM video_likes l WHERE l.video_id = c.resource_id AND l.deleted_at IS NULL) \
            ELSE (SELECT COUNT(*) FROM comment_likes l WHERE l.comment_id = c.resource_id AND l.deleted_at IS NULL) END";
        assert_eq!(self.number(wrong).await, 0, "counters that are not their live rows");
        let uncounted = "SELECT COUNT(*) FROM video_likes l LEFT JOIN like_counts c \
            ON c.resource_type = 'video' AND c.resource_id = l.video_id WHERE c.resource_id IS NULL";
        assert_eq!(self.number(uncounted).await, 0, "likes without a counter");
    }
}

/// A time; versions in tests are near it.
pub(crate) fn at(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap()
}

pub(crate) fn video(id: i64) -> Resource {
    video_pair(1, id).resource
}

pub(crate) fn like(user: i64, id: i64, version: i64) -> LikeEvent {
    event(user, id, Action::Like, version)
}

pub(crate) fn unlike(user: i64, id: i64, version: i64) -> LikeEvent {
    event(user, id, Action::Unlike, version)
}
