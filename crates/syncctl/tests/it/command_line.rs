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
async fn bad_usage_ends_with_2_and_names_the_reason() {
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
        (&["events", "replay", "0198c0de-0000-7000-8000-000000000001", "--status", "dead"], "cannot be used with"),
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
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).contains(reason), "{args:?}: {}", text(&output.stderr));
    }
    assert_eq!(syncctl(&["--help"]).await.status.code(), Some(0));
    let shares = syncctl(&["load", "--share", "help"]).await;
    assert_eq!(shares.status.code(), Some(0), "{}", text(&shares.stderr));
    assert!(text(&shares.stdout).contains("two_devices"), "{}", text(&shares.stdout));
    assert_eq!(syncctl(&["load", "--share", "hot=1"]).await.status.code(), Some(2));
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
    // This server has no calls of operators.
    assert_eq!(
        text(&output.stdout),
        "RESOURCE   COUNT   NOT APPLIED\nvideo:3    0       unknown\nvideo:4    0       unknown\n"
    );
    let output = syncctl(&["counts", "--addr", &server.addr, "video:3", "-o", "tsv"]).await;
    assert_eq!(text(&output.stdout), "RESOURCE\tCOUNT\tNOT APPLIED\nvideo:3\t0\tunknown\n");
    let output = syncctl(&["counts", "--addr", &server.addr, "video:3", "-o", "json"]).await;
    assert_eq!(text(&output.stdout), "[{\"resource\":\"video:3\",\"count\":0,\"not_applied\":null}]\n");
}

#[tokio::test]
async fn a_server_or_store_that_is_unreachable_ends_with_69_and_says_what_to_look_at() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let database = format!("mysql://u:secret@{closed}/x");
    for args in [&["counts", "video:1", "--addr", &closed][..], &["status", "--addr", &closed]] {
        let output = syncctl(args).await;
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(69), "{args:?}: {said}");
        assert!(said.starts_with("syncctl: UNREACHABLE: could not connect to 127.0.0.1:"), "{said}");
        assert!(said.contains(": is it running") && !said.contains("Error"), "{said}");
    }
    let output = syncctl(&["write-path", "get", "--database-url", &database]).await;
    assert_eq!(output.status.code(), Some(69), "{}", text(&output.stderr));
    assert!(!text(&output.stderr).contains("secret"), "{}", text(&output.stderr));
}

#[tokio::test]
async fn what_a_flag_lacks_comes_from_variables_files_and_contexts() {
    let server = FakeServer::start(Behaviour::default()).await;
    let dir = tempfile::tempdir().unwrap();
    let contexts = dir.path().join("contexts");
    std::fs::write(&contexts, format!("[here]\naddr = {}\n", server.addr)).unwrap();
    let asked = async |variables: &[(&str, &str)], args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_syncctl"));
        command.env_remove("GRPC_ADDR").envs(variables.iter().copied()).args(["counts", "video:3"]).args(args);
        command.output().await.unwrap()
    };
    let contexts = ("SYNCCTL_CONTEXTS", contexts.to_str().unwrap());
    let nowhere = ("GRPC_ADDR", "127.0.0.1:1");
    for (variables, args) in [
        (&[("SYNCCTL_ADDR", server.addr.as_str()), nowhere][..], &[][..]),
        (&[contexts], &["--context", "here"]),
        (&[contexts, ("SYNCCTL_CONTEXT", "here")], &[]),
    ] {
        let output = asked(variables, args).await;
        assert_eq!(output.status.code(), Some(0), "{variables:?}: {}", text(&output.stderr));
    }
    assert_eq!(asked(&[contexts, nowhere], &["--context=here"]).await.status.code(), Some(69), "a variable is nearer");
    let unknown = asked(&[contexts], &["--context", "there"]).await;
    assert!(unknown.status.code() == Some(2) && text(&unknown.stderr).contains("no \"there\""), "{unknown:?}");

    let url = dir.path().join("url");
    std::fs::write(&url, "mysql://u:p@/x\n").unwrap();
    let mut migrate = Command::new(env!("CARGO_BIN_EXE_syncctl"));
    migrate.env_remove("DATABASE_URL").env("SYNCCTL_DATABASE_URL_FILE", &url).arg("migrate");
    let output = migrate.output().await.unwrap();
    assert!(text(&output.stderr).contains("names no host"), "the file was read: {}", text(&output.stderr));
}

#[tokio::test]
async fn help_stands_in_its_place_and_completions_and_pages_are_written() {
    let help = text(&syncctl(&["states", "--help"]).await.stdout);
    let (arguments, rest) = help.split_once("Access:").unwrap();
    assert!(arguments.contains("<USER>") && arguments.contains("<RESOURCES>"), "{help}");
    assert!(rest.contains("--token-file") && rest.contains("--addr") && !rest.contains("<USER>"), "{help}");
    let help = text(&syncctl(&["load", "--help"]).await.stdout);
    let access = help.split_once("Access:").unwrap().1;
    assert!(!access.contains("--trace") && !access.contains("--json"), "{help}");
    let completions = syncctl(&["completions", "bash"]).await;
    assert!(completions.status.success() && text(&completions.stdout).contains("dead-letters"));
    let dir = tempfile::tempdir().unwrap();
    let written = syncctl(&["man", dir.path().to_str().unwrap()]).await;
    assert!(written.status.success(), "{}", text(&written.stderr));
    let page = std::fs::read_to_string(dir.path().join("syncctl-status.1")).unwrap();
    assert!(page.contains(".TH") && page.contains("\\-\\-http"), "{page}");
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
