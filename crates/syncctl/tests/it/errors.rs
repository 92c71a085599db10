//! How every command fails: one line, its code, what and a hint, by an exit code, and in words that no programmer is needed for.

use crate::command_line::{syncctl, text};
use clap::CommandFactory;
use futures::StreamExt;
use std::collections::BTreeSet;
use std::process::Output;
use syncctl::cli::Cli;
use test_support::Deployment;

/// Commands that need neither a server nor a store.
const ALONE: [&str; 4] = ["completions", "config check", "config convert", "man"];

const SERVER: &[&str] = &["--addr", "ADDR"];
const DATABASE: &[&str] = &["--database-url", "mysql://u:secret@ADDR/x"];
const STORES: &[&str] = &["--database-url", "mysql://u:secret@ADDR/x", "--redis-url", "redis://:secret@ADDR"];
const BROKER: &[&str] = &["--amqp-url", "amqp://u:secret@ADDR/%2f"];

/// Each of the others, what it needs, and where that is.
static COMMANDS: [(&str, &[&str], &[&str]); 40] = [
    ("load", &["--generate", "--likes", "1", "--retry-for", "0", "--timeout", "1"], SERVER),
    ("verify", &["--oplog", "FILE"], STORES),
    ("migrate", &[], DATABASE),
    ("backfill", &[], DATABASE),
    ("import-legacy", &["--rejects", "FILE.tsv"], DATABASE),
    ("write-path get", &[], DATABASE),
    ("write-path set", &["25%"], DATABASE),
    ("write-path unset", &[], DATABASE),
    ("reshard", &["--to", "64"], STORES),
    ("like", &["1", "video:1"], SERVER),
    ("unlike", &["1", "video:1"], SERVER),
    ("counts", &["video:1"], SERVER),
    ("states", &["1", "video:1"], SERVER),
    ("watch", &["video:1", "--updates", "1"], SERVER),
    ("hot", &[], SERVER),
    ("check", &["video:1"], SERVER),
    ("repair", &["video:1"], STORES),
    ("reconcile", &[], STORES),
    ("recover", &[], STORES),
    ("clock", &[], STORES),
    ("redo-log", &[], BROKER),
    ("changes tail", &[], BROKER),
    ("warmup", &["--top", "1"], SERVER),
    ("events list", &[], SERVER),
    ("events replay", &["--status", "dead"], SERVER),
    ("events discard", &["--status", "dead", "--reason", "a test"], SERVER),
    ("explain", &["1", "video:1"], SERVER),
    ("status", &[], SERVER),
    ("report", &["--since", "1h"], SERVER),
    ("dead-letters list", &[], SERVER),
    ("dead-letters replay", &[], SERVER),
    ("dead-letters drain", &["--file", "FILE.letters"], BROKER),
    ("cache-stats", &[], SERVER),
    ("likers", &["video:1", "--since", "1h"], SERVER),
    ("liked", &["1", "--until", "1h"], SERVER),
    ("erase-user", &["1", "--dry-run"], SERVER),
    ("delete-resource", &["video:1", "--dry-run"], SERVER),
    ("restore-resource", &["video:1"], SERVER),
    ("export-user", &["1"], SERVER),
    ("undo-likes", &["--users", "FILE.users", "--since", "1h"], SERVER),
];

/// Every command that does something itself, with the words that lead to it.
fn commands() -> BTreeSet<String> {
    fn below(command: &clap::Command, path: &str, found: &mut BTreeSet<String>) {
        for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
            let path = format!("{path} {}", inner.get_name());
            if inner.has_subcommands() {
                below(inner, &path, found);
            } else {
                found.insert(path.trim().to_owned());
            }
        }
    }
    let mut found = BTreeSet::new();
    below(&Cli::command(), "", &mut found);
    found
}

/// Runs each with its address there and some flags, a few at a time.
async fn run_all(of: &[&[&str]], addr: &str, more: &[&str]) -> Vec<(&'static str, Output)> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("oplog");
    std::fs::write(&file, "#syncctl-oplog 1\n").unwrap();
    std::fs::write(file.with_extension("users"), "1\n").unwrap();
    let file = file.to_str().unwrap();
    let wanted = COMMANDS.iter().filter(|(_, _, place)| of.contains(place));
    let runs = wanted.map(|(name, arguments, place)| async move {
        let words = name.split(' ').chain(arguments.iter().copied()).chain(place.iter().chain(more).copied());
        let words: Vec<_> = words.map(|word| word.replace("ADDR", addr).replace("FILE", file)).collect();
        (*name, syncctl(&words.iter().map(String::as_str).collect::<Vec<_>>()).await)
    });
    futures::stream::iter(runs).buffer_unordered(4).collect().await
}

/// Names of types and their insides.
fn is_in_plain_words(said: &str) -> bool {
    let of_programmers = ["::", "Error(", "Error {", "Some(", "Err(", "kind:", "Status {", "panicked", "Kind", "Repr"]
        .into_iter()
        .chain(["found in string", "target type", "float literal", "non-zero type"]);
    !{ of_programmers }.any(|word| said.contains(word))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_says_what_it_does_not_reach() {
    let known: BTreeSet<_> = COMMANDS.iter().map(|(name, ..)| *name).chain(ALONE).map(str::to_owned).collect();
    assert_eq!(known, commands(), "a command that this test does not know");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for (name, output) in run_all(&[SERVER, DATABASE, STORES, BROKER], &closed, &[]).await {
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(69), "{name}: {said}{}", text(&output.stdout));
        let line = said.lines().last().unwrap_or_default();
        let parts: Vec<_> = line.split(": ").collect();
        assert!(line.starts_with("syncctl: UNREACHABLE: ") && parts.len() >= 4, "{name}: {said}");
        assert!(line.contains("is it running"), "{name}, without a hint: {said}");
        let different: BTreeSet<_> = parts.iter().collect();
        assert_eq!(different.len(), parts.len(), "{name}, the same again: {said}");
        assert!(is_in_plain_words(&said) && !said.contains("secret"), "{name}: {said}");
        assert!(output.stdout.is_empty(), "{name}: {}", text(&output.stdout));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_of_a_server_says_that_its_token_is_none() {
    let deployment = Deployment::build("tokens").without_stores().start().await.unwrap();
    let deployment = deployment.with_tokens("ops operate a-token-that-is-known-here\n").unwrap();
    let server = deployment.standalone().start_ready().await.unwrap();
    for (name, output) in run_all(&[SERVER], &server.grpc(), &["--token", "a-token-that-nobody-has"]).await {
        let (said, told) = (text(&output.stderr), text(&output.stdout));
        assert_eq!(output.status.code(), Some(1), "{name}: {said}{told}");
        if name == "load" {
            assert!(told.contains("FAILED with UNAUTHENTICATED: 1"), "{told}");
            continue;
        }
        let line = said.lines().last().unwrap_or_default();
        assert!(line.starts_with("syncctl: UNAUTHENTICATED: ") && line.contains("--token-file"), "{name}: {said}");
        assert!(is_in_plain_words(&said) && told.is_empty(), "{name}: {said}{told}");
    }
    server.end(std::time::Duration::from_secs(60)).await.unwrap();
}

#[tokio::test]
async fn every_command_says_which_argument_is_wrong() {
    for name in commands() {
        let words: Vec<_> = name.split(' ').chain(["--no-such-flag"]).collect();
        let output = syncctl(&words).await;
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{name}: {said}");
        let line = said.lines().next().unwrap_or_default();
        assert!(line.starts_with("syncctl: USAGE: ") && line.contains("--no-such-flag"), "{name}: {said}");
        assert!(said.contains("--help") && is_in_plain_words(&said) && output.stdout.is_empty(), "{name}: {said}");
    }
    // The argument is named, and what is expected of it.
    for (words, argument, expected) in [
        (&["explain", "0", "video:1"][..], "<USER>", "the id of a user, a whole number from 1"),
        (&["like", "me", "video:1"], "<USER>", "the id of a user, a whole number from 1"),
        (&["liked", "1", "--limit", "few"], "--limit", "a whole number"),
        (&["load", "--generate", "--likes", ""], "--likes", "a whole number"),
        (&["report", "--hours", "x"], "--hours", "a whole number"),
        (&["dead-letters", "replay", "nonsense"], "[IDS]", "the id of an event"),
        (&["events", "discard", "1", "--reason", "a test"], "[IDS]", "the id of an event"),
        (&["status", "--http", "foo"], "--http", "host:port"),
    ] {
        let output = syncctl(words).await;
        let said = text(&output.stderr);
        let named = said.contains(argument) && said.contains(&format!("expected {expected}"));
        assert!(output.status.code() == Some(2) && named && is_in_plain_words(&said), "{words:?}: {said}");
    }
    let output = syncctl(&["counts", "film:1"]).await;
    assert!(text(&output.stderr).starts_with("syncctl: USAGE: invalid value 'film:1'"), "{}", text(&output.stderr));
    let output = syncctl(&["events", "discard", "--status", "dead"]).await;
    assert!(text(&output.stderr).starts_with("syncctl: USAGE: --reason: "), "{}", text(&output.stderr));
}

#[tokio::test]
async fn a_reader_that_has_read_enough_is_no_error() {
    let program = env!("CARGO_BIN_EXE_syncctl");
    let command = "\"$0\" completions bash | head -c 10; echo \"ends with ${PIPESTATUS[0]}\"";
    let output = tokio::process::Command::new("bash").args(["-c", command, program]).output().await.unwrap();
    assert_eq!(text(&output.stderr), "");
    assert!(text(&output.stdout).contains("ends with 141"), "{}", text(&output.stdout));
}

/// What is asked for stands by itself; what every command has, under its own heading.
#[test]
fn each_flag_stands_under_its_heading() {
    fn look(command: &clap::Command, path: &str) {
        const ACCESS: [&str; 8] =
            ["addr", "ca_file", "client_cert_file", "client_key_file", "context", "http", "token", "token_file"];
        for arg in command.get_arguments() {
            let (id, heading) = (arg.get_id().as_str(), arg.get_help_heading());
            let of_store = ["database_url", "redis_", "amqp_", "from_url", "grpc_addr", "http_addr"];
            let expected = match id {
                _ if arg.is_positional() => None,
                "output" => Some("Output"),
                id if ACCESS.contains(&id) => Some("Access"),
                id if of_store.iter().any(|start| id.starts_with(start)) => Some("Stores"),
                "people" | "shares" => Some("People"),
                "history" if path.ends_with("load") => Some("People"),
                "excuses" | "strict" | "asked_again" | "confirm_rewrites" => Some("Histories"),
                _ => None,
            };
            assert_eq!(heading, expected, "{path}: {id}");
        }
        for inner in command.get_subcommands() {
            look(inner, &format!("{path} {}", inner.get_name()));
        }
    }
    let mut command = Cli::command();
    command.build();
    look(&command, "");
}
