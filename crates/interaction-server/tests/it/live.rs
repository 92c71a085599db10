//! Counts that are watched, and what is hot.

use crate::client::{Client, Grpc, PATIENCE, comment, deployed, fields, fresh_id, like, shared_server, started, video};
use interaction_proto::v1;
use std::time::{Duration, Instant};
use test_support::{Binary, Links, Program, eventually, expect_eq, http};
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

/// Far less than the drain deadline, enough for a busy machine.
const QUICKLY: Duration = Duration::from_secs(10);

type Updates = Streaming<v1::WatchLikeCountsResponse>;

async fn watch(client: &Client, resources: Vec<v1::Resource>) -> Result<Updates, Status> {
    let request = v1::WatchLikeCountsRequest { resources };
    client.clone().watch_like_counts(request).await.map(tonic::Response::into_inner)
}

/// The next message, or the end.
async fn update(updates: &mut Updates) -> Result<(Vec<(i64, i64)>, bool), Status> {
    let next = tokio::time::timeout(PATIENCE, updates.message()).await.expect("no update in time");
    let message = next?.expect("the stream has ended without saying why");
    let counts = message.counts.iter().map(|count| (count.resource.unwrap().id, count.count)).collect();
    Ok((counts, message.degraded))
}

/// A client that takes hardly anything before it reads.
async fn reluctant(server: &Program) -> Client {
    let endpoint = Channel::from_shared(server.grpc_url()).unwrap().initial_stream_window_size(64);
    Client::new(eventually(PATIENCE, "a connection", async || endpoint.connect().await).await)
}

/// Likes by users who never liked before, each seen by `watcher` before the next one.
async fn likes_one_by_one(client: &mut Client, id: i64, likes: i64, watcher: &mut Updates) -> Vec<Duration> {
    let mut took = Vec::new();
    for _ in 0..likes {
        let answer = client.like(like(fresh_id(), video(id))).await.unwrap().into_inner();
        let answered = Instant::now();
        while !update(watcher).await.unwrap().0.contains(&(id, answer.count.unwrap())) {}
        took.push(answered.elapsed());
    }
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_come_first_then_each_change_whichever_server_accepted_it() {
    let deployment = deployed().await;
    let (here, there) = tokio::try_join!(deployment.server().start_ready(), deployment.server().start_ready()).unwrap();
    let (near, mut far) = (here.client().await, there.client().await);
    far.like(like(fresh_id(), video(1))).await.unwrap();

    let mut updates = watch(&near, vec![video(2), video(1), comment(1), video(2)]).await.unwrap();
    assert_eq!(update(&mut updates).await.unwrap(), (vec![(2, 0), (1, 1), (1, 0)], false), "each once, in order");
    far.like(like(fresh_id(), comment(1))).await.unwrap();
    assert_eq!(update(&mut updates).await.unwrap(), (vec![(1, 1)], false));

    let mut took = likes_one_by_one(&mut far, 2, 40, &mut updates).await;
    took.sort_unstable();
    println!("from the answer at one server to the update at the other: p50 {:?}, most {:?}", took[20], took[39]);

    let (_, metrics) = http::get(&here.http(), "/metrics").await.unwrap();
    assert!(
        metrics.contains("interaction_live_streams 1\n") && metrics.contains("interaction_live_resources 3\n"),
        "{metrics}"
    );
    drop(updates);
    eventually(PATIENCE, "no stream", async || {
        let (_, metrics) = http::get(&here.http(), "/metrics").await.unwrap();
        metrics.contains("interaction_live_streams 0\n") && metrics.contains("interaction_live_resources 0\n")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_gets_the_latest_and_no_history() {
    let deployment = deployed().await.with("CACHE_MANAGEMENT__LIVE_COUNTS__INTERVAL", "10ms");
    let server = deployment.server().start_ready().await.unwrap();
    let mut client = server.client().await;
    let (mut slow, mut fast) = (
        watch(&reluctant(&server).await, vec![video(1)]).await.unwrap(),
        watch(&client, vec![video(1)]).await.unwrap(),
    );
    assert_eq!(update(&mut fast).await.unwrap().0, [(1, 0)]);
    likes_one_by_one(&mut client, 1, 60, &mut fast).await;

    let mut seen = Vec::new();
    while seen.last() != Some(&60) {
        seen.extend(update(&mut slow).await.unwrap().0.iter().map(|(_, count)| *count));
    }
    assert!(seen.len() < 15, "sixty changes were waiting for who did not read: {seen:?}");
    assert!(seen.is_sorted(), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_much_is_refused_and_room_is_made_again() {
    let deployment = deployed().await;
    let deployment = deployment.with("CACHE_MANAGEMENT__LIVE_COUNTS__MAX_STREAMS", "2");
    let server =
        deployment.with("CACHE_MANAGEMENT__LIVE_COUNTS__MAX_RESOURCES", "3").server().start_ready().await.unwrap();
    let client = server.client().await;
    let one = watch(&client, vec![video(1), video(2)]).await.unwrap();
    let refused = async |resources| {
        let status = watch(&client, resources).await.expect_err("accepted");
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        assert!(status.get_error_details().retry_info().is_some_and(|info| info.retry_delay > Some(Duration::ZERO)));
        status.message().to_owned()
    };
    assert!(refused(vec![video(3), video(4)]).await.contains("3 different resources"));
    let _other = watch(&client, vec![video(2), video(3)]).await.unwrap();
    assert!(refused(vec![video(1)]).await.contains("2 streams"));
    drop(one);
    eventually(PATIENCE, "room", async || watch(&client, vec![video(4)]).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_are_named() {
    let client = shared_server().await.client().await;
    let mut all = Vec::new();
    for resources in [vec![], (1..=101).map(video).collect(), vec![video(1), video(0)]] {
        all.extend(fields(watch(&client, resources).await.expect_err("accepted")));
    }
    assert_eq!(all, ["resources", "resources", "resources[1].resource.id"]);
    let hot = v1::ListHotResourcesRequest { r#type: 77, limit: -1, window: 9 };
    assert_eq!(fields(client.clone().list_hot_resources(hot).await.unwrap_err()), ["type", "limit", "window"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_do_not_hold_up_the_end_of_the_server_even_if_nobody_reads_them() {
    let deployment = deployed().await.with("CACHE_MANAGEMENT__LIVE_COUNTS__INTERVAL", "10ms");
    let server = deployment.server().start_ready().await.unwrap();
    let mut client = server.client().await;
    let mut updates = watch(&client, vec![video(1)]).await.unwrap();
    assert_eq!(update(&mut updates).await.unwrap().0, [(1, 0)]);
    server.terminate().unwrap();
    let status = update(&mut updates).await.expect_err("goes on");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.get_error_details().retry_info().is_some(), "{status:?}");
    let status = server.wait_exit(QUICKLY).await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", server.log());
    assert!(!server.log().contains("cutting"), "{}", server.log());

    let server = deployment.server().start_ready().await.unwrap();
    client = server.client().await;
    let stalled = watch(&reluctant(&server).await, vec![video(1)]).await.unwrap();
    let mut updates = watch(&client, vec![video(1)]).await.unwrap();
    update(&mut updates).await.unwrap();
    likes_one_by_one(&mut client, 1, 20, &mut updates).await;
    eventually(PATIENCE, "an update that nobody takes", async || {
        let metrics = server.metrics().await.map_err(|error| format!("{error:#}"))?;
        let held = metrics.lines().find(|line| line.starts_with("interaction_untaken_answer_bytes{surface=\"grpc\"}"));
        if held.is_some_and(|line| !line.ends_with(" 0")) { Ok(()) } else { Err(format!("{held:?}")) }
    })
    .await;
    server.terminate().unwrap();
    let status = server.wait_exit(QUICKLY).await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", server.log());
    drop(stalled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_cache_counts_are_marked_and_it_recovers() {
    let plain = deployed().await;
    let links = Links::to(&plain).await.unwrap();
    let consumer = plain.consumer().start_ready().await.unwrap();
    let server = plain.through(&links).server().start_ready().await.unwrap();
    let mut client = server.client().await;
    client.like(like(1, video(1))).await.unwrap();
    eventually(PATIENCE, "a settled like", async || {
        let (_, body) = http::get(&server.http(), "/cache/stats").await.unwrap();
        if body.contains("\"pending\":0,") { Ok(()) } else { Err(body) }
    })
    .await;

    let mut updates = watch(&client, vec![video(1)]).await.unwrap();
    assert_eq!(update(&mut updates).await.unwrap(), (vec![(1, 1)], false));
    links.redis.cut().await;
    assert_eq!(update(&mut updates).await.unwrap(), (vec![(1, 1)], true));
    let answer = client.like(like(2, video(1))).await.unwrap().into_inner();
    assert!(answer.degraded, "{answer:?}");
    assert_eq!(update(&mut updates).await.unwrap(), (vec![(1, 2)], true));

    links.mariadb.cut().await;
    eventually(PATIENCE, "a refusal", async || {
        let mut refused = watch(&client, vec![video(2)]).await.map_err(|status| status.to_string())?;
        let status = update(&mut refused).await.err().ok_or("counts without any store")?;
        let retry = status.get_error_details().retry_info().is_some();
        expect_eq((status.code(), retry), (Code::Unavailable, true))
    })
    .await;

    links.mariadb.restore().await.unwrap();
    links.redis.restore().await.unwrap();
    // The stream that was open all the time.
    while update(&mut updates).await.unwrap() != (vec![(1, 2)], false) {}
    client.like(like(3, video(1))).await.unwrap();
    while update(&mut updates).await.unwrap() != (vec![(1, 3)], false) {}
    drop(consumer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hottest_come_first_with_their_counts() {
    let deployment = deployed().await;
    let (server, consumer) = started(&deployment).await;
    let mut client = server.client().await;
    for (resource, likes) in [(video(2), 3), (video(3), 5), (comment(9), 4)] {
        for user in 1..=likes {
            client.like(like(user, resource)).await.unwrap();
        }
    }
    let hot = async |kind: v1::ResourceType, limit| {
        let request = v1::ListHotResourcesRequest { r#type: kind.into(), limit, window: 0 };
        let answer = client.clone().list_hot_resources(request).await.unwrap().into_inner();
        assert!(!answer.degraded);
        let each = answer.resources.iter().map(|hot| (hot.resource.unwrap(), hot.count, hot.recent_changes));
        each.collect::<Vec<_>>()
    };
    let all = [(video(3), 5, 5), (comment(9), 4, 4), (video(2), 3, 3)];
    eventually(PATIENCE, "three hot resources", async || {
        expect_eq(hot(v1::ResourceType::Unspecified, 0).await, all.to_vec())
    })
    .await;
    assert_eq!(hot(v1::ResourceType::Unspecified, 1).await, all[..1]);
    assert_eq!(hot(v1::ResourceType::Video, 100).await, [all[0], all[2]]);
    assert_eq!(hot(v1::ResourceType::Comment, 100).await, [all[1]]);

    let syncctl = async |args: &[&str]| {
        let program = Binary::build("syncctl").args(args).arg("--addr").arg(server.grpc_url()).start().unwrap();
        let status = program.wait_exit(PATIENCE).await.unwrap();
        (status.code(), program.log())
    };
    let (code, said) = syncctl(&["hot", "--type", "video", "--limit", "1", "-o", "tsv"]).await;
    assert_eq!((code, said.trim()), (Some(0), "RESOURCE\tCOUNT\tRECENT CHANGES\tGAINED\nvideo:3\t5\t5\t0"));
    let (code, said) = syncctl(&["watch", "--updates", "1", "comment:9", "video:1", "-o", "tsv"]).await;
    assert_eq!((code, said.trim()), (Some(0), "RESOURCE\tCOUNT\ncomment:9\t4\nvideo:1\t0"));
    drop(consumer);
}

/// By the likes that hold of those that were made within the window, whichever process committed them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_liked_most_within_a_window_comes_first() {
    let deployment = deployed().await;
    let (server, consumer) = started(&deployment).await;
    let mut client = server.client().await;
    for (resource, likes) in [(video(2), 3), (video(3), 5), (comment(9), 4)] {
        for user in 1..=likes {
            client.like(like(user, resource)).await.unwrap();
        }
    }
    for user in 1..=3 {
        client
            .unlike(v1::UnlikeRequest { user_id: user, resource: Some(video(3)), ..Default::default() })
            .await
            .unwrap();
    }
    let most = async |window: v1::HotWindow, limit| {
        let request = v1::ListHotResourcesRequest { window: window.into(), limit, ..Default::default() };
        let answer = client.clone().list_hot_resources(request).await.unwrap().into_inner();
        assert!(answer.resources.iter().all(|hot| hot.recent_changes == 0));
        let each = answer.resources.iter().map(|hot| (hot.resource.unwrap(), hot.count, hot.gained));
        each.collect::<Vec<_>>()
    };
    let all = [(comment(9), 4, 4), (video(2), 3, 3), (video(3), 2, 2)];
    for window in [v1::HotWindow::Hour, v1::HotWindow::Day, v1::HotWindow::Week] {
        let told = async || expect_eq(most(window, 0).await, all.to_vec());
        eventually(PATIENCE, window.as_str_name(), told).await;
    }
    assert_eq!(most(v1::HotWindow::Day, 1).await, all[..1]);
    let asked = Binary::build("syncctl").args(["hot", "--type", "video", "--window", "week", "-o", "tsv"]);
    let asked = asked.arg("--addr").arg(server.grpc_url()).start().unwrap();
    assert!(asked.wait_exit(PATIENCE).await.unwrap().success(), "{}", asked.log());
    let said = asked.log();
    assert_eq!(said.trim(), "RESOURCE\tCOUNT\tRECENT CHANGES\tGAINED\nvideo:2\t3\t0\t3\nvideo:3\t2\t0\t2");
    drop(consumer);
}
