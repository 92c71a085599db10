//! Two checkers, one of them stopped in the middle of its work again and again: never two that repair.

use crate::deployment::{Asked, Checked, Found, PATIENCE, SOON, apply, operation, video_of};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use test_support::build::video_pair;
use test_support::{Program, eventually};

const VIDEOS: i64 = 20;
const ROUNDS: usize = 3;

/// Tokens of fenced repairs. Settling again needs no fence: revisions and versions decide, whoever does it.
fn repaired(found: &[Found]) -> Vec<u64> {
    let fenced = |one: &&Found| one.outcome() == "repaired" && one.details["repair"]["action"] != "settle";
    found.iter().filter(fenced).map(|one| one.token().unwrap()).collect()
}

async fn repaired_beyond(deployment: &Checked, token: u64) -> u64 {
    eventually(PATIENCE, format!("a repair with a token beyond {token}"), async || {
        let tokens = repaired(&deployment.found().await);
        tokens.last().copied().filter(|newest| *newest > token).ok_or(tokens.len())
    })
    .await
}

async fn holder(checkers: [&Program; 2]) -> (&Program, &Program) {
    eventually(PATIENCE, "some leader", async || {
        match (checkers[0].leader().await, checkers[1].leader().await) {
            (true, false) => Ok((checkers[0], checkers[1])),
            (false, true) => Ok((checkers[1], checkers[0])),
            (false, false) => Err("nobody"),
            // Asked one after the other: the leader may have changed between.
            (true, true) => Err("both"),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checker_that_was_stopped_past_its_lease_repairs_nothing_with_its_old_token() {
    let deployment = Checked::new()
        .await
        .with("DATA_CONSISTENCY__LEASE", "900ms")
        .with("DATA_CONSISTENCY__CHECK_INTERVAL", "300ms")
        .with("DATA_CONSISTENCY__HOT_DATA_CHECK", "200ms")
        .with("DATA_CONSISTENCY__CONFIRM_AFTER", "20ms")
        // It may be stopped in a transaction: the rows that it holds must come free.
        .with("DATABASE__SILENCE_LIMIT", "2s");
    let (server, consumer) = (deployment.server().await, deployment.consumer().await);
    let mut client = server.client().await;
    apply(&mut client, (1..=VIDEOS).map(|video| operation(video_pair(1, video), true)).collect()).await;
    deployment.settled(&server).await;
    server.end(SOON).await.unwrap();
    consumer.end(SOON).await.unwrap();

    let (one, two) = (deployment.checker().await, deployment.checker().await);
    let deployment = Arc::new(deployment);
    let stop = Arc::new(AtomicBool::new(false));
    // Something is always wrong, so that the leader is always repairing.
    let breaking = tokio::spawn({
        let (deployment, stop) = (Arc::clone(&deployment), Arc::clone(&stop));
        async move {
            for n in 0_i64.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let video = 1 + n % VIDEOS;
                deployment.redis::<()>(&format!("HINCRBY {} n 3", deployment.keys.counter(video_of(video)))).await;
                if n % 10 == 0 {
                    deployment.sql(&format!("UPDATE like_counts SET like_count = like_count + 4 WHERE resource_type = 'video' AND resource_id = {video}")).await;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
    });

    let mut token = repaired_beyond(&deployment, 0).await;
    for round in 0..ROUNDS {
        let (leader, other) = holder([&one, &two]).await;
        leader.pause().unwrap();
        eventually(PATIENCE, format!("round {round}: the other becomes leader"), async || other.leader().await).await;
        let newer = repaired_beyond(&deployment, token).await;
        leader.resume().unwrap();
        // It has its repair in hand, its token, and no idea of the time that has passed.
        eventually(PATIENCE, "the first learns that it is not the leader any more", async || !leader.leader().await)
            .await;
        let repairs = repaired(&deployment.found().await).len();
        eventually(PATIENCE, "repairs go on", async || repaired(&deployment.found().await).len() > repairs + 5).await;
        token = newer;
    }
    stop.store(true, Ordering::Relaxed);
    breaking.await.unwrap();
    one.end(SOON).await.unwrap();
    two.end(SOON).await.unwrap();

    let tokens = repaired(&deployment.found().await);
    assert!(tokens.is_sorted(), "an older token repaired after a newer one: {tokens:?}");
    let mut terms = tokens.clone();
    terms.dedup();
    assert!(terms.len() > ROUNDS, "{terms:?}");
    let newest: u64 =
        deployment.sql("SELECT value FROM sync_meta WHERE name = 'repair_token'").await.trim().parse().unwrap();
    assert!(tokens.iter().all(|token| *token <= newest), "{newest} {terms:?}");
}
