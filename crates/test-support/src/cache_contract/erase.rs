//! What an erasure needs: clocks that are raised, and a sweep for one user or one resource.

use super::{MakeCache, Subject, like, with_key};
use crate::build::video_pair;
use anyhow::{Result, ensure};
use domain::cache::{LikeCache, Sweep, Swept};
use domain::{Erased, Fence, Pair, ResourceType, Version};
use std::collections::BTreeMap;

/// Raising twice, and lower, changes nothing.
pub async fn what_is_accepted_after_a_raise_is_newer(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let cache = &*subject.cache;
    let first = subject.accepted(like(video_pair(1, 1))).await?;
    let at_least = Version(first.version.0 + 3_600_000_000);
    let before = cache.raise_clocks(at_least).await?;
    ensure!(before >= first.version && before < at_least, "{before} was the highest before");
    ensure!(cache.raise_clocks(first.version).await? >= at_least, "a clock was lowered");
    for id in 1..=20 {
        let answer = subject.accepted(like(video_pair(2, id))).await?;
        ensure!(answer.version > at_least, "{} was given after {at_least}", answer.version);
    }
    Ok(())
}

async fn swept(cache: &dyn LikeCache, of: Erased, up_to: Version, remove: bool) -> Result<Swept> {
    Ok(swept_of(cache, &[Fence { of, up_to }], remove).await?[0])
}

/// What is behind each fence.
async fn swept_of(cache: &dyn LikeCache, fences: &[Fence], remove: bool) -> Result<Vec<Swept>> {
    let sweep = Sweep { fences, remove };
    let (mut all, mut cursor) = (vec![Swept::default(); fences.len()], 0);
    loop {
        let (some, next) = cache.sweep(&sweep, cursor, 100).await?;
        ensure!(some.len() == fences.len(), "{} answers about {} fences", some.len(), fences.len());
        all.iter_mut().zip(some).for_each(|(all, some)| *all += some);
        cursor = next;
        if cursor == 0 {
            return Ok(all);
        }
    }
}

/// One walk for many, each with a fence of its own; what has two goes behind the higher one.
pub async fn a_sweep_looks_for_many_at_once(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let cache = &*subject.cache;
    let mut versions = BTreeMap::new();
    for user in 1..=6 {
        for id in 1..=6 {
            let request = with_key(like(video_pair(user, id)), &format!("key-{id}"));
            versions.insert((user, id), subject.accepted(request).await?.version);
        }
    }
    let highest = versions.values().copied().max().unwrap_or_default();
    let of_user = |user, up_to| Fence { of: Erased::User(video_pair(user, 1).user), up_to };
    let of_video = |id, up_to| Fence { of: Erased::Resource(video_pair(1, id).resource), up_to };
    // All of user 1; of user 2 what was said of three videos; all of video 1; nothing of somebody who has said nothing.
    let fences = [of_user(1, highest), of_user(2, versions[&(2, 3)]), of_video(1, highest), of_user(77, highest)];
    for remove in [false, true] {
        let found = swept_of(cache, &fences, remove).await?;
        // What is of user 1 and of video 1 has two fences of one height: it is counted once. That of user 2 and video 1 is behind the
        // higher fence, which is the video's.
        let (pairs, keys) = (found.iter().map(|one| one.pairs).sum::<u64>(), found.iter().map(|one| one.keys).sum());
        ensure!(Swept { pairs, keys } == Swept { pairs: 13, keys: 13 }, "{found:?}");
        ensure!(found[1] == Swept { pairs: 2, keys: 2 }, "of user 2: {found:?}");
        ensure!(found[3] == Swept::default(), "of nobody: {found:?}");
    }
    ensure!(swept_of(cache, &fences, true).await?.iter().all(|one| *one == Swept::default()), "removed twice");
    let all = [of_user(2, Version::MAX), of_user(3, Version::MAX)];
    let left = swept_of(cache, &all, false).await?;
    ensure!(left == [Swept { pairs: 3, keys: 3 }, Swept { pairs: 5, keys: 5 }], "what stays: {left:?}");
    Ok(())
}

/// Of users whose numbers begin alike, too; what is newer stays, and so do counters and journals.
pub async fn a_sweep_finds_one_users_pairs_and_answers_up_to_a_version(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let cache = &*subject.cache;
    let of = |user| Erased::User(video_pair(user, 1).user);
    let mut last = Version::ZERO;
    for id in 1..=10 {
        for user in [7, 77] {
            let request = with_key(like(video_pair(user, id)), &format!("key-{id}"));
            last = last.max(subject.accepted(request).await?.version);
        }
    }
    cache.raise_clocks(last).await?;
    subject.accepted(like(video_pair(7, 11))).await?;
    let (pairs, keys) = (10, 10);
    ensure!(swept(cache, of(7), last, false).await? == Swept { pairs, keys }, "counted");
    ensure!(swept(cache, of(7), last, true).await? == Swept { pairs, keys }, "removed");
    ensure!(swept(cache, of(7), last, true).await? == Swept::default(), "removed twice");
    ensure!(swept(cache, of(77), Version::MAX, false).await? == Swept { pairs, keys }, "somebody else's");
    ensure!(swept(cache, of(7), Version::MAX, false).await? == Swept { pairs: 1, keys: 0 }, "what is newer");
    ensure!(subject.journal_len().await? == 21, "journals lost something");
    Ok(())
}

/// Of resources whose numbers begin alike, and of one number and two kinds; what is newer stays.
pub async fn a_sweep_finds_one_resources_pairs_and_answers_up_to_a_version(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let cache = &*subject.cache;
    let of = |pair: Pair| Erased::Resource(pair.resource);
    let comment = |user| Pair::new(user, ResourceType::Comment, 7);
    let mut last = Version::ZERO;
    for user in 1..=10 {
        for pair in [video_pair(user, 7), video_pair(user, 77), comment(user)?] {
            let request = with_key(like(pair), &format!("key:{user}"));
            last = last.max(subject.accepted(request).await?.version);
        }
    }
    cache.raise_clocks(last).await?;
    subject.accepted(like(video_pair(11, 7))).await?;
    let found = Swept { pairs: 10, keys: 10 };
    ensure!(swept(cache, of(video_pair(1, 7)), last, false).await? == found, "counted");
    ensure!(swept(cache, of(video_pair(1, 7)), last, true).await? == found, "removed");
    ensure!(swept(cache, of(video_pair(1, 7)), last, true).await? == Swept::default(), "removed twice");
    ensure!(swept(cache, of(video_pair(1, 77)), Version::MAX, false).await? == found, "another video");
    ensure!(swept(cache, of(comment(1)?), Version::MAX, false).await? == found, "a comment");
    let newer = swept(cache, of(video_pair(1, 7)), Version::MAX, false).await?;
    ensure!(newer == Swept { pairs: 1, keys: 0 }, "what is newer: {newer:?}");
    ensure!(subject.journal_len().await? == 31, "journals lost something");
    Ok(())
}
