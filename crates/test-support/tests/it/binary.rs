//! A program as a process; the program is this test itself.

use anyhow::{Context, Result, ensure};
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;
use test_support::{Binary, BinaryBuilder};

const LIMIT: Duration = Duration::from_secs(20);
const ROLE: &str = "BINARY_VICTIM";

fn victim_as(role: &str) -> Result<BinaryBuilder> {
    let test = std::env::current_exe()?;
    let name = test.file_name().and_then(|name| name.to_str()).context("no name")?;
    Ok(Binary::build(name).args(["--exact", "binary::victim", "--nocapture"]).env(ROLE, role))
}

/// Not a test by itself: what the started process does.
#[test]
fn victim() {
    let Ok(role) = std::env::var(ROLE) else { return };
    println!("victim plays {role}");
    if role == "sleeper" {
        std::thread::sleep(LIMIT * 3);
    }
}

#[tokio::test]
async fn signals_reach_it_and_it_starts_again() -> Result<()> {
    let program = victim_as("sleeper")?.start()?;
    program.wait_log("victim plays sleeper", LIMIT).await?;
    assert!(program.restart().is_err(), "started twice at the same time");
    program.terminate()?;
    assert_eq!(program.wait_exit(LIMIT).await?.signal(), Some(15));

    program.restart()?;
    program.pause()?;
    let early = program.wait_exit(Duration::from_millis(50)).await;
    ensure!(
        early.is_err_and(|error| format!("{error:#}").contains("log:")),
        "the wait must be bounded and show the log"
    );
    program.kill9()?;
    assert_eq!(program.exit_status().and_then(|status| status.signal()), Some(9));
    ensure!(!program.is_running(), "still running after the kill");
    Ok(())
}

#[tokio::test]
async fn a_program_that_ends_without_the_line_is_noticed_at_once() -> Result<()> {
    let program = victim_as("nobody")?.start()?;
    let error = program.wait_log("never written", Duration::from_secs(3600)).await.unwrap_err();
    ensure!(error.to_string().contains("victim plays nobody"), "the log is missing: {error}");
    ensure!(program.wait_exit(LIMIT).await?.success(), "it ended well");
    Ok(())
}

#[test]
fn a_program_that_is_not_built_is_named() {
    let error = Binary::build("no-such-program").start().unwrap_err().to_string();
    assert!(error.contains("cargo build -p no-such-program"), "{error}");
}
