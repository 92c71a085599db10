use crate::fake_server::{Behaviour, FakeServer};
use crate::stores::{Stores, small_log};
use serde_json::Value;
use std::process::Output;
use tokio::process::Command;
use tonic::Code;

pub(crate) async fn syncctl(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_syncctl"));
    for variable in ["GRPC_ADDR", "DATABASE_URL", "LEGACY_DATABASE_URL", "REDIS_URL", "REDIS_PREFIX", "USER"] {
        command.env_remove(variable);
    }
    command.args(args).output().await.unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn bad_usage_ends_with_64_and_names_the_reason() {
    for (args, reason) in [
        (&["load"][..], "--trace <TRACE>|--generate"),
        (&["load", "--generate"], "--likes or --duration"),
        (&["load", "--generate", "--likes", "1", "--zipf", "21"], "--zipf: must be 0 to 20"),
        (&["load", "--generate", "--likes", "1", "--unlikes", "2"], "--unlikes: must be 0 to 1"),
        (&["load", "--generate", "--likes", "1", "--watch-counts"], "--fresh-users"),
        (&["load", "--generate", "--likes", "1", "--batch", "501"], "501"),
        (&["load", "--generate", "--likes", "1", "--addr", "http://"], "--addr"),
        (&["load", "--trace", "x"], "--format"),
        (&["verify"], "--history <HISTORY>"),
        (&["like", "1", "film:2"], "expected video or comment"),
        (&["events", "replay"], "--status dead"),
        (&["events", "discard", "--status", "dead"], "--reason"),
        (&["events", "replay", "x", "--status", "dead"], "cannot be used with"),
        (&["events", "list", "--since", "now"], "2026-01-31T07:00:00Z"),
        (&["explain", "1", "film:2"], "expected video or comment"),
        (&["migrate", "--database-url", "mysql://u:p@/x"], "names no host"),
        (
            &["import-legacy", "--from-url", "mysql://h", "--database-url", "mysql://h/x"],
            "--from-url: names no database",
        ),
        (&["frobnicate"], "frobnicate"),
    ] {
        let output = syncctl(args).await;
        assert_eq!(output.status.code(), Some(64), "{args:?}");
        assert!(text(&output.stderr).contains(reason), "{args:?}: {}", text(&output.stderr));
    }
    assert_eq!(syncctl(&["--help"]).await.status.code(), Some(0));
}

#[tokio::test]
async fn a_configuration_of_the_old_system_is_answered_for_and_converted() {
    let old = concat!(env!("CARGO_MANIFEST_DIR"), "/../settings/tests/it/data/old_system.yml");
    let checked = syncctl(&["config", "check", old]).await;
    let said = text(&checked.stdout);
    assert_eq!(checked.status.code(), Some(1), "{said}");
    for line in [
        "database.password: taken over as database.url",
        "old_system.yml writes one that they start with",
        "interaction-server: does not start: ",
    ] {
        assert!(said.contains(line) && !said.contains("example"), "{line}: {said}");
    }
    let converted = syncctl(&["config", "convert", old]).await;
    assert_eq!(converted.status.code(), Some(0), "{}", text(&converted.stderr));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &converted.stdout).unwrap();
    let path = file.path().to_str().unwrap();
    let checked = syncctl(&["config", "check", path]).await;
    assert!(text(&checked.stdout).contains("interaction-server: starts"), "{}", text(&checked.stdout));
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stdout));

    std::fs::write(file.path(), "redis: {ulr: x}\n").unwrap();
    let unknown = syncctl(&["config", "check", path]).await;
    assert_eq!(unknown.status.code(), Some(1));
    assert!(text(&unknown.stdout).contains("redis.ulr: unknown: did you mean redis.url?"), "{}", text(&unknown.stdout));
    let refused = syncctl(&["config", "convert", path]).await;
    assert_eq!(refused.status.code(), Some(64));
    assert!(text(&refused.stderr).contains("did you mean redis.url?"), "{}", text(&refused.stderr));
}

#[tokio::test]
async fn load_replays_a_trace_and_prints_json() {
    let server = FakeServer::start(Behaviour::default()).await;
    let trace = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(trace.path(), "userId,movieId,rating,timestamp\n1,1,4.0,2\n1,1,3.0,3\n2,1,5.0,1\n").unwrap();
    let path = trace.path().to_str().unwrap();
    let args = ["load", "--addr", &server.addr, "--trace", path, "--format", "movielens", "--json"];
    let output = syncctl(&args).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["acknowledged"], 3);
    assert!(report["latency_us"]["p999"].as_u64().unwrap() > 0);
    assert!(report["longest_gap_ms"].is_u64() && report["likes_per_s"].is_number());

    std::fs::write(trace.path(), "1,1,4.0,2\n1,1\n").unwrap();
    let output = syncctl(&args).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("line 2: expected userId,movieId,rating,timestamp"));
}

#[tokio::test]
async fn load_fails_when_operations_fail() {
    let server =
        FakeServer::start(Behaviour { refuse_user: Some((1, Code::InvalidArgument)), ..Behaviour::default() }).await;
    let args = ["load", "--addr", &server.addr, "--generate", "--likes", "5", "--users", "1", "--json"];
    let output = syncctl(&args).await;
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["failed"]["INVALID_ARGUMENT"], 5);
}

#[tokio::test]
async fn single_calls_answer_in_one_line() {
    let server = FakeServer::start(Behaviour::default()).await;
    let output = syncctl(&["like", "--addr", &server.addr, "7", "video:3"]).await;
    assert_eq!(text(&output.stdout), "video:3: liked, count 1, version 1\n");
    let output = syncctl(&["unlike", "--addr", &server.addr, "7", "video:3"]).await;
    assert_eq!(text(&output.stdout), "video:3: not liked, count 1, version 2\n");
    let output = syncctl(&["counts", "--addr", &server.addr, "video:3", "video:4"]).await;
    assert_eq!(text(&output.stdout), "video:3\t0\nvideo:4\t0\n");
}

#[tokio::test]
async fn migrate_can_be_repeated_and_verify_ends_by_its_findings() {
    let stores = Stores::of_small_log().await;
    for _ in 0..2 {
        let output = syncctl(&["migrate", "--database-url", &stores.database_url]).await;
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    }
    let log = stores.log("oplog", &small_log());
    let (database, redis) = (stores.database_url.as_str(), stores.redis_url.as_str());
    let log = log.to_str().unwrap();
    let mut args = vec!["verify", "--oplog", log, "--database-url", database, "--redis-url", redis];
    args.extend(["--redis-prefix", &stores.prefix, "--wait", "0", "--json"]);
    let output = syncctl(&args).await;
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));

    stores.sql("DELETE FROM video_likes WHERE user_id = 2").await;
    let output = syncctl(&args).await;
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["problems"]["lost"]["count"], 1);
    assert_eq!(report["lost_pairs"][0]["user"], 2);
    args.pop();
    let output = syncctl(&args).await;
    assert!(text(&output.stdout).contains("user 2 video:10: liked, but there is no row"), "{}", text(&output.stdout));
}
