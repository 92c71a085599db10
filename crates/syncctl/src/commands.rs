//! Single calls for humans.

use crate::Verdict;
use crate::client::{ServerArgs, to_proto};
use anyhow::Context;
use domain::{Action, Resource, ResourceType, WritePath};
use interaction_proto::v1;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

/// Applies pending migrations.
pub async fn migrate(database_url: &str) -> anyhow::Result<Verdict> {
    let store = crate::job::open(database_url).await?;
    let pending = store.pending_migrations().await.context("could not read the state of the schema")?;
    store.migrate().await.context("migration failed")?;
    store.close().await;
    match pending.as_slice() {
        [] => println!("the schema is current"),
        names => println!("applied {}", names.join(", ")),
    }
    Ok(Verdict::Fine)
}

/// Likes or unlikes, and prints the answer.
pub async fn like(server: &ServerArgs, user: i64, resource: Resource, action: Action) -> anyhow::Result<Verdict> {
    let mut client = server.connect().await?;
    let (user_id, target, idempotency_key) = (user, Some(to_proto(resource)), String::new());
    let answer = match action {
        Action::Like => client.like(v1::LikeRequest { user_id, resource: target, idempotency_key }).await,
        Action::Unlike => client.unlike(v1::UnlikeRequest { user_id, resource: target, idempotency_key }).await,
    };
    let answer = answer.with_context(|| format!("{} was refused", action.name()))?.into_inner();
    println!(
        "{resource}: {}, count {}, version {}{}{}",
        if answer.liked { "liked" } else { "not liked" },
        answer.count.map_or_else(|| "unknown".into(), |count| count.to_string()),
        answer.version,
        if answer.changed { "" } else { ", unchanged" },
        if answer.degraded { ", degraded" } else { "" },
    );
    Ok(Verdict::Fine)
}

/// Prints counts.
pub async fn counts(server: &ServerArgs, resources: &[Resource]) -> anyhow::Result<Verdict> {
    let request = v1::GetLikeCountsRequest { resources: resources.iter().map(|r| to_proto(*r)).collect() };
    let answer = server.connect().await?.get_like_counts(request).await.context("counts were refused")?.into_inner();
    for (resource, count) in resources.iter().zip(answer.counts) {
        println!("{resource}\t{}", count.count);
    }
    Ok(Verdict::Fine)
}

/// Prints whether the user likes each resource.
pub async fn states(server: &ServerArgs, user: i64, resources: &[Resource]) -> anyhow::Result<Verdict> {
    let resources_asked = resources.iter().map(|r| to_proto(*r)).collect();
    let request = v1::GetLikeStatesRequest { user_id: user, resources: resources_asked };
    let answer = server.connect().await?.get_like_states(request).await.context("states were refused")?.into_inner();
    for (resource, state) in resources.iter().zip(answer.states) {
        println!("{resource}\t{}\tversion {}", if state.liked { "liked" } else { "not liked" }, state.version);
    }
    Ok(Verdict::Fine)
}

/// Prints the hottest resources, of one type or of all.
pub async fn hot(server: &ServerArgs, kind: Option<ResourceType>, limit: u32) -> anyhow::Result<Verdict> {
    let kind = match kind {
        None => v1::ResourceType::Unspecified,
        Some(ResourceType::Video) => v1::ResourceType::Video,
        Some(ResourceType::Comment) => v1::ResourceType::Comment,
    };
    let limit = i32::try_from(limit).unwrap_or(i32::MAX);
    let request = v1::ListHotResourcesRequest { r#type: kind.into(), limit };
    let mut client = server.connect().await?;
    let answer = client.list_hot_resources(request).await.context("hot resources were refused")?.into_inner();
    let degraded = if answer.degraded { "\tdegraded" } else { "" };
    for hot in answer.resources {
        let (name, changes) = (name(hot.resource.as_ref()), hot.recent_changes);
        println!("{name}\t{}\t{changes} recent changes{degraded}", hot.count);
    }
    Ok(Verdict::Fine)
}

/// Prints counts whenever they change, until `stop`, or until so many updates came. When the server goes away, watches again.
pub async fn watch(
    server: &ServerArgs,
    resources: &[Resource],
    updates: Option<u64>,
    stop: CancellationToken,
) -> anyhow::Result<Verdict> {
    const PAUSE: Duration = Duration::from_secs(1);
    let mut client = server.connect().await?;
    let mut left = updates.unwrap_or(u64::MAX);
    let watching = async {
        loop {
            let request = v1::WatchLikeCountsRequest { resources: resources.iter().map(|r| to_proto(*r)).collect() };
            let ended = match client.watch_like_counts(request).await {
                Ok(stream) => print_updates(stream.into_inner(), &mut left).await,
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
async fn print_updates(mut stream: Streaming<v1::WatchLikeCountsResponse>, left: &mut u64) -> Option<Status> {
    loop {
        let update = match stream.message().await {
            Ok(update) => update?,
            Err(status) => return Some(status),
        };
        for count in &update.counts {
            let degraded = if update.degraded { "\tdegraded" } else { "" };
            println!("{}\t{}{degraded}", name(count.resource.as_ref()), count.count);
        }
        *left -= 1;
        if *left == 0 {
            return None;
        }
    }
}

/// A resource of an answer as it is written on the command line.
fn name(resource: Option<&v1::Resource>) -> String {
    let Some(resource) = resource else { return "?".to_owned() };
    match resource.r#type() {
        v1::ResourceType::Video => format!("video:{}", resource.id),
        v1::ResourceType::Comment => format!("comment:{}", resource.id),
        v1::ResourceType::Unspecified => format!("type {}:{}", resource.r#type, resource.id),
    }
}

/// Prints which write path was ordered.
pub async fn write_path(database_url: &str) -> anyhow::Result<Verdict> {
    let store = crate::job::connect(database_url).await?;
    let path = store.write_path().await.context("could not read the write path")?;
    store.close().await;
    println!("{}", path.map_or_else(|| "as configured".to_owned(), |path| path.to_string()));
    Ok(Verdict::Fine)
}

/// Orders a write path, or takes the order back.
pub async fn order_write_path(database_url: &str, path: Option<WritePath>) -> anyhow::Result<Verdict> {
    let store = crate::job::connect(database_url).await?;
    store.set_write_path(path).await.context("could not order the write path")?;
    store.close().await;
    println!("{}", path.map_or_else(|| "as configured".to_owned(), |path| path.to_string()));
    Ok(Verdict::Fine)
}
