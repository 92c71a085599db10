//! What goes wrong before a wrong version of the protocol shows.

use super::Found;
use crate::rig::{PATIENCE, Process, Rig};
use fail::FailGuard;
use test_support::eventually;

/// Five likes are published, by a server that then ends.
pub(super) async fn published(rig: &Rig) {
    let process = rig.process().await;
    let server = process.server();
    process.accept_likes(&server, 5).await;
    // The relay ends when it has relayed everything.
    drop(server);
    process.stop().await;
    assert!(rig.queue().await.ready > 0, "nothing was published");
}

/// A consumer gets everything done but the commit, and is killed.
pub(super) async fn consumer_dies_before_commit(rig: &Rig) {
    let _away = FailGuard::new("store.before_commit", "return").unwrap();
    let consumer = rig.process().await;
    consumer.consume();
    eventually(PATIENCE, "a failed commit", async || consumer.stores.database_circuit.is_open()).await;
}

pub(super) async fn consumer_dies_and_cache_is_wiped(rig: &Rig) -> Found {
    published(rig).await;
    rig.wipe_cache("").await;
    consumer_dies_before_commit(rig).await;
    rig.empty_queue().await;
    rig.verify().await
}

pub(super) async fn consumer_dies_and_broker_is_wiped(rig: &Rig) -> Found {
    published(rig).await;
    consumer_dies_before_commit(rig).await;
    rig.wipe_broker().await;
    rescued(rig).await
}

pub(super) async fn broker_is_wiped(rig: &Rig) -> Found {
    published(rig).await;
    rig.wipe_broker().await;
    rescued(rig).await
}

pub(super) async fn server_dies_after_the_answer(rig: &Rig) -> Found {
    let process = rig.process().await;
    process.accept_likes(&process.dying_server(), 5).await;
    drop(process);
    rescued(rig).await
}

/// Everything must come back from the journals.
pub(super) async fn rescued(rig: &Rig) -> Found {
    let consumer = rig.process().await;
    consumer.consume();
    consumer.rescue();
    let found = rig.verify().await;
    consumer.stop().await;
    found
}

/// A process, and what it has accepted: still in the journal, committed by nobody.
pub(super) async fn accepted<'a>(rig: &'a Rig, operations: &[(i64, domain::Action)]) -> Process<'a> {
    let process = rig.process().await;
    let server = process.dying_server();
    for (user, action) in operations {
        process.accept(&server, *user, *action).await;
    }
    process
}
