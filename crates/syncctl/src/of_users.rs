//! `export-user`, `undo-likes`: what users like, taken out or taken back, by the calls that everybody makes.
//!
//! Undoing is unliking: the newest word of each pair, by version, with its counter. So it may stop anywhere and be run again, and
//! a user who likes meanwhile has the last word.

use crate::client::{Client, ServerArgs, name, parse_user, wire_type};
use crate::events::{parse_time, time_of, timestamp};
use crate::output::{Format, print_one};
use crate::{UsageError, Verdict};
use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use clap::Args;
use domain::ResourceType;
use futures::{StreamExt, TryStreamExt, stream};
use interaction_proto::v1;
use serde::Serialize;
use std::fs;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tonic::Code;

/// Largest page of a list.
const PAGE: i32 = 100;

/// A server that has no time is asked again so often ...
const ATTEMPTS: u32 = 120;

/// ... after so long: a user's limit lets one like through each second by default.
const PAUSE: Duration = Duration::from_secs(1);

/// Most users in a file.
const USERS: usize = 1_000_000;

/// Arguments of `export-user`.
#[derive(Debug, Args)]
pub(crate) struct ExportUserArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// User id.
    #[arg(value_parser = parse_user)]
    user: i64,
    /// Into this file; else to standard output.
    #[arg(long)]
    file: Option<PathBuf>,
}

/// Arguments of `undo-likes`.
#[derive(Debug, Args)]
pub(crate) struct UndoLikesArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// File with a user id on each line; empty lines and lines that begin with # say nothing.
    #[arg(long)]
    users: PathBuf,
    /// Likes from then on: a time such as 2026-01-31T07:00:00Z, or how long ago, such as 90s, 30m, 1h or 2d.
    #[arg(long, value_parser = parse_time)]
    since: DateTime<Utc>,
    /// Only count them.
    #[arg(long)]
    dry_run: bool,
    /// Most likes per second; the limit of each user holds as well.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    max_rate: u32,
    /// Users at a time.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    at_once: u16,
}

/// A line of an export.
#[derive(Serialize)]
struct Exported {
    user_id: String,
    resource: String,
    liked_at: String,
}

#[derive(Debug, Default, Serialize)]
struct Undone {
    dry_run: bool,
    users: usize,
    /// Likes that were found.
    found: u64,
    /// Those that were taken back; others were not there any more.
    undone: u64,
}

/// A page of what a user likes of a kind, the latest first, and where the next one begins.
async fn liked(
    client: &mut Client,
    (user_id, kind): (i64, ResourceType),
    since: Option<DateTime<Utc>>,
    page_token: String,
) -> anyhow::Result<(Vec<v1::LikedResource>, Option<String>)> {
    let request = v1::ListLikedResourcesRequest {
        user_id,
        r#type: wire_type(kind),
        page_size: PAGE,
        page_token,
        since: since.map(timestamp),
        // Versions may be ahead of every clock. Pages go back in time, so what is liked meanwhile is on none of them.
        until: None,
    };
    for _ in 0..ATTEMPTS {
        match client.list_liked_resources(request.clone()).await {
            Ok(page) => {
                let page = page.into_inner();
                return Ok((page.resources, Some(page.next_page_token).filter(|token| !token.is_empty())));
            }
            Err(status) if has_no_time(status.code()) => tokio::time::sleep(PAUSE).await,
            Err(status) => return Err(status).context("the list was refused"),
        }
    }
    bail!("the server has no time for lists")
}

const fn has_no_time(code: Code) -> bool {
    matches!(code, Code::ResourceExhausted | Code::Unavailable)
}

impl ExportUserArgs {
    /// A line of JSON for each like that is in the database.
    pub(crate) async fn run(self) -> anyhow::Result<Verdict> {
        let mut client = self.server.connect().await?;
        let mut out: Box<dyn Write> = match &self.file {
            Some(file) => Box::new(fs::File::create(file).with_context(|| file.display().to_string())?),
            None => Box::new(std::io::stdout().lock()),
        };
        let mut out = BufWriter::new(&mut out);
        for kind in ResourceType::ALL {
            let mut token = Some(String::new());
            while let Some(after) = token {
                let (page, next) = liked(&mut client, (self.user, kind), None, after).await?;
                for one in page {
                    let (user_id, resource) = (self.user.to_string(), name(one.resource.as_ref()));
                    let line = Exported { user_id, resource, liked_at: time_of(one.liked_at) };
                    serde_json::to_writer(&mut out, &line)?;
                    out.write_all(b"\n")?;
                }
                token = next;
            }
        }
        out.flush()?;
        Ok(Verdict::Fine)
    }
}

impl UndoLikesArgs {
    /// Takes back what these users like since a time.
    pub(crate) async fn run(self, format: Format) -> anyhow::Result<Verdict> {
        let text = fs::read_to_string(&self.users).with_context(|| self.users.display().to_string())?;
        let users = users_of(&text).map_err(UsageError)?;
        let client = self.server.connect().await?;
        let mut pace = interval(Duration::from_secs(1) / self.max_rate);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let pace = Mutex::new(pace);
        let each = users.iter().map(|user| self.undo(client.clone(), *user, &pace));
        let done = stream::iter(each).buffer_unordered(usize::from(self.at_once));
        let sum = |sum: (u64, u64), (found, undone)| async move { Ok((sum.0 + found, sum.1 + undone)) };
        let (found, undone) = Box::pin(done.try_fold((0, 0), sum)).await?;
        let undone = Undone { dry_run: self.dry_run, users: users.len(), found, undone };
        print_one(format, &undone, || {
            let Undone { users, found, undone, .. } = undone;
            if self.dry_run {
                println!("{found} likes of {users} users would be taken back");
            } else {
                println!("{undone} of {found} likes of {users} users were taken back");
            }
        })?;
        Ok(Verdict::Fine)
    }

    /// Likes of one user that were found, and taken back.
    async fn undo(&self, mut client: Client, user: i64, pace: &Mutex<Interval>) -> anyhow::Result<(u64, u64)> {
        let (mut found, mut undone) = (0, 0);
        for kind in ResourceType::ALL {
            let mut token = Some(String::new());
            while let Some(after) = token {
                let (page, next) = liked(&mut client, (user, kind), Some(self.since), after).await?;
                found += page.len() as u64;
                for one in page.into_iter().filter(|_| !self.dry_run) {
                    pace.lock().await.tick().await;
                    undone += u64::from(unlike(&mut client, user, one.resource).await?);
                }
                token = next;
            }
        }
        Ok((found, undone))
    }
}

/// Whether there was something to take back.
async fn unlike(client: &mut Client, user_id: i64, resource: Option<v1::Resource>) -> anyhow::Result<bool> {
    let request = v1::UnlikeRequest { user_id, resource, idempotency_key: String::new() };
    for _ in 0..ATTEMPTS {
        match client.unlike(request.clone()).await {
            Ok(answer) => return Ok(answer.into_inner().changed),
            Err(status) if has_no_time(status.code()) => tokio::time::sleep(PAUSE).await,
            Err(status) => return Err(status).context("an unlike was refused"),
        }
    }
    bail!("the server refuses unlikes for {ATTEMPTS} seconds: run it again")
}

fn users_of(text: &str) -> Result<Vec<i64>, String> {
    let mut users = Vec::new();
    // Some editors begin a file with a mark of its encoding.
    let text = text.trim_start_matches('\u{feff}');
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            users.push(parse_user(line).map_err(|error| format!("--users, line {}: {error}", at + 1))?);
        }
    }
    users.sort_unstable();
    users.dedup();
    if users.is_empty() || users.len() > USERS {
        return Err(format!("--users: must have 1 to {USERS} users, got {}", users.len()));
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_stand_on_lines_and_a_mistake_is_named() {
        assert_eq!(users_of("# bots\n7\n\n 12 \n7\n").unwrap(), [7, 12]);
        assert!(users_of("7\nx\n").unwrap_err().contains("line 2"));
        assert!(users_of("0\n").is_err() && users_of("# nobody\n").is_err());
    }
}
