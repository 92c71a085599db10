//! Links that hold one way: what a server asked reaches Redis late, or what Redis answered reaches the server late.

use crate::support::config;
use anyhow::{Context, Result, bail};
use cache_manager::{RedisCache, RedisConfig};
use domain::cache::{AcceptOutcome, AcceptRequest, CacheResult, LikeCache};
use planted_bugs::plant_here;
use std::time::{Duration, Instant};
use test_support::build::video_pair;
use test_support::cache_contract::{like, roomy_rules};
use test_support::{Redis, RedisOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A call is to begin within four fifths of it.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(6);

/// A link before Redis, each way of which can be held.
struct Link {
    url: String,
    requests: watch::Sender<bool>,
    answers: watch::Sender<bool>,
}

impl Link {
    async fn start(upstream: String) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("bind")?;
        let url = format!("redis://{}", listener.local_addr()?);
        let ((requests, asked), (answers, told)) = (watch::channel(false), watch::channel(false));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&upstream).await else { return };
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                tokio::spawn(pass(from_client, to_server, asked.clone()));
                tokio::spawn(pass(from_server, to_client, told.clone()));
            }
        });
        Ok(Self { url, requests, answers })
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut held: watch::Receiver<bool>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if held.wait_for(|held| !held).await.is_err() || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

/// A server that knows Redis's clock and counters.
async fn linked(redis: &Redis, response_timeout: Duration) -> Result<(RedisCache, Link)> {
    let link = Link::start(redis.addr()?.to_string()).await?;
    let cache = RedisConfig { response_timeout, ..config(&link.url, "") }.build(roomy_rules())?;
    cache.prepare().await?;
    // Redis has the script, too.
    one(&cache, like(video_pair(9, 9))).await?;
    Ok((cache, link))
}

async fn one(cache: &RedisCache, request: AcceptRequest) -> CacheResult<AcceptOutcome> {
    cache.accept(&[request]).await.remove(0)
}

/// What became of a like whose caller has time, and of one whose caller's time ends while the request is held.
async fn held_for_too_long() -> Result<(CacheResult<AcceptOutcome>, CacheResult<AcceptOutcome>, u64)> {
    let redis = Redis::start(RedisOptions::default()).await?;
    let (cache, link) = linked(&redis, RESPONSE_TIMEOUT).await?;
    link.requests.send_replace(true);
    // Held until after the call had to begin, and before the answer is given up.
    let release = async {
        tokio::time::sleep(RESPONSE_TIMEOUT * 9 / 10).await;
        link.requests.send_replace(false);
    };
    let patient = like(video_pair(1, 1));
    let until = Instant::now() + RESPONSE_TIMEOUT * 17 / 20;
    let hurried = AcceptRequest { until, ..like(video_pair(2, 2)) };
    let (patient, hurried, ()) = tokio::join!(one(&cache, patient), one(&cache, hurried), release);
    let written = cache.shard_status().await?.iter().map(|shard| shard.journal_len).sum();
    Ok((patient, hurried, written))
}

/// Redis answers that the call came too late: asked once more, within each caller's own time.
#[tokio::test]
async fn a_request_that_was_held_is_asked_again_within_its_callers_time() -> Result<()> {
    match held_for_too_long().await? {
        (Ok(AcceptOutcome::Accepted(_)), Ok(AcceptOutcome::Expired), 2) => Ok(()),
        other => bail!("{other:?}"),
    }
}

#[tokio::test]
async fn asking_afresh_is_found() -> Result<()> {
    let _planted = plant_here("expired_asked_afresh");
    match held_for_too_long().await? {
        (_, Ok(AcceptOutcome::Accepted(_)), _) => Ok(()),
        other => bail!("the bug does not show: {other:?}"),
    }
}

/// Entries of likes whose callers leave while the request is held: nobody has asked for more than this one.
async fn held_and_left() -> Result<u64> {
    let redis = Redis::start(RedisOptions::default()).await?;
    let (cache, link) = linked(&redis, RESPONSE_TIMEOUT).await?;
    link.requests.send_replace(true);
    let left = tokio::time::timeout(RESPONSE_TIMEOUT / 10, one(&cache, like(video_pair(1, 1)))).await;
    anyhow::ensure!(left.is_err(), "answered through a link that holds requests: {left:?}");
    tokio::time::sleep(RESPONSE_TIMEOUT * 8 / 10).await;
    link.requests.send_replace(false);
    // The shard's next call: it leaves when the one before is concluded, asked again or not.
    one(&cache, like(video_pair(2, 1))).await?;
    Ok(cache.shard_status().await?.iter().map(|shard| shard.journal_len).sum())
}

/// Its caller may have said something else meanwhile, at another server.
#[tokio::test]
async fn a_request_that_was_held_is_not_asked_again_for_a_caller_that_has_gone() -> Result<()> {
    let written = held_and_left().await?;
    anyhow::ensure!(written == 2, "{written} entries");
    Ok(())
}

#[tokio::test]
async fn asking_again_for_a_caller_that_has_gone_is_found() -> Result<()> {
    let _planted = plant_here("gone_callers_asked_again");
    let written = held_and_left().await?;
    anyhow::ensure!(written == 3, "the bug does not show: {written} entries");
    Ok(())
}

#[tokio::test]
async fn an_answer_that_was_held_is_found_by_its_key() -> Result<()> {
    let redis = Redis::start(RedisOptions::default()).await?;
    let (cache, link) = linked(&redis, Duration::from_secs(1)).await?;
    let mut request = like(video_pair(1, 1));
    request.intent.idempotency_key = Some("held".to_owned());
    link.answers.send_replace(true);
    match one(&cache, request.clone()).await {
        Err(error) if error.is_unavailable() => {}
        other => bail!("{other:?} through a link that holds answers"),
    }
    link.answers.send_replace(false);
    cache.ping().await?;
    match one(&cache, request).await? {
        AcceptOutcome::Repeated { changed: true, .. } => {}
        other => bail!("{other:?}"),
    }
    let written: u64 = cache.shard_status().await?.iter().map(|shard| shard.journal_len).sum();
    anyhow::ensure!(written == 2, "{written} entries");
    Ok(())
}
