//! Single calls for humans.

use crate::Verdict;
use crate::client::{ServerArgs, name, to_proto};
use crate::events::word;
use crate::output::{Format, Row, Updates, print, print_one};
use anyhow::Context;
use domain::{Action, Resource, WritePath};
use interaction_proto::v1;
use serde::Serialize;
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

/// A ledger that takes longer is not waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// What became of a like.
#[derive(Serialize)]
struct Answered {
    resource: String,
    liked: bool,
    count: Option<i64>,
    version: i64,
    changed: bool,
    degraded: bool,
}

/// Likes or unlikes, and prints the answer.
pub async fn like(
    server: &ServerArgs,
    user: i64,
    resource: Resource,
    action: Action,
    format: Format,
) -> anyhow::Result<Verdict> {
    let mut client = server.connect().await?;
    let (user_id, target, idempotency_key) = (user, Some(to_proto(resource)), String::new());
    let answer = match action {
        Action::Like => client.like(v1::LikeRequest { user_id, resource: target, idempotency_key }).await,
        Action::Unlike => client.unlike(v1::UnlikeRequest { user_id, resource: target, idempotency_key }).await,
    };
    let answer = answer.with_context(|| format!("{} was refused", action.name()))?.into_inner();
    let v1::LikeResponse { liked, count, version, changed, degraded } = answer;
    let answered = Answered { resource: resource.to_string(), liked, count, version, changed, degraded };
    print_one(format, &answered, || {
        println!(
            "{resource}: {}, count {}, version {version}{}{}",
            if liked { "liked" } else { "not liked" },
            count.map_or_else(|| "unknown".into(), |count| count.to_string()),
            if changed { "" } else { ", unchanged" },
            if degraded { ", degraded" } else { "" },
        );
    })?;
    Ok(Verdict::Fine)
}

#[derive(Serialize)]
struct CountRow {
    resource: String,
    count: i64,
    /// Accepted likes that failed or are dead; none if that could not be asked.
    not_applied: Option<u64>,
}

impl Row for CountRow {
    const HEADERS: &'static [&'static str] = &["RESOURCE", "COUNT", "NOT APPLIED"];

    fn cells(&self) -> Vec<String> {
        let not_applied = self.not_applied.map_or_else(|| UNKNOWN.to_owned(), |number| number.to_string());
        vec![self.resource.clone(), self.count.to_string(), not_applied]
    }
}

/// Prints counts, and how many accepted likes they lack because their events failed.
pub async fn counts(server: &ServerArgs, resources: &[Resource], format: Format) -> anyhow::Result<Verdict> {
    let request =
        v1::GetLikeCountsRequest { resources: resources.iter().map(|r| to_proto(*r)).collect(), ..Default::default() };
    let answer = server.connect().await?.get_like_counts(request).await.context("counts were refused")?.into_inner();
    let (mut rows, mut unanswered) = (Vec::new(), None);
    for (resource, count) in resources.iter().zip(answer.counts) {
        let not_applied = match held_back(server, *resource, None).await? {
            Ok(events) => Some(events.len() as u64),
            Err(why) => {
                unanswered = Some(why);
                None
            }
        };
        rows.push(CountRow { resource: resource.to_string(), count: count.count, not_applied });
    }
    print(format, &rows)?;
    let lacking = rows.iter().any(|row| row.not_applied.is_some_and(|number| number > 0));
    if lacking && format == Format::Table {
        println!(
            "\nthese likes were accepted, their users see them, and the database lacks them: syncctl dead-letters list"
        );
    }
    Ok(if lacking { Verdict::Problems } else { conclude(unanswered) })
}

/// What stands where an answer is missing; where there is nothing, it is `-` or 0.
const UNKNOWN: &str = "unknown";

/// Why a server does not say which events it holds back.
#[derive(Debug, Clone, Copy)]
enum Unanswered {
    /// This token, or this server, is not for that.
    NotForUs,
    /// A store of the server, or the server itself, is unreachable.
    Unreachable,
}

/// Nothing is wrong in what was answered.
fn conclude(unanswered: Option<Unanswered>) -> Verdict {
    match unanswered {
        None => Verdict::Fine,
        Some(Unanswered::NotForUs) => {
            eprintln!(
                "whether events failed is unknown: this token may not ask, or this server does not know the call"
            );
            Verdict::Fine
        }
        Some(Unanswered::Unreachable) => {
            eprintln!("whether events failed is unknown, the ledger could not be asked: syncctl status says why");
            Verdict::Unknown
        }
    }
}

#[derive(Serialize)]
struct StateRow {
    resource: String,
    liked: bool,
    version: i64,
    /// `failed` or `dead`: the database does not have what the user sees.
    event: Option<String>,
    /// False: whether there is such an event could not be asked.
    event_known: bool,
}

impl Row for StateRow {
    const HEADERS: &'static [&'static str] = &["RESOURCE", "STATE", "VERSION", "EVENT"];

    fn cells(&self) -> Vec<String> {
        let state = if self.liked { "liked" } else { "not liked" };
        let event = match &self.event {
            Some(status) => format!("{status}: not in the database"),
            None => if self.event_known { "-" } else { UNKNOWN }.to_owned(),
        };
        vec![self.resource.clone(), state.to_owned(), self.version.to_string(), event]
    }
}

/// Prints whether the user likes each resource, and whether the database lacks that because its event failed.
pub async fn states(server: &ServerArgs, user: i64, resources: &[Resource], format: Format) -> anyhow::Result<Verdict> {
    let resources_asked = resources.iter().map(|r| to_proto(*r)).collect();
    let request = v1::GetLikeStatesRequest { user_id: user, resources: resources_asked };
    let answer = server.connect().await?.get_like_states(request).await.context("states were refused")?.into_inner();
    let (mut rows, mut unanswered) = (Vec::new(), None);
    for (resource, state) in resources.iter().zip(answer.states) {
        let held = held_back(server, *resource, Some(user)).await?;
        unanswered = unanswered.or(held.as_ref().err().copied());
        let (event_known, held) = (held.is_ok(), held.unwrap_or_default());
        let event = held.iter().find(|event| event.version == state.version).map(|event| word(event.status()));
        let v1::LikeState { liked, version, .. } = state;
        rows.push(StateRow { resource: resource.to_string(), liked, version, event, event_known });
    }
    print(format, &rows)?;
    let lacking = rows.iter().any(|row| row.event.is_some());
    Ok(if lacking { Verdict::Problems } else { conclude(unanswered) })
}

/// Failed and dead events of a resource, or why they are not known.
async fn held_back(
    server: &ServerArgs,
    resource: Resource,
    user: Option<i64>,
) -> anyhow::Result<Result<Vec<v1::SyncEvent>, Unanswered>> {
    const PAGE: i32 = 100;
    const PAGES: usize = 10;
    let mut client = server.connect_admin().await?;
    let mut held = Vec::new();
    for status in [v1::EventStatus::Dead, v1::EventStatus::Failed] {
        let mut page_token = String::new();
        for _ in 0..PAGES {
            let filter = v1::EventFilter {
                status: status.into(),
                resource: Some(to_proto(resource)),
                user_id: user.unwrap_or(0),
                ..v1::EventFilter::default()
            };
            let request = v1::ListEventsRequest { filter: Some(filter), page_size: PAGE, page_token };
            // A database that hangs must not make this hang.
            let Ok(answer) = timeout(PATIENCE, client.list_events(request)).await else {
                return Ok(Err(Unanswered::Unreachable));
            };
            let page = match answer {
                Ok(page) => page.into_inner(),
                Err(status) => match status.code() {
                    Code::PermissionDenied | Code::Unauthenticated | Code::Unimplemented => {
                        return Ok(Err(Unanswered::NotForUs));
                    }
                    Code::Unavailable => return Ok(Err(Unanswered::Unreachable)),
                    _ => return Err(status).context("the list was refused"),
                },
            };
            held.extend(page.events);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
    }
    Ok(Ok(held))
}

/// Prints counts whenever they change, until `stop`, or until so many updates came. When the server goes away, watches again.
pub async fn watch(
    server: &ServerArgs,
    resources: &[Resource],
    updates: Option<u64>,
    stop: CancellationToken,
    format: Format,
) -> anyhow::Result<Verdict> {
    const PAUSE: Duration = Duration::from_secs(1);
    let mut client = server.connect().await?;
    let mut left = updates.unwrap_or(u64::MAX);
    let mut updates = Updates::new(format);
    let watching = async {
        loop {
            let request = v1::WatchLikeCountsRequest { resources: resources.iter().map(|r| to_proto(*r)).collect() };
            let ended = match client.watch_like_counts(request).await {
                Ok(stream) => print_updates(stream.into_inner(), &mut left, &mut updates).await?,
                Err(status) => Some(status),
            };
            match ended {
                _ if left == 0 => return Ok(Verdict::Fine),
                Some(status) if !matches!(status.code(), Code::Unavailable | Code::ResourceExhausted) => {
                    return Err(status).context("watching was refused");
                }
                Some(status) => eprintln!("watching again: {}", status.message()),
                None => eprintln!("watching again: the stream has ended"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => Ok(Verdict::Fine),
        verdict = watching => verdict,
    }
}

/// Why the stream ended, if it said so.
async fn print_updates(
    mut stream: Streaming<v1::WatchLikeCountsResponse>,
    left: &mut u64,
    updates: &mut Updates,
) -> anyhow::Result<Option<Status>> {
    loop {
        let update = match stream.message().await {
            Ok(Some(update)) => update,
            Ok(None) => return Ok(None),
            Err(status) => return Ok(Some(status)),
        };
        for count in &update.counts {
            updates.print(&WatchRow {
                resource: name(count.resource.as_ref()),
                count: count.count,
                degraded: update.degraded,
            })?;
        }
        *left -= 1;
        if *left == 0 {
            return Ok(None);
        }
    }
}

#[derive(Serialize)]
struct WatchRow {
    resource: String,
    count: i64,
    degraded: bool,
}

impl Row for WatchRow {
    const HEADERS: &'static [&'static str] = &["RESOURCE", "COUNT"];

    fn cells(&self) -> Vec<String> {
        let degraded = if self.degraded { " (degraded)" } else { "" };
        vec![self.resource.clone(), format!("{}{degraded}", self.count)]
    }
}

/// Prints which write path was ordered.
pub async fn write_path(database_url: &str, format: Format) -> anyhow::Result<Verdict> {
    let store = crate::job::connect(database_url).await?;
    let path = store.write_path().await.context("could not read the write path")?;
    store.close().await;
    say_ordered(path, format)
}

fn say_ordered(path: Option<WritePath>, format: Format) -> anyhow::Result<Verdict> {
    #[derive(Serialize)]
    struct Ordered {
        /// None: every server's configuration decides.
        ordered: Option<String>,
    }
    let ordered = Ordered { ordered: path.map(|path| path.to_string()) };
    print_one(format, &ordered, || println!("{}", ordered.ordered.as_deref().unwrap_or("as configured")))?;
    Ok(Verdict::Fine)
}

/// Orders a write path, or takes the order back.
pub async fn order_write_path(database_url: &str, path: Option<WritePath>, format: Format) -> anyhow::Result<Verdict> {
    let store = crate::job::connect(database_url).await?;
    store.set_write_path(path).await.context("could not order the write path")?;
    store.close().await;
    say_ordered(path, format)
}
