//! Fills: what the database said, for what is not cached.

use super::{MakeCache, Subject, like, missing, roomy_rules, row, settled, stored, unlike};
use crate::build::video_pair;
use crate::eventually;
use anyhow::Result;
use domain::cache::{CacheRules, CachedCount, MissingCount, Settlement};
use domain::{PairState, StoredCount, Version};
use std::time::Duration;

/// Counters over several shards.
pub async fn filled_counts_are_read_back(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let counts: Vec<_> = (1..=30).map(|id| (video_pair(1, id).resource, stored(id * 2, id))).collect();
    subject.cache.fill_counts(&counts).await?;
    subject.cache.fill_counts(&[]).await?;
    for (resource, stored) in counts {
        let expected = CachedCount {
            served: stored.count,
            pending: 0,
            last_version: Version::ZERO,
            stored: stored.count,
            stored_revision: stored.revision,
        };
        assert_eq!(subject.cached_count(resource).await?, expected);
    }
    Ok(())
}

/// Neither pending entries nor newer news are overwritten.
pub async fn filling_counts_leaves_cached_ones_alone(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let pair = video_pair(1, 1);
    subject.accepted(missing(like(pair), MissingCount::Fill(stored(5, 2)))).await?;
    let before = subject.cached_count(pair.resource).await?;
    subject.fill_count(pair.resource, stored(77, 9)).await?;
    assert_eq!(subject.cached_count(pair.resource).await?, before);
    Ok(())
}

/// Later likes win against what was filled, whether or not the counter was cached.
pub async fn filling_counts_raises_the_clock(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let pair = video_pair(1, 1);
    let mut expected = subject.accepted(like(pair)).await?.version.0;
    for request in [unlike(pair), like(pair)] {
        expected += 3_600_000_000;
        let fill = StoredCount { count: 0, revision: 1, last_version: Version(expected) };
        subject.fill_count(pair.resource, fill).await?;
        expected += 1;
        assert_eq!(subject.accepted(request).await?.version, Version(expected));
    }
    Ok(())
}

/// Uncached pairs, and cached ones that are older.
pub async fn filling_states_takes_newer_rows_only(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let pairs: Vec<_> = (1..=20).map(|id| video_pair(1, id)).collect();
    let at = |liked, version| PairState { liked, version: Version(version) };
    let fill = async |state| {
        let states: Vec<_> = pairs.iter().map(|pair| (*pair, state)).collect();
        subject.cache.fill_states(&states).await
    };
    subject.cache.fill_states(&[]).await?;
    for (state, expected) in [
        (PairState::UNTOUCHED, PairState::UNTOUCHED),
        (at(false, 100), at(false, 100)),
        (at(true, 99), at(false, 100)),
        (at(true, 100), at(true, 100)),
        (at(false, 100), at(true, 100)),
        (at(false, 101), at(false, 101)),
    ] {
        fill(state).await?;
        assert_eq!(subject.cache.states(&pairs).await?, vec![Some(expected); pairs.len()], "after {state:?}");
    }
    let accepted = subject.accepted(like(pairs[0])).await?.version;
    fill(at(false, accepted.0 - 1)).await?;
    assert_eq!(subject.state(pairs[0]).await?, Some(PairState { liked: true, version: accepted }));
    Ok(())
}

/// A row may be older than an event that is still on its way: only what was accepted here makes a like redundant.
/// The count is believed all the same.
pub async fn a_filled_state_is_no_reason_for_unchanged(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let (liked, never, followed) = (video_pair(1, 1), video_pair(2, 1), video_pair(3, 1));
    subject.fill_count(liked.resource, stored(5, 1)).await?;
    let at = |liked, version| PairState { liked, version: Version(version) };
    let states = [(liked, at(true, 10)), (never, PairState::UNTOUCHED), (followed, at(false, 10))];
    subject.cache.fill_states(&states).await?;
    // Refreshed or confirmed from its row, it is still only what the database said.
    subject.settle(&row(followed, true, 20)).await?;
    subject.settle(&row(liked, true, 10)).await?;
    assert_eq!(subject.accepted(like(liked)).await?.count, Some(5));
    assert_eq!(subject.accepted(unlike(never)).await?.count, Some(5));
    assert_eq!(subject.accepted(like(followed)).await?.count, Some(5));
    assert_eq!(subject.unchanged(like(liked)).await?.count, Some(5));
    assert_eq!(subject.accepted(unlike(liked)).await?.count, Some(4));
    assert_eq!(subject.journal_len().await?, 4);
    Ok(())
}

/// Filled counters and pairs have a lifetime, confirmed or not.
pub async fn what_was_filled_expires(make: impl MakeCache) -> Result<()> {
    let second = Duration::from_secs(1);
    let subject = Subject::with(make, CacheRules { pair_ttl: second, counter_ttl: second, ..roomy_rules() }).await;
    let (one, two) = (video_pair(1, 1), video_pair(1, 2));
    for pair in [one, two] {
        subject.fill_count(pair.resource, stored(5, 1)).await?;
        subject.cache.fill_states(&[(pair, PairState { liked: true, version: Version(10) })]).await?;
    }
    subject.settle(&settled(one.resource, &[], Some(stored(5, 1)))).await?;
    subject.settle(&row(one, true, 10)).await?;
    eventually(Duration::from_secs(20), "filled counters and pairs expire", async || {
        let counts = subject.cache.counts(&[one.resource, two.resource]).await.map_err(|error| error.to_string())?;
        let states = subject.cache.states(&[one, two]).await.map_err(|error| error.to_string())?;
        let gone = counts.iter().all(Option::is_none) && states.iter().all(Option::is_none);
        if gone { Ok(()) } else { Err(format!("{counts:?}, {states:?}")) }
    })
    .await;
    Ok(())
}

/// Whoever asks for ids that do not exist must not fill the cache: what the database does not know either goes soon, also
/// when that is confirmed. A like gives it the lifetime of any other, and what is on its way never goes.
pub async fn what_the_database_does_not_know_is_forgotten_soon(make: impl MakeCache) -> Result<()> {
    let subject = Subject::with(make, CacheRules { unknown_ttl: Duration::from_secs(1), ..roomy_rules() }).await;
    let (unknown, liked, settled_like, known) =
        (video_pair(1, 1), video_pair(1, 2), video_pair(1, 3), video_pair(1, 4));
    let pairs = [unknown, liked, settled_like, known];
    for pair in [unknown, liked, settled_like] {
        subject.fill_count(pair.resource, StoredCount::default()).await?;
        subject.cache.fill_states(&[(pair, PairState::UNTOUCHED)]).await?;
        subject.settle(&settled(pair.resource, &[], Some(StoredCount::default()))).await?;
        subject
            .settle(&Settlement { resources: Vec::new(), pairs: vec![(pair, PairState::UNTOUCHED)], commit: None })
            .await?;
    }
    subject.fill_count(known.resource, stored(0, 1)).await?;
    subject.cache.fill_states(&[(known, PairState { liked: false, version: Version(10) })]).await?;
    subject.accepted(like(liked)).await?;
    let version = subject.accepted(like(settled_like)).await?.version;
    subject.settle(&settled(settled_like.resource, &[version], Some(stored(1, 1)))).await?;
    eventually(Duration::from_secs(60), "what is unknown expires", async || {
        let counts = subject.cache.counts(&[unknown.resource]).await.map_err(|error| error.to_string())?;
        let states = subject.cache.states(&[unknown]).await.map_err(|error| error.to_string())?;
        if (counts[0], states[0]) == (None, None) { Ok(()) } else { Err(format!("{counts:?}, {states:?}")) }
    })
    .await;
    for pair in &pairs[1..] {
        assert!(subject.count(pair.resource).await?.is_some(), "the counter of {pair}");
        assert!(subject.state(*pair).await?.is_some(), "the state of {pair}");
    }
    Ok(())
}

/// A pair whose event was discarded is asked of the database again; one that moved on since is left alone.
pub async fn only_the_named_version_is_forgotten(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let (gone, newer, filled, absent) = (video_pair(1, 1), video_pair(2, 1), video_pair(3, 2), video_pair(4, 3));
    let first = subject.accepted(like(gone)).await?.version;
    let old = subject.accepted(like(newer)).await?.version;
    let new = subject.accepted(unlike(newer)).await?.version;
    let row = PairState { liked: true, version: Version(70) };
    subject.cache.fill_states(&[(filled, row)]).await?;
    let discarded = [(gone, first), (newer, old), (filled, Version(71)), (absent, first)];
    for _ in 0..2 {
        subject.cache.forget_states(&discarded).await?;
        assert_eq!(subject.state(gone).await?, None);
        assert_eq!(subject.state(newer).await?, Some(PairState { liked: false, version: new }));
        assert_eq!(subject.state(filled).await?, Some(row));
    }
    assert_eq!(subject.journal_len().await?, 3, "a journal is none of its business");
    // The next like is a change again.
    assert!(subject.accepted(like(gone)).await?.version > first);
    subject.cache.forget_states(&[(filled, row.version)]).await?;
    assert_eq!(subject.state(filled).await?, None);
    Ok(())
}
