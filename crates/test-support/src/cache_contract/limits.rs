//! Bounds and lifetimes: journal limit, idempotency keys, user limit, expiry.

use super::{MakeCache, Subject, like, limited, missing, roomy_rules, settled, stored, unlike, with_key};
use crate::build::video_pair;
use crate::eventually;
use anyhow::{Result, bail, ensure};
use domain::cache::{AcceptOutcome, AcceptRequest, Answer, CacheRules, FirstAnswer, MissingCount, UserLimit};
use domain::{Pair, ShardCount, Version};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

/// At the limit a change is refused and leaves no trace; what changes nothing is still answered; settling makes room.
pub async fn a_full_journal_refuses_and_writes_nothing(make: impl MakeCache) -> Result<()> {
    let rules = CacheRules { shards: ShardCount::new(1)?, journal_limit: 3, ..roomy_rules() };
    let subject = Subject::with(make, rules).await;
    let batch: Vec<_> = (1..=5).map(|user| like(video_pair(user, 1))).collect();
    let outcomes = subject.cache.accept(&batch).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    let overloaded: Vec<_> = outcomes.iter().map(|outcome| *outcome == AcceptOutcome::Overloaded).collect();
    assert_eq!(overloaded, [false, false, false, true, true]);

    let before = subject.cached_count(video_pair(1, 1).resource).await?;
    assert_eq!((before.served, before.pending), (3, 3));
    for request in [unlike(video_pair(1, 1)), like(video_pair(4, 1)), like(video_pair(4, 2))] {
        assert_eq!(subject.accept(with_key(request, "k")).await?, AcceptOutcome::Overloaded);
    }
    assert_eq!(subject.cached_count(video_pair(1, 1).resource).await?, before);
    assert_eq!(subject.count(video_pair(4, 2).resource).await?, None);
    assert_eq!(subject.state(video_pair(4, 1)).await?, None);
    assert_eq!(subject.state(video_pair(1, 1)).await?.map(|state| state.liked), Some(true));
    assert_eq!(subject.journal_len().await?, 3);
    subject.unchanged(like(video_pair(1, 1))).await?;

    let oldest = subject.journal(video_pair(1, 1).resource).await?[0].version;
    subject.settle(&settled(video_pair(1, 1).resource, &[oldest], Some(stored(1, 1)))).await?;
    subject.accepted(with_key(like(video_pair(4, 1)), "k")).await?;
    assert_eq!(subject.accept(like(video_pair(5, 1))).await?, AcceptOutcome::Overloaded);
    Ok(())
}

/// The first answer again, even when others changed the count or the user did the opposite meanwhile.
pub async fn a_repeated_key_gets_the_first_answer(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let pair = video_pair(1, 1);
    let answer = subject.accepted(with_key(like(pair), "once")).await?;
    subject.accepted(like(video_pair(2, 1))).await?;
    subject.accepted(unlike(pair)).await?;
    let again = subject.accept(with_key(like(pair), "once")).await?;
    assert_eq!(again, AcceptOutcome::Repeated { answer, changed: true });
    assert_eq!(subject.state(pair).await?.map(|state| state.liked), Some(false));
    assert_eq!(subject.journal_len().await?, 3);
    // Nothing but the key is needed: not the counter either.
    let report = missing(with_key(like(pair), "once"), MissingCount::Report);
    assert_eq!(subject.accept(report).await?, AcceptOutcome::Repeated { answer, changed: true });
    // Without a count, too.
    let other = video_pair(1, 2);
    let answer = subject.accepted(missing(with_key(like(other), "none"), MissingCount::Without)).await?;
    let again = subject.accept(with_key(like(other), "none")).await?;
    assert_eq!((answer.count, again), (None, AcceptOutcome::Repeated { answer, changed: true }));
    Ok(())
}

/// An attempt that changed nothing is answered so again, though it would change something now.
pub async fn a_repeated_key_remembers_that_nothing_changed(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let pair = video_pair(1, 1);
    subject.accepted(like(pair)).await?;
    let answer = subject.unchanged(with_key(like(pair), "idle")).await?;
    subject.cache.remember(&[first(pair, "idle", answer, false)]).await?;
    subject.accepted(unlike(pair)).await?;
    let again = subject.accept(with_key(like(pair), "idle")).await?;
    assert_eq!(again, AcceptOutcome::Repeated { answer, changed: false });
    Ok(())
}

/// What was written around the cache answers its key afterwards; a key that has an answer keeps it.
pub async fn a_remembered_answer_is_the_first(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let pair = video_pair(1, 1);
    let reserve = AcceptRequest { reserve: Some(Version(5)), ..with_key(like(pair), "k") };
    let AcceptOutcome::Reserved { version, .. } = subject.accept(reserve.clone()).await? else { bail!("not reserved") };
    let answer = Answer { count: Some(9), version };
    subject.cache.remember(&[first(pair, "k", answer, true)]).await?;
    subject.cache.remember(&[first(pair, "k", Answer { count: None, version: Version(1) }, false)]).await?;
    let again = AcceptOutcome::Repeated { answer, changed: true };
    assert_eq!(subject.accept(reserve).await?, again);
    assert_eq!(subject.accept(with_key(like(pair), "k")).await?, again);
    assert_eq!(subject.journal_len().await?, 0);
    Ok(())
}

/// The cache accepted a call, nobody heard its answer, and its server wrote it around the cache: that is what its caller was told.
pub async fn a_key_answers_what_was_told_around_the_cache(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let pair = video_pair(1, 1);
    let unheard = subject.accepted(with_key(like(pair), "k")).await?;
    let told = Answer { count: Some(1), version: Version(unheard.version.0 + 1) };
    subject.cache.remember(&[first(pair, "k", told, true)]).await?;
    // The list of such keys is told again and again, and an older one may come late.
    for late in [told, unheard] {
        subject.cache.remember(&[first(pair, "k", late, true)]).await?;
    }
    let again = AcceptOutcome::Repeated { answer: told, changed: true };
    assert_eq!(subject.accept(with_key(like(pair), "k")).await?, again);
    assert_eq!(subject.accept(with_key(unlike(pair), "k")).await?, AcceptOutcome::KeyReused);
    Ok(())
}

/// "Unchanged" is only what the cache believes: until it is confirmed a repetition is judged anew.
pub async fn an_unconfirmed_unchanged_is_not_remembered(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let pair = video_pair(1, 1);
    subject.accepted(like(pair)).await?;
    subject.unchanged(with_key(like(pair), "k")).await?;
    let rewrite = AcceptRequest { rewrite: true, ..with_key(like(pair), "k") };
    let answer = subject.accepted(rewrite).await?;
    let again = subject.accept(with_key(like(pair), "k")).await?;
    assert_eq!(again, AcceptOutcome::Repeated { answer, changed: true });
    Ok(())
}

/// A key says "this very call again"; with the other action it is another call, and answering it so would undo nothing.
pub async fn a_key_of_the_other_action_is_refused(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let pair = video_pair(1, 1);
    let answer = subject.accepted(with_key(like(pair), "k")).await?;
    assert_eq!(subject.accept(with_key(unlike(pair), "k")).await?, AcceptOutcome::KeyReused);
    let reserve = AcceptRequest { reserve: Some(Version(5)), ..with_key(unlike(pair), "k") };
    assert_eq!(subject.accept(reserve).await?, AcceptOutcome::KeyReused);
    assert_eq!(subject.state(pair).await?.map(|state| state.version), Some(answer.version));
    subject.cache.remember(&[first(pair, "other", answer, true)]).await?;
    assert_eq!(subject.accept(with_key(unlike(pair), "other")).await?, AcceptOutcome::KeyReused);
    assert_eq!(subject.journal_len().await?, 1);
    Ok(())
}

/// A call that comes after its deadline writes nothing and uses up nothing; the others of its batch are as ever.
pub async fn what_comes_after_its_deadline_writes_nothing(make: impl MakeCache) -> Result<()> {
    let subject = Subject::with(make, limit(1, Duration::from_secs(3000))).await;
    let (pair, other) = (video_pair(1, 1), video_pair(2, 1));
    let late =
        AcceptRequest { until: Instant::now() - Duration::from_millis(50), ..limited(with_key(like(pair), "k")) };
    let outcomes = subject.cache.accept(&[late.clone(), like(other)]).await;
    assert!(matches!(outcomes[..], [Ok(AcceptOutcome::Expired), Ok(AcceptOutcome::Accepted(_))]), "{outcomes:?}");
    assert_eq!(subject.accept(late.clone()).await?, AcceptOutcome::Expired);
    let reserve = AcceptRequest { reserve: Some(Version(5)), ..late.clone() };
    assert_eq!(subject.accept(reserve).await?, AcceptOutcome::Expired);
    assert_eq!((subject.state(pair).await?, subject.journal_len().await?), (None, 1));
    // Neither key nor token is used up.
    subject.accepted(limited(with_key(like(pair), "k"))).await?;
    Ok(())
}

fn first(pair: Pair, key: &str, answer: Answer, changed: bool) -> FirstAnswer {
    FirstAnswer { pair, key: key.to_owned(), liked: true, answer, changed, age: Duration::ZERO }
}

/// Two pairs, and two keys of one pair, are apart.
pub async fn a_key_belongs_to_its_pair(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    for pair in [video_pair(1, 1), video_pair(2, 1), video_pair(1, 2), crate::build::comment_pair(1, 1)] {
        subject.accepted(with_key(like(pair), "same")).await?;
        subject.accepted(with_key(unlike(pair), "other")).await?;
    }
    Ok(())
}

/// What was not answered is not remembered.
pub async fn a_refused_attempt_does_not_use_up_its_key(make: impl MakeCache) -> Result<()> {
    let subject = Subject::new(make).await;
    let pair = video_pair(1, 1);
    let report = missing(with_key(like(pair), "k"), MissingCount::Report);
    assert_eq!(subject.accept(report).await?, AcceptOutcome::CountMissing);
    subject.accepted(with_key(like(pair), "k")).await?;
    Ok(())
}

/// After its lifetime a key is as new.
pub async fn a_key_is_forgotten_in_time(make: impl MakeCache) -> Result<()> {
    let rules = CacheRules { idempotency_ttl: Duration::from_secs(1), ..roomy_rules() };
    let subject = Subject::with(make, rules).await;
    let pair = video_pair(1, 1);
    subject.accepted(with_key(like(pair), "k")).await?;
    eventually(PATIENCE, "the key is forgotten", async || {
        match subject.accept(with_key(like(pair), "k")).await.map_err(|error| error.to_string())? {
            AcceptOutcome::Unchanged(_) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    Ok(())
}

/// The cache learns some time after the first call of its key: the key is as old as the call.
pub async fn a_key_that_is_told_late_has_what_is_left(make: impl MakeCache) -> Result<()> {
    let rules = CacheRules { idempotency_ttl: Duration::from_secs(3600), ..roomy_rules() };
    let subject = Subject::with(make, rules).await;
    let pair = video_pair(1, 1);
    let answer = subject.accepted(like(pair)).await?;
    let told = |key, age| FirstAnswer { age: Duration::from_secs(age), ..first(pair, key, answer, true) };
    subject.cache.remember(&[told("fresh", 0), told("old", 3598), told("over", 3600)]).await?;
    subject.cache.remember(&[told("gone", 9_000_000)]).await?;
    for key in ["over", "gone"] {
        assert_eq!(subject.accept(with_key(like(pair), key)).await?, AcceptOutcome::Unchanged(answer), "{key}");
    }
    eventually(PATIENCE, "the old key is forgotten", async || {
        match subject.accept(with_key(like(pair), "old")).await.map_err(|error| error.to_string())? {
            AcceptOutcome::Unchanged(_) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let again = subject.accept(with_key(like(pair), "fresh")).await?;
    assert_eq!(again, AcceptOutcome::Repeated { answer, changed: true });
    Ok(())
}

fn limit(actions: u32, period: Duration) -> CacheRules {
    CacheRules { user_limit: Some(UserLimit { actions, period }), ..roomy_rules() }
}

/// The burst is the number of actions; then one token comes per interval. Users do not share tokens, and requests that
/// are not limited need none.
pub async fn a_user_over_the_limit_waits(make: impl MakeCache) -> Result<()> {
    let subject = Subject::with(make, limit(3, Duration::from_secs(3000))).await;
    for id in 1..=3 {
        subject.accepted(limited(like(video_pair(1, id)))).await?;
    }
    for request in [like(video_pair(1, 4)), unlike(video_pair(1, 1)), like(video_pair(1, 2))] {
        match subject.accept(limited(request)).await? {
            AcceptOutcome::RateLimited { retry_after } => {
                ensure!(retry_after > Duration::from_secs(900), "{retry_after:?}");
                ensure!(retry_after <= Duration::from_secs(1000), "{retry_after:?}");
            }
            other => bail!("{other:?}"),
        }
    }
    assert_eq!(subject.state(video_pair(1, 4)).await?, None);
    assert_eq!(subject.count(video_pair(1, 4).resource).await?, None);
    assert_eq!(subject.journal_len().await?, 3);
    subject.accepted(limited(like(video_pair(2, 4)))).await?;
    subject.accepted(like(video_pair(1, 4))).await?;
    Ok(())
}

/// Asking too often does not put the next token off.
pub async fn a_token_comes_back_and_refusals_cost_nothing(make: impl MakeCache) -> Result<()> {
    let subject = Subject::with(make, limit(2, Duration::from_secs(4))).await;
    subject.accepted(limited(like(video_pair(1, 1)))).await?;
    subject.accepted(limited(like(video_pair(1, 2)))).await?;
    let started = std::time::Instant::now();
    let mut waits = vec![Duration::from_secs(2)];
    loop {
        match subject.accept(limited(like(video_pair(1, 3)))).await? {
            AcceptOutcome::Accepted(_) => break,
            AcceptOutcome::RateLimited { retry_after } => {
                ensure!(waits.last().is_some_and(|last| retry_after <= *last), "{retry_after:?} after {waits:?}");
                waits.push(retry_after);
            }
            other => bail!("{other:?}"),
        }
        ensure!(started.elapsed() < PATIENCE, "no token after {waits:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ensure!(waits.len() > 1, "the third like was not refused at all");
    match subject.accept(limited(like(video_pair(1, 4)))).await? {
        AcceptOutcome::RateLimited { .. } => Ok(()),
        other => bail!("one token came back, but a second like was {other:?}"),
    }
}

/// A missing counter, a full journal and a repeated key take no token; an answer that changes nothing does.
pub async fn only_answered_attempts_take_a_token(make: impl MakeCache) -> Result<()> {
    let rules = CacheRules { shards: ShardCount::new(1)?, journal_limit: 2, ..limit(3, Duration::from_secs(3000)) };
    let subject = Subject::with(make, rules).await;
    let pair = video_pair(1, 1);
    for _ in 0..5 {
        let report = limited(missing(like(pair), MissingCount::Report));
        assert_eq!(subject.accept(report).await?, AcceptOutcome::CountMissing);
    }
    subject.accepted(limited(with_key(like(pair), "k"))).await?;
    for _ in 0..5 {
        let again = subject.accept(limited(with_key(like(pair), "k"))).await?;
        ensure!(matches!(again, AcceptOutcome::Repeated { .. }), "{again:?}");
    }
    subject.accepted(limited(unlike(pair))).await?;
    for _ in 0..5 {
        assert_eq!(subject.accept(limited(like(pair))).await?, AcceptOutcome::Overloaded);
    }
    subject.unchanged(limited(unlike(pair))).await?;
    let last = subject.accept(limited(unlike(pair))).await?;
    ensure!(matches!(last, AcceptOutcome::RateLimited { .. }), "{last:?}");
    Ok(())
}

/// A pair is forgotten after its lifetime.
pub async fn a_pair_expires(make: impl MakeCache) -> Result<()> {
    let rules = CacheRules { pair_ttl: Duration::from_secs(1), ..roomy_rules() };
    let subject = Subject::with(make, rules).await;
    let pair = video_pair(1, 1);
    subject.accepted(like(pair)).await?;
    eventually(PATIENCE, "the pair expires", async || matches!(subject.state(pair).await, Ok(None)).then_some(()))
        .await;
    // The entry does not expire, nor does the pending counter.
    assert_eq!(subject.journal_len().await?, 1);
    assert_eq!(subject.cached_count(pair.resource).await?.pending, 1);
    Ok(())
}

/// A counter with pending entries outlives one without, and expires once it is settled.
pub async fn a_counter_expires_only_with_nothing_pending(make: impl MakeCache) -> Result<()> {
    let rules = CacheRules { counter_ttl: Duration::from_secs(1), ..roomy_rules() };
    let subject = Subject::with(make, rules).await;
    let (pending, idle, was_idle) = (video_pair(1, 1), video_pair(1, 2), video_pair(1, 3));
    subject.fill_count(was_idle.resource, stored(5, 1)).await?;
    let mut versions: Vec<Version> = Vec::new();
    for request in [like(pending), unlike(pending), like(was_idle)] {
        versions.push(subject.accepted(request).await?.version);
    }
    subject.fill_count(idle.resource, stored(5, 1)).await?;
    let gone = async |resource| matches!(subject.count(resource).await, Ok(None)).then_some(());
    eventually(PATIENCE, "the idle counter expires", || gone(idle.resource)).await;
    assert_eq!(subject.cached_count(pending.resource).await?.pending, 2);
    assert_eq!(subject.cached_count(was_idle.resource).await?.pending, 1);
    subject.settle(&settled(pending.resource, &versions[..1], Some(stored(1, 1)))).await?;
    subject.fill_count(idle.resource, stored(5, 1)).await?;
    eventually(PATIENCE, "the idle counter expires again", || gone(idle.resource)).await;
    assert_eq!(subject.cached_count(pending.resource).await?.pending, 1);
    subject.settle(&settled(pending.resource, &versions[1..2], Some(stored(0, 2)))).await?;
    // Parked: the database said no count.
    subject.settle(&settled(was_idle.resource, &versions[2..], None)).await?;
    eventually(PATIENCE, "the settled counter expires", || gone(pending.resource)).await;
    eventually(PATIENCE, "the parked counter expires", || gone(was_idle.resource)).await;
    Ok(())
}
