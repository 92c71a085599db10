//! `PROGRAM health`: what orchestrators run.

use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;
use test_support::{Authority, PortLease, eventually, lease_port};
use tokio::process::{Child, Command};

const PATIENCE: Duration = Duration::from_secs(20);

/// The example beside this test program, and a port for it.
struct Harness {
    port: PortLease,
    settings: Vec<(String, String)>,
}

impl Harness {
    fn new() -> Self {
        Self { port: lease_port().unwrap(), settings: Vec::new() }
    }

    fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.settings.push((format!("INTERACTION__{key}"), value.into()));
        self
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let test = std::env::current_exe().unwrap();
        let mut command = Command::new(test.ancestors().nth(2).unwrap().join("examples/harness"));
        command.kill_on_drop(true).env_clear().args(arguments);
        command.env("INTERACTION__SERVICE__HTTP_ADDR", self.port.addr());
        command.envs(self.settings.iter().cloned());
        command
    }

    fn start(&self) -> Child {
        self.command(&[]).stdout(std::process::Stdio::null()).spawn().unwrap()
    }

    /// Exit code, and all that it says: one line.
    async fn health(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let arguments = [&["health"], arguments].concat();
        let Output { status, stdout, stderr } = self.command(&arguments).output().await.unwrap();
        let said = String::from_utf8([stdout, stderr].concat()).unwrap();
        assert_eq!(said.lines().count(), 1, "{said}");
        (status.code(), said.trim().to_owned())
    }

    async fn becomes(&self, code: i32, line: &str) {
        eventually(PATIENCE, line, async || {
            let (seen, said) = self.health(&[]).await;
            if seen == Some(code) && said == line { Ok(()) } else { Err(format!("{seen:?} {said}")) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_is_asked_by_its_own_configuration() {
    let harness = Harness::new();
    let (code, said) = harness.health(&["--live"]).await;
    assert_eq!(code, Some(69), "{said}");
    assert!(said.starts_with(&format!("harness does not answer at {}: ", harness.port.addr())), "{said}");
    let mut running = harness.start();
    harness.becomes(0, "harness is ok").await;
    assert_eq!(harness.health(&["--ready"]).await.0, Some(0));
    assert_eq!(harness.health(&["--live"]).await, (Some(0), "harness lives".to_owned()));
    assert_eq!(harness.health(&["--config", "/nowhere"]).await.0, Some(64));
    // Somebody made a mistake in the file, or took a secret away: the process does not know yet, and runs.
    for mistake in ["mode: [1]", "nobody: {knows: 1}", "redis: {url_file: /nowhere}"] {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), mistake).unwrap();
        let file = file.path().to_str().unwrap();
        assert_eq!(harness.health(&["--config", file]).await, (Some(0), "harness is ok".to_owned()), "{mistake}");
        let restarted = harness.command(&["--config", file]).output().await.unwrap();
        assert_eq!(restarted.status.code(), Some(64), "{mistake}");
    }
    running.kill().await.unwrap();
    assert_eq!(harness.health(&[]).await.0, Some(69));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_is_down_lives() {
    let harness = Harness::new().with("MODE", "down");
    let _running = harness.start();
    harness.becomes(1, "harness is down: startup down (starting)").await;
    assert_eq!(harness.health(&["--live"]).await, (Some(0), "harness lives".to_owned()));
}

/// Also with an expired certificate: its process must not be killed for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_and_certificates_of_clients_are_no_hindrance() {
    let (ca, clients) = (Authority::new("ours").unwrap(), Authority::new("of clients").unwrap());
    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    let servers = [ca.issue("server").unwrap(), ca.issue_expired("old").unwrap()];
    for (server, client_ca, ops) in [
        (&servers[0], None, "same"),
        (&servers[1], None, "same"),
        (&servers[0], Some(ca.ca()), "same"),
        (&servers[0], Some(clients.ca()), "probes"),
        (&servers[0], Some(clients.ca()), "plain"),
    ] {
        let mut harness = Harness::new()
            .with("SERVICE__TLS__CERT_FILE", text(server.cert.clone()))
            .with("SERVICE__TLS__KEY_FILE", text(server.key.clone()))
            .with("SERVICE__TLS__OPS", ops);
        if let Some(client_ca) = client_ca {
            harness = harness.with("SERVICE__TLS__CLIENT_CA_FILE", text(client_ca));
        }
        let _running = harness.start();
        eventually(PATIENCE, "an answer", async || {
            let (code, said) = harness.health(&[]).await;
            // An expired certificate is something to say.
            let fine = said == "harness is ok" || said.starts_with("harness is degraded: certificate_expiry");
            if code == Some(0) && fine { Ok(()) } else { Err(format!("{ops}: {code:?} {said}")) }
        })
        .await;
    }
}
