//! Whose word counts when: an older word must not come after a newer one of the same user.

use crate::planted::finds;
use crate::rig::{Process, Rig, VIDEO};
use domain::Action::{Like, Unlike};
use domain::cache::{AcceptOutcome, AcceptRequest, MissingCount};
use domain::codec::encode_payload;
use domain::{Action, LikeIntent, PairState, WritePath};
use event_store::{FailedEvent, Operation};
use std::time::{Duration, Instant};
use sync_engine::accept::{Acceptor, Call, LikeError};
use test_support::build::{intent, video_pair};

const SHORT: Duration = Duration::from_millis(300);

/// Time for whatever was left behind to do its harm.
const HARM: Duration = Duration::from_secs(2);

/// What the cache says of a user's like.
async fn cached(process: &Process<'_>, user: i64) -> Option<PairState> {
    process.stores.cache.states(&[video_pair(user, VIDEO)]).await.unwrap()[0]
}

fn keyed(user: i64, action: Action, key: &str) -> LikeIntent {
    LikeIntent { idempotency_key: Some(key.to_owned()), ..intent(video_pair(user, VIDEO), action) }
}

/// Liked, in the database, and taken back around the cache, which does not know it yet.
async fn taken_back_around_the_cache<'r>(rig: &'r Rig) -> (Process<'r>, Acceptor) {
    let near = rig.process().await;
    let server = near.dying_server();
    near.accept(&server, 1, Like).await;
    near.applier.apply(&near.journal().await).await.unwrap();
    let cut_off = rig.process().await;
    cut_off.stores.cache_circuit.trip(&"unplugged");
    cut_off.accept(&cut_off.dying_server(), 1, Unlike).await;
    (near, server)
}

#[tokio::test]
async fn pair_believed() {
    finds("pair_believed", "not written", async |rig| {
        let process = rig.process().await;
        let server = process.dying_server();
        process.accept(&server, 1, Like).await;
        let events = process.journal().await;
        let now = sync_engine::clock::wall_clock();
        let failed = FailedEvent { event: events[0].clone(), error: "no".to_owned(), next_retry_at: None };
        process.stores.database.park(&[failed], 1, now).await.unwrap();
        // Discarded; the cache, which was told nothing, has the pair still.
        let ids = [events[0].intent.id];
        process.stores.database.discard(&ids, &Operation::default(), now).await.unwrap();
        let answer = server.accept_one(intent(video_pair(1, VIDEO), Like)).await.unwrap();
        process.applier.apply(&process.journal().await).await.unwrap();
        let row = process.stores.database.load_states(&[video_pair(1, VIDEO)]).await.unwrap()[0];
        if row.liked { Ok(()) } else { Err(format!("acknowledged and not written: {answer:?}, row {row:?}")) }
    })
    .await;
}

#[tokio::test]
async fn expired_asked_afresh() {
    finds("expired_asked_afresh", "took effect", async |rig| {
        let process = rig.process().await;
        let server = process.dying_server();
        // Two at once go to the cache without waiting for others.
        let intents = vec![intent(video_pair(1, VIDEO), Like), intent(video_pair(2, VIDEO), Like)];
        let results = server.accept(intents, Call { until: Instant::now() }).await;
        match cached(&process, 1).await {
            None if results.iter().all(|result| matches!(result, Err(LikeError::Expired))) => Ok(()),
            None => Err(format!("{results:?}")),
            Some(state) => Err(format!("a call whose time was over took effect: {state:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn gone_callers_run() {
    finds("gone_callers_run", "took effect", async |rig| {
        let process = rig.process().await;
        process.accept(&process.dying_server(), 9, Like).await;
        let server = process.dying_server();
        rig.pause_cache(SHORT * 3).await;
        // The first is on its way; the second waits for its answer, and its caller does not.
        let first = tokio::spawn({
            let server = server.clone();
            async move { server.accept_one(intent(video_pair(1, VIDEO), Like)).await }
        });
        tokio::time::sleep(SHORT / 3).await;
        let gone = tokio::time::timeout(SHORT / 3, server.accept_one(intent(video_pair(2, VIDEO), Like))).await;
        assert!(gone.is_err(), "answered: {gone:?}");
        first.await.unwrap().unwrap();
        tokio::time::sleep(SHORT).await;
        match cached(&process, 2).await {
            None => Ok(()),
            Some(state) => Err(format!("a call without a caller took effect: {state:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn direct_without_deadline() {
    finds("direct_without_deadline", "took effect", async |rig| {
        let process = rig.process().await;
        process.accept(&process.dying_server(), 1, Like).await;
        process.applier.apply(&process.journal().await).await.unwrap();
        process.stores.cache_circuit.trip(&"unplugged");
        let server = process.dying_server();
        let hold = rig.sql("START TRANSACTION; SELECT * FROM like_counts FOR UPDATE; DO SLEEP(1.5); COMMIT");
        let write = async {
            tokio::time::sleep(SHORT).await;
            server.accept(vec![intent(video_pair(1, VIDEO), Unlike)], Call { until: Instant::now() + SHORT }).await
        };
        let (_, results) = tokio::join!(hold, write);
        tokio::time::sleep(HARM).await;
        let row = process.stores.database.load_states(&[video_pair(1, VIDEO)]).await.unwrap()[0];
        match results[0] {
            Err(LikeError::Expired) if row.liked => Ok(()),
            _ if row.liked => Err(format!("{results:?}")),
            _ => Err(format!("a direct write took effect after its time: {results:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn batch_in_one_round() {
    finds("batch_in_one_round", "the first", async |rig| {
        let (near, server) = taken_back_around_the_cache(rig).await;
        let both = vec![intent(video_pair(1, VIDEO), Like), intent(video_pair(1, VIDEO), Unlike)];
        let results = server.accept(both, Call::arriving_now()).await;
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        near.applier.apply(&near.journal().await).await.unwrap();
        let row = near.stores.database.load_states(&[video_pair(1, VIDEO)]).await.unwrap()[0];
        if row.liked { Err(format!("the first of two words is the last: {results:?}")) } else { Ok(()) }
    })
    .await;
}

#[tokio::test]
async fn unconfirmed_remembered() {
    finds("unconfirmed_remembered", "not written", async |rig| {
        let (near, server) = taken_back_around_the_cache(rig).await;
        // The cache takes it for unchanged; the server dies before it has asked the database.
        let intent = keyed(1, Like, "k");
        let request = AcceptRequest {
            payload: encode_payload(&intent),
            intent,
            missing: MissingCount::Without,
            limited: false,
            rewrite: false,
            reserve: None,
            until: Call::arriving_now().until,
        };
        let unsure = near.stores.cache.accept(&[request]).await.remove(0).unwrap();
        assert!(matches!(unsure, AcceptOutcome::Unchanged(_)), "{unsure:?}");
        // So its caller asks again.
        let answer = server.accept_one(keyed(1, Like, "k")).await.unwrap();
        near.applier.apply(&near.journal().await).await.unwrap();
        let row = near.stores.database.load_states(&[video_pair(1, VIDEO)]).await.unwrap()[0];
        if row.liked { Ok(()) } else { Err(format!("acknowledged and not written: {answer:?}, row {row:?}")) }
    })
    .await;
}

#[tokio::test]
async fn unchanged_key_forgotten() {
    finds("unchanged_key_forgotten", "undone", async |rig| {
        let process = rig.process().await;
        let server = process.dying_server();
        process.accept(&server, 1, Like).await;
        process.applier.apply(&process.journal().await).await.unwrap();
        process.stores.database.set_write_path(Some(WritePath::Synchronous)).await.unwrap();
        process.stores.prepare_database().await.unwrap();
        let first = server.accept_one(keyed(1, Like, "k")).await.unwrap();
        assert!(!first.changed, "{first:?}");
        process.accept(&server, 1, Unlike).await;
        let again = server.accept_one(keyed(1, Like, "k")).await.unwrap();
        let row = process.stores.database.load_states(&[video_pair(1, VIDEO)]).await.unwrap()[0];
        if row.liked { Err(format!("the last word is undone by a repetition: {again:?}")) } else { Ok(()) }
    })
    .await;
}

#[tokio::test]
async fn key_of_any_action() {
    finds("key_of_any_action", "nothing done", async |rig| {
        let process = rig.process().await;
        let server = process.dying_server();
        server.accept_one(keyed(1, Like, "k")).await.unwrap();
        match server.accept_one(keyed(1, Unlike, "k")).await {
            Err(LikeError::KeyReused) => Ok(()),
            answer => Err(format!("acknowledged and nothing done: {answer:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn served_unbounded() {
    finds("served_unbounded", "serves", async |rig| {
        let process = rig.process().await;
        let server = process.dying_server();
        process.accept_likes(&server, 3).await;
        rig.set_cached_count(100_000).await;
        // Two more are on their way all the time.
        let events = process.journal().await;
        let applied = process.commit(&events[0]).await;
        process.settle(&events[0], &applied).await;
        match process.served().await {
            Some((served, 2)) if (1..=3).contains(&served) => Ok(()),
            other => Err(format!("serves {other:?}")),
        }
    })
    .await;
}
