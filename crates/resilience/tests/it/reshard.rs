//! The data gets another number of shards under load, with real programs: `syncctl reshard` in one go, killed at every step, and with a
//! server that was frozen all the time.
//!
//! `RESHARD_RATE=500` likes a second.

use deadpool_redis::redis::{self, AsyncCommands};
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;
use test_support::{Binary, Deployment, Load, Ports, Program, RedisCluster, RedisOptions, eventually};

const PATIENCE: Duration = Duration::from_secs(60);
const SIGABRT: i32 = 6;

/// Longest time that a like waits, with the rate that is promised for; elsewhere the machine may have much other work.
const LONGEST_WAIT_US: u64 = 5_000_000;
const LONGEST_WAIT_BESIDE_OTHERS_US: u64 = 20_000_000;

/// Where `syncctl reshard` is killed, in their order.
const STEPS: [&str; 13] = [
    "noted",
    "ordered",
    "half_closed",
    "closed",
    "half_handed_over",
    "handed_over",
    "sealing",
    "half_sealed",
    "sealed",
    "recorded_in_database",
    "recorded_in_cache",
    "path_restored",
    "removed",
];

const RATE: &str = "RESHARD_RATE";

fn rate(usual: u32) -> String {
    std::env::var(RATE).unwrap_or_else(|_| usual.to_string())
}

/// Two servers and a consumer on data of 16 shards.
struct Resharded {
    deployment: Deployment,
    cluster: Option<RedisCluster>,
    ports: [Ports; 3],
    servers: Vec<Program>,
    consumer: Option<Program>,
    loads: Vec<Load>,
}

impl Resharded {
    async fn start(cluster: bool) -> Self {
        let builder = Deployment::build("reshard");
        let (deployment, cluster) = if cluster {
            let cluster = RedisCluster::start(RedisOptions::default(), 3, false).await.unwrap();
            let url = format!("redis://{}", cluster.addrs().unwrap()[0]);
            let deployment = builder.redis_at(url).start().await.unwrap().with("REDIS__CLUSTER", "true");
            (deployment, Some(cluster))
        } else {
            (builder.own_redis(RedisOptions::default()).start().await.unwrap(), None)
        };
        let deployment = deployment.with_all(&[
            ("EVENT_DRIVEN_SYNC__SHARDS", "16"),
            ("EVENT_DRIVEN_SYNC__REPUBLISH_AFTER", "1s"),
            ("RATE_LIMITING__USER_ACTION__ENABLED", "false"),
        ]);
        let ports = [Ports::lease().unwrap(), Ports::lease().unwrap(), Ports::lease().unwrap()];
        let mut system = Self { deployment, cluster, ports, servers: Vec::new(), consumer: None, loads: Vec::new() };
        for number in 0..2 {
            let server = system.server(number).await;
            system.servers.push(server);
        }
        system.consumer = Some(system.start_consumer().await);
        system
    }

    async fn server(&self, number: usize) -> Program {
        let server = self.deployment.server().at(&self.ports[number]);
        server.with("SERVICE__INSTANCE", format!("server-{number}")).start_connected().await.unwrap()
    }

    async fn start_consumer(&self) -> Program {
        self.deployment.consumer().at(&self.ports[2]).start_connected().await.unwrap()
    }

    /// Likes to these servers until the end, with idempotency keys.
    async fn load(&mut self, servers: &[usize], rate: &str) {
        let addrs: Vec<String> = servers.iter().map(|number| self.ports[*number].grpc()).collect();
        let first_user = (1 + 1_000_000 * self.loads.len()).to_string();
        let shape =
            ["--duration", "3600", "--resources", "1000", "--fresh-users", "--first-user", &first_user, "--rate", rate];
        let repeat = ["--concurrency", "128", "--timeout", "3", "--retry-for", "90", "--idempotency-keys"];
        let load = self.deployment.load(&addrs.join(","), &[&shape[..], &repeat].concat()).unwrap();
        grows(&load, 200).await;
        self.loads.push(load);
    }

    fn reshard(&self, dies_at: &str) -> Binary {
        let syncctl = self.deployment.syncctl().args(["reshard", "--to", "64", "--no-wait", "-o", "json"]);
        let cluster = if self.cluster.is_some() { "true" } else { "false" };
        syncctl.env("SYNCCTL_DIES_AT", dies_at).env("REDIS_CLUSTER", cluster).start().unwrap()
    }

    async fn reshards(&self) -> serde_json::Value {
        let syncctl = self.reshard("");
        let ended = syncctl.wait_exit(2 * PATIENCE).await.unwrap();
        assert!(ended.success(), "{}", syncctl.log());
        let told = test_support::last_json(&syncctl.log()).unwrap();
        assert_eq!(told["done"], true, "{told}");
        eprintln!("{}", syncctl.log());
        told
    }

    /// The consumer ends by itself, servers one after the other; all start with the configuration of before.
    async fn restart(&mut self) {
        let consumer = self.consumer.take().unwrap();
        let ended = consumer.wait_exit(PATIENCE).await.unwrap();
        assert_eq!(ended.code(), Some(1), "{}", consumer.log());
        assert!(consumer.log().contains("it has 64 shards now, and this process knows 16"), "{}", consumer.log());
        self.consumer = Some(self.start_consumer().await);
        for number in 0..2 {
            self.servers[number].terminate().unwrap();
            self.servers[number].wait_exit(PATIENCE).await.unwrap();
            self.servers[number] = self.server(number).await;
        }
    }

    /// Every answered like is in every store once, nobody waited for long, and likes go through the new shards.
    async fn ends_well(&mut self, longest_wait: bool) {
        let mut settled = 0;
        for load in &self.loads {
            load.terminate().unwrap();
            load.wait_exit(2 * PATIENCE).await.unwrap();
            let report = load.report().unwrap();
            eprintln!("{report}");
            let waited = report["latency_us"]["max"].as_u64().unwrap();
            let most = if std::env::var_os(RATE).is_some() { LONGEST_WAIT_US } else { LONGEST_WAIT_BESIDE_OTHERS_US };
            assert!(!longest_wait || waited < most, "{report}");
            settled += report["acknowledged"].as_u64().unwrap();
        }
        assert!(settled > 1_000, "{settled}");
        let oplogs: Vec<_> = self.loads.iter().map(Load::oplog).collect();
        let verified = self.deployment.verify(oplogs, &["--wait", "60"], 3 * PATIENCE).await.unwrap();
        assert!(verified.good, "{}", verified.report);
        self.nothing_is_under_the_old_number().await;
    }

    /// Whatever was frozen, cut off or late: it has written nothing where nobody looks any more.
    async fn nothing_is_under_the_old_number(&self) {
        let addrs = match &self.cluster {
            Some(cluster) => cluster.addrs().unwrap(),
            None => vec![self.deployment.redis().url().trim_start_matches("redis://").to_owned()],
        };
        let (mut closed, mut accepted) = (0, 0);
        for addr in addrs {
            let client = redis::Client::open(format!("redis://{}", addr.trim_end_matches('/'))).unwrap();
            let mut node = client.get_multiplexed_async_connection().await.unwrap();
            let start = format!("{}{{s", self.deployment.prefix());
            let keys: Vec<String> = node.keys(format!("{start}*")).await.unwrap();
            for key in keys {
                let rest = key.strip_prefix(&start).unwrap();
                let (tag, name) = rest.split_once("}:").unwrap();
                let kind: String = redis::cmd("TYPE").arg(&key).query_async(&mut node).await.unwrap();
                if tag.ends_with(".1") {
                    if name == "t" {
                        accepted += node.hget::<_, _, Option<u64>>(&key, "a").await.unwrap().unwrap_or(0);
                    }
                    continue;
                }
                if ["j", "t"].contains(&name) {
                    assert_eq!(kind, "string", "{key}");
                    closed += 1;
                } else {
                    // What readers leave goes by itself; probes leave a word or two, and nothing that grows.
                    let left: i64 = node.ttl(&key).await.unwrap();
                    let probes = name == "hw" || name.starts_with("hv:");
                    assert!(left > 0 || probes, "{key} is a {kind} and stays");
                }
            }
        }
        assert_eq!(closed, 32);
        assert!(accepted > 100, "{accepted} likes went through the new shards");
    }
}

async fn grows(load: &Load, by: usize) {
    let before = load.lines();
    eventually(PATIENCE, "likes", async || {
        let now = load.lines();
        if now >= before + by { Ok(()) } else { Err(format!("{now}, {before} at first")) }
    })
    .await;
}

async fn under_load(cluster: bool) {
    let mut system = Resharded::start(cluster).await;
    system.load(&[0, 1], &rate(100)).await;
    let told = system.reshards().await;
    assert!(told["answers"].as_u64() > Some(100), "{told}");
    // They go on without Redis.
    grows(&system.loads[0], 500).await;
    system.restart().await;
    grows(&system.loads[0], 1_000).await;
    // Once more there is nothing to do.
    system.reshards().await;
    system.ends_well(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn likes_go_on_while_the_data_is_resharded() {
    under_load(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_resharded() {
    under_load(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_reshard_goes_on_from_every_step() {
    let mut system = Resharded::start(false).await;
    system.load(&[0, 1], &rate(100)).await;
    for step in STEPS {
        let syncctl = system.reshard(step);
        let ended = syncctl.wait_exit(2 * PATIENCE).await.unwrap();
        assert_eq!(ended.signal(), Some(SIGABRT), "{step}: {}", syncctl.log());
        // Likes go on whatever state it left.
        grows(&system.loads[0], 100).await;
    }
    let other = system.deployment.syncctl().args(["reshard", "--to", "32"]).start().unwrap();
    assert_eq!(other.wait_exit(PATIENCE).await.unwrap().code(), Some(1), "{}", other.log());
    assert!(other.log().contains("syncctl reshard --to 64 ends it"), "{}", other.log());
    system.reshards().await;
    system.restart().await;
    grows(&system.loads[0], 500).await;
    system.ends_well(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_frozen_all_the_time_writes_nothing_where_nobody_looks() {
    let mut system = Resharded::start(false).await;
    system.load(&[1], &rate(100)).await;
    system.load(&[0], "50").await;
    system.servers[0].pause().unwrap();
    system.reshards().await;
    // The other one works with the new number before this one wakes.
    let consumer = system.consumer.take().unwrap();
    consumer.wait_exit(PATIENCE).await.unwrap();
    system.consumer = Some(system.start_consumer().await);
    system.servers[1].terminate().unwrap();
    system.servers[1].wait_exit(PATIENCE).await.unwrap();
    system.servers[1] = system.server(1).await;
    grows(&system.loads[0], 200).await;
    system.servers[0].resume().unwrap();
    grows(&system.loads[1], 500).await;
    eventually(PATIENCE, "a health that says what to do", async || {
        let (_, health) = system.servers[0].health().await?;
        if health.to_string().contains("restart it") { Ok(()) } else { Err(health.to_string()) }
    })
    .await;
    system.ends_well(false).await;
}
