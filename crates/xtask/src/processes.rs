//! Processes that carry a mark: a variable in the environment that they were started with, which whatever they start
//! inherits, however far it detaches itself.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// For servers to end in order.
const PATIENCE: Duration = Duration::from_secs(10);
/// After that they are killed; more than this no process takes to go.
const LIMIT: Duration = Duration::from_secs(15);

/// Everything that runs with this `NAME=value`.
pub(crate) fn marked(mark: &str) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(|pid: &i32| carries(*pid, mark)).map(Pid::from_raw).collect()
}

fn carries(pid: i32, mark: &str) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
}

/// What a process was started as.
pub(crate) fn command_line(pid: Pid) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ").trim_end().to_owned()
}

/// Ends them: SIGTERM, and SIGKILL for those that stay. Gives back what even that did not end.
pub(crate) fn end_marked(mark: &str) -> Vec<Pid> {
    let started = Instant::now();
    let send = |pids: &[Pid], signal| pids.iter().for_each(|pid| _ = kill(*pid, signal));
    let mut left = marked(mark);
    send(&left, Signal::SIGTERM);
    while !left.is_empty() && started.elapsed() < LIMIT {
        if started.elapsed() > PATIENCE {
            send(&left, Signal::SIGKILL);
        }
        sleep(Duration::from_millis(50));
        left = marked(mark);
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Result;
    use std::process::Command;

    #[test]
    fn what_detached_itself_is_found_and_ended() -> Result<()> {
        let mark = format!("XTASK_TEST_MARK={}", std::process::id());
        let (name, value) = mark.split_once('=').unwrap_or_default();
        // The shell ends at once; what it started belongs to nobody.
        let status = Command::new("sh").args(["-c", "setsid sleep 600 >/dev/null 2>&1 &"]).env(name, value).status()?;
        assert!(status.success());
        let started = Instant::now();
        while marked(&mark).iter().all(|pid| command_line(*pid) != "sleep 600") {
            assert!(started.elapsed() < LIMIT, "the process never came: {:?}", marked(&mark));
            sleep(Duration::from_millis(5));
        }
        assert_eq!(end_marked(&mark), []);
        assert_eq!(marked(&mark), []);
        Ok(())
    }
}
