//! Counts, states and lists, however they were asked for: who may, whose turn it is, and what is read.

use super::limits::Work;
use super::{Interactions, Who};
use crate::request::page::{self, List};
use crate::status;
use domain::{Pair, PairState, Resource, ResourceType, UserId, Version};
use event_store::{EventStore, LikeCursor, LikePage, Liked, Within};
use sync_engine::read::Read;
use tonic::Status;

/// Which part of a list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    /// Most lines.
    pub(super) size: u32,
    /// Where the page before ended.
    pub(super) after: Option<LikeCursor>,
    /// By when the likes were made.
    pub(super) within: Within,
}

/// A page of a list.
pub(super) struct Page {
    pub(super) likes: Vec<Liked>,
    /// Of the next page; empty at the end.
    pub(super) next_page_token: String,
    /// How long ago, at most, the list was so.
    pub(super) max_age_ms: i64,
}

impl Page {
    fn of(page: LikePage, list: List, database: &EventStore) -> Result<Self, Status> {
        // Rounded up: a little old is not up to date.
        let max_age_ms = i64::try_from(database.age().as_micros().div_ceil(1_000)).unwrap_or(i64::MAX);
        Ok(Self { likes: page.likes, next_page_token: page::token(list, page.next)?, max_age_ms })
    }
}

/// Counts with every like up to this version.
pub(super) async fn counts(
    of: &Interactions,
    who: &Who,
    resources: &[Resource],
    least: Version,
) -> Result<Read<i64>, Status> {
    who.may_resources(resources)?;
    // What is remembered is looked at once more behind the turn, which may come when it is too old.
    let of_stores = of.reader.unknown_counts(resources, least);
    let work = Work { of_stores, remembered: resources.len() - of_stores };
    let _turn = of.limits.reads(who, resources.len(), work).await?;
    of.reader.counts_with(resources, least).await.map_err(|error| status::read(&error))
}

pub(super) async fn states(
    of: &Interactions,
    who: &Who,
    user: UserId,
    resources: &[Resource],
) -> Result<Read<PairState>, Status> {
    who.may_user(user)?;
    who.may_resources(resources)?;
    let _turn = of.limits.reads(who, resources.len(), Work::of_stores(resources.len())).await?;
    of.reader.states(&pairs(user, resources)).await.map_err(|error| status::read(&error))
}

/// Counts and states; each of both is one that was read.
pub(super) async fn summaries(
    of: &Interactions,
    who: &Who,
    user: UserId,
    resources: &[Resource],
    least: Version,
) -> Result<Read<(i64, PairState)>, Status> {
    who.may_user(user)?;
    who.may_resources(resources)?;
    // Both are of the quota, and a page of them waits for nobody's turn.
    let _turn = of.limits.reads(who, resources.len() * 2, Work::of_stores(resources.len())).await?;
    of.reader.summaries(&pairs(user, resources), least).await.map_err(|error| status::read(&error))
}

pub(super) async fn liked(
    of: &Interactions,
    who: &Who,
    user: UserId,
    kind: ResourceType,
    part: Part,
) -> Result<Page, Status> {
    who.may_user(user)?;
    who.may_types([kind])?;
    let turn = of.limits.list(who, part.size).await?;
    let database = of.database.on_replicas();
    let page = database.list_liked(user, kind, part.within, part.size, part.after).await;
    drop(turn);
    Page::of(page.map_err(|error| status::store(&error))?, List::Liked(user, kind, part.within), &database)
}

pub(super) async fn likers(of: &Interactions, who: &Who, resource: Resource, part: Part) -> Result<Page, Status> {
    who.may_all_users()?;
    who.may_resources(&[resource])?;
    let turn = of.limits.list(who, part.size).await?;
    let database = of.database.on_replicas();
    let page = database.list_likers(resource, part.within, part.size, part.after).await;
    drop(turn);
    Page::of(page.map_err(|error| status::store(&error))?, List::Likers(resource, part.within), &database)
}

fn pairs(user: UserId, resources: &[Resource]) -> Vec<Pair> {
    resources.iter().map(|resource| Pair { resource: *resource, user }).collect()
}
