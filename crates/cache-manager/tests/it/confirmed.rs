//! Answers that wait for replicas.

use crate::support::{PATIENCE, Raw, config};
use anyhow::{Context, Result, ensure};
use cache_manager::{RedisCache, RedisConfig, Unconfirmed};
use domain::Action;
use domain::cache::{AcceptOutcome, AcceptRequest, CacheResult, LikeCache, Replicas};
use futures::future::join_all;
use std::time::Duration;
use test_support::build::video_pair;
use test_support::cache_contract::{like, roomy_rules, unlike};
use test_support::{RedisGroup, RedisGroupOptions, RedisOptions, eventually};
use tokio::time::Instant;

const NODE: RedisOptions = RedisOptions { appendonly: false, preload: false };

/// Long enough that nothing on a busy machine takes it.
const PATIENT: Duration = Duration::from_secs(10);
const HASTY: Duration = Duration::from_millis(100);

async fn group() -> Result<RedisGroup> {
    RedisGroup::start(RedisGroupOptions { node: NODE, ..Default::default() }).await
}

async fn confirming(group: &RedisGroup, timeout: Duration, unconfirmed: Unconfirmed) -> Result<RedisCache> {
    let config = RedisConfig {
        confirm_replicas: 1,
        confirm_timeout: timeout,
        unconfirmed,
        response_timeout: 2 * PATIENT,
        ..config(group.node(0)?.url(), "")
    };
    let cache = config.build(roomy_rules())?;
    cache.prepare().await?;
    Ok(cache)
}

fn by(user: i64) -> AcceptRequest {
    like(video_pair(user, 1))
}

fn keyed(mut request: AcceptRequest) -> AcceptRequest {
    request.intent.idempotency_key = Some("k".into());
    request
}

async fn asked(cache: &RedisCache, request: AcceptRequest) -> CacheResult<AcceptOutcome> {
    cache.accept(&[request]).await.remove(0)
}

async fn replicas(cache: &RedisCache) -> Result<Replicas> {
    cache.durability().await?.and_then(|durability| durability.replicas).context("nothing is said of replicas")
}

async fn calls(group: &RedisGroup, command: &str) -> Result<u64> {
    let said = group.node(0)?.cli(&["INFO", "commandstats"]).await?;
    let line = said.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    Ok(line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0))
}

#[tokio::test]
async fn an_answer_is_given_when_the_replica_has_what_it_says() -> Result<()> {
    let group = group().await?;
    let cache = confirming(&group, PATIENT, Unconfirmed::Refuse).await?;
    ensure!(matches!(asked(&cache, by(1)).await?, AcceptOutcome::Accepted(_)));
    ensure!(replicas(&cache).await? == Replicas { wanted: 1, attached: 1, unconfirmed: 0, refused: true });
    // Of an answered like the replica has journal, clock, pair and counter.
    let copy = Raw::connect(group.node(1)?.url(), String::new()).await?;
    for user in 2..20 {
        ensure!(matches!(asked(&cache, by(user)).await?, AcceptOutcome::Accepted(_)));
        let entries: Vec<String> = copy.run("KEYS *:j").await?;
        let journal = entries.first().context("no journal")?;
        ensure!(copy.run::<i64>(&format!("XLEN {journal}")).await? == user, "{user}");
    }
    Ok(())
}

/// Also those that write nothing: they rely on a word that may be as unconfirmed.
#[tokio::test]
async fn without_the_replica_nothing_is_promised_and_repeating_is_safe() -> Result<()> {
    let group = group().await?;
    let cache = confirming(&group, HASTY, Unconfirmed::Refuse).await?;
    let other = config(group.node(0)?.url(), "").build(roomy_rules())?;
    asked(&cache, by(1)).await?;
    group.link(1)?.freeze();
    // Somebody else's word, which no replica has.
    let AcceptOutcome::Accepted(_) = asked(&other, keyed(by(2))).await? else { anyhow::bail!("not accepted") };

    let first = asked(&cache, by(3)).await?;
    ensure!(matches!(first, AcceptOutcome::Unconfirmed { written: Some(_) }), "{first:?}");
    for repeated in [by(2), keyed(by(2)), by(3)] {
        let outcome = asked(&cache, repeated).await?;
        ensure!(outcome == AcceptOutcome::Unconfirmed { written: None }, "{outcome:?}");
    }
    ensure!(replicas(&cache).await?.unconfirmed == 4);
    // Whoever promises nothing needs nobody's word.
    let late = AcceptRequest { until: std::time::Instant::now(), ..by(9) };
    let outcome = asked(&cache, late).await?;
    ensure!(outcome == AcceptOutcome::Expired, "{outcome:?}");

    group.link(1)?.restore().await?;
    for repeated in [by(2), keyed(by(2)), by(3), unlike(video_pair(3, 1))] {
        let answered =
            eventually(PATIENCE, "a confirmed answer", async || match asked(&cache, repeated.clone()).await {
                Ok(AcceptOutcome::Unconfirmed { .. }) => Err("unconfirmed".to_owned()),
                other => other.map_err(|error| error.to_string()),
            });
        let answered = answered.await;
        let as_it_is = matches!(answered, AcceptOutcome::Unchanged(_) | AcceptOutcome::Repeated { .. });
        ensure!(as_it_is == (repeated.intent.action == Action::Like), "{answered:?}");
    }
    Ok(())
}

#[tokio::test]
async fn reads_do_not_wait_for_replicas() -> Result<()> {
    let group = group().await?;
    let cache = confirming(&group, PATIENT, Unconfirmed::Refuse).await?;
    asked(&cache, by(1)).await?;
    group.link(1)?.freeze();
    let waiting = asked(&cache, by(2));
    tokio::pin!(waiting);
    let read = async {
        let journal = async || match cache.shard_status().await {
            Ok(shards) if shards.iter().map(|shard| shard.journal_len).sum::<u64>() == 2 => Ok(()),
            other => Err(format!("{other:?}")),
        };
        eventually(PATIENCE, "the like in the journal", journal).await;
        cache.counts(&[video_pair(1, 1).resource]).await
    };
    let count = tokio::select! {
        answer = &mut waiting => anyhow::bail!("answered: {answer:?}"),
        count = read => count?,
    };
    ensure!(count[0].is_some_and(|count| count.served == 2), "{count:?}");
    group.link(1)?.restore().await?;
    ensure!(matches!(waiting.await?, AcceptOutcome::Accepted(_)));
    Ok(())
}

/// What leaves together is confirmed by one `WAIT`.
#[tokio::test]
async fn many_likes_share_one_wait() -> Result<()> {
    let group = group().await?;
    let cache = confirming(&group, PATIENT, Unconfirmed::Refuse).await?;
    asked(&cache, by(1)).await?;
    // While these wait, the others gather.
    group.link(1)?.delay(Duration::from_millis(50));
    let (scripts, waits) = (calls(&group, "evalsha").await?, calls(&group, "wait").await?);
    let likes: Vec<AcceptRequest> = (1..=300).map(|video| like(video_pair(7, video))).collect();
    let outcomes = join_all(likes.into_iter().map(|request| asked(&cache, request))).await;
    for outcome in outcomes {
        ensure!(matches!(outcome?, AcceptOutcome::Accepted(_)));
    }
    let (scripts, waits) = (calls(&group, "evalsha").await? - scripts, calls(&group, "wait").await? - waits);
    ensure!(scripts >= 4 && waits * 2 < scripts, "{scripts} calls, {waits} times waited");
    Ok(())
}

#[tokio::test]
async fn who_knows_that_nobody_can_confirm_does_not_begin() -> Result<()> {
    let group = group().await?;
    let refusing = confirming(&group, PATIENT, Unconfirmed::Refuse).await?;
    let answering = confirming(&group, PATIENT, Unconfirmed::Answer).await?;
    group.node(1)?.kill9()?;
    for cache in [&refusing, &answering] {
        eventually(PATIENCE, "a look at the replicas", async || match replicas(cache).await {
            Ok(replicas) if replicas.attached == 0 => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }
    let begin = Instant::now();
    let outcome = asked(&refusing, by(1)).await?;
    ensure!(outcome == AcceptOutcome::Unconfirmed { written: None }, "{outcome:?}");
    ensure!(refusing.shard_status().await?.iter().all(|shard| shard.journal_len == 0), "it was written");
    let outcome = asked(&answering, by(1)).await?;
    ensure!(matches!(outcome, AcceptOutcome::Accepted(_)), "{outcome:?}");
    ensure!(replicas(&answering).await? == Replicas { wanted: 1, attached: 0, unconfirmed: 1, refused: false });
    ensure!(begin.elapsed() < PATIENT, "it waited for nobody");
    Ok(())
}
