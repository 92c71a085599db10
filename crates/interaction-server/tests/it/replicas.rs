//! Lists that say how old they may be: from a replica, from one that fell behind, and from the server that writes.

use crate::client::{Client, Grpc, PATIENCE, like, started, video};
use interaction_proto::v1;
use std::time::{Duration, Instant};
use test_support::{Deployment, MariaDbGroup, MariaDbOptions, Program, eventually, expect_eq};

const LAG: Duration = Duration::from_secs(2);
const VIDEO: i64 = 7;

/// How many like the video, and how old the answer says that it may be: by gRPC, then by HTTP.
async fn answers(client: &Client, server: &Program) -> [(usize, Duration); 2] {
    let request = v1::ListLikersRequest { resource: Some(video(VIDEO)), page_size: 100, ..Default::default() };
    let page = client.clone().list_likers(request).await.unwrap().into_inner();
    let by_grpc = (page.likers.len(), Duration::from_millis(page.max_age_ms.try_into().unwrap()));
    let path = format!("/v1/likers?resource_type=video&resource_id={VIDEO}&page_size=100");
    let (code, body) = server.get(&path).await.unwrap();
    assert_eq!(code, 200, "{body}");
    let age = Duration::from_millis(body["max_age_ms"].as_u64().expect("an age"));
    [by_grpc, (body["likers"].as_array().expect("likers").len(), age)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_says_how_old_it_may_be_and_is_never_older() {
    let options = MariaDbOptions { durable: false, ..MariaDbOptions::default() };
    let group = MariaDbGroup::start(options, 1).await.unwrap();
    let deployment = Deployment::build("replicas").mariadb_at(group.node(0).unwrap().url()).start().await.unwrap();
    let deployment = deployment
        .with_all(&[("DATABASE__REPLICAS", group.addrs().unwrap()[1].as_str()), ("DATABASE__REPLICA_MAX_LAG", "2s")]);
    let (server, _consumer) = started(&deployment).await;
    let mut client = server.client().await;
    client.like(like(1, video(VIDEO))).await.unwrap();
    let from_the_replica = async || {
        let answers = answers(&client, &server).await;
        expect_eq(answers.iter().all(|(likers, age)| *likers == 1 && !age.is_zero()), true)
    };
    eventually(PATIENCE, "both lists from the replica", from_the_replica).await;

    // It hears nothing any more, and says nothing of it.
    group.link(1).unwrap().freeze();
    let frozen = Instant::now();
    client.clone().like(like(2, video(VIDEO))).await.unwrap();
    let rows = format!("SELECT COUNT(*) FROM video_likes WHERE video_id = {VIDEO}");
    eventually(PATIENCE, "the second like", async || expect_eq(deployment.number(&rows).await.unwrap(), 2)).await;
    let (committed, mut late, mut fresh) = (Instant::now(), 0, 0);
    while frozen.elapsed() < Duration::from_secs(10) {
        let answers = answers(&client, &server).await;
        for (likers, age) in answers {
            assert!(age <= LAG, "{age:?} old");
            // What was committed longer ago than it may be old is in it.
            assert!(
                likers == 2 || age + Duration::from_millis(1) > committed.elapsed(),
                "{age:?} old, and {likers} likers"
            );
            late += usize::from(!age.is_zero());
            fresh += usize::from(age.is_zero());
        }
        if frozen.elapsed() > 2 * LAG {
            assert_eq!(answers, [(2, Duration::ZERO); 2], "from a replica that is behind");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(late > 0 && fresh > 0, "{late} from the replica, {fresh} not");

    group.link(1).unwrap().restore().await.unwrap();
    eventually(PATIENCE, "both lists from the replica again", async || {
        let answers = answers(&client, &server).await;
        expect_eq(answers.iter().all(|(likers, age)| *likers == 2 && !age.is_zero()), true)
    })
    .await;
}
