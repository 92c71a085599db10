//! Settle: late, twice, out of order.

use super::{MakeCache, Subject, like, missing, row, settled, stored, unlike};
use crate::build::video_pair;
use anyhow::{Result, ensure};
use domain::cache::{AcceptOutcome, MissingCount, SettleReport, SettledResource, Settlement};
use domain::{PairState, StoredCount, Version};

/// A like of a pair that was liked already: the database counts nothing, and the served count follows.
pub async fn settling_removes_the_entry_and_heals_the_count(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let pair = video_pair(1, 1);
    let answer = subject.accepted(missing(like(pair), MissingCount::Fill(stored(5, 2)))).await?;
    assert_eq!(answer.count, Some(6));
    let report = subject.settle(&settled(pair.resource, &[answer.version], Some(stored(5, 2)))).await?;
    assert_eq!(report, SettleReport { removed: 1, corrections: 1, refreshed: 0 });
    let count = subject.cached_count(pair.resource).await?;
    assert_eq!((count.served, count.pending, count.stored, count.stored_revision), (5, 0, 5, 2));
    assert_eq!(count.last_version, answer.version);
    assert!(subject.journal(pair.resource).await?.is_empty());
    Ok(())
}

/// The usual case: the cache was right.
pub async fn a_right_count_is_no_correction(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let pair = video_pair(1, 1);
    let version = subject.accepted(like(pair)).await?.version;
    let report = subject.settle(&settled(pair.resource, &[version], Some(stored(1, 1)))).await?;
    assert_eq!(report, SettleReport { removed: 1, corrections: 0, refreshed: 0 });
    let count = subject.cached_count(pair.resource).await?;
    assert_eq!((count.served, count.pending, count.stored, count.stored_revision), (1, 0, 1, 1));
    Ok(())
}

/// The second call, and duplicates within one, find nothing to do.
pub async fn settling_twice_is_harmless(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let (one, two) = (video_pair(1, 1), video_pair(2, 1));
    let first = subject.accepted(like(one)).await?.version;
    subject.accepted(like(two)).await?;
    let settlement = settled(one.resource, &[first, first], Some(stored(1, 1)));
    assert_eq!(subject.settle(&settlement).await?.removed, 1);
    let once = subject.cached_count(one.resource).await?;
    assert_eq!((once.served, once.pending), (2, 1));
    assert_eq!(subject.settle(&settlement).await?, SettleReport::default());
    assert_eq!(subject.cached_count(one.resource).await?, once);
    assert_eq!(subject.journal_len().await?, 1);
    Ok(())
}

/// Two settlements that overtake each other end at the newer revision.
pub async fn an_older_revision_is_ignored(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let (one, two) = (video_pair(1, 1), video_pair(2, 1));
    let first = subject.accepted(like(one)).await?.version;
    let second = subject.accepted(like(two)).await?.version;
    subject.settle(&settled(one.resource, &[second], Some(stored(2, 2)))).await?;
    let report = subject.settle(&settled(one.resource, &[first], Some(stored(1, 1)))).await?;
    assert_eq!(report, SettleReport { removed: 1, corrections: 0, refreshed: 0 });
    let count = subject.cached_count(one.resource).await?;
    assert_eq!((count.served, count.pending, count.stored, count.stored_revision), (2, 0, 2, 2));
    // The same, with nothing pending at all.
    subject.settle(&settled(one.resource, &[], Some(stored(9, 1)))).await?;
    assert_eq!(subject.cached_count(one.resource).await?, count);
    let report = subject.settle(&settled(one.resource, &[], Some(stored(9, 3)))).await?;
    assert_eq!(report.corrections, 1);
    assert_eq!(subject.cached_count(one.resource).await?.served, 9);
    Ok(())
}

/// Readers see no flicker: while it can be right a served count is left alone.
pub async fn the_served_count_is_left_alone_while_it_can_be_right(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let resource = video_pair(1, 1).resource;
    let mut versions = Vec::new();
    for user in 1..=4 {
        versions.push(subject.accepted(like(video_pair(user, 1))).await?.version);
    }
    // Pairs that were liked already: the database counts two likes less than the cache, which the others could make good.
    for (index, (version, count)) in versions.iter().zip([1, 2, 2, 2]).enumerate() {
        let done = index as i64 + 1;
        let report = subject.settle(&settled(resource, &[*version], Some(stored(count, done)))).await?;
        let cached = subject.cached_count(resource).await?;
        let served = [4, 4, 3, 2][index];
        assert_eq!((cached.served, cached.pending, cached.stored), (served, 4 - done, count), "settlement {done}");
        assert_eq!(report.corrections, u64::from(done > 2));
    }
    Ok(())
}

/// Each pending like can have changed the count by one and nothing else can: what is further off is wrong, and need not
/// wait until nothing is pending, which on a hot resource is never.
pub async fn a_served_count_that_cannot_be_right_heals_under_load(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let resource = video_pair(1, 1).resource;
    let mut versions = Vec::new();
    for user in 1..=3 {
        versions.push(subject.accepted(like(video_pair(user, 1))).await?.version);
    }
    for (index, version) in versions.iter().enumerate() {
        let done = index as i64 + 1;
        // Other users' likes came another way: the database is always ahead by ten.
        let report = subject.settle(&settled(resource, &[*version], Some(stored(10 + done, done)))).await?;
        let count = subject.cached_count(resource).await?;
        let served = 10 + done - (3 - done);
        assert_eq!((count.served, count.pending, count.stored), (served, 3 - done, 10 + done));
        assert_eq!(report.corrections, 1);
    }
    Ok(())
}

/// Entries of a cache that lost everything, or made up: nothing is lowered.
pub async fn entries_that_are_not_in_the_journal_lower_nothing(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let pair = video_pair(1, 1);
    let version = subject.accepted(like(pair)).await?.version;
    let strangers = [Version(1), Version(version.0 - 1), Version(version.0 + 1)];
    let report = subject.settle(&settled(pair.resource, &strangers, None)).await?;
    assert_eq!(report, SettleReport::default());
    assert_eq!(subject.cached_count(pair.resource).await?.pending, 1);
    assert_eq!(subject.journal_len().await?, 1);
    let accounting = subject.cache.shard_status().await?;
    assert!(accounting.iter().all(|status| status.accepted - status.settled == status.journal_len), "{accounting:?}");
    Ok(())
}

/// Entries that were accepted without a counter are not in its pending number.
pub async fn pending_is_never_below_zero(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let pair = video_pair(1, 1);
    let uncounted = subject.accepted(missing(like(pair), MissingCount::Without)).await?.version;
    subject.fill_count(pair.resource, stored(0, 0)).await?;
    let report = subject.settle(&settled(pair.resource, &[uncounted], Some(stored(1, 1)))).await?;
    assert_eq!(report, SettleReport { removed: 1, corrections: 1, refreshed: 0 });
    let count = subject.cached_count(pair.resource).await?;
    assert_eq!((count.served, count.pending), (1, 0));
    Ok(())
}

/// The event failed and is in the ledger: it is not counted until it succeeds.
pub async fn a_parked_entry_returns_to_the_stored_count(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let pair = video_pair(1, 1);
    let answer = subject.accepted(missing(like(pair), MissingCount::Fill(stored(5, 2)))).await?;
    let report = subject.settle(&settled(pair.resource, &[answer.version], None)).await?;
    assert_eq!(report, SettleReport { removed: 1, corrections: 1, refreshed: 0 });
    let count = subject.cached_count(pair.resource).await?;
    assert_eq!((count.served, count.pending, count.stored_revision), (5, 0, 2));
    Ok(())
}

/// Neither counters nor pairs appear by settling.
pub async fn what_is_not_cached_is_not_created(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let pair = video_pair(1, 1);
    let version = subject.accepted(missing(like(pair), MissingCount::Without)).await?.version;
    let other = video_pair(2, 1);
    let settlement = Settlement {
        pairs: vec![(other, PairState { liked: true, version: Version(version.0 + 5) })],
        ..settled(pair.resource, &[version], Some(stored(2, 2)))
    };
    let report = subject.settle(&settlement).await?;
    assert_eq!(report, SettleReport { removed: 1, corrections: 0, refreshed: 0 });
    assert_eq!((subject.count(pair.resource).await?, subject.state(other).await?), (None, None));
    assert_eq!(subject.settle(&Settlement::default()).await?, SettleReport::default());
    Ok(())
}

/// Written around the cache: the pair follows the row forward, never back.
pub async fn a_cached_pair_follows_a_newer_row_only(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let pair = video_pair(1, 1);
    let version = subject.accepted(like(pair)).await?.version.0;
    for (liked, row_version) in [(false, version - 1), (true, version), (false, version)] {
        assert_eq!(subject.settle(&row(pair, liked, row_version)).await?.refreshed, 0);
        assert_eq!(subject.state(pair).await?, Some(PairState { liked: true, version: Version(version) }));
    }
    let newer = PairState { liked: false, version: Version(version + 7) };
    assert_eq!(subject.settle(&row(pair, newer.liked, newer.version.0)).await?.refreshed, 1);
    assert_eq!(subject.state(pair).await?, Some(newer));
    // At equal versions a like beats an unlike, as in the rows.
    assert_eq!(subject.settle(&row(pair, true, newer.version.0)).await?.refreshed, 1);
    // It counts as known: the same again changes nothing.
    assert_eq!(subject.unchanged(like(pair)).await?.version, newer.version);
    Ok(())
}

/// A later like must win against every row, also against those that a clock ahead of the cache's wrote.
pub async fn rows_ahead_raise_the_clock(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let pair = video_pair(1, 1);
    let now = subject.accepted(like(pair)).await?.version.0;
    let by_row = now + 3_600_000_000;
    subject.settle(&row(video_pair(5, 1), true, by_row)).await?;
    assert_eq!(subject.accepted(unlike(pair)).await?.version, Version(by_row + 1));
    let by_count = now + 7_200_000_000;
    let count = StoredCount { count: 1, revision: 4, last_version: Version(by_count) };
    subject.settle(&settled(pair.resource, &[], Some(count))).await?;
    assert_eq!(subject.accepted(like(pair)).await?.version, Version(by_count + 1));
    Ok(())
}

/// A whole backlog of one resource at once, with as many pairs.
pub async fn thousands_of_entries_in_one_call(make: impl MakeCache) -> Result<()> {
    const ENTRIES: i64 = 9_000;
    let subject = Subject::new(make).await;
    let batch: Vec<_> = (1..=ENTRIES).map(|user| like(video_pair(user, 1))).collect();
    let mut versions = Vec::new();
    for outcome in subject.cache.accept(&batch).await {
        let outcome = outcome?;
        let AcceptOutcome::Accepted(answer) = outcome else { anyhow::bail!("{outcome:?}") };
        versions.push(answer.version);
    }
    let resource = video_pair(1, 1).resource;
    let pairs = batch.iter().zip(&versions).map(|(request, version)| {
        (request.intent.pair, PairState { liked: false, version: Version(version.0 + 1_000_000_000) })
    });
    let stored = stored(ENTRIES, ENTRIES);
    let settlement = Settlement { pairs: pairs.collect(), ..settled(resource, &versions, Some(stored)) };
    let report = subject.settle(&settlement).await?;
    let all = ENTRIES as u64;
    assert_eq!(report, SettleReport { removed: all, corrections: 0, refreshed: all });
    let count = subject.cached_count(resource).await?;
    assert_eq!((count.served, count.pending), (ENTRIES, 0));
    assert_eq!(subject.journal_len().await?, 0);
    Ok(())
}

/// Every shard's part of one settlement is settled.
pub async fn settling_covers_several_shards(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let mut settlement = Settlement::default();
    for id in 1..=50 {
        let pair = video_pair(1, id);
        let version = subject.accepted(like(pair)).await?.version;
        let part = SettledResource { resource: pair.resource, entries: vec![version], stored: Some(stored(1, 1)) };
        settlement.resources.push(part);
        settlement.pairs.push((pair, PairState { liked: true, version }));
    }
    let report = subject.settle(&settlement).await?;
    assert_eq!(report, SettleReport { removed: 50, corrections: 0, refreshed: 0 });
    for status in subject.cache.shard_status().await? {
        ensure!(status.settled > 0 && status.journal_len == 0, "{status:?}");
    }
    Ok(())
}
