//! Counts, states and lists, however they were asked for: who may, whose turn it is, and what is read.

use super::{Interactions, Who};
use crate::request::page::{self, List};
use crate::status;
use domain::{Pair, PairState, Resource, ResourceType, UserId};
use event_store::{LikeCursor, Liked, Within};
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

/// Lines of a list, and the token of the next page.
pub(super) type Page = (Vec<Liked>, String);

pub(super) async fn counts(of: &Interactions, who: &Who, resources: &[Resource]) -> Result<Read<i64>, Status> {
    who.may_resources(resources)?;
    let _turn = of.limits.reads(who, resources.len()).await?;
    of.reader.counts(resources).await.map_err(|error| status::read(&error))
}

pub(super) async fn states(
    of: &Interactions,
    who: &Who,
    user: UserId,
    resources: &[Resource],
) -> Result<Read<PairState>, Status> {
    who.may_user(user)?;
    who.may_resources(resources)?;
    let _turn = of.limits.reads(who, resources.len()).await?;
    of.reader.states(&pairs(user, resources)).await.map_err(|error| status::read(&error))
}

/// Counts and states; each of both is one that was read.
pub(super) async fn summaries(
    of: &Interactions,
    who: &Who,
    user: UserId,
    resources: &[Resource],
) -> Result<Read<(i64, PairState)>, Status> {
    who.may_user(user)?;
    who.may_resources(resources)?;
    let _turn = of.limits.summaries(who, resources.len()).await?;
    of.reader.summaries(&pairs(user, resources)).await.map_err(|error| status::read(&error))
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
    let page = of.database.list_liked(user, kind, part.within, part.size, part.after).await;
    drop(turn);
    let page = page.map_err(|error| status::store(&error))?;
    Ok((page.likes, page::token(List::Liked(user, kind, part.within), page.next)?))
}

pub(super) async fn likers(of: &Interactions, who: &Who, resource: Resource, part: Part) -> Result<Page, Status> {
    who.may_all_users()?;
    who.may_resources(&[resource])?;
    let turn = of.limits.list(who, part.size).await?;
    let page = of.database.list_likers(resource, part.within, part.size, part.after).await;
    drop(turn);
    let page = page.map_err(|error| status::store(&error))?;
    Ok((page.likes, page::token(List::Likers(resource, part.within), page.next)?))
}

fn pairs(user: UserId, resources: &[Resource]) -> Vec<Pair> {
    resources.iter().map(|resource| Pair { resource: *resource, user }).collect()
}
