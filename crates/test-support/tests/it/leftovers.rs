//! Nothing stays behind, however the test process ends.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use test_support::{MariaDb, RabbitMq, Redis, RedisOptions, eventually};

const LIMIT: Duration = Duration::from_secs(60);

/// Set for the test program that is started and killed here: where it says what it has started.
const VICTIM: &str = "LEFTOVERS_VICTIM";

/// Processes with `root` in the mark that test-support gives them.
fn marked(root: &Path) -> Vec<String> {
    let mark = format!("TEST_SUPPORT_DIR={}", root.display());
    let carries = |path: &Path| {
        fs::read(path.join("environ"))
            .is_ok_and(|environ| environ.split(|byte| *byte == 0).any(|variable| variable.starts_with(mark.as_bytes())))
    };
    let Ok(entries) = fs::read_dir("/proc") else { return vec!["cannot read /proc".to_owned()] };
    let paths = entries.flatten().map(|entry| entry.path()).filter(|path| carries(path));
    paths.map(|path| fs::read_to_string(path.join("comm")).unwrap_or_default().trim().to_owned()).collect()
}

/// The directory in a server's mark.
fn dir_of(pid: u32) -> Result<PathBuf> {
    let environ = fs::read(format!("/proc/{pid}/environ"))?;
    let environ = String::from_utf8_lossy(&environ).into_owned();
    let dir = environ.split('\0').find_map(|variable| variable.strip_prefix("TEST_SUPPORT_DIR=")).context("no mark")?;
    Ok(dir.into())
}

#[tokio::test]
async fn a_dropped_server_takes_its_daemons_and_data_along() -> Result<()> {
    let server = RabbitMq::start().await?;
    let dir = dir_of(server.pid().context("not running")?)?;
    let found = marked(&dir);
    ensure!(found.iter().any(|name| name == "epmd"), "no private epmd, only {found:?}");
    drop(server);
    assert_eq!(marked(&dir), Vec::<String>::new());
    assert!(!dir.exists(), "{} is left", dir.display());
    Ok(())
}

/// Not a test by itself: what the killed process does.
#[tokio::test]
async fn victim() -> Result<()> {
    let Some(report) = std::env::var_os(VICTIM) else { return Ok(()) };
    let redis = Redis::start(RedisOptions::default()).await?;
    let mariadb = MariaDb::start().await?;
    let rabbitmq = RabbitMq::start().await?;
    let dir = dir_of(redis.pid().context("not running")?)?;
    let root = dir.parent().context("no root")?;
    let unfinished = PathBuf::from(&report).with_extension("tmp");
    fs::write(&unfinished, root.display().to_string())?;
    fs::rename(&unfinished, &report)?;
    // Far longer than the killer waits.
    tokio::time::sleep(LIMIT * 2).await;
    drop((redis, mariadb, rabbitmq));
    Ok(())
}

#[tokio::test]
async fn a_killed_test_leaves_no_process_and_no_directory() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let report = dir.path().join("root");
    let mut victim = Command::new(std::env::current_exe()?)
        .args(["--exact", "leftovers::victim", "--nocapture"])
        .env(VICTIM, &report)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let root = eventually(LIMIT, "the victim's servers run", async || fs::read_to_string(&report)).await;
    let root = PathBuf::from(root);
    let before = marked(&root);
    for name in ["redis-server", "mariadbd", "beam.smp", "epmd"] {
        ensure!(before.iter().any(|found| found == name), "{name} does not run, only {before:?}");
    }
    victim.kill()?;
    victim.wait()?;
    eventually(LIMIT, "all of the victim's processes are gone", async || {
        test_support::expect_eq(marked(&root), vec![])
    })
    .await;
    eventually(LIMIT, "the victim's directory is gone", async || !root.exists()).await;
    Ok(())
}
