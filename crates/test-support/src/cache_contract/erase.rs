//! What an erasure needs: clocks that are raised, and a sweep for one user.

use super::{MakeCache, Subject, like, with_key};
use crate::build::video_pair;
use anyhow::{Result, ensure};
use domain::cache::{LikeCache, Swept, UserSweep};
use domain::{UserId, Version};

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

async fn swept(cache: &dyn LikeCache, user: i64, up_to: Version, remove: bool) -> Result<Swept> {
    let sweep = UserSweep { user: UserId::new(user)?, up_to, remove };
    let (mut all, mut cursor) = (Swept::default(), 0);
    loop {
        let (some, next) = cache.sweep_user(&sweep, cursor, 100).await?;
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
    ensure!(swept(cache, 7, last, false).await? == Swept { pairs, keys }, "counted");
    ensure!(swept(cache, 7, last, true).await? == Swept { pairs, keys }, "removed");
    ensure!(swept(cache, 7, last, true).await? == Swept::default(), "removed twice");
    ensure!(swept(cache, 77, Version::MAX, false).await? == Swept { pairs, keys }, "somebody else's");
    ensure!(swept(cache, 7, Version::MAX, false).await? == Swept { pairs: 1, keys: 0 }, "what is newer");
    ensure!(subject.journal_len().await? == 21, "journals lost something");
    Ok(())
}
