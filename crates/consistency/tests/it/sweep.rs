//! The full sweep goes on where it stopped.

use crate::rig::{Rig, quick};
use consistency::{ConsistencyConfig, Strategy};
use domain::StoredCount;
use std::time::Duration;
use test_support::build::video_pair;
use test_support::eventually;
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_that_was_stopped_goes_on_in_another_process() {
    const VIDEOS: i64 = 60;
    let rig = Rig::new().await;
    for video in 1..=VIDEOS {
        rig.like(video_pair(1, video)).await;
    }
    rig.settled().await;
    // The last one is wrong: the second process must find it.
    rig.sql(&format!("UPDATE like_counts SET like_count = 9 WHERE resource_id = {VIDEOS}")).await;
    let slow = ConsistencyConfig { batch_size: 20, max_rate: 40, ..quick(Strategy::DatabaseFirst) };
    let one = rig.checker_with(slow.clone()).await;
    let stop = CancellationToken::new();
    let sweeping = tokio::spawn({
        let (one, stop) = (one.clone(), stop.clone());
        async move { one.sweep(&stop).await.unwrap() }
    });
    eventually(crate::rig::PATIENCE, "the sweep among the counters", async || {
        let position = rig.sql("SELECT value FROM sync_meta WHERE name = 'consistency_sweep'").await;
        if position.contains(r#""p":"video""#) && position.contains("\"a\":20") { Ok(()) } else { Err(position) }
    })
    .await;
    stop.cancel();
    assert_eq!(sweeping.await.unwrap(), None);
    drop(one);

    let two = rig.checker_with(ConsistencyConfig { max_rate: 1_000_000, ..slow }).await;
    let run = two.sweep(&CancellationToken::new()).await.unwrap().unwrap();
    assert_eq!(rig.sql("SELECT COUNT(*) FROM consistency_runs").await.trim(), "1", "one run");
    assert_eq!((run.coverage, run.inconsistent, run.status.as_str()), (Some(1.0), 1, "finished"));
    // Ledger, history, counters, cached pairs; each thing once, and the shards' accounting.
    assert_eq!(run.checked, 4 * VIDEOS + 4);
    assert_ne!(rig.stores.database.load_counts(&[video_pair(1, 1).resource]).await.unwrap()[0], StoredCount::default());
    let next = two.sweep(&CancellationToken::new()).await.unwrap().unwrap();
    assert_ne!(next.id, run.id, "a new sweep begins at the beginning");
    tokio::time::sleep(Duration::ZERO).await;
}
