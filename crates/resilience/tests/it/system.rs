//! One installation of real processes on the shared servers; the server reaches Redis and RabbitMQ over links of its own.

use crate::oracle::{self, Stores};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;
use test_support::{
    Binary, PortLease, Proxy, eventually, execute_sql, expect_eq, fresh_database, http, lease_port, shared, unique_name,
};

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const SIGABRT: i32 = 6;

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
    /// Between the server and its stores.
    pub(crate) redis_link: Proxy,
    pub(crate) amqp_link: Proxy,
    database_url: String,
    redis_url: String,
    amqp_url: String,
    prefix: String,
    grpc: PortLease,
    http: [PortLease; 2],
    settings: Vec<(String, String)>,
    dir: TempDir,
    oplogs: Vec<PathBuf>,
}

impl System {
    /// Settings beyond those of all tests, as `SECTION__KEY`.
    pub(crate) async fn new(settings: &[(&str, &str)]) -> Self {
        let (redis, mariadb, rabbitmq) = tokio::join!(shared::redis(), shared::mariadb(), shared::rabbitmq());
        let (redis, mariadb, rabbitmq) = (redis.unwrap(), mariadb.unwrap(), rabbitmq.unwrap());
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
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Self {
            redis_link: Proxy::start(redis.addr().unwrap()).await.unwrap(),
            amqp_link: Proxy::start(rabbitmq.addr().unwrap()).await.unwrap(),
            database_url: fresh_database(mariadb.url()).await.unwrap(),
            redis_url: redis.url().to_owned(),
            amqp_url: rabbitmq.url().to_owned(),
            prefix: unique_name("kill"),
            grpc: lease_port().unwrap(),
            http: [lease_port().unwrap(), lease_port().unwrap()],
            settings: quick.iter().chain(settings).map(owned).collect(),
            dir: tempfile::tempdir().unwrap(),
            oplogs: Vec::new(),
        }
    }

    /// Starts a process, with points of failure if any, and waits until it answers.
    pub(crate) async fn start(&self, role: Role, failpoints: &str) -> Binary {
        let process = self.program(role.program(), role, failpoints);
        let http = self.http[role as usize].addr();
        eventually(PATIENCE, format!("{role:?} answers"), async || {
            if !process.is_running() {
                panic!("{role:?} ended: {}", process.log());
            }
            http::get(&http, "/health/live").await.is_ok_and(|(status, _)| status == 200)
        })
        .await;
        process
    }

    /// The same, and waits until it has reached all of its stores.
    pub(crate) async fn start_ready(&self, role: Role, failpoints: &str) -> Binary {
        let process = self.start(role, failpoints).await;
        self.ready(role).await;
        process
    }

    pub(crate) async fn ready(&self, role: Role) {
        let http = self.http[role as usize].addr();
        eventually(PATIENCE, format!("{role:?} has its stores"), async || match http::get(&http, "/health").await {
            Ok((200, body)) if !body.contains("unreachable") => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }

    /// Starts any program with the installation's settings.
    pub(crate) fn program(&self, name: &str, role: Role, failpoints: &str) -> Binary {
        let (redis, amqp) = match role {
            Role::Server => (self.redis_link.url_of(&self.redis_url), self.amqp_link.url_of(&self.amqp_url)),
            Role::Consumer => (self.redis_url.clone(), self.amqp_url.clone()),
        };
        let mut program = Binary::build(name).env("INTERACTION_FAILPOINT", failpoints);
        for (key, value) in [
            ("DATABASE__URL", self.database_url.clone()),
            ("REDIS__URL", redis),
            ("REDIS__KEY_PREFIX", self.prefix.clone()),
            ("RABBITMQ__URL", amqp),
            ("RABBITMQ__PREFIX", self.prefix.clone()),
            ("SERVICE__GRPC_ADDR", self.grpc.addr()),
            ("SERVICE__HTTP_ADDR", self.http[Role::Server as usize].addr()),
            ("SERVICE__CONSUMER_HTTP_ADDR", self.http[Role::Consumer as usize].addr()),
            // A name that stays: the restarted process has the leases of the one that died.
            ("SERVICE__INSTANCE", name.to_owned()),
        ] {
            program = program.env(format!("INTERACTION__{key}"), value);
        }
        for (key, value) in &self.settings {
            program = program.env(format!("INTERACTION__{key}"), value);
        }
        program.start().unwrap()
    }

    /// Starts likes, unlikes and comments by a few users, each operation tried until it is answered.
    pub(crate) fn load(&mut self, operations: u32) -> Binary {
        let seed = self.oplogs.len() + 1;
        let shape = ["--users", "300", "--resources", "40", "--unlikes", "0.35", "--comments", "0.25"];
        self.load_of(operations, &[&shape[..], &["--seed", &seed.to_string(), "--idempotency-keys"]].concat())
    }

    pub(crate) fn load_of(&mut self, operations: u32, shape: &[&str]) -> Binary {
        let oplog = self.dir.path().join(format!("oplog-{}", self.oplogs.len() + 1));
        let load = Binary::build("syncctl")
            .args(["load", "--generate", "--json", "--likes", &operations.to_string(), "--concurrency", "16"])
            .args(["--timeout", "3", "--retry-for", "60", "--addr", &self.grpc.addr()])
            .arg("--oplog")
            .arg(&oplog)
            .args(shape)
            .start()
            .unwrap();
        self.oplogs.push(oplog);
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
        let stores =
            Stores { database_url: &self.database_url, redis_url: &self.redis_url, redis_prefix: &self.prefix };
        if let Err(problems) = oracle::verify(&stores, &self.oplogs, Duration::from_secs(30)).await {
            panic!("verify found problems: {problems}");
        }
    }

    /// Runs statements in the installation's schema.
    pub(crate) async fn sql(&self, statements: &str) -> String {
        execute_sql(&self.database_url, statements).await.unwrap()
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
        self.sql(
            "DELIMITER //\nCREATE TRIGGER poison BEFORE INSERT ON video_likes FOR EACH ROW \
             IF NEW.video_id = 1 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'poisoned video'; END IF//",
        )
        .await;
    }

    pub(crate) async fn cure(&self) {
        self.sql("DROP TRIGGER poison").await;
    }

    /// Removes what was declared at the broker: a shared one outlives the test.
    pub(crate) async fn end(self, processes: impl IntoIterator<Item = Binary>) {
        for process in processes {
            assert!(!process.log().contains("panicked"), "{}", process.log());
            process.kill9().unwrap();
        }
        delete_topology(&self.amqp_url, &self.prefix).await;
    }
}

/// Waits until the process has died at the point, and of nothing else.
pub(crate) async fn dies_at(process: &Binary, point: &str) {
    let status = process.wait_exit(PATIENCE).await.unwrap();
    assert_eq!(status.signal(), Some(SIGABRT), "{status}: {}", process.log());
    assert!(process.log().contains(&format!("failpoint {point} reached: aborting")), "{}", process.log());
}

/// Waits until all operations are answered.
pub(crate) async fn finished(load: &Binary) -> serde_json::Value {
    let status = load.wait_exit(2 * PATIENCE).await.unwrap();
    assert!(status.success(), "load: {}", load.log());
    oracle::report(&load.log()).unwrap()
}

pub(crate) async fn delete_topology(amqp_url: &str, prefix: &str) {
    let (connection, channel) = broker(amqp_url).await;
    for queue in ["likes", "likes.dead"] {
        channel.queue_delete(format!("{prefix}.{queue}").into(), Default::default()).await.unwrap();
    }
    for exchange in ["events", "dead"] {
        channel.exchange_delete(format!("{prefix}.{exchange}").into(), Default::default()).await.unwrap();
    }
    connection.close(200, "done".into()).await.unwrap();
}

pub(crate) async fn delete_queue(amqp_url: &str, queue: &str) {
    let (connection, channel) = broker(amqp_url).await;
    channel.queue_delete(queue.into(), Default::default()).await.unwrap();
    connection.close(200, "done".into()).await.unwrap();
}

async fn broker(amqp_url: &str) -> (lapin::Connection, lapin::Channel) {
    let connection = lapin::Connection::connect(amqp_url, lapin::ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}
