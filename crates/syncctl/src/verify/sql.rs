//! Reads the tables as they are, row by row.

use anyhow::Context;
use domain::{Action, Pair, Resource, ResourceType, Version};
use futures::TryStreamExt;
use sea_orm::{DatabaseConnection, QueryResult, Statement, StreamTrait};

/// The database, read only.
pub(super) struct Sql {
    connection: DatabaseConnection,
}

/// A row of `video_likes` or `comment_likes`.
#[derive(Debug, Clone, Copy)]
pub(super) struct LikeRow {
    pub(super) pair: Pair,
    pub(super) version: Version,
    pub(super) live: bool,
}

/// A row of `user_behaviors` or `sync_events`.
#[derive(Debug, Clone)]
pub(super) struct EventRow {
    pub(super) pair: Pair,
    pub(super) action: Action,
    pub(super) version: Version,
    /// Of the ledger; empty for behaviours.
    pub(super) status: String,
    /// Of the ledger: idempotency key of the call.
    pub(super) key: Option<Box<str>>,
    /// Of the ledger: written around the cache.
    pub(super) direct: bool,
}

/// What must stop changing, and what must be zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Activity {
    /// Sum of all revisions, of each the end: changes with every change of a count.
    pub(super) revisions: i64,
    /// Ledger rows that somebody will still work on.
    pub(super) unfinished: i64,
    /// Cache refreshes that are still to be done.
    pub(super) refreshes: i64,
}

impl Sql {
    pub(super) async fn connect(url: &str) -> anyhow::Result<Self> {
        crate::has_client_of("--database-url", url)?;
        let connection = event_store::connect_plain(url, 2).await.context("could not connect to the database")?;
        Ok(Self { connection })
    }

    /// Calls `each` with every row.
    async fn each_row(
        &self,
        query: &str,
        mut each: impl FnMut(&QueryResult) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let statement = Statement::from_string(self.connection.get_database_backend(), query);
        let mut rows = self.connection.stream_raw(statement).await.with_context(|| query.to_owned())?;
        while let Some(row) = rows.try_next().await.with_context(|| query.to_owned())? {
            each(&row).with_context(|| query.to_owned())?;
        }
        Ok(())
    }

    async fn number(&self, query: &str) -> anyhow::Result<i64> {
        let mut number = 0;
        self.each_row(query, |row| {
            number = row.try_get_by_index(0)?;
            Ok(())
        })
        .await?;
        Ok(number)
    }

    pub(super) async fn activity(&self) -> anyhow::Result<Activity> {
        Ok(Activity {
            revisions: self
                .number("SELECT CAST(COALESCE(SUM(revision % 1000000000), 0) AS SIGNED) FROM like_counts")
                .await?,
            unfinished: self
                .number("SELECT COUNT(*) FROM sync_events WHERE status IN ('pending', 'processing', 'failed')")
                .await?,
            refreshes: self.number("SELECT COUNT(*) FROM cache_refreshes").await?,
        })
    }

    pub(super) async fn likes(&self, mut each: impl FnMut(LikeRow)) -> anyhow::Result<()> {
        for kind in ResourceType::ALL {
            let name = kind.name();
            let query =
                format!("SELECT user_id, {name}_id, version, CAST(deleted_at IS NULL AS SIGNED) FROM {name}_likes");
            self.each_row(&query, |row| {
                let pair = Pair::new(row.try_get_by_index(0)?, kind, row.try_get_by_index(1)?)?;
                let live = row.try_get_by_index::<i64>(3)? == 1;
                each(LikeRow { pair, version: Version(row.try_get_by_index(2)?), live });
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    pub(super) async fn counts(&self, mut each: impl FnMut(Resource, i64)) -> anyhow::Result<()> {
        self.each_row("SELECT resource_type, resource_id, like_count FROM like_counts", |row| {
            let kind: ResourceType = row.try_get_by_index::<String>(0)?.parse()?;
            each(Resource::new(kind, row.try_get_by_index(1)?)?, row.try_get_by_index(2)?);
            Ok(())
        })
        .await
    }

    pub(super) async fn behaviours(&self, mut each: impl FnMut(EventRow)) -> anyhow::Result<()> {
        self.each_row("SELECT user_id, video_id, behavior_type, version FROM user_behaviors", |row| {
            let (kind, action) = behaviour(&row.try_get_by_index::<String>(2)?)?;
            let pair = Pair::new(row.try_get_by_index(0)?, kind, row.try_get_by_index(1)?)?;
            let version = Version(row.try_get_by_index(3)?);
            each(EventRow { pair, action, version, status: String::new(), key: None, direct: false });
            Ok(())
        })
        .await
    }

    pub(super) async fn repeated_event_ids(&self, mut each: impl FnMut(String, i64)) -> anyhow::Result<()> {
        let query = "SELECT LOWER(HEX(event_id)), COUNT(*) FROM user_behaviors GROUP BY event_id HAVING COUNT(*) > 1";
        self.each_row(query, |row| {
            each(row.try_get_by_index(0)?, row.try_get_by_index(1)?);
            Ok(())
        })
        .await
    }

    pub(super) async fn ledger(&self, mut each: impl FnMut(EventRow)) -> anyhow::Result<()> {
        let query = "SELECT user_id, resource_type, resource_id, action_type, version, status, idempotency_key, origin \
                     FROM sync_events";
        self.each_row(query, |row| {
            let kind: ResourceType = row.try_get_by_index::<String>(1)?.parse()?;
            let pair = Pair::new(row.try_get_by_index(0)?, kind, row.try_get_by_index(2)?)?;
            let action: Action = row.try_get_by_index::<String>(3)?.parse()?;
            let version = Version(row.try_get_by_index(4)?);
            let key = row.try_get_by_index::<Option<String>>(6)?.map(Into::into);
            let direct = row.try_get_by_index::<String>(7)? == "direct";
            each(EventRow { pair, action, version, status: row.try_get_by_index(5)?, key, direct });
            Ok(())
        })
        .await
    }
}

/// `like` and `unlike` are of videos; those of comments say so.
fn behaviour(text: &str) -> anyhow::Result<(ResourceType, Action)> {
    ResourceType::from_behavior(text.strip_prefix("video_").unwrap_or(text))
        .with_context(|| format!("unknown behaviour {text:?}"))
}
