//! Accept: transitions, answers, versions.

use super::{MakeCache, Subject, like, missing, stored, unlike};
use crate::build::{comment_pair, video_pair};
use anyhow::{Result, ensure};
use domain::cache::{AcceptOutcome, AcceptRequest, CachedCount, MissingCount, SettledResource, Settlement};
use domain::{Origin, PairState, StoredCount, Version};

/// An accepted like changes pair, counter and journal, and the journal carries the payload.
pub async fn a_change_writes_pair_counter_and_journal(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let pair = video_pair(1, 1);
    let first = like(pair);
    let payload = first.payload.clone();
    let liked = subject.accepted(missing(first, MissingCount::Fill(stored(7, 3)))).await?;
    assert_eq!(liked.count, Some(8));
    assert_eq!(subject.state(pair).await?, Some(PairState { liked: true, version: liked.version }));
    let expected = CachedCount { served: 8, pending: 1, last_version: liked.version, stored: 7, stored_revision: 3 };
    assert_eq!(subject.cached_count(pair.resource).await?, expected);
    let journal = subject.journal(pair.resource).await?;
    assert_eq!(journal.len(), 1);
    assert_eq!((journal[0].version, journal[0].origin), (liked.version, Origin::Journal));
    assert_eq!(journal[0].payload, payload);

    let unliked = subject.accepted(unlike(pair)).await?;
    assert_eq!(unliked.count, Some(7));
    assert_eq!(subject.state(pair).await?, Some(PairState { liked: false, version: unliked.version }));
    let count = subject.cached_count(pair.resource).await?;
    assert_eq!((count.served, count.pending, count.last_version), (7, 2, unliked.version));
    Ok(())
}

/// Rows that somebody else wrote may hold any number, and one of them must not cost a shard all likes to come.
pub async fn numbers_that_can_be_no_versions_move_no_clock(make: impl MakeCache) -> Result<()> {
    for number in [Version(Version::MAX.0 + 1), Version(5_700_000_000_000_000), Version(i64::MAX / 4)] {
        let subject = Subject::new(&make).await;
        let (pair, row) = (video_pair(1, 1), PairState { liked: true, version: number });
        let foreign = StoredCount { last_version: number, ..stored(7, 3) };
        let fits = |version: Version| {
            ensure!(version <= Version::MAX, "{version} after a row with {number}");
            Ok(())
        };
        subject.cache.fill_counts(&[(video_pair(1, 2).resource, foreign)]).await?;
        fits(subject.accepted(missing(like(video_pair(2, 2)), MissingCount::Report)).await?.version)?;
        fits(subject.accepted(missing(like(pair), MissingCount::Fill(foreign))).await?.version)?;
        let reserve = AcceptRequest { reserve: Some(number), missing: MissingCount::Report, ..unlike(pair) };
        match subject.cache.accept(&[reserve]).await.remove(0)? {
            AcceptOutcome::Reserved { version, .. } => fits(version)?,
            other => anyhow::bail!("{other:?}"),
        }
        let settled = SettledResource { resource: pair.resource, entries: Vec::new(), stored: Some(foreign) };
        subject.cache.settle(&Settlement { resources: vec![settled], pairs: vec![(pair, row)], commit: None }).await?;
        subject.cache.fill_states(&[(pair, row), (video_pair(3, 1), row)]).await?;
        let last = subject.accepted(unlike(pair)).await?;
        fits(last.version)?;
        assert_eq!(subject.state(pair).await?, Some(PairState { liked: false, version: last.version }));
    }
    Ok(())
}

/// A second like of the same pair answers the count and the version of the first.
pub async fn the_wanted_state_already_held_writes_nothing(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let pair = comment_pair(1, 1);
    let first = subject.accepted(like(pair)).await?;
    let before = subject.cached_count(pair.resource).await?;
    assert_eq!(subject.unchanged(like(pair)).await?, first);
    assert_eq!(subject.cached_count(pair.resource).await?, before);
    assert_eq!(subject.journal_len().await?, 1);
    // The same of an unlike.
    let second = subject.accepted(unlike(pair)).await?;
    assert_eq!(subject.unchanged(unlike(pair)).await?, second);
    assert_eq!(subject.journal_len().await?, 2);
    Ok(())
}

/// A rewrite goes to the journal with a version of its own, and leaves the count to the database.
pub async fn a_rewrite_writes_what_is_held_already(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let pair = video_pair(1, 1);
    let first = subject.accepted(like(pair)).await?;
    let again = subject.accepted(AcceptRequest { rewrite: true, ..like(pair) }).await?;
    ensure!(again.version > first.version, "{again:?} after {first:?}");
    assert_eq!(again.count, first.count);
    assert_eq!(subject.state(pair).await?, Some(PairState { liked: true, version: again.version }));
    assert_eq!(subject.cached_count(pair.resource).await?.pending, 2);
    assert_eq!(subject.journal_len().await?, 2);
    Ok(())
}

/// A reserved version is above everything accepted before and above what the caller knows, and below everything accepted
/// afterwards; nothing but the clock changes, and no counter is needed.
pub async fn a_reserved_version_orders_and_writes_nothing(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let pair = video_pair(1, 1);
    let reserve = |above| AcceptRequest { reserve: Some(above), missing: MissingCount::Report, ..unlike(pair) };
    let take = async |above| match subject.cache.accept(&[reserve(above)]).await.remove(0)? {
        AcceptOutcome::Reserved { version, held } => Ok((version, held)),
        other => anyhow::bail!("{other:?}"),
    };
    let (early, held) = take(Version::ZERO).await?;
    ensure!(held.is_none(), "{held:?}");
    let first = subject.accepted(like(pair)).await?;
    ensure!(first.version > early, "{first:?} after {early}");
    let before = subject.cached_count(pair.resource).await?;
    let (version, held) = take(Version::ZERO).await?;
    ensure!(version > first.version, "{version} after {first:?}");
    assert_eq!(held, Some(PairState { liked: true, version: first.version }));
    assert_eq!(subject.cached_count(pair.resource).await?, before);
    assert_eq!(subject.state(pair).await?, held);
    assert_eq!(subject.journal_len().await?, 1);
    let ahead = Version(version.0 + 1_000_000_000);
    ensure!(take(ahead).await?.0 > ahead, "not above what is known");
    let last = subject.accepted(like(video_pair(2, 1))).await?;
    ensure!(last.version > ahead, "{last:?} after {ahead}");
    Ok(())
}

/// Nothing known of the pair: the change is assumed to be one, and settling corrects the counter if it was none.
pub async fn an_unknown_pair_is_taken_for_the_opposite(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let pair = video_pair(1, 1);
    let five = MissingCount::Fill(stored(5, 1));
    assert_eq!(subject.accepted(missing(unlike(pair), five)).await?.count, Some(4));
    assert_eq!(subject.accepted(like(video_pair(2, 1))).await?.count, Some(5));
    assert_eq!(subject.journal_len().await?, 2);
    Ok(())
}

/// `Report`: the counter is asked for, and nothing is written.
pub async fn an_unknown_counter_is_reported(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let pair = video_pair(1, 1);
    let outcome = subject.accept(missing(like(pair), MissingCount::Report)).await?;
    assert_eq!(outcome, AcceptOutcome::CountMissing);
    assert_eq!((subject.state(pair).await?, subject.count(pair.resource).await?), (None, None));
    assert_eq!(subject.journal_len().await?, 0);
    Ok(())
}

/// `Fill`: the like is counted on top of what the database said.
pub async fn an_unknown_counter_is_filled(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let pair = video_pair(1, 1);
    let answer = subject.accepted(missing(like(pair), MissingCount::Fill(stored(41, 9)))).await?;
    assert_eq!(answer.count, Some(42));
    let count = subject.cached_count(pair.resource).await?;
    assert_eq!((count.pending, count.stored, count.stored_revision), (1, 41, 9));
    Ok(())
}

/// A fill that comes late does not replace a counter.
pub async fn a_fill_leaves_a_cached_counter_alone(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    subject.accepted(missing(like(video_pair(1, 1)), MissingCount::Fill(stored(10, 2)))).await?;
    let answer = subject.accepted(missing(like(video_pair(2, 1)), MissingCount::Fill(stored(99, 3)))).await?;
    assert_eq!(answer.count, Some(12));
    let count = subject.cached_count(video_pair(1, 1).resource).await?;
    assert_eq!((count.pending, count.stored, count.stored_revision), (2, 10, 2));
    Ok(())
}

/// The counter is filled even if the like changes nothing, and the shard's clock learns what the database holds.
pub async fn a_fill_without_a_change_is_kept(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let pair = video_pair(1, 1);
    let first = subject.accepted(missing(like(pair), MissingCount::Without)).await?;
    let ahead = Version(first.version.0 + 3_600_000_000);
    let fill = StoredCount { count: 5, revision: 2, last_version: ahead };
    let again = subject.unchanged(missing(like(pair), MissingCount::Fill(fill))).await?;
    assert_eq!((again.count, again.version), (Some(5), first.version));
    let count = subject.cached_count(pair.resource).await?;
    assert_eq!((count.served, count.pending, count.stored_revision), (5, 0, 2));
    assert!(subject.accepted(unlike(pair)).await?.version > ahead);
    Ok(())
}

/// `Without`: accepted, answered without a count, and no counter appears.
pub async fn an_unknown_counter_can_be_done_without(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let pair = video_pair(1, 1);
    let answer = subject.accepted(missing(like(pair), MissingCount::Without)).await?;
    assert_eq!(answer.count, None);
    assert_eq!(subject.count(pair.resource).await?, None);
    assert_eq!(subject.state(pair).await?, Some(PairState { liked: true, version: answer.version }));
    assert_eq!(subject.journal(pair.resource).await?.len(), 1);
    assert_eq!(subject.unchanged(missing(like(pair), MissingCount::Without)).await?.count, None);
    // A cached counter is used all the same.
    subject.fill_count(pair.resource, stored(1, 1)).await?;
    assert_eq!(subject.accepted(missing(unlike(pair), MissingCount::Without)).await?.count, Some(0));
    Ok(())
}

/// Unlikes of unknown pairs do not lead below zero.
pub async fn the_count_is_never_below_zero(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    for user in 1..=3 {
        assert_eq!(subject.accepted(unlike(video_pair(user, 1))).await?.count, Some(0));
    }
    let count = subject.cached_count(video_pair(1, 1).resource).await?;
    assert_eq!((count.served, count.pending), (0, 3));
    Ok(())
}

/// Within a shard every version is larger than the one before, however fast they come.
pub async fn versions_strictly_increase(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let mut last = vec![Version::ZERO; usize::from(subject.rules.shards.get())];
    for round in 0..10 {
        let batch: Vec<_> = (1..=40).map(|id| like(video_pair(round + 1, id))).collect();
        for (request, outcome) in batch.iter().zip(subject.cache.accept(&batch).await) {
            let AcceptOutcome::Accepted(answer) = outcome? else { anyhow::bail!("not accepted") };
            let last = &mut last[usize::from(subject.shard(request.intent.pair.resource).0)];
            ensure!(answer.version > *last, "{} after {last}", answer.version);
            *last = answer.version;
        }
    }
    Ok(())
}

/// The cache's clock may be behind what the database holds: a fill tells it, and versions go on from there, one by one.
pub async fn versions_stay_above_the_database(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let pair = video_pair(1, 1);
    let now = subject.accepted(like(video_pair(9, 9))).await?.version;
    let future = Version(now.0 + 86_400_000_000);
    let fill = MissingCount::Fill(StoredCount { count: 0, revision: 1, last_version: future });
    let mut expected = future;
    for request in [like(pair), unlike(pair), like(pair)] {
        expected = Version(expected.0 + 1);
        assert_eq!(subject.accepted(missing(request, fill)).await?.version, expected);
    }
    Ok(())
}

/// Like, unlike, like of one pair in one call.
pub async fn items_of_a_batch_see_each_other(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let pair = video_pair(1, 1);
    let batch = [like(pair), unlike(pair), unlike(pair), like(pair)];
    let outcomes = subject.cache.accept(&batch).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    let counts: Vec<_> = outcomes
        .iter()
        .map(|outcome| match outcome {
            AcceptOutcome::Accepted(answer) => (true, answer.count),
            AcceptOutcome::Unchanged(answer) => (false, answer.count),
            _ => (false, None),
        })
        .collect();
    assert_eq!(counts, [(true, Some(1)), (true, Some(0)), (false, Some(0)), (true, Some(1))]);
    assert_eq!(subject.journal_len().await?, 3);
    Ok(())
}

/// Answers come in the order of the questions, whatever shards they live in; questions too.
pub async fn a_batch_over_all_shards_answers_in_order(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let pairs: Vec<_> = (1..=100).map(|id| video_pair(1, id)).collect();
    let batch: Vec<_> = pairs
        .iter()
        .map(|pair| missing(like(*pair), MissingCount::Fill(stored(pair.resource.id.get() * 10, 1))))
        .collect();
    for (pair, outcome) in pairs.iter().zip(subject.cache.accept(&batch).await) {
        let AcceptOutcome::Accepted(answer) = outcome? else { anyhow::bail!("{pair} not accepted") };
        assert_eq!(answer.count, Some(pair.resource.id.get() * 10 + 1));
        assert_eq!(subject.state(*pair).await?.map(|state| state.version), Some(answer.version));
    }
    let resources: Vec<_> = pairs.iter().map(|pair| pair.resource).collect();
    let served: Vec<_> = subject.cache.counts(&resources).await?.into_iter().flatten().map(|c| c.served).collect();
    assert_eq!(served, (1..=100).map(|id| id * 10 + 1).collect::<Vec<_>>());
    assert_eq!(subject.cache.states(&pairs).await?.iter().flatten().count(), 100);
    assert!(subject.cache.accept(&[]).await.is_empty());
    assert!(subject.cache.counts(&[]).await?.is_empty() && subject.cache.states(&[]).await?.is_empty());
    Ok(())
}

/// One item without a counter does not keep the others of its shard from being accepted.
pub async fn items_of_a_batch_fail_alone(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let batch: Vec<_> = (1..=20)
        .map(|id| {
            let request = like(video_pair(1, id));
            if id % 3 == 0 { missing(request, MissingCount::Report) } else { request }
        })
        .collect();
    for (id, outcome) in (1..).zip(subject.cache.accept(&batch).await) {
        let outcome = outcome?;
        let fits = match outcome {
            AcceptOutcome::CountMissing => id % 3 == 0,
            AcceptOutcome::Accepted(_) => id % 3 != 0,
            _ => false,
        };
        ensure!(fits, "item {id}: {outcome:?}");
    }
    assert_eq!(subject.journal_len().await?, 14);
    Ok(())
}

/// Who writes around the cache takes a version from its clock: it must be above everything that was answered.
pub async fn the_clock_is_known_and_covers_what_was_answered(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    subject.cache.ping().await?;
    let pair = video_pair(1, 1);
    let now = subject.accepted(like(pair)).await?.version;
    let clock = subject.cache.clock();
    ensure!(clock.is_some_and(|clock| clock > now), "clock {clock:?} after answering {now}");
    let future = Version(now.0 + 3_600_000_000);
    subject.fill_count(video_pair(1, 2).resource, StoredCount { last_version: future, ..stored(0, 1) }).await?;
    subject.settle(&super::row(pair, true, future.0)).await?;
    let version = subject.accepted(unlike(pair)).await?.version;
    let clock = subject.cache.clock();
    ensure!(clock.is_some_and(|clock| clock > version), "clock {clock:?} after answering {version}");
    Ok(())
}
