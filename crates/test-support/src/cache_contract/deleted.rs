//! Marks of deleted resources: who likes one is told so, and nothing else happens.

use super::{MakeCache, Subject, like, limited, missing, roomy_rules, unlike, with_key};
use crate::build::video_pair;
use anyhow::{Result, ensure};
use domain::cache::{AcceptOutcome, AcceptRequest, CacheRules, LikeCache, MissingCount, UserLimit};
use domain::{DeletedMark, Pair, Resource, ResourceType, ShardCount, Version};
use std::collections::BTreeMap;
use std::time::Duration;

fn deleted(at: i64) -> DeletedMark {
    DeletedMark { up_to: Version(at - 1), at: Version(at), deleted: true }
}

fn restored(at: i64) -> DeletedMark {
    DeletedMark { deleted: false, ..deleted(at) }
}

async fn kept(cache: &dyn LikeCache, about: u32) -> Result<BTreeMap<Resource, DeletedMark>> {
    let (mut all, mut cursor) = (BTreeMap::new(), 0);
    loop {
        let (some, next) = cache.kept_deleted(cursor, about).await?;
        all.extend(some);
        cursor = next;
        if cursor == 0 {
            return Ok(all);
        }
    }
}

/// Whatever is asked of it, in whatever way; the others of its shard and of its batch are liked as ever.
pub async fn likes_of_a_deleted_resource_are_refused_and_write_nothing(make: impl MakeCache) -> Result<()> {
    let limit = UserLimit { actions: 4, period: Duration::from_secs(3600) };
    let rules = CacheRules { shards: ShardCount::new(1)?, user_limit: Some(limit), ..roomy_rules() };
    let subject = Subject::with(make, rules).await;
    let pair = video_pair(1, 1);
    let first = subject.accepted(limited(with_key(like(pair), "k"))).await?;
    subject.cache.keep_deleted(&[(pair.resource, deleted(10))]).await?;

    let before = (subject.cached_count(pair.resource).await?, subject.state(pair).await?, subject.journal_len().await?);
    let unknown = AcceptRequest { missing: MissingCount::Report, ..like(video_pair(2, 1)) };
    for asked in [
        unlike(pair),
        with_key(like(pair), "k"),
        with_key(unlike(pair), "k"),
        AcceptRequest { rewrite: true, ..like(pair) },
        AcceptRequest { reserve: Some(Version(5)), ..unlike(pair) },
        missing(like(video_pair(2, 1)), MissingCount::Without),
        unknown,
    ] {
        let outcome = subject.accept(limited(asked.clone())).await?;
        ensure!(outcome == AcceptOutcome::Deleted, "{outcome:?} of {asked:?}");
    }
    let after = (subject.cached_count(pair.resource).await?, subject.state(pair).await?, subject.journal_len().await?);
    ensure!(after == before, "{after:?} after {before:?}");
    ensure!(subject.state(video_pair(2, 1)).await?.is_none(), "something was written of who never liked it");

    let comment = Pair::new(1, ResourceType::Comment, 1)?;
    let batch = [limited(like(pair)), limited(like(comment)), limited(like(video_pair(1, 11)))];
    let outcomes = subject.cache.accept(&batch).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    let accepted: Vec<bool> = outcomes.iter().map(|outcome| matches!(outcome, AcceptOutcome::Accepted(_))).collect();
    ensure!(outcomes[0] == AcceptOutcome::Deleted && accepted == [false, true, true], "{outcomes:?}");
    // The fourth token: none was used for what is deleted.
    subject.accepted(limited(like(video_pair(1, 12)))).await?;
    let over = subject.accept(limited(like(video_pair(1, 13)))).await?;
    ensure!(matches!(over, AcceptOutcome::RateLimited { .. }), "{over:?}: there is no limit");

    subject.cache.keep_deleted(&[(pair.resource, restored(11))]).await?;
    let again = subject.accept(with_key(like(pair), "k")).await?;
    ensure!(again == AcceptOutcome::Repeated { answer: first, changed: true }, "{again:?} after it was restored");
    subject.accepted(like(video_pair(2, 1))).await?;
    Ok(())
}

/// In whatever order they are told, and however often; and the highest fence stays.
pub async fn the_newest_word_about_a_resource_counts(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let cache = &*subject.cache;
    let (one, other) = (video_pair(1, 1), video_pair(1, 2));
    for marks in [
        vec![(one.resource, restored(30)), (other.resource, deleted(10))],
        vec![(one.resource, deleted(20)), (other.resource, restored(20)), (other.resource, deleted(30))],
        vec![(one.resource, DeletedMark { up_to: Version(40), ..deleted(15) })],
        vec![(one.resource, deleted(30)), (other.resource, restored(29))],
    ] {
        cache.keep_deleted(&marks).await?;
        cache.keep_deleted(&marks).await?;
    }
    let expected = [(one.resource, DeletedMark { up_to: Version(40), ..restored(30) }), (other.resource, deleted(30))];
    let told = kept(cache, 100).await?;
    ensure!(told == BTreeMap::from(expected), "{told:?}");
    subject.accepted(like(one)).await?;
    ensure!(subject.accept(like(other)).await? == AcceptOutcome::Deleted, "the newest word is that it is deleted");
    // Not behind the mark of a neighbour that is restored once more.
    cache.keep_deleted(&[(one.resource, restored(50))]).await?;
    ensure!(subject.accept(like(other)).await? == AcceptOutcome::Deleted, "another one was restored");
    Ok(())
}

/// In parts, of all shards.
pub async fn marks_are_read_back(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    ensure!(kept(&*subject.cache, 7).await?.is_empty(), "an empty cache has marks");
    let mut marks = BTreeMap::new();
    for id in 1..=700 {
        let (video, comment) = (video_pair(1, id).resource, Resource::new(ResourceType::Comment, id)?);
        marks.insert(video, if id % 3 == 0 { restored(id + 5) } else { deleted(id + 5) });
        marks.insert(comment, deleted(id + 6));
    }
    let list: Vec<_> = marks.iter().map(|(resource, mark)| (*resource, *mark)).collect();
    subject.cache.keep_deleted(&list).await?;
    for about in [7, 1_000] {
        ensure!(kept(&*subject.cache, about).await? == marks, "about {about} at once");
    }
    Ok(())
}
