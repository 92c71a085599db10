//! The stores that run, and our services on them: started anew, on empty stores, for every configuration.

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
use test_support::{Binary, PortLease, execute_sql, fresh_database, lease_port, try_eventually};

const START_LIMIT: Duration = Duration::from_secs(60);

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
    /// Of the current installation.
    pub(crate) database_url: String,
    pub(crate) redis: Redis,
    /// Process ids of redis, rabbitmq and mariadb.
    stores: [u32; 3],
    journals: Vec<String>,
    server: Option<Service>,
    consumers: Vec<Service>,
    settings: Settings,
    started: u32,
    next_user: u64,
}

/// A server or consumer.
struct Service {
    process: Binary,
    http: PortLease,
    grpc: PortLease,
}

impl Rig {
    /// Finds the stores by what scripts/up.sh wrote down.
    pub(crate) async fn new(run_dir: &Path, bin_dir: PathBuf) -> Result<Self> {
        let path = run_dir.join("env");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let addresses: HashMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
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
        Ok(Self {
            bin_dir,
            redis: Redis::connect(&redis_addr, 0).await?,
            redis_addr,
            redis_url,
            amqp_url: address("AMQP_URL")?,
            database_server: address("DATABASE_URL")?,
            database_url: String::new(),
            stores: [pid("redis")?, pid("rabbitmq")?, pid("mariadb")?],
            journals: ShardCount::default().all().map(|shard| format!("{{s{shard}}}:j")).collect(),
            server: None,
            consumers: Vec::new(),
            settings: &[],
            started: 0,
            next_user: 1,
        })
    }

    /// Ends the services, empties the stores, and starts a server and that many consumers.
    pub(crate) async fn start(&mut self, settings: Settings, consumers: usize) -> Result<()> {
        self.empty().await?;
        self.settings = settings;
        let server = self.launch("interaction-server").await?;
        self.server = Some(server);
        for _ in 0..consumers {
            self.add_consumer().await?;
        }
        Ok(())
    }

    /// Ends the services and leaves empty stores and a new schema.
    pub(crate) async fn empty(&mut self) -> Result<()> {
        self.stop();
        self.redis.flush_all().await?;
        if let Some((_, schema)) = self.database_url.rsplit_once('/') {
            execute_sql(&self.database_server, &format!("DROP DATABASE `{schema}`")).await?;
        }
        // Queues are new by the prefix: their names start with the number of the start.
        self.database_url = fresh_database(&self.database_server).await?;
        self.started += 1;
        Ok(())
    }

    /// One more consumer; returns when it is at work.
    pub(crate) async fn add_consumer(&mut self) -> Result<()> {
        let consumer = self.launch("sync-consumer").await?;
        self.consumers.push(consumer);
        Ok(())
    }

    /// SIGKILL to the first consumer, which must be started anew.
    pub(crate) async fn replace_killed_consumer(&mut self) -> Result<()> {
        if self.consumers.is_empty() {
            bail!("no consumer to kill");
        }
        self.consumers.remove(0).process.kill9()?;
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

    async fn launch(&self, program: &str) -> Result<Service> {
        let (http, grpc) = (lease_port()?, lease_port()?);
        let own = [
            ("REDIS__URL", self.redis_url.clone()),
            ("DATABASE__URL", self.database_url.clone()),
            ("RABBITMQ__URL", self.amqp_url.clone()),
            ("RABBITMQ__PREFIX", format!("bench{}-{}", std::process::id(), self.started)),
            ("SERVICE__GRPC_ADDR", grpc.addr()),
            ("SERVICE__HTTP_ADDR", http.addr()),
            ("SERVICE__CONSUMER_HTTP_ADDR", http.addr()),
        ];
        let mut builder = Binary::build(program).found_in(&self.bin_dir);
        for (key, value) in SETTINGS.iter().chain(self.settings) {
            builder = builder.env(format!("INTERACTION__{key}"), *value);
        }
        for (key, value) in own {
            builder = builder.env(format!("INTERACTION__{key}"), value);
        }
        let service = Service { process: builder.start()?, http, grpc };
        let addr = service.http.addr();
        try_eventually(START_LIMIT, format!("{program} has its stores"), async || {
            match test_support::http::get(&addr, "/health").await {
                Ok((200, body)) if !body.contains("unreachable") => Ok(()),
                Ok((status, body)) => Err(format!("{status} {body}")),
                Err(error) => Err(format!("{error:#}")),
            }
        })
        .await
        .with_context(|| format!("log:\n{}", service.process.log()))?;
        Ok(service)
    }

    fn server(&self) -> Result<&Service> {
        self.server.as_ref().context("no server runs")
    }

    pub(crate) fn grpc_addr(&self) -> Result<String> {
        Ok(self.server()?.grpc.addr())
    }

    /// The server's metrics.
    pub(crate) async fn server_metrics(&self) -> Result<String> {
        metrics(self.server()?).await
    }

    /// The first consumer's metrics.
    pub(crate) async fn consumer_metrics(&self) -> Result<String> {
        metrics(self.consumers.first().context("no consumer runs")?).await
    }

    /// First of five million users that no load has had.
    pub(crate) fn fresh_users(&mut self) -> u64 {
        let first = self.next_user;
        self.next_user += 5_000_000;
        first
    }

    /// A connection to the current schema.
    pub(crate) async fn sql(&self) -> Result<Sql> {
        Sql::connect(&self.database_url).await
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
        let service = |service: &Service| service.process.pid().map_or(Ok(0.0), cpu::of_process);
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
        let logs: Vec<String> = services.map(|service| service.process.log()).filter(|log| !log.is_empty()).collect();
        if logs.is_empty() {
            "the services wrote nothing".to_owned()
        } else {
            format!("services:\n{}", logs.join("\n"))
        }
    }
}

async fn metrics(service: &Service) -> Result<String> {
    let (status, text) = test_support::http::get(&service.http.addr(), "/metrics").await?;
    if status == 200 { Ok(text) } else { bail!("/metrics: {status} {text}") }
}

/// A process that goes on when this is dropped.
pub(crate) struct Paused(Pid);

impl Drop for Paused {
    fn drop(&mut self) {
        // It can only fail if the process is gone.
        let _gone = kill(self.0, Signal::SIGCONT);
    }
}
