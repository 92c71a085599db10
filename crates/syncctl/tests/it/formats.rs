//! The same result as a table, as JSON and tab-separated, of every command that asks a server or a database.

use crate::command_line::{syncctl, text};
use serde_json::Value;
use std::time::Duration;
use test_support::{Deployment, eventually};

const PATIENCE: Duration = Duration::from_secs(60);

/// Standard output and exit code.
async fn said(command: &[&str], format: &str) -> (Option<i32>, String, String) {
    let output = syncctl(&[command, &["-o", format]].concat()).await;
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Asks in each format; gives back the JSON.
async fn in_all_formats(command: &[&str]) -> Value {
    let (code, json, error) = said(command, "json").await;
    assert_eq!(code, Some(0), "{command:?}: {json}{error}");
    let lines: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!lines.is_empty(), "{command:?} says nothing");

    let (code, tsv, error) = said(command, "tsv").await;
    assert_eq!(code, Some(0), "{command:?}: {tsv}{error}");
    let columns: Vec<_> = tsv.lines().map(|line| line.split('\t').count()).collect();
    assert!(columns[0] > 1 && columns.iter().all(|number| *number == columns[0]), "{command:?}: {tsv}");
    let header = tsv.lines().next().unwrap_or_default();
    assert_eq!(header, header.to_uppercase().replace("(MS)", "(ms)").replace("(S)", "(s)"), "{command:?}");

    let (code, table, error) = said(command, "table").await;
    assert_eq!(code, Some(0), "{command:?}: {table}{error}");
    if let Some(rows) = lines[0].as_array() {
        assert_eq!(rows.is_empty(), error.trim() == "No resources found", "{command:?}: {table}{error}");
    }
    let is_empty = lines[0].as_array().is_some_and(Vec::is_empty);
    assert!(is_empty || !table.trim().is_empty() && !table.starts_with(['{', '[']), "{command:?}: {table}");
    lines.into_iter().next().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_result_of_a_server_comes_in_each_format() {
    let deployment = Deployment::build("formats").without_stores().start().await.unwrap();
    let server = deployment.standalone().start_connected().await.unwrap();
    let (addr, http) = (server.grpc(), server.http());
    let ask = async |command: &[&str]| in_all_formats(&[command, &["--addr", &addr]].concat()).await;

    for list in [
        &["hot"][..],
        &["likers", "video:7"],
        &["liked", "1"],
        &["events", "list", "--since", "1h"],
        &["dead-letters", "list"],
    ] {
        assert_eq!(ask(list).await, Value::Array(Vec::new()), "{list:?}");
    }
    assert_eq!(ask(&["like", "1", "video:7"]).await["liked"], true);
    assert_eq!(ask(&["like", "2", "video:7"]).await["resource"], "video:7");
    assert_eq!(ask(&["unlike", "3", "video:7"]).await["liked"], false);
    eventually(PATIENCE, "the likes in the database", async || {
        let (_, likers, _) = said(&["likers", "video:7", "--addr", &addr], "tsv").await;
        if likers.lines().count() == 3 { Ok(()) } else { Err(likers) }
    })
    .await;
    assert_eq!(ask(&["counts", "video:7", "video:8"]).await[0]["count"], 2);
    assert_eq!(ask(&["states", "1", "video:7"]).await[0]["liked"], true);
    assert_eq!(ask(&["watch", "video:7", "--updates", "1"]).await["count"], 2);
    eventually(PATIENCE, "a hot video", async || {
        let (_, hot, _) = said(&["hot", "--addr", &addr], "tsv").await;
        if hot.contains("video:7") { Ok(()) } else { Err(hot) }
    })
    .await;
    assert_eq!(ask(&["hot"]).await[0]["resource"], "video:7");
    assert_eq!(ask(&["likers", "video:7", "--since", "1h"]).await.as_array().map(Vec::len), Some(2));
    assert_eq!(ask(&["likers", "video:7", "--until", "1h"]).await.as_array().map(Vec::len), Some(0));
    assert_eq!(ask(&["liked", "1", "--since", "1h"]).await[0]["resource"], "video:7");
    assert_eq!(ask(&["liked", "1", "--until", "2026-01-01T00:00:00Z"]).await, Value::Array(Vec::new()));
    assert_eq!(ask(&["events", "list", "--user", "1"]).await[0]["status"], "completed");
    assert_eq!(ask(&["events", "replay", "--status", "dead", "--dry-run"]).await, Value::Array(Vec::new()));
    assert_eq!(ask(&["check", "video:7"]).await[0]["verdict"], "consistent");
    assert!(ask(&["warmup", "--top", "5"]).await["counters"].is_u64());
    let explained = ask(&["explain", "1", "video:7"]).await;
    assert_eq!((&explained["fine"], &explained["row"]["liked"]), (&true.into(), &true.into()), "{explained}");
    assert!(!explained["conclusion"].as_str().unwrap().is_empty(), "{explained}");
    assert_eq!(ask(&["report", "--since", "90m"]).await["hours"], 2);
    assert_eq!(ask(&["report", "--hours", "3"]).await["open"], 0);
    assert_eq!(ask(&["cache-stats"]).await[0]["pending"], 0);
    let (_, lines, error) = said(&["export-user", "1", "--addr", &addr], "json").await;
    let line: Value = serde_json::from_str(lines.trim()).unwrap_or_else(|_| panic!("{lines}{error}"));
    assert_eq!((&line["user_id"], &line["resource"]), (&"1".into(), &"video:7".into()), "{line}");

    // Everything of a user goes, from an embedded cache and SQLite, too.
    assert_eq!(ask(&["erase-user", "2", "--dry-run"]).await["likes"], 1);
    let (code, erased, error) =
        said(&["erase-user", "2", "--reason", "asked for", "--wait", "--addr", &addr], "json").await;
    let erased: Value = serde_json::from_str(&erased).unwrap_or_else(|_| panic!("{erased}{error}"));
    assert!(code == Some(0) && erased["cleaned_at"].is_string() && erased["likes"] == 1, "{erased}");
    assert_eq!(ask(&["erase-user", "2", "--dry-run"]).await["likes"], 0);
    assert_eq!(ask(&["counts", "video:7"]).await[0]["count"], 1);
    assert_eq!(ask(&["like", "2", "video:7"]).await["count"], 2);

    // A resource goes with its likes, is liked by nobody, and comes again without them.
    assert_eq!(ask(&["delete-resource", "video:9", "--dry-run"]).await["deletion"], Value::Null);
    assert_eq!(ask(&["restore-resource", "video:9"]).await["restored_at"], Value::Null);
    assert_eq!(ask(&["like", "2", "video:9"]).await["count"], 1);
    assert_eq!(ask(&["delete-resource", "video:9", "--reason", "a report"]).await["dry_run"], false);
    let (code, gone, error) = said(&["delete-resource", "video:9", "--wait", "--addr", &addr], "json").await;
    let gone: Value = serde_json::from_str(&gone).unwrap_or_else(|_| panic!("{gone}{error}"));
    assert!(code == Some(0) && gone["cleaned_at"].is_string() && gone["restored_at"].is_null(), "{gone}");
    assert_eq!(ask(&["counts", "video:9"]).await[0]["count"], 0);
    let (code, _, error) = said(&["like", "2", "video:9", "--addr", &addr], "table").await;
    assert!(code == Some(1) && error.contains("the resource is deleted"), "{code:?} {error}");
    assert!(ask(&["restore-resource", "video:9"]).await["restored_at"].is_string());
    assert_eq!(ask(&["like", "4", "video:9"]).await["count"], 1);

    // What some like since a time is taken back, and again is nothing.
    let dir = tempfile::tempdir().unwrap();
    let users = dir.path().join("users");
    std::fs::write(&users, "# bots\n1\n3\n").unwrap();
    let users = users.to_str().unwrap();
    let undo = ["undo-likes", "--users", users, "--since", "1h"];
    assert_eq!(ask(&[&undo[..], &["--dry-run"]].concat()).await["found"], 1);
    assert_eq!(ask(&["undo-likes", "--users", users, "--since", "0s"]).await["undone"], 0);
    assert_eq!(said(&[&undo[..], &["--addr", &addr]].concat(), "json").await.0, Some(0));
    assert_eq!(ask(&["states", "1", "video:7"]).await[0]["liked"], false);
    eventually(PATIENCE, "nothing to undo", async || {
        let again = ask(&[&undo[..], &["--dry-run"]].concat()).await;
        if again["found"] == 0 { Ok(()) } else { Err(again) }
    })
    .await;
    assert_eq!(ask(&["counts", "video:7"]).await[0]["count"], 1);
    // This machine's disk may be what is wrong.
    let (_, status, error) = said(&["status", "--addr", &addr, "--http", &http], "json").await;
    let status: Value = serde_json::from_str(&status).unwrap_or_else(|_| panic!("{status}{error}"));
    assert_eq!(status["processes"][0]["name"], "standalone", "{status}");
    let loaded = ask(&["load", "--generate", "--likes", "3"]).await;
    assert_eq!(loaded["acknowledged"], 3, "{loaded}");
    let people = ask(&["load", "--people", "1", "--duration", "0.2"]).await;
    assert!(people.is_object(), "{people}");
    let (code, _, error) = said(&["report", "--addr", &addr, "--since", "60d"], "table").await;
    assert!(code == Some(2) && error.contains("--since: a report looks back 720 hours at most"), "{error}");
    server.end(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_result_of_a_database_or_a_file_comes_in_each_format() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}?mode=rwc", dir.path().join("it.db").display());
    let ask = async |command: &[&str]| in_all_formats(&[command, &["--database-url", &url]].concat()).await;
    let (code, applied, error) = said(&["migrate", "--database-url", &url], "json").await;
    let applied: Value = serde_json::from_str(&applied).unwrap_or_else(|_| panic!("{applied}{error}"));
    assert!(code == Some(0) && !applied["applied"].as_array().unwrap().is_empty(), "{applied}{error}");
    assert_eq!(ask(&["migrate"]).await["applied"], Value::Array(Vec::new()));
    assert_eq!(ask(&["write-path", "get"]).await["ordered"], Value::Null);
    assert_eq!(ask(&["write-path", "set", "25%"]).await["ordered"], "25%");
    assert_eq!(ask(&["write-path", "unset"]).await["ordered"], Value::Null);
    assert_eq!(ask(&["backfill"]).await["rows"], 0);

    let file = dir.path().join("it.yml");
    std::fs::write(&file, "service: {grpc_addr: '127.0.0.1:0'}\n").unwrap();
    let checked = in_all_formats(&["config", "check", file.to_str().unwrap()]).await;
    let name = |what: &str| {
        let rows = checked.as_array().unwrap().iter().filter(|row| row["what"] == what);
        rows.map(|row| row["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(name("key"), ["service.grpc_addr"]);
    assert!(name("program").contains(&"interaction-server".to_owned()), "{checked}");
}
