//! `events` and `explain` against the real standalone server.

use crate::command_line::{syncctl, text};
use domain::{Action, LikeEvent};
use event_store::{DatabaseConfig, EventStatus, EventStore, FailedEvent};
use std::time::Duration;
use test_support::{Deployment, build, eventually, expect_eq};

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_listed_replayed_discarded_and_explained() {
    let deployment = Deployment::build("events").without_stores().start().await.unwrap();
    let server = deployment.standalone().start_connected().await.unwrap();
    let addr = server.grpc();

    // Three events that died before this server was there.
    let url = format!("sqlite:{}", deployment.data_dir().join("interaction.db").display()).replace(' ', "%20");
    let store = EventStore::connect(&DatabaseConfig { url: url.into(), ..DatabaseConfig::default() }).await.unwrap();
    let now = chrono::DateTime::<chrono::Utc>::from(test_support::wall_clock());
    let event = |user| build::event(user, 10, Action::Like, now.timestamp_micros() + user);
    let events: Vec<LikeEvent> = (1..=3).map(event).collect();
    let dead = |event: &LikeEvent| FailedEvent { event: event.clone(), error: "poison".into(), next_retry_at: None };
    store.park(&events.iter().map(dead).collect::<Vec<_>>(), 5, now).await.unwrap();
    let ids: Vec<String> = events.iter().map(|event| event.intent.id.to_string()).collect();

    let run = async |args: &[&str]| {
        let output = syncctl(&[args, &["--addr", &addr]].concat()).await;
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, list, _) = run(&["events", "list", "--status", "dead", "--resource", "video:10"]).await;
    assert_eq!((code, list.lines().count()), (Some(0), 4), "{list}");
    assert!(list.starts_with("ID ") && list.contains("poison"), "{list}");
    let (_, list, _) = run(&["events", "list", "--status", "dead", "-o", "tsv"]).await;
    assert!(list.contains(&format!("{}\tdead\t2\tvideo:10\tlike", ids[1])), "{list}");
    let (_, list, _) = run(&["events", "list", "--user", "3", "--since", "1h", "-o", "json"]).await;
    let found: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!((found.as_array().map(Vec::len), found[0]["id"].as_str()), (Some(1), Some(ids[2].as_str())), "{list}");
    let (code, list, said) = run(&["dead-letters", "list", "--resource", "video:11"]).await;
    assert_eq!((code, list.as_str(), said.trim()), (Some(0), "", "No resources found"));
    let (code, said, _) = run(&["status"]).await;
    assert!(code == Some(1) && said.contains("! 3 accepted likes are dead"), "{said}");

    let (code, said, _) = run(&["events", "replay", "--status", "dead", "--dry-run"]).await;
    assert!(code == Some(0) && said.ends_with("3 would be replayed\n"), "{said}");
    let (code, said, _) = run(&["events", "discard", &ids[0], "--actor", "ann", "--reason", "a test user"]).await;
    assert!(code == Some(0) && said.ends_with("1 discarded\n"), "{said}");
    let (code, said, error) = run(&["events", "replay", &ids[0], &ids[1]]).await;
    assert_eq!(code, Some(1), "one of them was left alone: {said}{error}");
    assert!(error.contains(&format!("{}: left alone: discarded", ids[0])), "{error}");
    assert!(said.contains("1 replayed, the last one due at 20"), "{said}");
    let (code, said, _) = run(&["events", "replay", "--status", "dead", "--limit", "5"]).await;
    assert!(code == Some(0) && said.contains("1 replayed"), "{said}");
    for (event, status) in events.iter().zip([EventStatus::Discarded, EventStatus::Completed, EventStatus::Completed]) {
        eventually(PATIENCE, "its end", async || {
            expect_eq(store.event(event.intent.id).await.unwrap().unwrap().status, status)
        })
        .await;
    }

    let (code, told, _) = run(&["explain", "1", "video:10"]).await;
    assert_eq!(code, Some(0), "{told}");
    for part in
        [&ids[0], "accepted", "by ann (127.0.0.1): a test user", "discarded", "row: none", "stored count: 2", "=> "]
    {
        assert!(told.contains(part), "{part}: {told}");
    }
    let (_, told, _) = run(&["explain", "2", "video:10"]).await;
    assert!(told.contains("the row is as it left it") && told.contains("row: liked"), "{told}");
    // What it was before stays so: its retries were used up, whatever is counted since.
    assert!(told.contains("failed     before the replay") && !told.contains("0 of"), "{told}");
    let (_, told, _) = run(&["explain", "9", "video:9"]).await;
    assert!(told.contains("no event of it is known") && told.contains("=> nothing is known of it"), "{told}");
    let (code, likers, _) = run(&["likers", "video:10", "-o", "json"]).await;
    assert!(code == Some(0) && likers.contains("\"user\":2") && likers.contains("\"user\":3"), "{likers}");
    let (code, liked, _) = run(&["liked", "2"]).await;
    assert!(code == Some(0) && liked.starts_with("RESOURCE") && liked.contains("video:10"), "{liked}");
    let (code, stats, _) = run(&["cache-stats", "-o", "json"]).await;
    let shards: serde_json::Value = serde_json::from_str(&stats).unwrap();
    assert!(code == Some(0) && shards[0]["pending"] == 0, "{stats}");
    for command in ["events", "dead-letters"] {
        let (code, _, error) = run(&[command, "replay", "nonsense"]).await;
        assert!(code == Some(2) && error.contains("expected the id of an event"), "{error}");
    }
    server.end(PATIENCE).await.unwrap();
}
