//! What an operator does about the dead-letter queue, with the command line alone, on a real broker.

use crate::deployment::{Asked, PATIENCE, SOON, apply, operation};
use serde_json::Value;
use std::time::Duration;
use test_support::build::video_pair;
use test_support::{Deployment, Program, eventually, expect_eq};

const POISONED: i64 = 13;
const GIVEN_UP: u32 = 3;

/// Going through letters takes a fifth of a consumer's time: on a slow disk it comes to them late.
const LETTERS: Duration = Duration::from_secs(300);

struct Letters {
    deployment: Deployment,
    server: Program,
    wire: tokio::sync::Mutex<test_support::Wire>,
}

impl Letters {
    async fn new() -> Self {
        let deployment = Deployment::build("letters").own_rabbitmq().start().await.unwrap().with_all(&[
            ("RATE_LIMITING__USER_ACTION__ENABLED", "false"),
            ("EVENT_DRIVEN_SYNC__RETRY__MAX_RETRIES", "1"),
            ("EVENT_DRIVEN_SYNC__RETRY__BASE_DELAY", "100ms"),
        ]);
        let server = deployment.server().start_connected().await.unwrap();
        let wire = tokio::sync::Mutex::new(deployment.wire().await.unwrap());
        Self { deployment, server, wire }
    }

    async fn consumer(&self) -> Program {
        self.deployment.consumer().start_connected().await.unwrap()
    }

    async fn depth(&self, queue: &str) -> u32 {
        self.wire.lock().await.depth(queue).await.unwrap()
    }

    async fn letters(&self, expected: u32) {
        let dead = format!("{}.dead", self.deployment.queue());
        eventually(LETTERS, format!("{expected} letters"), async || expect_eq(self.depth(&dead).await, expected)).await;
    }

    /// Exit code, and all that a command says.
    async fn syncctl(&self, args: &[&str]) -> (Option<i32>, String) {
        let command = self.deployment.syncctl().args(args.iter().copied()).env("GRPC_ADDR", self.server.grpc());
        let command = command.start().unwrap();
        let status = command.wait_exit(PATIENCE).await.unwrap();
        (status.code(), command.log())
    }

    /// What a command says as JSON.
    async fn ask(&self, args: &[&str]) -> Value {
        let (code, said) = self.syncctl(&[args, &["-o", "json"]].concat()).await;
        assert_eq!(code, Some(0), "{args:?}: {said}");
        let line = said.lines().rev().find(|line| line.starts_with(['[', '{']));
        serde_json::from_str(line.unwrap_or_else(|| panic!("{args:?}: {said}"))).unwrap()
    }

    /// Bytes that are no event, an expired like and expired bytes, while nobody consumes.
    async fn expire(&self) {
        let broker = self.deployment.rabbitmq();
        let (queue, exchange) = (self.deployment.queue(), self.deployment.exchange());
        let pattern = format!("^{}$", queue.replace('.', "\\."));
        broker.ctl(&["set_policy", "ttl", &pattern, r#"{"message-ttl":100}"#, "--apply-to", "queues"]).await.unwrap();
        self.wire.lock().await.publish(&exchange, b"expired bytes").await.unwrap();
        apply(&mut self.server.client().await, vec![operation(video_pair(9, 1), true)]).await;
        let dead = format!("{queue}.dead");
        eventually(PATIENCE, "all of it among the dead letters", async || {
            let (waiting, dead) = (self.depth(&queue).await, self.depth(&dead).await);
            if waiting == 0 && dead >= GIVEN_UP + 3 { Ok(()) } else { Err(format!("{waiting} wait, {dead} dead")) }
        })
        .await;
        broker.ctl(&["clear_policy", "ttl"]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_of_every_kind_are_listed_replayed_and_drained() {
    let system = Letters::new().await;
    let consumer = system.consumer().await;
    // Given up after their retries.
    system.deployment.poison(POISONED).await.unwrap();
    let mut client = system.server.client().await;
    apply(&mut client, (1..=i64::from(GIVEN_UP)).map(|user| operation(video_pair(user, POISONED), true)).collect())
        .await;
    let dead = "SELECT COUNT(*) FROM sync_events WHERE status = 'dead'";
    eventually(PATIENCE, "dead likes", async || {
        expect_eq(system.deployment.number(dead).await.unwrap(), i64::from(GIVEN_UP))
    })
    .await;
    // No event at all.
    system.wire.lock().await.publish(&system.deployment.exchange(), b"garbage").await.unwrap();
    system.letters(GIVEN_UP + 1).await;
    consumer.end(SOON).await.unwrap();
    system.expire().await;

    let listed = system.ask(&["dead-letters", "list"]).await;
    let of = |kind: &'static str| of_kind(&listed, kind);
    let says = |row: &Value, what: &str| row["error"].as_str().unwrap().contains(what);
    assert_eq!(of("event").len(), GIVEN_UP as usize, "{listed}");
    assert!(of("event").iter().all(|row| says(row, "poisoned video")), "{listed}");
    let moved = of("moved");
    assert!(!moved.is_empty(), "{listed}");
    assert!(moved.iter().all(|row| row["user"] == 9 && says(row, "the broker moved it: expired")), "{listed}");
    let others = of("letter");
    assert_eq!(others.len(), 2, "{listed}");
    assert!(others.iter().any(|row| says(row, "unknown format")), "{listed}");
    assert!(others.iter().any(|row| says(row, "the broker moved it: expired (13 bytes)")), "{listed}");

    // What the broker moved is applied by a consumer; what was given up is replayed. No letter of either stays behind.
    let consumer = system.consumer().await;
    let live = "SELECT COUNT(*) FROM video_likes WHERE deleted_at IS NULL";
    eventually(LETTERS, "the expired like", async || expect_eq(system.deployment.number(live).await.unwrap(), 1)).await;
    system.letters(GIVEN_UP + 2).await;
    system.deployment.cure().await.unwrap();
    let (code, said) = system.syncctl(&["dead-letters", "replay", "--reason", "the trigger is gone"]).await;
    assert!(code == Some(0) && said.contains(&format!("{GIVEN_UP} replayed")), "{said}");
    let all = i64::from(GIVEN_UP) + 1;
    eventually(PATIENCE, "all likes", async || expect_eq(system.deployment.number(live).await.unwrap(), all)).await;
    system.letters(2).await;

    drained(&system).await;
    system.letters(0).await;
    let gauge = "interaction_dead_letters 0\n";
    eventually(LETTERS, gauge, async || consumer.metrics().await.unwrap().contains(gauge)).await;
    let (code, said) = system.syncctl(&["dead-letters", "list"]).await;
    assert!(code == Some(0) && said.contains("No resources found"), "{said}");
    commands_of_stores(&system).await;
    for program in [consumer, system.server] {
        program.end(SOON).await.unwrap();
    }
}

fn of_kind<'v>(listed: &'v Value, kind: &str) -> Vec<&'v Value> {
    listed.as_array().unwrap().iter().filter(|row| row["kind"] == kind).collect()
}

/// Two letters that are no events: first looked at, then taken out into a file.
async fn drained(system: &Letters) {
    let file = system.deployment.dir().join("letters.jsonl");
    let file = file.to_str().unwrap();
    // A consumer may have one in hand when it is looked.
    eventually(LETTERS, "both, when asked what would be taken out", async || {
        let would = system.ask(&["dead-letters", "drain", "--file", file, "--dry-run"]).await;
        expect_eq(would.as_array().map(Vec::len), Some(2))
    })
    .await;
    system.letters(2).await;
    assert!(!std::path::Path::new(file).exists(), "a dry run wrote");
    let written = || std::fs::read_to_string(file).unwrap_or_default();
    eventually(LETTERS, "both in the file", async || {
        let (code, said) = system.syncctl(&["dead-letters", "drain", "--file", file]).await;
        assert!(code == Some(0) && said.contains(" taken out"), "{said}");
        expect_eq(written().lines().count(), 2)
    })
    .await;
    let mut bodies: Vec<(String, String)> = Vec::new();
    for line in written().lines() {
        let letter: Value = serde_json::from_str(line).unwrap();
        bodies.push((letter["body"].as_str().unwrap().to_owned(), letter["reason"].as_str().unwrap().to_owned()));
    }
    bodies.sort();
    // "expired bytes" and "garbage".
    assert_eq!(bodies[0].0, "65787069726564206279746573", "{bodies:?}");
    assert!(bodies[0].1.contains("the broker moved it: expired"), "{bodies:?}");
    assert_eq!(bodies[1].0, "67617262616765", "{bodies:?}");
    assert!(bodies[1].1.contains("unknown format"), "{bodies:?}");
}

/// Commands that go to the stores themselves say what they find in each form.
async fn commands_of_stores(system: &Letters) {
    assert_eq!(system.ask(&["repair", "video:13"]).await[0]["verdict"], "consistent");
    assert_eq!(system.ask(&["reconcile"]).await["inconsistent"], 0);
    assert_eq!(system.ask(&["recover", "--dry-run"]).await["lost"], 0);
    // From further back than the log reaches it would say that something may be missing.
    assert_eq!(system.ask(&["recover", "--since", "1s", "--dry-run"]).await["dry_run"], true);
    assert_eq!(system.ask(&["clock"]).await[0]["what"], "clock");
    assert!(system.ask(&["redo-log", "--since", "1h"]).await["since"]["events"].as_i64().unwrap() >= 4);
    for (command, header) in [
        (&["redo-log", "--since", "1h", "--list"][..], "PUBLISHED\tVERSION\tID\tUSER\tRESOURCE\tACTION"),
        (&["redo-log"], "FIELD\tVALUE"),
        (&["repair", "video:13"], "RESOURCE\tVERDICT\tUSER\tCOMPARED\tCACHE\tDATABASE\tDETAIL\tREPAIR"),
        (&["reconcile"], "FIELD\tVALUE"),
        (&["recover", "--dry-run"], "FIELD\tVALUE"),
        (&["clock"], "WHAT\tNAME\tAHEAD (s)\tVERSIONS LATER THAN NOW\tSTATE"),
    ] {
        let (code, said) = system.syncctl(&[command, &["-o", "tsv"]].concat()).await;
        assert!(code == Some(0) && said.lines().any(|line| line == header), "{command:?}: {code:?} {said}");
    }
}
