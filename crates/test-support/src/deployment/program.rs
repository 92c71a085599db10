//! One program of a deployment.

use super::{SETTINGS_PREFIX, Settings};
use crate::{Binary, BinaryBuilder, PortLease, http, lease_port, try_eventually};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::ffi::OsString;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

/// Until a started program has all that it needs, on a busy machine.
const READY_LIMIT: Duration = Duration::from_secs(90);

/// Addresses of a program. Who keeps them can start it again where it was.
#[derive(Debug, Clone)]
pub struct Ports(Arc<(PortLease, PortLease)>);

impl Ports {
    /// Reserves two.
    pub fn lease() -> Result<Self> {
        Ok(Self(Arc::new((lease_port()?, lease_port()?))))
    }

    /// Of gRPC, `host:port`.
    pub fn grpc(&self) -> String {
        self.0.0.addr()
    }

    /// Of ops HTTP, `host:port`.
    pub fn http(&self) -> String {
        self.0.1.addr()
    }
}

/// Says how to run one program.
#[derive(Debug)]
pub struct ProgramBuilder {
    name: String,
    binary: BinaryBuilder,
    settings: Settings,
    ports: Option<Ports>,
    /// What the program is told, where that is not what callers use.
    http_addr: Option<String>,
}

impl ProgramBuilder {
    pub(super) fn new(name: &str, binary: BinaryBuilder, settings: Settings) -> Self {
        Self { name: name.to_owned(), binary, settings, ports: None, http_addr: None }
    }

    /// On these addresses instead of new ones.
    pub fn at(mut self, ports: &Ports) -> Self {
        self.ports = Some(ports.clone());
        self
    }

    /// Ops HTTP is told this address, and callers another.
    pub fn http_addr(mut self, addr: impl Into<String>) -> Self {
        self.http_addr = Some(addr.into());
        self
    }

    /// Sets `INTERACTION__<key>` for this program; the last one counts.
    pub fn with(mut self, key: &str, value: impl AsRef<str>) -> Self {
        self.settings.set(key, value.as_ref());
        self
    }

    /// Aborts there (`point:nth`, with `;` between several); nowhere when empty.
    pub fn failpoint(self, points: &str) -> Self {
        self.env("INTERACTION_FAILPOINT", points)
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.binary = self.binary.env(name, value);
        self
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.binary = self.binary.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args<T: Into<OsString>>(mut self, args: impl IntoIterator<Item = T>) -> Self {
        self.binary = self.binary.args(args);
        self
    }

    /// Starts it; does not wait for anything.
    pub fn start(mut self) -> Result<Program> {
        let ports = match self.ports.take() {
            Some(ports) => ports,
            None => Ports::lease()?,
        };
        let (grpc, http) = (ports.grpc(), self.http_addr.take().unwrap_or_else(|| ports.http()));
        match self.name.as_str() {
            "interaction-server" => {
                self.settings.set("SERVICE__GRPC_ADDR", &grpc);
                self.settings.set("SERVICE__HTTP_ADDR", &http);
            }
            "sync-consumer" => self.settings.set("SERVICE__CONSUMER_HTTP_ADDR", &http),
            "consistency-checker" => self.settings.set("SERVICE__CHECKER_HTTP_ADDR", &http),
            "standalone" => self.binary = self.binary.args(["--grpc-addr", &grpc, "--http-addr", &http]),
            _ => {}
        }
        for (key, value) in &self.settings.0 {
            self.binary = self.binary.env(format!("{SETTINGS_PREFIX}{key}"), value);
        }
        Ok(Program { binary: self.binary.start()?, name: self.name, ports })
    }

    /// Starts it and waits until all of its parts are well.
    pub async fn start_ready(self) -> Result<Program> {
        let program = self.start()?;
        program.wait_ready().await?;
        Ok(program)
    }

    /// Starts it and waits until it answers, whatever it lacks.
    pub async fn start_live(self) -> Result<Program> {
        let program = self.start()?;
        program.wait_live().await?;
        Ok(program)
    }

    /// Starts it and waits until it has reached all of its stores, whatever else its health says.
    pub async fn start_connected(self) -> Result<Program> {
        let program = self.start()?;
        program.wait_connected().await?;
        Ok(program)
    }
}

/// A running (or ended) program; killed when dropped.
#[derive(Debug)]
pub struct Program {
    binary: Binary,
    name: String,
    ports: Ports,
}

impl Deref for Program {
    type Target = Binary;

    fn deref(&self) -> &Binary {
        &self.binary
    }
}

impl Program {
    /// Where gRPC is, `host:port`.
    pub fn grpc(&self) -> String {
        self.ports.grpc()
    }

    /// Where ops HTTP is, `host:port`.
    pub fn http(&self) -> String {
        self.ports.http()
    }

    /// Status and JSON of a GET; a body that is no JSON as text.
    pub async fn get(&self, path: &str) -> Result<(u16, Value)> {
        let (code, body) = http::get(&self.http(), path).await?;
        Ok((code, serde_json::from_str(&body).unwrap_or(Value::String(body))))
    }

    /// The same of a POST.
    pub async fn post(&self, path: &str, body: &str) -> Result<(u16, Value)> {
        let (code, body) = http::post_json(&self.http(), path, body).await?;
        Ok((code, serde_json::from_str(&body).unwrap_or(Value::String(body))))
    }

    /// What it says of its health. The error is text, for probes.
    pub async fn health(&self) -> Result<(u16, Value), String> {
        self.get("/health").await.map_err(|error| format!("{error:#}"))
    }

    /// Its metrics in the text format.
    pub async fn metrics(&self) -> Result<String> {
        let (code, text) = http::get(&self.http(), "/metrics").await?;
        ensure!(code == 200, "/metrics: {code} {text}");
        Ok(text)
    }

    /// Waits until all of its parts are well; how quick the disk of a test machine is does not matter, nor whom the test has killed.
    pub async fn wait_ready(&self) -> Result<()> {
        const NOT_ITS_OWN: [&str; 2] = ["redis_disk", "silent_process"];
        let well = |(name, part): (&String, &Value)| NOT_ITS_OWN.contains(&name.as_str()) || part["status"] == "ok";
        let all_well = |health: &Value| health["parts"].as_object().is_some_and(|parts| parts.iter().all(well));
        self.wait_health("every part", |code, health| code == 200 && all_well(health)).await
    }

    /// Waits until it has reached all of its stores, whatever else its health says.
    pub async fn wait_connected(&self) -> Result<()> {
        // What was last said against a part that is well again does not matter.
        let reached = |health: &Value| {
            health["parts"].as_object().is_some_and(|parts| parts.values().all(|part| part["status"] != "down"))
        };
        self.wait_health("its stores", |code, health| code == 200 && reached(health)).await
    }

    /// Waits until it answers, whatever it lacks.
    pub async fn wait_live(&self) -> Result<()> {
        self.wait("/health/live", "an answer", |code, _| code == 200).await
    }

    async fn wait_health(&self, what: &str, fits: impl Fn(u16, &Value) -> bool) -> Result<()> {
        self.wait("/health", what, fits).await
    }

    /// An error as soon as the process has ended; it shows the log.
    async fn wait(&self, path: &str, what: &str, fits: impl Fn(u16, &Value) -> bool) -> Result<()> {
        let what = format!("{what} of {}", self.name);
        let running = try_eventually(READY_LIMIT, what, async || {
            if !self.is_running() {
                return Ok(false);
            }
            match self.get(path).await {
                Ok((code, body)) if fits(code, &body) => Ok(true),
                Ok((code, body)) => Err(format!("{code} {body}")),
                Err(error) => Err(format!("{error:#}")),
            }
        });
        match running.await.with_context(|| format!("log:\n{}", self.log()))? {
            true => Ok(()),
            false => bail!("{} has ended:\n{}", self.name, self.log()),
        }
    }

    /// SIGTERM; it must end well within the limit, and must not have panicked before.
    pub async fn end(self, limit: Duration) -> Result<()> {
        self.terminate()?;
        let status = self.wait_exit(limit).await?;
        let log = self.log();
        ensure!(status.code() == Some(0), "{} ended with {status}:\n{log}", self.name);
        ensure!(!log.contains("panicked"), "{} panicked:\n{log}", self.name);
        Ok(())
    }
}
