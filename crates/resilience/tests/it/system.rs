//! One deployment of real processes on the shared servers; the server reaches its stores over links of its own.

use cache_manager::Keys;
use deadpool_redis::redis;
use domain::{Pair, PairState, ShardCount};
use event_bus::{BusConfig, LogReader, LogStart};
use serde_json::Value;
use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::time::Duration;
use test_support::{
    Binary, ChangeStates, Deployment, Links, Load, Ports, Program, ProgramBuilder, RedisCluster, RedisOptions,
    eventually, expect_eq,
};

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Longest time of a whole verification.
const VERIFY_LIMIT: Duration = Duration::from_secs(90);

const SIGABRT: i32 = 6;

/// Whether the kill matrix stands on a Redis Cluster.
pub(crate) fn on_a_cluster() -> bool {
    std::env::var_os("KILL_ON_CLUSTER").is_some_and(|wanted| wanted == "1")
}

/// Which process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Server,
    Consumer,
}

impl Role {
    const fn program(self) -> &'static str {
        match self {
            Self::Server => "interaction-server",
            Self::Consumer => "sync-consumer",
        }
    }
}

pub(crate) struct System {
    deployment: Deployment,
    /// Of its own, with `KILL_ON_CLUSTER`.
    cluster: Option<RedisCluster>,
    /// Between the server and its stores.
    pub(crate) links: Links,
    /// By role: a process comes back where it was.
    ports: [Ports; 2],
    oplogs: Vec<PathBuf>,
}

impl System {
    /// Settings beyond those of all tests, as `SECTION__KEY`.
    pub(crate) async fn new(settings: &[(&str, &str)]) -> Self {
        if !on_a_cluster() {
            return Self::of(Deployment::build("kill").start().await.unwrap(), settings).await;
        }
        let cluster = RedisCluster::start(RedisOptions::default(), 3, false).await.unwrap();
        let url = format!("redis://{}", cluster.addrs().unwrap()[0]);
        let deployment = Deployment::build("kill").redis_at(url).start().await.unwrap();
        let system = Self::of(deployment.with("REDIS__CLUSTER", "true"), settings).await;
        Self { cluster: Some(cluster), ..system }
    }

    /// The server has no cache: its link is cut, or a cluster, to whose nodes it goes by itself, is killed.
    pub(crate) async fn cache_goes(&self) {
        let Some(cluster) = &self.cluster else { return self.links.redis.cut().await };
        for number in 0..cluster.addrs().unwrap().len() {
            cluster.node(number).unwrap().kill9().unwrap();
        }
    }

    /// It has it again, with what was in it.
    pub(crate) async fn cache_comes_back(&self) {
        let Some(cluster) = &self.cluster else { return self.links.redis.restore().await.unwrap() };
        for number in 0..cluster.addrs().unwrap().len() {
            cluster.node(number).unwrap().restart().await.unwrap();
        }
    }

    pub(crate) async fn of(deployment: Deployment, settings: &[(&str, &str)]) -> Self {
        let quick = [
            ("SERVICE__WORKER_THREADS", "2"),
            ("EVENT_DRIVEN_SYNC__REPUBLISH_AFTER", "500ms"),
            ("EVENT_DRIVEN_SYNC__RESCUE_INTERVAL", "50ms"),
            ("EVENT_DRIVEN_SYNC__RETRY__BASE_DELAY", "100ms"),
            ("EVENT_DRIVEN_SYNC__RETRY__MAX_DELAY", "500ms"),
            ("EVENT_DRIVEN_SYNC__RETRY__MAX_RETRIES", "1000"),
            ("EVENT_DRIVEN_SYNC__RETRY__CLAIM_LEASE", "1s"),
            ("EVENT_DRIVEN_SYNC__CIRCUIT__FAILURES", "2"),
            ("EVENT_DRIVEN_SYNC__CIRCUIT__PROBE_INTERVAL", "50ms"),
            ("RATE_LIMITING__USER_ACTION__ENABLED", "false"),
            ("REDIS__CONNECT_TIMEOUT", "300ms"),
            ("RABBITMQ__CONFIRM_TIMEOUT", "3s"),
        ];
        let deployment = deployment.with_all(&quick).with_all(settings);
        Self {
            links: Links::to(&deployment).await.unwrap(),
            deployment,
            cluster: None,
            ports: [Ports::lease().unwrap(), Ports::lease().unwrap()],
            oplogs: Vec::new(),
        }
    }

    /// Starts a process, with points of failure if any, and waits until it answers.
    pub(crate) async fn start(&self, role: Role, failpoints: &str) -> Program {
        self.built(role.program(), role, failpoints).start_live().await.unwrap()
    }

    /// The same, and waits until it has reached all of its stores.
    pub(crate) async fn start_ready(&self, role: Role, failpoints: &str) -> Program {
        self.built(role.program(), role, failpoints).start_connected().await.unwrap()
    }

    /// The same with a setting of its own.
    pub(crate) async fn start_ready_with(&self, role: Role, (key, value): (&str, &str)) -> Program {
        self.built(role.program(), role, "").with(key, value).start_connected().await.unwrap()
    }

    /// Starts any program with the settings of the deployment.
    pub(crate) fn program(&self, name: &str, role: Role, failpoints: &str) -> Program {
        self.built(name, role, failpoints).start().unwrap()
    }

    fn built(&self, name: &str, role: Role, failpoints: &str) -> ProgramBuilder {
        let deployment = match role {
            Role::Server => self.deployment.clone().through(&self.links),
            Role::Consumer => self.deployment.clone(),
        };
        // A name that stays: the restarted process has the leases of the one that died.
        let program = deployment.program(name).with("SERVICE__INSTANCE", name);
        program.at(&self.ports[role as usize]).failpoint(failpoints)
    }

    /// Starts likes, unlikes and comments by a few users, each operation tried until it is answered.
    pub(crate) fn load(&mut self, operations: u32) -> Load {
        let seed = (self.oplogs.len() + 1).to_string();
        let shape = ["--users", "300", "--resources", "40", "--unlikes", "0.35", "--comments", "0.25"];
        self.load_of(operations, &[&shape[..], &["--seed", &seed, "--idempotency-keys"]].concat())
    }

    pub(crate) fn load_of(&mut self, operations: u32, shape: &[&str]) -> Load {
        let likes = operations.to_string();
        let size = ["--likes", &likes, "--concurrency", "16", "--timeout", "3", "--retry-for", "60"];
        let server = self.ports[Role::Server as usize].grpc();
        let load = self.deployment.load(&server, &[&size[..], shape].concat()).unwrap();
        self.oplogs.push(load.oplog().to_owned());
        load
    }

    /// Waits until `load` has made a good number of operations.
    pub(crate) async fn under_way(&self) {
        let oplog = self.oplogs.last().unwrap();
        eventually(PATIENCE, "operations", async || {
            let lines = std::fs::read_to_string(oplog).unwrap_or_default().lines().count();
            if lines > 100 { Ok(()) } else { Err(format!("{lines} lines in the log")) }
        })
        .await;
    }

    /// Every store must hold exactly what was acknowledged.
    pub(crate) async fn verify(&self) {
        self.verified().await.expect("verify found problems");
    }

    pub(crate) async fn verified(&self) -> Result<(), String> {
        verify(&self.deployment, &self.oplogs, Duration::from_secs(30)).await
    }

    /// Lets the checker's code put everything right once.
    pub(crate) async fn repair(&self) {
        let repair = self.deployment.syncctl().args(["repair", "--all", "--apply"]).start().unwrap();
        let status = repair.wait_exit(VERIFY_LIMIT).await.unwrap();
        assert!(status.success(), "{}", repair.log());
    }

    /// Pairs are cached, as if they had been accepted.
    pub(crate) async fn cache_pairs(&self, pairs: &[(Pair, PairState)]) {
        let keys = Keys::new(self.deployment.prefix(), ShardCount::default());
        let client = redis::Client::open(self.deployment.redis().url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        for some in pairs.chunks(10_000) {
            let mut commands = redis::pipe();
            for (pair, state) in some {
                let value = state.version.0 * 2 + i64::from(state.liked);
                commands.cmd("SET").arg(keys.pair(*pair)).arg(value).arg("EX").arg(3_600).ignore();
            }
            commands.query_async::<()>(&mut connection).await.unwrap();
        }
    }

    pub(crate) fn broker_url(&self) -> String {
        self.deployment.rabbitmq().url().to_owned()
    }

    pub(crate) fn prefix(&self) -> String {
        self.deployment.prefix().to_owned()
    }

    /// What listeners to changes should have.
    pub(crate) async fn change_states(&self) -> ChangeStates {
        self.deployment.change_states().await.unwrap()
    }

    /// Where the server answers calls.
    pub(crate) fn server(&self) -> String {
        self.ports[Role::Server as usize].grpc()
    }

    pub(crate) fn database_url(&self) -> &str {
        self.deployment.database_url()
    }

    /// A command of the client, told where the stores are.
    pub(crate) fn start_syncctl(&self, args: &[&str]) -> Binary {
        self.deployment.syncctl().args(args.iter().copied()).start().unwrap()
    }

    /// What a command prints as JSON.
    pub(crate) async fn syncctl(&self, args: &[&str]) -> Value {
        let process = self.start_syncctl(args);
        process.wait_exit(PATIENCE).await.unwrap();
        let log = process.log();
        let json = log.lines().rev().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("{args:?}: {log}"));
        serde_json::from_str(json).unwrap()
    }

    /// Ids in the ledger that the redo log has not.
    pub(crate) async fn not_in_the_log(&self) -> Vec<String> {
        let url = self.deployment.rabbitmq().url().to_owned().into();
        let bus = BusConfig { url, prefix: self.deployment.prefix().to_owned(), ..BusConfig::default() };
        let mut reader = LogReader::open(&bus, LogStart::First).await.unwrap();
        let mut logged = BTreeSet::new();
        while let Some(message) = reader.next().await.unwrap() {
            let events = domain::codec::decode_batch(&message.body).unwrap();
            logged.extend(events.iter().map(|event| event.intent.id.simple().to_string()));
        }
        let ledger = self.sql("SELECT LOWER(HEX(id)) FROM sync_events").await;
        ledger.lines().filter(|id| !logged.contains(*id)).map(str::to_owned).collect()
    }

    /// The database will have this again.
    pub(crate) async fn copy_database(&self) {
        self.deployment.copy_database().await.unwrap();
    }

    /// The database has what it once had.
    pub(crate) async fn restore_database(&self) {
        self.deployment.restore_database().await.unwrap();
    }

    /// Runs statements in the schema of the deployment.
    pub(crate) async fn sql(&self, statements: &str) -> String {
        self.deployment.sql(statements).await.unwrap()
    }

    /// Waits until a query gives this number.
    pub(crate) async fn expect_number(&self, query: &str, number: i64) {
        eventually(PATIENCE, query, async || {
            expect_eq(self.sql(query).await.trim(), number.to_string().as_str()).map(drop)
        })
        .await;
    }

    /// Refuses every row of the most liked video, as a constraint would.
    pub(crate) async fn poison(&self) {
        self.deployment.poison(1).await.unwrap();
    }

    pub(crate) async fn cure(&self) {
        self.deployment.cure().await.unwrap();
    }

    /// Removes what was declared at the broker: a shared one outlives the test.
    pub(crate) async fn end(self, processes: impl IntoIterator<Item = Program>) {
        for process in processes {
            assert!(!process.log().contains("panicked"), "{}", process.log());
            process.kill9().unwrap();
        }
        self.deployment.delete_topology().await.unwrap();
    }
}

/// Waits until the process has died at the point, and of nothing else.
pub(crate) async fn dies_at(process: &Binary, point: &str) {
    let status = process.wait_exit(PATIENCE).await.unwrap();
    assert_eq!(status.signal(), Some(SIGABRT), "{status}: {}", process.log());
    assert!(process.log().contains(&format!("failpoint {point} reached: aborting")), "{}", process.log());
}

/// Waits until all operations are answered.
pub(crate) async fn finished(load: &Load) {
    load.finished(2 * PATIENCE).await.unwrap();
}

/// Waits up to `wait` for quiet and compares every store with the logs; the error names the kinds of problems, with
/// examples.
pub(crate) async fn verify(deployment: &Deployment, oplogs: &[PathBuf], wait: Duration) -> Result<(), String> {
    let args = ["--wait", &wait.as_secs().to_string()];
    let verified = deployment.verify(oplogs.iter().map(PathBuf::as_path), &args, VERIFY_LIMIT).await.unwrap();
    if verified.good { Ok(()) } else { Err(verified.report["problems"].to_string()) }
}
