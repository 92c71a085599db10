//! Primaries change, and real processes follow without being restarted: planned switchovers behind an address whose open
//! connections stay, elections, and lists of addresses.

use std::time::{Duration, Instant};
use test_support::{
    Deployment, Load, MariaDbGroup, MariaDbOptions, Program, Proxy, Redis, RedisGroup, RedisGroupOptions, RedisOptions,
    eventually, lease_port,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// From the moment when a new primary takes writes until likes are there. Measured: a third of it and less.
const BACK: Duration = Duration::from_secs(5);

/// A circuit that opens more often flaps.
const MOST_OPENINGS: usize = 2;

const NODE: RedisOptions = RedisOptions { appendonly: false, preload: false };

/// Server and consumer of one deployment under load.
struct Running {
    deployment: Deployment,
    server: Program,
    consumer: Program,
    load: Load,
}

impl Running {
    async fn start(deployment: Deployment) -> Self {
        let server = deployment.server().start_connected().await.unwrap();
        let consumer = deployment.consumer().start_connected().await.unwrap();
        let shape = ["--duration", "600", "--resources", "50", "--fresh-users", "--rate", "200", "--concurrency", "16"];
        let repeat = ["--timeout", "3", "--retry-for", "60"];
        let load = deployment.load(&server.grpc(), &[&shape[..], &repeat].concat()).unwrap();
        let running = Self { deployment, server, consumer, load };
        running.grows(&running.server, ACCEPTED).await;
        running.grows(&running.consumer, APPLIED).await;
        running
    }

    /// Waits until this counter of a process has grown by a good number; how long it took.
    async fn grows(&self, program: &Program, series: &str) -> Duration {
        let begin = Instant::now();
        let before = count(program, series).await.unwrap();
        eventually(PATIENCE, series, async || {
            let now = count(program, series).await?;
            if now >= before + 20.0 { Ok(()) } else { Err(format!("{now}, {before} at first")) }
        })
        .await;
        begin.elapsed()
    }

    /// Nobody was restarted, circuits did not flap, and every answered like is in every store once.
    async fn end(self) {
        self.load.terminate().unwrap();
        self.load.wait_exit(PATIENCE).await.unwrap();
        let oplogs = [self.load.oplog()];
        let verified = self.deployment.verify(oplogs, &["--wait", "30"], 2 * PATIENCE).await.unwrap();
        assert!(verified.good, "{}", verified.report);
        for program in [&self.server, &self.consumer] {
            let log = program.log();
            for part in ["cache", "database", "broker", "consuming"] {
                let opened =
                    |line: &&str| line.contains("circuit opened") && line.contains(&format!("part=\"{part}\""));
                let openings = log.lines().filter(opened).count();
                assert!(openings <= MOST_OPENINGS, "the circuit of the {part} opened {openings} times: {log}");
            }
        }
        self.deployment.delete_topology().await.unwrap();
        for program in [self.server, self.consumer] {
            program.end(PATIENCE).await.unwrap();
        }
    }
}

/// Accepted by the cache, as opposed to written around it.
const ACCEPTED: &str = "likes_total{outcome=\"accepted\"}";

/// Committed.
const APPLIED: &str = "applied_events_total";

async fn count(program: &Program, series: &str) -> Result<f64, String> {
    let metrics = program.metrics().await.map_err(|error| format!("{error:#}"))?;
    let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
    value.ok_or_else(|| format!("no {series}"))
}

fn in_time(what: &str, took: Duration) {
    eprintln!("{what} after {took:?}");
    assert!(took < BACK, "{what} after {took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn likes_follow_a_redis_switchover_behind_an_address_whose_connections_stay() {
    let group = RedisGroup::start(RedisGroupOptions { node: NODE, ..Default::default() }).await.unwrap();
    let address = Proxy::start(group.node(0).unwrap().addr().unwrap()).await.unwrap();
    let url = address.url_of(group.node(0).unwrap().url());
    let running = Running::start(Deployment::build("follow").redis_at(url).start().await.unwrap()).await;
    for primary in [1, 0] {
        group.switch_to(primary).await.unwrap();
        address.retarget(group.node(primary).unwrap().addr().unwrap());
        in_time("accepted by the new Redis", running.grows(&running.server, ACCEPTED).await);
        // Settled there, too.
        running.grows(&running.consumer, APPLIED).await;
    }
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_follow_a_database_switchover_behind_an_address_whose_connections_stay() {
    let options = MariaDbOptions { durable: false, ..MariaDbOptions::default() };
    let group = MariaDbGroup::start(options, 1).await.unwrap();
    let address = Proxy::start(group.node(0).unwrap().addr().unwrap()).await.unwrap();
    let url = address.url_of(group.node(0).unwrap().url());
    let deployment = Deployment::build("follow").mariadb_at(url).start().await.unwrap();
    let app = deployment.database_url().replace("root@", MariaDbGroup::APP);
    let running = Running::start(deployment.with("DATABASE__URL", app)).await;
    for (from, to) in [(0, 1), (1, 0)] {
        group.switch(from, to).await.unwrap();
        address.retarget(group.node(to).unwrap().addr().unwrap());
        in_time("committed by the new database", running.grows(&running.consumer, APPLIED).await);
    }
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn likes_follow_an_election_by_sentinels() {
    let options = RedisGroupOptions { node: NODE, replicas: 2, sentinels: 3 };
    let group = RedisGroup::start(options).await.unwrap();
    // For the verification, which asks no Sentinel.
    let address = Proxy::start(group.node(0).unwrap().addr().unwrap()).await.unwrap();
    let url = address.url_of(group.node(0).unwrap().url());
    let deployment = Deployment::build("follow").redis_at(url).start().await.unwrap();
    let sentinels = group.sentinel_addrs().unwrap().join(",");
    let settings = [("REDIS__SENTINELS", sentinels.as_str()), ("REDIS__MASTER", Redis::WATCHED)];
    let running = Running::start(deployment.with_all(&settings)).await;

    group.node(0).unwrap().kill9().unwrap();
    let elected = async || group.primary().await.map_err(|error| format!("{error:#}"));
    let primary = eventually(PATIENCE, "a new primary", elected).await;
    in_time("accepted by the elected Redis", running.grows(&running.server, ACCEPTED).await);
    running.grows(&running.consumer, APPLIED).await;
    address.retarget(group.node(primary).unwrap().addr().unwrap());
    running.end().await;
}

/// Of every list the first address leads nowhere, and the second one to a replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn primaries_are_found_in_lists_and_followed_there() {
    let redis = RedisGroup::start(RedisGroupOptions { node: NODE, ..Default::default() }).await.unwrap();
    let options = MariaDbOptions { durable: false, ..MariaDbOptions::default() };
    let mariadb = MariaDbGroup::start(options, 1).await.unwrap();
    let nobody = lease_port().unwrap().addr();
    let list = |addrs: Vec<String>| {
        let mut list = vec![nobody.clone()];
        list.extend(addrs.into_iter().rev());
        list.join(",")
    };
    // For the verification.
    let to_redis = Proxy::start(redis.node(0).unwrap().addr().unwrap()).await.unwrap();
    let to_mariadb = Proxy::start(mariadb.node(0).unwrap().addr().unwrap()).await.unwrap();
    let deployment = Deployment::build("follow")
        .redis_at(to_redis.url_of(redis.node(0).unwrap().url()))
        .mariadb_at(to_mariadb.url_of(mariadb.node(0).unwrap().url()));
    let deployment = deployment.start().await.unwrap();
    let app = deployment.database_url().replace("root@", MariaDbGroup::APP);
    let settings = [
        ("REDIS__NODES", list(redis.addrs().unwrap())),
        ("DATABASE__HOSTS", list(mariadb.addrs().unwrap())),
        ("RABBITMQ__HOSTS", list(vec![deployment.rabbitmq().addr().unwrap()])),
        ("DATABASE__URL", app),
    ];
    let deployment = settings.iter().fold(deployment, |deployment, (key, value)| deployment.with(key, value));
    let running = Running::start(deployment).await;

    redis.switch_to(1).await.unwrap();
    in_time("accepted by the new Redis", running.grows(&running.server, ACCEPTED).await);
    mariadb.switch(0, 1).await.unwrap();
    in_time("committed by the new database", running.grows(&running.consumer, APPLIED).await);
    to_redis.retarget(redis.node(1).unwrap().addr().unwrap());
    to_mariadb.retarget(mariadb.node(1).unwrap().addr().unwrap());
    running.end().await;
}

/// Who starts with nothing but a replica says so in one line, and what to do.
#[tokio::test]
async fn a_replica_as_the_only_address_is_refused() {
    let redis = RedisGroup::start(RedisGroupOptions { node: NODE, ..Default::default() }).await.unwrap();
    let options = MariaDbOptions { durable: false, ..MariaDbOptions::default() };
    let mariadb = MariaDbGroup::start(options, 1).await.unwrap();
    let deployment = Deployment::build("follow").mariadb_at(mariadb.node(0).unwrap().url()).start().await.unwrap();
    let schema = deployment.database_url().rsplit('/').next().unwrap().to_owned();
    let replica = format!("mysql://{}{}/{schema}", MariaDbGroup::APP, mariadb.node(1).unwrap().addr().unwrap());
    mariadb.caught_up(1, 0).await.unwrap();
    for (key, url, advice) in [
        ("REDIS__URL", redis.node(1).unwrap().url().to_owned(), "redis.nodes"),
        ("DATABASE__URL", replica, "database.hosts"),
    ] {
        let server = deployment.server().with(key, url).start().unwrap();
        let status = server.wait_exit(PATIENCE).await.unwrap();
        let log = server.log();
        assert!(!status.success(), "{log}");
        assert!(log.lines().any(|line| line.contains("only reads") || line.contains("replica")), "{log}");
        assert!(log.contains(advice), "{log}");
    }
}
