//! `syncctl verify` as the judge: an operation log against every store.

use std::path::PathBuf;
use std::time::Duration;
use test_support::Binary;

/// Longest time of a whole verification.
const LIMIT: Duration = Duration::from_secs(90);

/// Where everything must be.
pub(crate) struct Stores<'a> {
    pub(crate) database_url: &'a str,
    pub(crate) redis_url: &'a str,
    pub(crate) redis_prefix: &'a str,
}

/// Waits up to `wait` for quiet and compares; the error names the kinds of problems, with examples.
pub(crate) async fn verify(stores: &Stores<'_>, oplogs: &[PathBuf], wait: Duration) -> Result<(), String> {
    let mut syncctl = Binary::build("syncctl")
        .args(["verify", "--json", "--wait", &wait.as_secs().to_string()])
        .args(["--database-url", stores.database_url, "--redis-url", stores.redis_url])
        .args(["--redis-prefix", stores.redis_prefix]);
    for oplog in oplogs {
        syncctl = syncctl.arg("--oplog").arg(oplog);
    }
    let syncctl = syncctl.start().unwrap();
    let status = syncctl.wait_exit(LIMIT).await.unwrap();
    let log = syncctl.log();
    let report = report(&log).unwrap_or_else(|| panic!("verify printed no result: {log}"));
    assert!(report["operations"].as_u64().unwrap_or(0) > 0, "nothing was verified: {log}");
    if status.success() { Ok(()) } else { Err(report["problems"].to_string()) }
}

/// The JSON that a command of syncctl printed as its last line.
pub(crate) fn report(log: &str) -> Option<serde_json::Value> {
    log.lines().rev().find(|line| line.starts_with('{')).and_then(|line| serde_json::from_str(line).ok())
}
