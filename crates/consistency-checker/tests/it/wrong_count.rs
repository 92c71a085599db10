//! A count that is wrong: every tool says so of the same resource, what is put right is closed at once, and two incidents of one
//! counter are two findings.

use crate::deployment::{Asked, Checked, PATIENCE, SOON, apply, operation, video_of};
use serde_json::Value;
use std::time::{Duration, Instant};
use test_support::build::video_pair;
use test_support::{Program, eventually};

const VIDEO: i64 = 815;
const LIKES: i64 = 30;

/// Much less than a sweep: whoever closes a finding within it looks at what is open.
const CLOSED_WITHIN: Duration = Duration::from_secs(50);

struct System {
    deployment: Checked,
    server: Program,
    checker: Program,
}

impl System {
    async fn ask(&self, args: &[&str]) -> (Option<i32>, String) {
        self.deployment.syncctl(args, Some(&self.server)).await
    }

    async fn json(&self, args: &[&str]) -> Value {
        let (_, said) = self.ask(&[args, &["-o", "json"]].concat()).await;
        let line = said.lines().find(|line| line.starts_with(['{', '[']));
        serde_json::from_str(line.unwrap_or_else(|| panic!("{said}"))).unwrap()
    }

    async fn cached(&self, by: i64) {
        let key = self.deployment.keys.counter(video_of(VIDEO));
        self.deployment.redis::<()>(&format!("HINCRBY {key} n {by}")).await;
    }

    async fn stored(&self, by: i64) {
        let update = "UPDATE like_counts SET like_count = like_count";
        self.deployment.sql(&format!("{update} + {by} WHERE resource_type = 'video' AND resource_id = {VIDEO}")).await;
    }

    /// What every tool says of it.
    async fn is_wrong(&self, says: &str) {
        let video = format!("video:{VIDEO}");
        let (code, said) = self.ask(&["explain", "7", &video]).await;
        assert!(code == Some(1) && said.contains(says) && said.contains("syncctl repair --apply"), "{code:?} {said}");
        let (code, said) = self.ask(&["check", &video]).await;
        assert!(code == Some(1) && said.contains("drift"), "{code:?} {said}");
        let route = format!("/explain?user_id=7&resource_type=video&resource_id={VIDEO}");
        let (_, told) = self.server.get(&route).await.unwrap();
        assert!(
            told["conclusion"]["fine"] == false && told["conclusion"]["says"].as_str().unwrap().contains(says),
            "{told}"
        );
        let (_, seen) = self.server.get(&format!("/resource?resource_type=video&resource_id={VIDEO}")).await.unwrap();
        assert!(seen["counters"].as_array().unwrap().iter().any(|one| one["verdict"] == "drift"), "{seen}");
    }

    async fn is_right(&self) {
        let video = format!("video:{VIDEO}");
        let (code, said) = self.ask(&["explain", "7", &video]).await;
        let same = "the same in the cache, in the database and by its rows";
        assert!(code == Some(0) && said.contains(same), "{code:?} {said}");
        let (_, seen) = self.server.get(&format!("/resource?resource_type=video&resource_id={VIDEO}")).await.unwrap();
        assert_eq!(seen["counters"], Value::Array(Vec::new()), "{seen}");
    }

    async fn open(&self) -> i64 {
        self.json(&["report"]).await["open"].as_i64().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_count_is_said_by_all_closed_at_once_and_counted_twice() {
    let deployment = Checked::new()
        .await
        .with("DATA_CONSISTENCY__HOT_DATA_CHECK", "1h")
        .with("DATA_CONSISTENCY__CHECK_INTERVAL", "1h")
        .with("DATA_CONSISTENCY__CONFIRM_AFTER", "200ms")
        .with("DATA_CONSISTENCY__AUTO_FIX__STRATEGY", "report_only");
    let (server, consumer, checker) =
        (deployment.server().await, deployment.consumer().await, deployment.checker().await);
    let system = System { deployment, server, checker };
    let mut client = system.server.client().await;
    apply(&mut client, (1..=LIKES).map(|user| operation(video_pair(user, VIDEO), true)).collect()).await;
    system.deployment.settled(&system.server).await;
    eventually(PATIENCE, "the first sweep", async || {
        let runs = system.deployment.finished_runs("full").await;
        if runs.is_empty() || !system.checker.leader().await { Err(runs.join(" ")) } else { Ok(()) }
    })
    .await;
    system.is_right().await;

    // Wrong in the cache only, then put right by hand: nobody sweeps, and it is closed all the same.
    system.cached(70).await;
    system.is_wrong("its cached count is 100, and the likes that hold are 30").await;
    assert_eq!(system.open().await, 1);
    let (code, said) = system.ask(&["status"]).await;
    assert!(code == Some(1) && said.contains("! 1 inconsistency is open"), "{said}");
    assert!(said.contains("latest look") && said.contains("everything") && said.contains(" ago"), "{said}");
    system.cached(-70).await;
    let cured = Instant::now();
    eventually(CLOSED_WITHIN, "nothing open", async || match system.open().await {
        0 => Ok(()),
        open => Err(open),
    })
    .await;
    eprintln!("closed after {:?}", cured.elapsed());

    // The same counter again, and the stored one with it: a new incident beside the old one.
    system.cached(70).await;
    system.stored(1_000).await;
    system.is_wrong("its stored count is 1030, and the likes that hold are 30").await;
    let report = system.json(&["report", "--all"]).await;
    let of_cache = |report: &Value| {
        let rows = report["findings"].as_array().unwrap().iter().filter(|one| one["kind"] == "cached_count").cloned();
        rows.collect::<Vec<_>>()
    };
    let lives = of_cache(&report);
    assert_eq!(lives.len(), 2, "{report}");
    assert!(lives[0]["state"] == "open; found once before" && lives[0]["earlier"] == 1, "{report}");
    assert!(lives[1]["state"].as_str().unwrap().starts_with("seen consistent"), "{report}");

    // Both are put right by one repair, and both are called repaired.
    let (code, said) = system.deployment.syncctl(&["repair", "--apply", &format!("video:{VIDEO}")], None).await;
    assert!(said.contains("recount: repaired") && said.contains("settle: repaired"), "{code:?} {said}");
    system.is_right().await;
    let report = system.json(&["report", "--all"]).await;
    let ended: Vec<_> = of_cache(&report).iter().map(|one| one["state"].as_str().unwrap().to_owned()).collect();
    assert!(ended[0].starts_with("repaired ") && ended[1].starts_with("seen consistent "), "{ended:?}");
    let (_, report) = system.server.get("/consistency/report?hours=1").await.unwrap();
    let kinds = report["by_kind"].as_array().unwrap();
    for kind in ["cached_count", "stored_count"] {
        let repaired: i64 =
            kinds.iter().filter(|one| one["kind"] == kind).filter_map(|one| one["repaired"].as_i64()).sum();
        assert_eq!(repaired, 1, "{kind}: {report}");
    }
    for program in [system.server, consumer, system.checker] {
        program.end(SOON).await.unwrap();
    }
}
