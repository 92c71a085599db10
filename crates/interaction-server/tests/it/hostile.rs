//! A store that hangs, and who asks whether the server lives.

use crate::client::PATIENCE;
use std::time::Duration;
use test_support::{Deployment, eventually, http};
use tokio::task::JoinSet;

/// As many as ops HTTP works on at a time.
const SLOTS: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_hangs_does_not_make_the_server_seem_dead() {
    let deployment = Deployment::build("server").own_mariadb().start().await.unwrap();
    let server = deployment.server().start_ready().await.unwrap();
    deployment.mariadb().pause().unwrap();
    let addr = server.http();
    // Operators, again and again.
    let mut asking = JoinSet::new();
    for _ in 0..2 * SLOTS {
        let addr = addr.clone();
        asking.spawn(async move { http::get(&addr, "/events").await });
    }
    eventually(PATIENCE, "every slot to be taken", async || {
        let asked = http::get(&addr, "/openapi.json");
        match tokio::time::timeout(Duration::from_millis(500), asked).await {
            Err(_) => Ok(()),
            Ok(answer) => Err(format!("{:?}", answer.map(|(code, _)| code))),
        }
    })
    .await;
    for _ in 0..5 {
        let live = tokio::time::timeout(Duration::from_secs(5), http::get(&addr, "/health/live")).await;
        assert_eq!(live.expect("it waits for a slot").unwrap().0, 200);
    }
    let health = tokio::time::timeout(Duration::from_secs(10), http::get(&addr, "/health")).await;
    assert!(health.expect("it waits for a slot").unwrap().1.contains("mysql"));
    // A like needs no database, and waits for nobody who does.
    let like = r#"{"user_id":1,"resource_type":"video","resource_id":1,"action":"like"}"#;
    let liked = tokio::time::timeout(Duration::from_secs(3), http::post_json(&addr, "/v1/likes", like)).await;
    assert_eq!(liked.expect("a like waits for a slot").unwrap().0, 200);
    let answered = std::iter::from_fn(|| asking.try_join_next()).count();
    assert!(answered < SLOTS, "{answered} did not hang: the test shows nothing");
    deployment.mariadb().resume().unwrap();
}
