//! Single calls for humans.

use crate::Verdict;
use crate::client::{ServerArgs, to_proto};
use anyhow::Context;
use domain::{Action, Resource, WritePath};
use event_store::{DatabaseConfig, EventStore};
use interaction_proto::v1;

/// Applies pending migrations.
pub async fn migrate(database_url: &str) -> anyhow::Result<Verdict> {
    let config = DatabaseConfig { url: database_url.into(), ..DatabaseConfig::default() };
    let store = EventStore::connect(&config).await.context("could not connect to the database")?;
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
