//! Nobody likes a deleted resource, whatever way likes go.

use crate::rig::{Rig, like, unlike, video};
use domain::{LikeIntent, Version};
use event_store::Operation;
use sync_engine::WritePath;
use sync_engine::accept::{Acceptor, Call, LikeError};
use sync_engine::operate::erase::{delete_resource, restore_resource, tell_deleted};
use test_support::Links;

fn who() -> Operation {
    Operation { actor: "ann".to_owned(), reason: None, selection: None }
}

fn keyed(intent: LikeIntent) -> LikeIntent {
    LikeIntent { idempotency_key: Some("once".to_owned()), ..intent }
}

/// Three words about video 1, from who had liked it and who had not, and one about another video between them.
async fn refuses(accept: &Acceptor, way: &str, others: i64) {
    let intents = vec![unlike(1, 1), keyed(like(2, 1)), like(others, 2), like(others, 1)];
    let results = accept.accept(intents, Call::arriving_now()).await;
    let refused: Vec<bool> = results.iter().map(|result| matches!(result, Err(LikeError::Deleted))).collect();
    assert!(refused == [true, true, false, true] && results[2].is_ok(), "{way}: {results:?}");
}

async fn accepts(accept: &Acceptor, way: &str, user: i64) {
    let answer = accept.accept_one(like(user, 1)).await.unwrap();
    assert!(answer.changed && answer.liked, "{way}: {answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_way_takes_likes_of_a_deleted_resource() {
    let mut rig = Rig::new().await;
    let links = Links::to(&rig.deployment).await.unwrap();
    let consumer = rig.process().await;
    consumer.consume();
    let (first, old) = (rig.process().await, rig.process().await);
    let event_driven = first.server();
    let synchronous = old.server_on(WritePath::Synchronous);
    rig.redis.url = links.redis.url_of(rig.deployment.redis().url()).into();
    let far = rig.process().await;
    let cut_off = far.server();
    for accept in [&event_driven, &synchronous, &cut_off] {
        accept.accept_one(like(1, 2)).await.unwrap();
    }
    event_driven.accept_one(like(1, 1)).await.unwrap();
    event_driven.accept_one(keyed(like(2, 1))).await.unwrap();
    first.settled().await;
    links.redis.cut().await;
    far.stores.cache_circuit.trip(&"cut");

    let deletion = delete_resource(&first.stores, video(1), &who()).await.unwrap();
    assert!(deletion.restored_at.is_none() && deletion.fence.up_to > Version::ZERO, "{deletion:?}");
    refuses(&event_driven, "by the cache", 11).await;
    refuses(&synchronous, "by the database first", 12).await;
    refuses(&cut_off, "around the cache", 13).await;
    first.settled().await;
    assert_eq!(rig.number("SELECT COUNT(*) FROM video_likes WHERE video_id = 1 AND user_id > 2").await, 0);
    assert_eq!(rig.number("SELECT like_count FROM like_counts WHERE resource_id = 2").await, 4);

    let restored = restore_resource(&first.stores, video(1), &who()).await.unwrap().unwrap();
    assert!(restored.restored_at.is_some() && restored.fence == deletion.fence, "{restored:?}");
    accepts(&event_driven, "by the cache", 21).await;
    accepts(&synchronous, "by the database first", 22).await;
    accepts(&cut_off, "around the cache", 23).await;
    first.settled().await;
    let rows = rig.sql("SELECT user_id FROM video_likes WHERE video_id = 1 AND user_id > 2 ORDER BY 1").await;
    assert_eq!(rows, "21\n22\n23\n");
    assert!(restore_resource(&first.stores, video(3), &who()).await.unwrap().is_none(), "it was never deleted");
    consumer.stop().await;
    drop((first, old, far));
    rig.end().await;
}

/// What is accepted until a cache without marks is told is kept, like everything that is accepted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_that_lost_its_marks_is_told_them_again() {
    let mut rig = Rig::new().await;
    let server = rig.process().await;
    delete_resource(&server.stores, video(1), &who()).await.unwrap();
    // Another cache: as empty as one that was wiped.
    rig.redis.key_prefix = format!("{}other:", rig.redis.key_prefix);
    let consumer = rig.process().await;
    consumer.consume();
    let emptied = rig.process().await;
    let accept = emptied.server();
    accepts(&accept, "without marks", 31).await;
    emptied.settled().await;
    assert_eq!(rig.number("SELECT like_count FROM like_counts WHERE resource_id = 1").await, 1);
    tell_deleted(&emptied.stores).await.unwrap();
    let again = accept.accept_one(like(32, 1)).await;
    assert!(matches!(again, Err(LikeError::Deleted)), "{again:?}");
    let taken_back = accept.accept_one(unlike(31, 1)).await;
    assert!(matches!(taken_back, Err(LikeError::Deleted)), "{taken_back:?}");
    consumer.stop().await;
    drop((server, emptied));
    rig.end().await;
}
