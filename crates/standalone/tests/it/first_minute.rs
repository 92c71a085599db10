//! What a newcomer sees.

use crate::deployment::{PATIENCE, Standalone, like, video};
use interaction_proto::v1;
use test_support::{Binary, eventually, http};

/// What it prints is true: the commands work, the page is there, the numbers move, the data stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_says_what_to_try_and_that_works() {
    let standalone = Standalone::new().await;
    let server = standalone.start_ready().await;
    let said = server.log();
    for part in [
        standalone.grpc_addr(),
        format!("http://{}/", standalone.http_addr()),
        standalone.data_dir().display().to_string(),
    ] {
        assert!(said.contains(&part), "{part} is not said:\n{said}");
    }
    let commands: Vec<&str> = said.lines().map(str::trim).filter(|line| line.starts_with("curl ")).collect();
    assert_eq!(commands.len(), 2, "a like and its count:\n{said}");
    for (command, answer) in commands.iter().zip([r#""liked":true,"count":"1""#, r#""resource_id":"42","count":"1""#]) {
        let tried = tokio::process::Command::new("sh").args(["-c", command]).output().await.unwrap();
        let shown = String::from_utf8_lossy(&tried.stdout);
        assert!(tried.status.success() && shown.contains(answer), "{command}: {shown}");
    }
    assert!(!said.contains("cargo"), "who holds only the program has no cargo:\n{said}");
    // The client is an extra; what is said about it is true as well.
    let extra = said.split("syncctl ").nth(1).and_then(|rest| rest.split(';').next()).expect("no word of syncctl");
    let tried = Binary::build("syncctl").args(extra.split_whitespace()).start().unwrap();
    assert!(tried.wait_exit(PATIENCE).await.unwrap().success(), "{}", tried.log());
    assert!(tried.log().contains("video:42: liked, count 1"), "{}", tried.log());

    let (code, page) = http::get(&standalone.http_addr(), "/").await.unwrap();
    assert!(code == 200 && page.contains(">Likes</h1>"), "{code} {page}");
    eventually(PATIENCE, "the like in the database", async || {
        let (_, metrics) = http::get(&standalone.http_addr(), "/metrics").await.map_err(|error| error.to_string())?;
        let wanted = ["interaction_applied_events_total 1\n", "interaction_journal_entries 0\n"];
        if wanted.iter().all(|line| metrics.contains(line)) { Ok(()) } else { Err(metrics) }
    })
    .await;
    server.end(PATIENCE).await.unwrap();

    let server = standalone.start_ready().await;
    let mut client = standalone.client().await;
    let request = v1::WatchLikeCountsRequest { resources: vec![video(42)] };
    let mut watched = client.watch_like_counts(request).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().counts[0].count, 1);
    let answer = client.like(like(2, 42)).await.unwrap().into_inner();
    assert_eq!(answer.count, Some(2));
    assert_eq!(watched.message().await.unwrap().unwrap().counts[0].count, 2);
    let request = v1::ListLikersRequest { resource: Some(video(42)), page_size: 10, ..Default::default() };
    eventually(PATIENCE, "both users in the list", async || {
        let likers =
            client.clone().list_likers(request.clone()).await.map_err(|error| error.to_string())?.into_inner().likers;
        let users: Vec<i64> = likers.iter().map(|liker| liker.user_id).collect();
        if users == [2, 1] { Ok(()) } else { Err(format!("{users:?}")) }
    })
    .await;
    eventually(PATIENCE, "the hottest", async || {
        let hot = client.clone().list_hot_resources(v1::ListHotResourcesRequest::default()).await;
        let hot = hot.map_err(|error| error.to_string())?.into_inner().resources;
        let wanted = v1::HotResource { resource: Some(video(42)), count: 2, recent_changes: 2, gained: 0 };
        if hot == [wanted] { Ok(()) } else { Err(format!("{hot:?}")) }
    })
    .await;
    server.end(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_moves_the_page() {
    let standalone = Standalone::new().await;
    let server = standalone.program().arg("--demo=200").start().unwrap();
    server.wait_ready().await.unwrap();
    eventually(PATIENCE, "likes that nobody sent", async || {
        let (_, metrics) = http::get(&standalone.http_addr(), "/metrics").await.map_err(|error| error.to_string())?;
        let line = metrics.lines().find_map(|line| line.strip_prefix("interaction_likes_total{outcome=\"accepted\"} "));
        let likes: f64 = line.and_then(|number| number.parse().ok()).unwrap_or(0.0);
        if likes > 100.0 { Ok(()) } else { Err(format!("{likes} likes")) }
    })
    .await;
    server.end(PATIENCE).await.unwrap();
}
