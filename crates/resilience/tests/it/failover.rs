//! Redis's primary dies with its disk, and a replica that does not have its last writes takes over.
//!
//! A like that was answered must be somewhere else by then: in the broker, in the memory of the server that answered it, or,
//! if that dies too, in the replica, which is what `redis.confirm_replicas` waits for. `FAILOVER_SEEDS` asks for more seeds, `FAILOVER_FIRST` for
//! other ones.

use crate::running::{PATIENCE, count};
use crate::system::{Role, System, dies_at, finished};
use Role::{Consumer, Server};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use test_support::{
    Deployment, Load, Program, Proxy, Random, Redis, RedisGroup, RedisGroupOptions, RedisOptions, eventually,
};
use tokio::time::sleep;

const NODE: RedisOptions = RedisOptions { appendonly: false, preload: false };

const OPERATIONS: u32 = 1_500;
const SHAPE: &[&str] =
    &["--users", "300", "--resources", "40", "--unlikes", "0.3", "--rate", "400", "--idempotency-keys"];

/// Nobody but server and replica gets hold of what was accepted while the server's link to the broker is frozen.
const ALONE: [(&str, &str); 2] = [("EVENT_DRIVEN_SYNC__REPUBLISH_AFTER", "5s"), ("RABBITMQ__CONFIRM_TIMEOUT", "10s")];

fn seeds() -> std::ops::Range<u64> {
    let asked = |name, otherwise| std::env::var(name).ok().and_then(|number| number.parse().ok()).unwrap_or(otherwise);
    let first = asked("FAILOVER_FIRST", 0);
    first..first + asked("FAILOVER_SEEDS", 5)
}

/// What the server could not deliver is settled, or was offered again: whoever looks at the stores alone does not see it.
async fn keeps_nothing(server: &Program) {
    eventually(2 * PATIENCE, "a server that keeps nothing", async || {
        let kept = count(server, "interaction_relay_kept_events").await?;
        if kept == 0.0 { Ok(()) } else { Err(format!("{kept} are kept")) }
    })
    .await;
}

/// A primary with one replica, and what runs on them.
struct Failover {
    group: RedisGroup,
    /// Where programs think that Redis is.
    address: Proxy,
    system: System,
    consumer: Program,
}

impl Failover {
    async fn start(settings: &[(&str, &str)], failpoints: &str) -> (Self, Program) {
        let group = RedisGroup::start(RedisGroupOptions { node: NODE, ..Default::default() }).await.unwrap();
        let address = Proxy::start(group.node(0).unwrap().addr().unwrap()).await.unwrap();
        let url = address.url_of(group.node(0).unwrap().url());
        let deployment = Deployment::build("failover").redis_at(url).start().await.unwrap();
        let system = System::of(deployment, settings).await;
        let server = system.start_ready(Server, failpoints).await;
        let consumer = system.start_ready(Consumer, "").await;
        (Self { group, address, system, consumer }, server)
    }

    /// The broker hears nothing of the server any more, and soon the replica nothing of the primary; then that dies.
    async fn primary_dies(&self, seed: u64) {
        let mut random = Random(seed);
        let mut moment = |longest| sleep(Duration::from_millis(random.below(longest).unsigned_abs()));
        self.system.under_way().await;
        self.system.links.rabbitmq.freeze();
        moment(300).await;
        self.group.link(1).unwrap().freeze();
        moment(1_000).await;
        self.group.node(0).unwrap().kill9().unwrap();
    }

    /// The replica, which gets one in its turn.
    async fn another_takes_over(&self) -> Redis {
        self.group.promote(1).await.unwrap();
        let addr = self.group.node(1).unwrap().addr().unwrap();
        self.address.retarget(addr.clone());
        let (host, port) = addr.split_once(':').unwrap();
        let follow = ["--replicaof", host, port, "--repl-diskless-sync-delay", "0"];
        Redis::start_with_arguments(NODE, &follow).await.unwrap()
    }

    async fn end(self, load: &Load, server: Program) -> Result<(), String> {
        finished(load).await;
        let mut verified = self.system.verified().await;
        // What a promoted cache has from before, of likes that were settled meanwhile, is the checker's to put right.
        if verified.as_ref().is_err_and(|found| only_cached(found)) {
            self.system.repair().await;
            verified = self.system.verified().await;
        }
        self.system.end([self.consumer, server]).await;
        verified
    }
}

fn only_cached(found: &str) -> bool {
    let kinds: BTreeMap<String, Value> = serde_json::from_str(found).unwrap();
    kinds.keys().all(|kind| kind.starts_with("wrong_cached"))
}

/// Server and primary die together: nobody has what neither broker nor replica has.
async fn both_die(seed: u64, failpoints: &str) -> Result<(), String> {
    let settings = [&ALONE[..], &[("REDIS__CONFIRM_REPLICAS", "1")]].concat();
    let (mut failover, server) = Failover::start(&settings, failpoints).await;
    let load = failover.system.load_of(OPERATIONS, SHAPE);
    failover.primary_dies(seed).await;
    server.kill9().unwrap();
    assert!(load.is_running(), "the load was over: {}", load.log());
    let _replica = failover.another_takes_over().await;
    failover.system.links.rabbitmq.restore().await.unwrap();
    let restarted = failover.system.start(Server, "").await;
    failover.end(&load, restarted).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_replicas_confirmed_survives_server_and_primary() {
    for seed in seeds() {
        both_die(seed, "").await.unwrap_or_else(|found| panic!("seed {seed}: {found}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answer_before_wait() {
    for seed in 0..20 {
        match both_die(seed, "bug.answer_before_wait=return").await {
            // Everything may have been on its way by chance.
            Ok(()) => {}
            Err(found) => return assert!(found.contains("\"lost\""), "found something else: {found}"),
        }
    }
    panic!("the bug was not found");
}

/// A switchover behind an address whose connections stay; the server dies when it has given up those to the old primary.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generation_of_connections_is_given_up() {
    let (mut failover, server) = Failover::start(&[], "pool.generation").await;
    let load = failover.system.load_of(OPERATIONS, SHAPE);
    failover.system.under_way().await;
    failover.group.switch_to(1).await.unwrap();
    failover.address.retarget(failover.group.node(1).unwrap().addr().unwrap());
    dies_at(&server, "pool.generation").await;
    let restarted = failover.system.start(Server, "").await;
    failover.end(&load, restarted).await.unwrap();
}

/// The server lives, and has what the replica has not; also what its relay has no room for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_confirmed_survives_with_its_server() {
    for seed in seeds() {
        let room = if seed % 2 == 0 { "1" } else { "65536" };
        let settings = [&ALONE[..], &[("EVENT_DRIVEN_SYNC__RELAY_CAPACITY", room)]].concat();
        let (mut failover, server) = Failover::start(&settings, "").await;
        let load = failover.system.load_of(OPERATIONS, SHAPE);
        failover.primary_dies(seed).await;
        assert!(load.is_running(), "the load was over: {}", load.log());
        let _replica = failover.another_takes_over().await;
        failover.system.links.rabbitmq.restore().await.unwrap();
        finished(&load).await;
        keeps_nothing(&server).await;
        failover.end(&load, server).await.unwrap_or_else(|found| panic!("seed {seed}: {found}"));
    }
}

/// The server dies with a like that it has not answered, because no replica confirmed it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn written_and_not_confirmed() {
    let (mut failover, server) = Failover::start(&[("REDIS__CONFIRM_REPLICAS", "1")], "accept.unconfirmed:3").await;
    let load = failover.system.load_of(OPERATIONS, SHAPE);
    failover.system.under_way().await;
    failover.group.link(1).unwrap().freeze();
    dies_at(&server, "accept.unconfirmed").await;
    assert!(load.is_running(), "the load was over: {}", load.log());
    failover.group.link(1).unwrap().restore().await.unwrap();
    let restarted = failover.system.start(Server, "").await;
    failover.end(&load, restarted).await.unwrap();
}
