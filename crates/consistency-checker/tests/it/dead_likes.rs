//! Likes that the database refuses until they are given up: whatever an operator asks says the same about them, and after the
//! replay that all is well again.

use crate::deployment::{Asked, Checked, PATIENCE, SOON, apply, operation};
use serde_json::Value;
use std::time::Duration;
use test_support::build::video_pair;
use test_support::{Program, eventually};

const DEAD: i64 = 33;
const VIDEO: i64 = 13;

/// Going through letters takes a fifth of a consumer's time: on a slow disk it comes to them late.
const LETTERS: Duration = Duration::from_secs(300);

/// Parts of health that say what is wrong with accepted likes.
const PARTS: [&str; 6] =
    ["dead_events", "late_events", "open_findings", "journal_fill", "consistency_rate", "journal_age"];

async fn health(program: &Program) -> Value {
    program.get("/health").await.unwrap().1
}

/// What is wrong, as one process says it: its own parts left out.
async fn troubles(program: &Program) -> Vec<(String, String)> {
    let health = health(program).await;
    let parts = health["parts"].as_object().unwrap();
    let wrong = PARTS.into_iter().filter_map(|name| {
        let part = parts.get(name).filter(|part| part["status"] != "ok")?;
        // Without the age, which processes look at at different moments.
        let detail = part["detail"].as_str().unwrap_or_default().split(',').next().unwrap_or_default();
        Some((name.to_owned(), detail.to_owned()))
    });
    wrong.collect()
}

fn dead_and_open() -> Vec<(String, String)> {
    vec![
        ("dead_events".to_owned(), format!("{DEAD} accepted likes are dead")),
        ("open_findings".to_owned(), format!("{DEAD} inconsistencies are open")),
    ]
}

async fn gauge(program: &Program, series: &str) -> f64 {
    let metrics = program.metrics().await.unwrap();
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')).map(str::to_owned);
    line.unwrap_or_else(|| panic!("no {series}")).parse().unwrap()
}

/// Each metric of a process says what it means, and its name is one of ours.
async fn metrics_are_explained(program: &Program) {
    let metrics = program.metrics().await.unwrap();
    let named =
        |start: &'static str| metrics.lines().filter_map(move |line| line.strip_prefix(start)?.split(' ').next());
    let explained: Vec<_> = named("# HELP ").collect();
    let known: Vec<_> = named("# TYPE ").collect();
    assert!(known.len() > 60, "{metrics}");
    for name in &known {
        let ours = name.starts_with("interaction_") || *name == "process_resident_memory_bytes";
        let of_before = || known.iter().any(|new| new.strip_prefix("interaction_") == Some(name));
        assert!(explained.contains(name) && (ours || of_before()), "{name}: {metrics}");
    }
}

struct System {
    deployment: Checked,
    server: Program,
    consumer: Program,
    checker: Program,
}

impl System {
    fn all(&self) -> [&Program; 3] {
        [&self.server, &self.consumer, &self.checker]
    }

    async fn says(&self, expected: &[(String, String)]) {
        for program in self.all() {
            eventually(PATIENCE, format!("{expected:?}"), async || {
                let said = troubles(program).await;
                if said == expected { Ok(()) } else { Err(format!("{said:?}")) }
            })
            .await;
        }
    }

    /// A command on a server; its exit code and what it says.
    async fn ask(&self, args: &[&str]) -> (Option<i32>, String) {
        self.deployment.syncctl(args, Some(&self.server)).await
    }

    async fn report(&self) -> Value {
        let (code, report) = self.server.get("/consistency/report?hours=1").await.unwrap();
        assert_eq!(code, 200, "{report}");
        report
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_says_the_same_of_dead_likes_and_that_all_is_well_after_their_replay() {
    let deployment = Checked::new()
        .await
        .with("EVENT_DRIVEN_SYNC__RETRY__MAX_RETRIES", "1")
        .with("EVENT_DRIVEN_SYNC__RETRY__BASE_DELAY", "100ms")
        .with("DATA_CONSISTENCY__HOT_DATA_CHECK", "1s")
        .with("DATA_CONSISTENCY__CHECK_INTERVAL", "2s")
        .with("DATA_CONSISTENCY__CONFIRM_AFTER", "100ms");
    let (server, consumer, checker) =
        (deployment.server().await, deployment.consumer().await, deployment.checker().await);
    let system = System { deployment, server, consumer, checker };
    let mut client = system.server.client().await;
    apply(&mut client, (1..=5).map(|video| operation(video_pair(1, video), true)).collect()).await;
    system.deployment.settled(&system.server).await;
    system.says(&[]).await;

    system.deployment.poison(VIDEO).await;
    apply(&mut client, (1..=DEAD).map(|user| operation(video_pair(user, VIDEO), true)).collect()).await;
    all_are_dead(&system).await;
    one_answer_before(&system).await;

    system.deployment.cure().await;
    let (code, said) = system.ask(&["dead-letters", "replay", "--reason", "the trigger is gone"]).await;
    assert!(code == Some(0) && said.contains(&format!("{DEAD} replayed")), "{said}");
    system.says(&[]).await;
    one_answer_after(&system).await;
    // But for the disk and the clocks of this machine all is well again.
    for program in system.all() {
        let health = health(program).await;
        let wrong: Vec<_> =
            health["parts"].as_object().unwrap().iter().filter(|(_, part)| part["status"] != "ok").collect();
        let of_machine = |name: &str| ["redis_disk", "clocks", "like_latency", "commit_lag"].contains(&name);
        assert!(wrong.iter().all(|(name, _)| of_machine(name)), "{wrong:?}");
        assert!(!wrong.is_empty() || health["status"] == "ok", "{health}");
    }

    for program in [system.server, system.consumer, system.checker] {
        program.end(SOON).await.unwrap();
    }
}

async fn all_are_dead(system: &System) {
    eventually(PATIENCE, "all of them dead", async || {
        let dead = system.deployment.sql("SELECT COUNT(*) FROM sync_events WHERE status = 'dead'").await;
        if dead.trim() == DEAD.to_string() { Ok(()) } else { Err(dead) }
    })
    .await;
}

/// What the page is made of, beside health and report: its ledger, its check of a resource and its explanation of a like.
async fn the_page_says(system: &System, dead: i64, verdict: &str, concludes: &str) {
    eventually(PATIENCE, format!("{dead} dead likes on the page"), async || {
        let (_, overview) = system.server.get("/overview").await.unwrap();
        let ledger = overview["ledger"].as_array().unwrap_or_else(|| panic!("{overview}"));
        let count = ledger.iter().find(|one| one["status"] == "dead").and_then(|one| one["count"].as_i64());
        if count.unwrap_or(0) == dead { Ok(()) } else { Err(overview) }
    })
    .await;
    let (code, checked) = system.server.check(VIDEO, true).await;
    assert_eq!((code, &checked["verdict"]), (200, &verdict.into()), "{checked}");
    let route = format!("/explain?user_id=7&resource_type=video&resource_id={VIDEO}");
    let (code, explained) = system.server.get(&route).await.unwrap();
    let end = &explained["conclusion"];
    assert_eq!((code, &end["fine"]), (200, &(dead == 0).into()), "{explained}");
    assert!(end["says"].as_str().unwrap().contains(concludes), "{explained}");
}

async fn one_answer_before(system: &System) {
    // Header of the page (the health of the server), consumer, checker.
    system.says(&dead_and_open()).await;
    for program in system.all() {
        metrics_are_explained(program).await;
        assert_eq!(health(program).await["status"], "degraded");
        assert_eq!(gauge(program, "interaction_ledger_events{status=\"dead\"}").await, DEAD as f64);
        assert_eq!(gauge(program, "interaction_consistency_open_findings").await, DEAD as f64);
    }
    let report = system.report().await;
    assert_eq!((&report["open"], &report["troubles"][0]["kind"]), (&DEAD.into(), &"dead_events".into()), "{report}");
    assert!(report["consistency_rate"].as_f64().unwrap() > 0.999, "late is not different: {report}");

    let video = format!("video:{VIDEO}");
    let (code, said) = system.ask(&["check", &video]).await;
    let lines = said.lines().filter(|line| line.contains("is dead since") && line.contains("poisoned video")).count();
    assert!(code == Some(1) && said.contains("stuck") && lines == usize::try_from(DEAD).unwrap(), "{code:?} {said}");
    let (code, said) = system.deployment.syncctl(&["repair", &video], None).await;
    assert!(code == Some(1) && said.contains("stuck") && said.contains("replay it"), "{code:?} {said}");
    let (code, said) = system.deployment.syncctl(&["reconcile"], None).await;
    assert!(code == Some(1) && said.contains(&format!("ledger stuck: {DEAD}")), "{code:?} {said}");
    let (code, said) = system.ask(&["explain", "7", &video]).await;
    let end = "the user sees the like, the database lacks it, its event is dead";
    assert!(code == Some(1) && said.contains(end) && said.contains("dead-letters replay"), "{code:?} {said}");
    let (code, said) = system.ask(&["counts", &video, "-o", "json"]).await;
    let counts: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &counts[0]["count"], &counts[0]["not_applied"]), (Some(1), &0.into(), &DEAD.into()), "{said}");
    let (code, said) = system.ask(&["states", "7", &video, "-o", "json"]).await;
    let states: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &states[0]["liked"], &states[0]["event"]), (Some(1), &true.into(), &"dead".into()), "{said}");
    the_page_says(system, DEAD, "stuck", end).await;
    let (code, said) = system.ask(&["status"]).await;
    let says = format!("{DEAD} accepted likes are dead");
    assert!(code == Some(1) && said.contains(&says), "{code:?} {said}");
    let (code, said) = system.ask(&["dead-letters", "list", "--limit", "100", "-o", "json"]).await;
    let letters: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, letters.as_array().map(Vec::len)), (Some(0), usize::try_from(DEAD).ok()), "{said}");
    let (code, said) = system.ask(&["report"]).await;
    assert!(code == Some(1) && said.contains(&says), "{code:?} {said}");
}

async fn one_answer_after(system: &System) {
    for program in system.all() {
        assert_eq!(gauge(program, "interaction_ledger_events{status=\"dead\"}").await, 0.0);
        assert_eq!(gauge(program, "interaction_consistency_open_findings").await, 0.0);
    }
    // On a slow machine the likes before took long, which is said for a minute.
    let report = eventually(LETTERS, "nothing is wrong", async || {
        let report = system.report().await;
        if report["troubles"] == Value::Array(Vec::new()) { Ok(report) } else { Err(report) }
    })
    .await;
    assert_eq!(report["open"], 0, "{report}");
    assert!(report["closed"].as_i64().unwrap() >= DEAD, "{report}");

    let video = format!("video:{VIDEO}");
    for args in [["check", &video].as_slice(), &["status"], &["report"], &["dead-letters", "list"]] {
        let (code, said) = system.ask(args).await;
        assert_eq!(code, Some(0), "{args:?}: {said}");
    }
    for args in [["repair", &video].as_slice(), &["reconcile"]] {
        let (code, said) = system.deployment.syncctl(args, None).await;
        assert_eq!(code, Some(0), "{args:?}: {said}");
    }
    let (code, said) = system.ask(&["explain", "7", &video]).await;
    assert!(code == Some(0) && said.contains("cache and database say the same"), "{said}");
    let (code, said) = system.ask(&["counts", &video, "-o", "json"]).await;
    let counts: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &counts[0]["count"], &counts[0]["not_applied"]), (Some(0), &DEAD.into(), &0.into()), "{said}");
    let (code, said) = system.ask(&["states", "7", &video, "-o", "json"]).await;
    let states: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &states[0]["liked"], &states[0]["event"]), (Some(0), &true.into(), &Value::Null), "{said}");
    the_page_says(system, 0, "consistent", "cache and database say the same").await;
    // The letters of what was replayed do not stay behind.
    eventually(LETTERS, "no dead letter", async || {
        let letters = gauge(&system.consumer, "interaction_dead_letters").await;
        if letters == 0.0 { Ok(()) } else { Err(letters) }
    })
    .await;
}
