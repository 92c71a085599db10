use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};
use test_support::http;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

const PATIENCE: Duration = Duration::from_secs(20);

/// The example beside this test program.
fn harness() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().join("examples/harness")
}

struct Service {
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
    addr: String,
}

impl Service {
    fn command(environment: &[(&str, &str)]) -> Command {
        let mut command = Command::new(harness());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).env_clear();
        command.env("INTERACTION__SERVICE__HTTP_ADDR", "127.0.0.1:0").envs(environment.iter().copied());
        command
    }

    async fn start(environment: &[(&str, &str)]) -> Self {
        let mut child = Self::command(environment).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = line(&mut out).await;
        let addr = first.strip_prefix("listening on ").unwrap_or_else(|| panic!("{first}")).to_owned();
        Self { child, out, addr }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id().unwrap()).unwrap()), signal).unwrap();
    }

    /// Exit code and what was logged.
    async fn end(mut self) -> (Option<i32>, String) {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("still running").unwrap();
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).await.unwrap();
        (status.code(), log)
    }
}

async fn line(out: &mut Lines<BufReader<ChildStdout>>) -> String {
    tokio::time::timeout(PATIENCE, out.next_line()).await.expect("no line").unwrap().unwrap_or_default()
}

#[tokio::test]
async fn a_signal_stops_it_cleanly() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut service = Service::start(&[]).await;
        assert_eq!(http::get(&service.addr, "/health").await.unwrap().0, 200);
        let (_, metrics) = http::get(&service.addr, "/metrics").await.unwrap();
        assert!(metrics.contains("harness_wait_seconds_bucket"), "{metrics}");
        service.signal(signal);
        assert_eq!(line(&mut service.out).await, "draining");
        let (code, log) = service.end().await;
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains("stopped"), "{log}");
    }
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut service = Service::start(&[("INTERACTION__MODE", "slow")]).await;
    service.signal(Signal::SIGTERM);
    assert_eq!(line(&mut service.out).await, "draining");
    assert!(service.child.try_wait().unwrap().is_none(), "the tracked task holds it");
    service.signal(Signal::SIGTERM);
    let (code, log) = service.end().await;
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("second signal"), "{log}");
}

#[tokio::test]
async fn the_deadline_ends_it() {
    let drain = ("INTERACTION__SERVICE__DRAIN_TIMEOUT", "300ms");
    for (mode, said) in [("slow", "stopped before all was drained"), ("stuck", "abandoned what did not stop")] {
        let service = Service::start(&[("INTERACTION__MODE", mode), drain]).await;
        let started = Instant::now();
        service.signal(Signal::SIGTERM);
        let (code, log) = service.end().await;
        assert_eq!(code, Some(1), "{mode}: {log}");
        assert!(log.contains("not drained within 300ms") && log.contains(said), "{mode}: {log}");
        assert!(started.elapsed() >= Duration::from_millis(300), "{mode}: {:?}", started.elapsed());
    }
}

#[tokio::test]
async fn a_failure_of_the_service_or_of_a_part_is_exit_code_1() {
    for (mode, said) in [
        ("fails", "harness ends: no luck"),
        ("part fails", "part failed, stopping: bad part"),
        ("panics", "part failed, stopping: "),
    ] {
        let (code, log) = Service::start(&[("INTERACTION__MODE", mode)]).await.end().await;
        assert_eq!(code, Some(1), "{mode}: {log}");
        assert!(log.contains(said), "{mode}: {log}");
    }
}

#[tokio::test]
async fn a_bad_configuration_is_one_line_and_exit_code_64() {
    for (environment, said) in [
        (("INTERACTION__SERVICE__DRAIN_TIMEOUT", "soon"), "service.drain_timeout"),
        (("INTERACTION__SERVICE__WORKER_THREADS", "0"), "service.worker_threads"),
        (("INTERACTION__MONITORING__LOG_LEVEL", "a=b=c"), "monitoring.log_level"),
        (("INTERACTION__NONSENSE", "1"), "unknown key nonsense"),
        (("INTERACTION_CONFIG", "/nowhere.yml"), "/nowhere.yml"),
    ] {
        let output = Service::command(&[environment]).output().await.unwrap();
        let said_all = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{said_all}");
        assert!(said_all.starts_with("harness: ") && said_all.contains(said), "{said_all}");
        assert_eq!(said_all.lines().count(), 1, "{said_all}");
    }
    let output = Service::command(&[]).arg("--nope").output().await.unwrap();
    assert_eq!(output.status.code(), Some(64));
}

#[tokio::test]
async fn logs_can_be_json() {
    let service = Service::start(&[("INTERACTION__MONITORING__LOG_FORMAT", "json")]).await;
    service.signal(Signal::SIGTERM);
    let (_, log) = service.end().await;
    assert!(log.lines().count() >= 2, "{log}");
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        assert!(line["message"].is_string() && line["level"] == "INFO", "{line}");
    }
}
