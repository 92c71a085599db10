//! The stores that run, and our services on them: started anew, on empty stores, for every configuration.
//!
//! What is not in [`Deployment`] is what only a measurement needs: CPU time by process, journals counted every few
//! milliseconds, and a broker that stands still.

use crate::cpu::{self, Cpu};
use crate::raw_sql::Sql;
use crate::redis::Redis;
use anyhow::{Context, Result, bail};
use domain::ShardCount;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use test_support::{Deployment, Program, execute_sql};

/// Between two looks at the journals.
const POLL: Duration = Duration::from_millis(5);

/// For all measurements: nothing is limited, nothing is logged; with more threads than one, these processes would mostly
/// wake each other on two cores that all of them share.
const SETTINGS: &[(&str, &str)] = &[
    ("MONITORING__LOG_LEVEL", "warn"),
    ("SERVICE__WORKER_THREADS", "1"),
    ("RATE_LIMITING__USER_ACTION__ENABLED", "false"),
    ("RATE_LIMITING__IP__ENABLED", "false"),
    ("RATE_LIMITING__GLOBAL__ENABLED", "false"),
    // Redis is empty, and the measurements read its keys by their plain names.
    ("REDIS__KEY_PREFIX", ""),
];

/// Settings in addition to the defaults, keys without `INTERACTION__`.
pub(crate) type Settings = &'static [(&'static str, &'static str)];

/// With these a broker that stands still pauses the relay and nothing else: every wait for it outlasts the measurement,
/// so no circuit opens and nobody takes another way.
pub(crate) const PATIENT: Settings = &[
    ("RABBITMQ__CONFIRM_TIMEOUT", "1h"),
    ("RABBITMQ__HEARTBEAT", "3600s"),
    ("EVENT_DRIVEN_SYNC__REPUBLISH_AFTER", "1h"),
    ("EVENT_DRIVEN_SYNC__JOURNAL_LIMIT", "10000000"),
];

pub(crate) struct Rig {
    pub(crate) bin_dir: PathBuf,
    pub(crate) redis_addr: String,
    pub(crate) amqp_url: String,
    pub(crate) redis_url: String,
    /// Of the server, without our schema.
    database_server: String,
    /// On a schema and a queue of its own; a new one for every start.
    deployment: Deployment,
    pub(crate) redis: Redis,
    /// Process ids of redis, rabbitmq and mariadb.
    stores: [u32; 3],
    journals: Vec<String>,
    server: Option<Program>,
    consumers: Vec<Program>,
    next_user: u64,
}

impl Rig {
    /// Finds the stores by what scripts/up.sh wrote down.
    pub(crate) async fn new(run_dir: &Path, bin_dir: PathBuf) -> Result<Self> {
        let path = run_dir.join("env");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let addresses: HashMap<&str, &str> =
            text.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('=')).collect();
        let address = |name| {
            let found = addresses.get(name).map(|address| (*address).to_owned());
            found.with_context(|| format!("{name} is missing in {}", path.display()))
        };
        let redis_url: String = address("REDIS_URL")?;
        let redis_addr = redis_url.trim_start_matches("redis://").trim_end_matches('/').to_owned();
        let pid = |name: &str| {
            let path = run_dir.join(format!("{name}.pid"));
            let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            text.trim().parse::<u32>().with_context(|| path.display().to_string())
        };
        let (amqp_url, database_server) = (address("AMQP_URL")?, address("DATABASE_URL")?);
        Ok(Self {
            deployment: deployed(&redis_url, &database_server, &amqp_url, &bin_dir).await?,
            bin_dir,
            redis: Redis::connect(&redis_addr, 0).await?,
            redis_addr,
            redis_url,
            amqp_url,
            database_server,
            stores: [pid("redis")?, pid("rabbitmq")?, pid("mariadb")?],
            journals: ShardCount::default().all().map(|shard| format!("{{s{shard}}}:j")).collect(),
            server: None,
            consumers: Vec::new(),
            next_user: 1,
        })
    }

    /// Ends the services, empties the stores, and starts a server and that many consumers.
    pub(crate) async fn start(&mut self, settings: Settings, consumers: usize) -> Result<()> {
        self.empty().await?;
        self.deployment = self.deployment.clone().with_all(SETTINGS).with_all(settings);
        self.server = Some(self.deployment.server().start_connected().await?);
        for _ in 0..consumers {
            self.add_consumer().await?;
        }
        Ok(())
    }

    /// Ends the services and leaves empty stores and a new schema.
    pub(crate) async fn empty(&mut self) -> Result<()> {
        self.stop();
        self.redis.flush_all().await?;
        if let Some((_, schema)) = self.database_url().rsplit_once('/') {
            execute_sql(&self.database_server, &format!("DROP DATABASE `{schema}`")).await?;
        }
        self.deployment = deployed(&self.redis_url, &self.database_server, &self.amqp_url, &self.bin_dir).await?;
        Ok(())
    }

    /// One more server beside the one that loads are sent to, with settings in addition to that one's.
    pub(crate) async fn another_server(&self, settings: Settings) -> Result<Program> {
        self.deployment.clone().with_all(settings).server().start_connected().await
    }

    /// Loads are sent to the other one from now on.
    pub(crate) fn swap_server(&mut self, other: &mut Program) {
        if let Some(server) = &mut self.server {
            std::mem::swap(server, other);
        }
    }

    /// One more consumer; returns when it is at work.
    pub(crate) async fn add_consumer(&mut self) -> Result<()> {
        self.consumers.push(self.deployment.consumer().start_connected().await?);
        Ok(())
    }

    /// SIGKILL to the first consumer, which must be started anew.
    pub(crate) async fn replace_killed_consumer(&mut self) -> Result<()> {
        if self.consumers.is_empty() {
            bail!("no consumer to kill");
        }
        self.consumers.remove(0).kill9()?;
        self.add_consumer().await
    }

    /// Kills all consumers.
    pub(crate) fn stop_consumers(&mut self) {
        self.consumers.clear();
    }

    /// Kills the services: whatever they have in hand is not needed.
    pub(crate) fn stop(&mut self) {
        self.server = None;
        self.consumers.clear();
    }

    /// Address of the schema of the current deployment.
    pub(crate) fn database_url(&self) -> &str {
        self.deployment.database_url()
    }

    fn server(&self) -> Result<&Program> {
        self.server.as_ref().context("no server runs")
    }

    pub(crate) fn grpc_addr(&self) -> Result<String> {
        Ok(self.server()?.grpc())
    }

    /// The server's metrics.
    pub(crate) async fn server_metrics(&self) -> Result<String> {
        self.server()?.metrics().await
    }

    /// The first consumer's metrics.
    pub(crate) async fn consumer_metrics(&self) -> Result<String> {
        self.consumers.first().context("no consumer runs")?.metrics().await
    }

    /// First of five million users that no load has had.
    pub(crate) fn fresh_users(&mut self) -> u64 {
        let first = self.next_user;
        self.next_user += 5_000_000;
        first
    }

    /// A connection to the current schema.
    pub(crate) async fn sql(&self) -> Result<Sql> {
        Sql::connect(self.database_url()).await
    }

    /// Accepted and not settled yet.
    pub(crate) async fn unsettled(&mut self) -> Result<u64> {
        self.redis.stream_lengths(&self.journals).await
    }

    /// Waits until at most `left` events are unsettled; an error when it takes longer than that without progress.
    pub(crate) async fn settled_to(&mut self, left: u64) -> Result<()> {
        const PATIENCE: Duration = Duration::from_secs(60);
        let (mut least, mut moved) = (u64::MAX, Instant::now());
        loop {
            let unsettled = self.unsettled().await?;
            if unsettled <= left {
                return Ok(());
            }
            if unsettled < least {
                (least, moved) = (unsettled, Instant::now());
            } else if moved.elapsed() > PATIENCE {
                bail!("{unsettled} events are not settled and nothing moves");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    pub(crate) async fn all_settled(&mut self) -> Result<()> {
        self.settled_to(0).await
    }

    /// CPU seconds of everything so far.
    pub(crate) fn cpu(&self) -> Result<Cpu> {
        let service = |service: &Program| service.pid().map_or(Ok(0.0), cpu::of_process);
        let [redis, rabbitmq, mariadb] = self.stores;
        Ok(Cpu {
            redis: cpu::of_process(redis)?,
            server: self.server.as_ref().map_or(Ok(0.0), service)?,
            rabbitmq: cpu::of_process(rabbitmq)?,
            consumer: self.consumers.iter().map(service).sum::<Result<f64>>()?,
            mariadb: cpu::of_process(mariadb)?,
        })
    }

    /// Stops the broker with SIGSTOP until the returned value is dropped.
    pub(crate) fn pause_broker(&self) -> Result<Paused> {
        let pid = Pid::from_raw(i32::try_from(self.stores[1])?);
        kill(pid, Signal::SIGSTOP).context("pause the broker")?;
        Ok(Paused(pid))
    }

    /// What the services wrote, for error messages.
    pub(crate) fn logs(&self) -> String {
        let services = self.server.iter().chain(&self.consumers);
        let logs: Vec<String> = services.map(|service| service.log()).filter(|log| !log.is_empty()).collect();
        if logs.is_empty() {
            "the services wrote nothing".to_owned()
        } else {
            format!("services:\n{}", logs.join("\n"))
        }
    }
}

/// On a new schema, and queues with a new prefix.
async fn deployed(redis: &str, mariadb: &str, rabbitmq: &str, bin_dir: &Path) -> Result<Deployment> {
    Deployment::build("bench").at(redis, mariadb, rabbitmq).programs_in(bin_dir).start().await
}

/// A process that goes on when this is dropped.
pub(crate) struct Paused(Pid);

impl Drop for Paused {
    fn drop(&mut self) {
        // It can only fail if the process is gone.
        let _gone = kill(self.0, Signal::SIGCONT);
    }
}
