//! What `config check` says of a file, and what the programs do with it.

use crate::command_line::text;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use test_support::{Authority, Binary};
use tokio::process::Command;

const PROGRAMS: [&str; 4] = ["interaction-server", "sync-consumer", "consistency-checker", "standalone"];
const PATIENCE: Duration = Duration::from_secs(60);
/// Nobody is there: a program that waits for its stores is past its configuration.
const STORES: &str = "
database: {url: 'mysql://nobody@127.0.0.1:1/x'}
redis: {url: 'redis://127.0.0.1:1'}
rabbitmq: {url: 'amqp://127.0.0.1:1/%2f'}
";

/// Those that the file does not give, so that nobody finds his address taken.
fn free_addresses(given: &str) -> Vec<(String, &'static str)> {
    let all = ["grpc_addr", "http_addr", "consumer_http_addr", "checker_http_addr"];
    let others = all.into_iter().filter(|key| !given.contains(&format!("{{{key}")));
    others.map(|key| (format!("INTERACTION__SERVICE__{}", key.to_uppercase()), "127.0.0.1:0")).collect()
}

/// Which programs it says start, and whether it ends well.
async fn said(file: &Path, free: &[(String, &'static str)]) -> (Vec<bool>, bool, String) {
    let mut check = Command::new(env!("CARGO_BIN_EXE_syncctl"));
    check.args(["config", "check"]).arg(file).stdin(Stdio::null()).env_remove("RUST_LOG");
    check.envs(free.iter().map(|(name, value)| (name, value)));
    let output = check.output().await.unwrap();
    let said = text(&output.stdout);
    let starts = PROGRAMS.map(|program| {
        let line = said.lines().rev().find(|line| line.starts_with(program)).unwrap_or_default();
        assert!(line.ends_with(": starts") || line.contains(": does not start: "), "{program}: {said}");
        line.ends_with(": starts")
    });
    (starts.to_vec(), output.status.success(), said)
}

/// Whether it gets past its configuration.
async fn starts(program: &str, file: &Path, free: &[(String, &'static str)]) -> bool {
    let mut process = Binary::build(program).arg("--config").arg(file).env("RUST_LOG", "");
    for (name, value) in free {
        process = process.env(name, *value);
    }
    if program == "standalone" {
        process = process.arg("--data-dir").arg(file.with_extension("data"));
    }
    let process = process.start().unwrap();
    let past = async { process.wait_log(" starts", PATIENCE).await.is_ok() };
    let ended = tokio::select! {
        ended = process.wait_exit(PATIENCE) => Some(ended.unwrap()),
        _ = past => {
            // What is found only once it looks at where it listens comes at once after that.
            process.wait_exit(Duration::from_secs(3)).await.ok()
        }
    };
    let log = process.log();
    match ended {
        Some(status) if status.code() == Some(64) => false,
        other => {
            assert!(log.contains(" starts"), "{program}: {other:?} {log}");
            true
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_of_a_file_is_what_the_programs_do_with_it() {
    let ca = Authority::new("ours").unwrap();
    let server = ca.issue("server").unwrap();
    let (cert, key) = (server.cert.display(), server.key.display());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("it.yml");
    let all = [true; 4];
    let none = [false; 4];
    for (given, expected, fine) in [
        (String::new(), all, true),
        ("service: {grpc_addr: '0.0.0.0:0'}".to_owned(), [false, true, true, false], false),
        ("service: {consumer_http_addr: '0.0.0.0:0'}".to_owned(), [true, false, true, true], false),
        (format!("service: {{tls: {{cert_file: {cert}}}}}"), none, false),
        (format!("service: {{tls: {{cert_file: {cert}, key_file: {key}}}}}"), all, true),
        ("service: {access: {tokens_file: /nowhere}}".to_owned(), none, false),
        ("monitoring: {log_level: loud}".to_owned(), none, false),
        ("monitoring: {tracing: {endpoint: 'a b'}}".to_owned(), none, false),
        ("redis: {pool_sise: 1}".to_owned(), none, false),
        ("rabbitmq: {prefetch: 0}".to_owned(), none, false),
        ("cache_management: {consistency: {hot_data_check_interval: 1m}}".to_owned(), none, false),
    ] {
        let free = free_addresses(&given);
        let (section, _) = given.split_once(':').unwrap_or_default();
        let stores: String = STORES
            .lines()
            .filter(|line| !line.starts_with(section) || section.is_empty())
            .collect::<Vec<_>>()
            .join("\n");
        std::fs::write(&file, format!("{stores}\n{given}\n")).unwrap();
        let (starting, well, said) = said(&file, &free).await;
        assert_eq!(starting, expected, "{given}: {said}");
        assert_eq!(well, fine, "{given}: {said}");
        for (program, expected) in PROGRAMS.into_iter().zip(expected) {
            assert_eq!(starts(program, &file, &free).await, expected, "{program}: {given}: {said}");
        }
    }
}
