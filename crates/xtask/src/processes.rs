//! Finding and ending processes: children of this one, and those that carry a mark, a variable in the environment that
//! they were started with, which whatever they start inherits, however far it detaches itself.

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
    running().filter(|pid| carries(*pid, mark)).map(Pid::from_raw).collect()
}

fn running() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
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

/// Ends them. Gives back what does not end.
pub(crate) fn end_marked(mark: &str) -> Vec<Pid> {
    end(|| marked(mark))
}

/// Ends what this process started and still waits for.
pub(crate) fn end_children() -> Vec<Pid> {
    let own = std::process::id().to_string();
    end(|| running().filter(|pid| is_child(*pid, &own)).map(Pid::from_raw).collect())
}

fn is_child(pid: i32, parent: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name of its program may hold anything. What has ended and is not waited for is a zombie.
    let mut fields = status.rsplit_once(") ").map_or("", |(_, fields)| fields).split(' ');
    fields.next() != Some("Z") && fields.next() == Some(parent)
}

/// SIGTERM, and SIGKILL for those that stay.
fn end(look: impl Fn() -> Vec<Pid>) -> Vec<Pid> {
    let started = Instant::now();
    let send = |pids: &[Pid], signal| pids.iter().for_each(|pid| _ = kill(*pid, signal));
    let mut left = look();
    send(&left, Signal::SIGTERM);
    while !left.is_empty() && started.elapsed() < LIMIT {
        if started.elapsed() > PATIENCE {
            send(&left, Signal::SIGKILL);
        }
        sleep(Duration::from_millis(50));
        left = look();
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

    #[test]
    fn a_child_is_told_from_a_stranger_and_from_a_zombie() -> Result<()> {
        let own = std::process::id().to_string();
        let mut child = Command::new("sleep").arg("600").spawn()?;
        let pid = i32::try_from(child.id())?;
        assert!(is_child(pid, &own) && !is_child(1, &own) && !is_child(pid, "1"));
        kill(Pid::from_raw(pid), Signal::SIGTERM)?;
        let started = Instant::now();
        while is_child(pid, &own) {
            assert!(started.elapsed() < LIMIT, "it does not end");
            sleep(Duration::from_millis(5));
        }
        child.wait()?;
        Ok(())
    }
}
