//! A cache that becomes what it once was.

use crate::planted::finds;
use crate::rig::PATIENCE;
use domain::Action::{Like, Unlike};
use test_support::{eventually, expect_eq};

/// The process that was answered more notices, and from then on no process believes pairs of before.
#[tokio::test]
async fn floor_ignored() {
    finds("floor_ignored", "lost", async |rig| {
        let (first, second) = (rig.process().await, rig.process().await);
        let (at_first, at_second) = (first.server(), second.server());
        let consumer = rig.process().await;
        consumer.consume();
        first.accept(&at_first, 1, Like).await;
        second.accept(&at_second, 2, Like).await;
        first.settled().await;
        consumer.stop().await;
        let copy = rig.copy_cache().await;
        // Its row is still the like.
        first.accept(&at_first, 1, Unlike).await;
        eventually(PATIENCE, "the unlike in the queue", async || expect_eq(rig.queue().await.ready, 1)).await;
        rig.restore_cache(&copy).await;
        first.accept(&at_first, 3, Like).await;
        second.accept(&at_second, 1, Like).await;
        let consumer = rig.process().await;
        consumer.consume();
        rig.verify().await
    })
    .await;
}

/// What neither broker nor database took is in the memory of a living server.
#[tokio::test]
async fn reoffer_forgotten() {
    finds("reoffer_forgotten", "lost", async |rig| {
        let process = rig.process().await;
        let (server, kept) = process.keeping_server();
        process.accept(&server, 9, Like).await;
        eventually(PATIENCE, "a published like", async || expect_eq(rig.queue().await.ready, 1)).await;
        process.stores.broker_circuit.trip(&"unplugged");
        process.stores.database_circuit.trip(&"unplugged");
        process.accept_likes(&server, 3).await;
        eventually(PATIENCE, "likes that are kept", async || expect_eq(kept.len(), 3)).await;
        rig.wipe_cache("").await;
        process.stores.broker_circuit.close();
        process.stores.database_circuit.close();
        eventually(PATIENCE, "a look at what is kept", async || expect_eq(kept.len(), 0)).await;
        let consumer = rig.process().await;
        consumer.consume();
        rig.verify().await
    })
    .await;
}
