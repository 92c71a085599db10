//! What an erasure needs: clocks that are raised, and a sweep for one user or one resource.

use super::{MakeCache, Subject, like, with_key};
use crate::build::video_pair;
use anyhow::{Result, ensure};
use domain::cache::{LikeCache, Sweep, Swept};
use domain::{Erased, Pair, ResourceType, Version};

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
    let sweep = Sweep { of, up_to, remove };
    let (mut all, mut cursor) = (Swept::default(), 0);
    loop {
        let (some, next) = cache.sweep(&sweep, cursor, 100).await?;
        all += some;
        cursor = next;
        if cursor == 0 {
            return Ok(all);
        }
    }
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
