//! A Redis whose clock jumps, as operators and users of the real programs see it.

use crate::client::{Grpc, PATIENCE, like, video};
use test_support::{Deployment, Program, RedisOptions, eventually};

const DAY_US: i64 = 24 * 3_600_000_000;

async fn clocks_are(program: &Program, status: &str) -> Result<(), String> {
    let (_, body) = program.health().await?;
    if body["parts"]["clocks"]["status"] == status { Ok(()) } else { Err(body.to_string()) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_clock_that_jumps_is_said_once_and_locks_nobody_out() {
    let own = Deployment::build("clocks").own_redis(RedisOptions::default()).preloaded();
    let deployment = own.start().await.unwrap().with("RATE_LIMITING__USER_ACTION__MAX_ACTIONS", "4");
    let clock = deployment.redis().preload().unwrap();
    let (server, consumer) =
        tokio::try_join!(deployment.server().start_connected(), deployment.consumer().start_connected()).unwrap();
    let mut client = server.client().await;
    client.like(like(1, video(1))).await.unwrap();

    clock.set_clock(365 * DAY_US).unwrap();
    for program in [&server, &consumer] {
        eventually(PATIENCE, "a wrong clock in health", async || clocks_are(program, "degraded").await).await;
    }
    client.like(like(1, video(2))).await.unwrap();
    let metrics = server.metrics().await.unwrap();
    let ahead = metrics.lines().find_map(|line| line.strip_prefix("interaction_clock_ahead_seconds{clock=\"cache\"} "));
    assert!(ahead.is_some_and(|ahead| ahead.parse::<f64>().unwrap() > 31_000_000.0), "{ahead:?}");

    clock.set_clock(0).unwrap();
    // A token that was taken in a year from now.
    client.like(like(1, video(3))).await.unwrap();
    for program in [&server, &consumer] {
        eventually(PATIENCE, "clocks that agree in health", async || clocks_are(program, "ok").await).await;
        assert_eq!(program.log().matches("clocks differ").count(), 1, "{}", program.log());
    }
    let farthest = "SELECT COUNT(*) FROM video_likes WHERE version > (UNIX_TIMESTAMP() + 61) * 1000000";
    let liked = "SELECT COUNT(*) FROM video_likes";
    eventually(PATIENCE, "three likes in the database", async || match deployment.number(liked).await {
        Ok(3) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert_eq!(deployment.number(farthest).await.unwrap(), 0);
    drop((server, consumer));
    deployment.delete_topology().await.unwrap();
}
