//! People at two servers, with a bug planted in both: their history must show it, and must be clean without it.
//!
//! What is done to the servers meanwhile is what makes the bug matter; none of it is a bug.

use crate::planted::ONE_AT_A_TIME;
use std::time::Duration;
use test_support::{Deployment, Links, Program};
use tokio::time::sleep;

const PATIENCE: Duration = Duration::from_secs(60);

/// How long people act.
const LENGTH: Duration = Duration::from_secs(9);

/// Two servers with links of their own, and a consumer.
struct Town {
    deployment: Deployment,
    links: [Links; 2],
    servers: [Program; 2],
    consumer: Program,
}

impl Town {
    async fn new(bug: Option<&str>) -> Self {
        let settings = [
            ("SERVICE__WORKER_THREADS", "2"),
            ("RATE_LIMITING__USER_ACTION__ENABLED", "false"),
            ("EVENT_DRIVEN_SYNC__REPUBLISH_AFTER", "1s"),
            ("EVENT_DRIVEN_SYNC__RESCUE_INTERVAL", "200ms"),
            ("EVENT_DRIVEN_SYNC__CIRCUIT__PROBE_INTERVAL", "100ms"),
            // A link that is slow for a while must not open the circuit, not even for a connection that is made meanwhile:
            // what goes around the cache never gets there late.
            ("REDIS__RESPONSE_TIMEOUT", "5s"),
            ("REDIS__CONNECT_TIMEOUT", "20s"),
        ];
        let deployment = Deployment::build("people").start().await.unwrap().with_all(&settings);
        let links = [Links::to(&deployment).await.unwrap(), Links::to(&deployment).await.unwrap()];
        let consumer = deployment.consumer().start_connected().await.unwrap();
        let points = bug.map(|bug| format!("bug.{bug}=return")).unwrap_or_default();
        let mut servers = Vec::new();
        for (number, links) in links.iter().enumerate() {
            let server = deployment.clone().through(links).server().failpoint(&points);
            let server = server.with("SERVICE__INSTANCE", format!("server{number}"));
            servers.push(server.start_connected().await.unwrap());
        }
        let servers = servers.try_into().unwrap_or_else(|_| panic!("two servers"));
        Self { deployment, links, servers, consumer }
    }

    /// People with these habits while something happens; what their history breaks, by rule.
    async fn live(self, shares: &[&str], rate: &str, happens: impl AsyncFn(&[Links; 2])) -> serde_json::Value {
        let history = self.deployment.dir().join("history");
        let addrs = self.servers.iter().map(Program::grpc).collect::<Vec<_>>().join(",");
        let mut args = vec!["--rate", rate, "--resources", "40", "--timeout", "5", "--connections", "4"];
        args.extend(shares.iter().flat_map(|share| ["--share", share]));
        let load = self.deployment.people(&addrs, 64, &args, history.clone()).unwrap();
        let events = async {
            loop {
                happens(&self.links).await;
            }
        };
        let _ended = tokio::time::timeout(LENGTH, events).await;
        for links in &self.links {
            for link in [&links.redis, &links.mariadb, &links.rabbitmq] {
                link.restore().await.unwrap();
            }
        }
        load.terminate().unwrap();
        load.finished(PATIENCE).await.unwrap();
        let verified = self.deployment.judge([history.as_path()], &["--wait", "30"], PATIENCE).await.unwrap();
        for process in self.servers.into_iter().chain([self.consumer]) {
            assert!(!process.log().contains("panicked"), "{}", process.log());
            process.kill9().unwrap();
        }
        self.deployment.delete_topology().await.unwrap();
        verified.report
    }
}

/// Whether a bug shows depends on when people say what, by their clocks: each of these lives shows it more often than not.
const LIVES: usize = 4;

/// Clean without the bug, and with it this rule is broken.
async fn finds(bug: &str, rule: &str, shares: &[&str], rate: &str, happens: impl AsyncFn(&[Links; 2])) {
    let _alone = ONE_AT_A_TIME.lock().await;
    let well = Town::new(None).await.live(shares, rate, &happens).await;
    let broken = well["broken"].as_object().unwrap();
    // Counts are judged only where faults are in the history.
    assert!(broken.keys().all(|rule| rule == "R7"), "without the bug: {broken:?} {}", well["violations"]);
    let mut broken = Vec::new();
    for _ in 0..LIVES {
        let ill = Town::new(Some(bug)).await.live(shares, rate, &happens).await;
        if ill["broken"][rule].as_u64() > Some(0) {
            return;
        }
        broken.push(ill["broken"].to_string());
    }
    panic!("{rule} is not among what is broken: {broken:?}");
}

#[tokio::test]
async fn a_key_that_answers_the_other_action_is_seen() {
    let shares = ["opposite_key=0.6", "fresh_key=0.2", "hot=0", "small_batch=0.1"];
    finds("key_of_any_action", "R3", &shares, "150", async |_| sleep(LENGTH).await).await;
}

#[tokio::test]
async fn words_of_one_call_out_of_order_are_seen() {
    let shares = ["alternating=1", "small_batch=0.9", "large_batch=0", "hot=0.9", "reads=0.05"];
    // While the rows cannot be read, what the cache takes for unchanged is written again.
    finds("batch_in_one_round", "R2", &shares, "150", async |links| {
        sleep(Duration::from_millis(700)).await;
        links[0].mariadb.cut().await;
        sleep(Duration::from_millis(1_500)).await;
        links[0].mariadb.restore().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_abandoned_call_that_takes_effect_late_is_seen() {
    let shares = ["abandon=0.9", "cancel=0", "hot=1", "large_batch=0", "small_batch=0", "reads=0.05"];
    // What leaves a server for Redis arrives there after its caller's deadline.
    finds("expired_asked_afresh", "R4", &shares, "200", async |links| {
        links[0].redis.delay(Duration::from_millis(450));
        sleep(LENGTH).await;
    })
    .await;
}

#[tokio::test]
async fn a_key_of_an_unconfirmed_answer_is_seen() {
    let shares = ["fresh_key=0.9", "abandon=0.4", "late_repeat=0.3", "hot=1", "large_batch=0", "small_batch=0"];
    // One server writes around the cache; the other is slow to confirm what the cache says, so its callers leave before.
    finds("unconfirmed_remembered", "R1", &shares, "150", async |links| {
        links[0].mariadb.delay(Duration::from_millis(120));
        links[1].redis.cut().await;
        sleep(Duration::from_millis(1_500)).await;
        links[1].redis.restore().await.unwrap();
        sleep(Duration::from_millis(500)).await;
    })
    .await;
}
