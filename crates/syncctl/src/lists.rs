//! `likers`, `liked`, `cache-stats`: lists as a server has them.

use crate::Verdict;
use crate::client::{ServerArgs, name, parse_resource, parse_user, to_proto, wire_type};
use crate::events::{parse_time, time_of, timestamp};
use crate::output::{Format, Row, print};
use anyhow::Context;
use chrono::{DateTime, Utc};
use clap::Args;
use domain::{Resource, ResourceType};
use interaction_proto::v1;
use serde::Serialize;

/// Largest page of a list.
const PAGE: u32 = 100;

/// Of which time.
#[derive(Debug, Args)]
struct PeriodArgs {
    /// Liked at or after: a time such as 2026-01-31T07:00:00Z, or how long ago, such as 90s, 30m, 1h or 2d.
    #[arg(long, value_parser = parse_time)]
    since: Option<DateTime<Utc>>,
    /// Liked before; likewise.
    #[arg(long, value_parser = parse_time)]
    until: Option<DateTime<Utc>>,
}

/// Arguments of `likers`.
#[derive(Debug, Args)]
pub(crate) struct LikersArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// At most so many.
    #[arg(long, default_value_t = 20)]
    limit: u32,
    #[command(flatten)]
    period: PeriodArgs,
    /// video:ID or comment:ID.
    #[arg(value_parser = parse_resource)]
    resource: Resource,
}

/// Arguments of `liked`.
#[derive(Debug, Args)]
pub(crate) struct LikedArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Of this type: video or comment.
    #[arg(long = "type", default_value = "video")]
    kind: ResourceType,
    /// At most so many.
    #[arg(long, default_value_t = 20)]
    limit: u32,
    #[command(flatten)]
    period: PeriodArgs,
    /// User id.
    #[arg(value_parser = parse_user)]
    user: i64,
}

/// Arguments of `cache-stats`.
#[derive(Debug, Args)]
pub(crate) struct CacheStatsArgs {
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Serialize)]
struct Liker {
    user: i64,
    liked_at: String,
}

impl Row for Liker {
    const HEADERS: &'static [&'static str] = &["USER", "LIKED AT"];

    fn cells(&self) -> Vec<String> {
        vec![self.user.to_string(), self.liked_at.clone()]
    }
}

#[derive(Serialize)]
struct Liked {
    resource: String,
    liked_at: String,
}

impl Row for Liked {
    const HEADERS: &'static [&'static str] = &["RESOURCE", "LIKED AT"];

    fn cells(&self) -> Vec<String> {
        vec![self.resource.clone(), self.liked_at.clone()]
    }
}

#[derive(Serialize)]
struct Shard {
    shard: u32,
    accepted: u64,
    settled: u64,
    pending: u64,
    oldest_age_ms: Option<i64>,
}

impl Row for Shard {
    const HEADERS: &'static [&'static str] = &["SHARD", "ACCEPTED", "SETTLED", "PENDING", "OLDEST (ms)"];

    fn cells(&self) -> Vec<String> {
        let oldest = self.oldest_age_ms.map_or_else(|| "-".to_owned(), |age| age.to_string());
        let numbers = [u64::from(self.shard), self.accepted, self.settled, self.pending];
        numbers.iter().map(u64::to_string).chain([oldest]).collect()
    }
}

impl LikersArgs {
    /// Who likes a resource, the latest first.
    pub(crate) async fn run(self, format: Format) -> anyhow::Result<Verdict> {
        let mut client = self.server.connect().await?;
        let (mut page_token, mut rows) = (String::new(), Vec::new());
        while rows.len() < self.limit as usize {
            let page_size = i32::try_from((self.limit - u32::try_from(rows.len())?).min(PAGE))?;
            let request = v1::ListLikersRequest {
                resource: Some(to_proto(self.resource)),
                page_size,
                page_token,
                since: self.period.since.map(timestamp),
                until: self.period.until.map(timestamp),
            };
            let page = client.list_likers(request).await.context("the list was refused")?.into_inner();
            rows.extend(
                page.likers.into_iter().map(|one| Liker { user: one.user_id, liked_at: time_of(one.liked_at) }),
            );
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        print(format, &rows)?;
        Ok(Verdict::Fine)
    }
}

impl LikedArgs {
    /// What a user likes, the latest first.
    pub(crate) async fn run(self, format: Format) -> anyhow::Result<Verdict> {
        let mut client = self.server.connect().await?;
        let (mut page_token, mut rows) = (String::new(), Vec::new());
        while rows.len() < self.limit as usize {
            let page_size = i32::try_from((self.limit - u32::try_from(rows.len())?).min(PAGE))?;
            let r#type = wire_type(self.kind);
            let request = v1::ListLikedResourcesRequest {
                user_id: self.user,
                r#type,
                page_size,
                page_token,
                since: self.period.since.map(timestamp),
                until: self.period.until.map(timestamp),
            };
            let page = client.list_liked_resources(request).await.context("the list was refused")?.into_inner();
            rows.extend(
                page.resources
                    .into_iter()
                    .map(|one| Liked { resource: name(one.resource.as_ref()), liked_at: time_of(one.liked_at) }),
            );
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        print(format, &rows)?;
        Ok(Verdict::Fine)
    }
}

impl CacheStatsArgs {
    /// The accounting of every shard, and how often the cache of this server knew the answer.
    pub(crate) async fn run(self, format: Format) -> anyhow::Result<Verdict> {
        let mut client = self.server.connect_admin().await?;
        let stats = client.get_cache_stats(v1::GetCacheStatsRequest {}).await.context("the figures were refused")?;
        let stats = stats.into_inner();
        let rows: Vec<_> = stats
            .shards
            .iter()
            .map(|one| Shard {
                shard: one.shard,
                accepted: one.accepted,
                settled: one.settled,
                pending: one.pending,
                oldest_age_ms: one.oldest_age_ms,
            })
            .collect();
        print(format, &rows)?;
        if format == Format::Table {
            let reads = stats.hits + stats.misses + stats.without_cache;
            println!("\nreads of this server: {reads}, {} of them from the cache", stats.hits);
        }
        if !stats.available {
            eprintln!("the cache is unreachable: what the journals hold is unknown");
        }
        Ok(if stats.available { Verdict::Fine } else { Verdict::Unknown })
    }
}
