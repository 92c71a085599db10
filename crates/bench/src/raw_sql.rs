//! Reference: the rows of applied events, written by plain multi-row inserts.

use crate::cpu;
use anyhow::{Context, Result};
use chrono::DateTime;
use futures::TryStreamExt;
use sea_orm::sqlx::mysql::{MySqlConnection, MySqlRow};
use sea_orm::sqlx::{AssertSqlSafe, Connection, Executor, Row, raw_sql};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Instant;

/// A connection; what it is given are constants and numbers.
pub(crate) struct Sql(MySqlConnection);

/// What makes the rows of a like different.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Like {
    id: [u8; 16],
    user: i64,
    video: i64,
    version: i64,
}

/// What writing took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    pub(crate) seconds: f64,
    /// CPU seconds of this process, so of sending alone.
    pub(crate) own_cpu: f64,
}

impl Sql {
    pub(crate) async fn connect(url: &str) -> Result<Self> {
        let mut connection = MySqlConnection::connect(url).await.context("connect to the database")?;
        // As the consumer does.
        raw_sql("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").execute(&mut connection).await?;
        Ok(Self(connection))
    }

    pub(crate) async fn run(&mut self, statements: &str) -> Result<()> {
        let done = raw_sql(AssertSqlSafe(statements)).execute(&mut self.0).await;
        done.map(drop).with_context(|| statements.chars().take(200).collect::<String>())
    }

    /// The one number that a query gives; 0 for NULL.
    pub(crate) async fn number(&mut self, query: &str) -> Result<i64> {
        let row = self.0.fetch_one(raw_sql(AssertSqlSafe(query))).await.with_context(|| query.to_owned())?;
        Ok(row.try_get::<Option<i64>, _>(0).with_context(|| query.to_owned())?.unwrap_or(0))
    }

    /// All events of the ledger, in the order of acceptance.
    pub(crate) async fn likes(&mut self) -> Result<Vec<Like>> {
        let query = raw_sql("SELECT id, user_id, resource_id, version FROM sync_events ORDER BY version");
        let mut rows = query.fetch(&mut self.0);
        let mut likes = Vec::new();
        while let Some(row) = rows.try_next().await? {
            likes.push(like_of(&row)?);
        }
        Ok(likes)
    }

    /// Bytes that data and indexes take, by the server's own statistics made anew.
    pub(crate) async fn bytes(&mut self) -> Result<f64> {
        self.run("ANALYZE TABLE sync_events, user_behaviors, video_likes, like_counts").await?;
        let query = "SELECT CAST(SUM(data_length + index_length) AS SIGNED) FROM information_schema.tables \
                     WHERE table_schema = DATABASE()";
        Ok(self.number(query).await? as f64)
    }
}

fn like_of(row: &MySqlRow) -> Result<Like> {
    let id: Vec<u8> = row.try_get(0)?;
    let id = id.try_into().ok().context("an id is not 16 bytes long")?;
    Ok(Like { id, user: row.try_get(1)?, video: row.try_get(2)?, version: row.try_get(3)? })
}

/// Empties the tables and writes the rows of these likes again: `batch` of them in a transaction of one round trip, over
/// `writers` connections. Returns the seconds that the writing took; making the statements is not part of it.
pub(crate) async fn write(url: &str, likes: &[Like], batch: usize, writers: usize) -> Result<Written> {
    let mut sql = Sql::connect(url).await?;
    for table in ["sync_events", "user_behaviors", "video_likes", "like_counts"] {
        sql.run(&format!("TRUNCATE TABLE {table}")).await?;
    }
    let mut shares = vec![Vec::new(); writers];
    for (number, likes) in likes.chunks(batch).enumerate() {
        shares[number % writers].push(transaction(likes));
    }
    let mut connections = Vec::new();
    for _ in 0..writers {
        connections.push(Sql::connect(url).await?);
    }
    let (started, cpu) = (Instant::now(), cpu::of_self()?);
    let work = connections.into_iter().zip(&shares).map(|(mut sql, share)| async move {
        for statements in share {
            sql.run(statements).await?;
        }
        anyhow::Ok(())
    });
    futures::future::try_join_all(work).await?;
    let took = Written { seconds: started.elapsed().as_secs_f64(), own_cpu: cpu::of_self()? - cpu };
    let written = sql.number("SELECT COUNT(*) FROM video_likes").await?;
    anyhow::ensure!(written == i64::try_from(likes.len())?, "{written} of {} rows were written", likes.len());
    Ok(took)
}

/// Rows of one transaction: ledger, history, pairs, counters; each table in the order of its key.
fn transaction(likes: &[Like]) -> String {
    let mut likes = likes.to_vec();
    likes.sort_unstable_by_key(|like| like.id);
    let mut text = String::with_capacity(likes.len() * 700);
    text.push_str(
        "BEGIN;INSERT INTO sync_events (id, event_type, resource_type, resource_id, user_id, action_type, version, \
         origin, idempotency_key, created_at, status, processed_at, updated_at) VALUES ",
    );
    rows(&mut text, &likes, |text, Like { id, user, video, version }| {
        let (id, time) = (u128::from_be_bytes(*id), time(*version));
        write!(
            text,
            "(X'{id:032x}','video_like','video',{video},{user},'like',{version},'journal',NULL,'{time}','completed',\
             '{time}','{time}')"
        )
    });
    text.push_str(
        ";INSERT INTO user_behaviors (event_id, user_id, video_id, behavior_type, behavior_time, version) VALUES ",
    );
    rows(&mut text, &likes, |text, Like { id, user, video, version }| {
        let (id, time) = (u128::from_be_bytes(*id), time(*version));
        write!(text, "(X'{id:032x}',{user},{video},'like','{time}',{version})")
    });
    likes.sort_unstable_by_key(|like| (like.user, like.video));
    text.push_str(";INSERT INTO video_likes (user_id, video_id, created_at, updated_at, version) VALUES ");
    rows(&mut text, &likes, |text, Like { user, video, version, .. }| {
        let time = time(*version);
        write!(text, "({user},{video},'{time}','{time}',{version})")
    });
    let mut counts: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for like in &likes {
        let (count, last) = counts.entry(like.video).or_default();
        (*count, *last) = (*count + 1, like.version.max(*last));
    }
    let counts: Vec<_> = counts.into_iter().collect();
    text.push_str(
        ";INSERT INTO like_counts (resource_type, resource_id, like_count, revision, last_version, updated_at) VALUES ",
    );
    rows(&mut text, &counts, |text, (video, (count, last))| {
        write!(text, "('video',{video},{count},1,{last},'{}')", time(*last))
    });
    text.push_str(
        " ON DUPLICATE KEY UPDATE like_count = like_count + VALUES(like_count), revision = revision + 1, \
         last_version = VALUES(last_version), updated_at = VALUES(updated_at);COMMIT",
    );
    text
}

fn rows<T>(text: &mut String, items: &[T], mut write: impl FnMut(&mut String, &T) -> std::fmt::Result) {
    for (number, item) in items.iter().enumerate() {
        if number > 0 {
            text.push(',');
        }
        // Writing to a string cannot fail.
        let _ = write(text, item);
    }
}

fn time(version: i64) -> String {
    DateTime::from_timestamp_micros(version).unwrap_or_default().format("%Y-%m-%d %H:%M:%S%.6f").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_has_every_row_once_and_counts_by_resource() {
        let like = |n: u8, video| Like {
            id: [n; 16],
            user: i64::from(n),
            video,
            version: 1_700_000_000_000_000 + i64::from(n),
        };
        let text = transaction(&[like(2, 7), like(1, 7), like(3, 8)]);
        let statements: Vec<&str> = text.split(';').collect();
        assert_eq!(statements.len(), 6);
        assert!(statements[1].find("X'0101") < statements[1].find("X'0202"), "{text}");
        assert_eq!(statements[1].matches("'completed'").count(), 3);
        assert_eq!(statements[2].matches("X'").count(), 3);
        assert!(
            statements[3].ends_with("(3,8,'2023-11-14 22:13:20.000003','2023-11-14 22:13:20.000003',1700000000000003)")
        );
        assert!(statements[4].contains("('video',7,2,1,1700000000000002,"), "{text}");
        assert!(statements[4].contains("('video',8,1,1,1700000000000003,"), "{text}");
    }
}
