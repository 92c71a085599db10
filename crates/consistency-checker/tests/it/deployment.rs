//! A deployment whose stores are looked at, and broken, around its programs.

use cache_manager::Keys;
use deadpool_redis::redis::{Client as RedisClient, Cmd, FromRedisValue, aio::MultiplexedConnection};
use domain::{Pair, Resource, ShardCount};
use interaction_proto::v1;
use interaction_proto::v1::interaction_service_client::InteractionServiceClient;
use serde_json::Value;
use std::time::Duration;
use test_support::{Deployment, Program, eventually};
use tonic::transport::Channel;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Within it a program ends that was told to.
pub(crate) const SOON: Duration = Duration::from_secs(15);

pub(crate) type Client = InteractionServiceClient<Channel>;

pub(crate) struct Checked {
    deployment: Deployment,
    pub(crate) keys: Keys,
    raw: MultiplexedConnection,
}

/// A row of `data_consistency_checks`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Found {
    pub(crate) run: String,
    pub(crate) kind: String,
    pub(crate) verdict: String,
    pub(crate) subject: String,
    pub(crate) repaired: bool,
    pub(crate) details: Value,
}

impl Found {
    pub(crate) fn outcome(&self) -> &str {
        self.details["repair"]["outcome"].as_str().unwrap_or("none")
    }

    pub(crate) fn token(&self) -> Option<u64> {
        self.details["repair"]["token"].as_u64()
    }
}

impl Checked {
    /// On the shared stores.
    pub(crate) async fn new() -> Self {
        let deployment = Deployment::build("checked").start().await.unwrap();
        let redis = RedisClient::open(deployment.redis().url()).unwrap();
        let raw = redis.get_multiplexed_async_connection().await.unwrap();
        let keys = Keys::new(deployment.prefix().to_owned(), ShardCount::default());
        Self { deployment: deployment.with("RATE_LIMITING__USER_ACTION__ENABLED", "false"), keys, raw }
    }

    /// Sets `INTERACTION__<key>` for programs started from now on; the last one counts.
    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        self.deployment = self.deployment.with(key, value);
        self
    }

    pub(crate) async fn server(&self) -> Program {
        self.deployment.server().start_ready().await.unwrap()
    }

    pub(crate) async fn consumer(&self) -> Program {
        self.deployment.consumer().start_ready().await.unwrap()
    }

    pub(crate) async fn checker(&self) -> Program {
        self.deployment.checker().start_ready().await.unwrap()
    }

    /// Runs `syncctl` on the stores, or (with `server`) with its address; gives exit code and output.
    pub(crate) async fn syncctl(&self, args: &[&str], server: Option<&Program>) -> (Option<i32>, String) {
        let mut binary = self.deployment.syncctl().args(args.iter().copied());
        if let Some(server) = server {
            binary = binary.env("GRPC_ADDR", server.grpc());
        }
        let binary = binary.start().unwrap();
        let status = binary.wait_exit(PATIENCE).await.unwrap();
        (status.code(), binary.log())
    }

    /// One command, words separated by spaces.
    pub(crate) async fn redis<T: FromRedisValue>(&self, words: &str) -> T {
        let mut command = Cmd::new();
        words.split(' ').for_each(|word| {
            command.arg(word);
        });
        command.query_async(&mut self.raw.clone()).await.unwrap()
    }

    pub(crate) async fn command(&self, command: &Cmd) {
        command.query_async::<()>(&mut self.raw.clone()).await.unwrap();
    }

    pub(crate) async fn sql(&self, statements: &str) -> String {
        self.deployment.sql(statements).await.unwrap()
    }

    /// The schema refuses every row of a video, until it is cured.
    pub(crate) async fn poison(&self, video: i64) {
        self.deployment.poison(video).await.unwrap();
    }

    pub(crate) async fn cure(&self) {
        self.deployment.cure().await.unwrap();
    }

    /// Everything that was found so far, oldest first.
    pub(crate) async fn found(&self) -> Vec<Found> {
        let rows = self
            .sql(
                "SELECT HEX(run_id), kind, verdict, CONCAT(resource_type, ':', resource_id, \
                 IF(user_id IS NULL, '', CONCAT(' ', user_id))), repaired_at IS NOT NULL, TO_BASE64(details) \
                 FROM data_consistency_checks ORDER BY id",
            )
            .await;
        rows.lines().filter(|line| !line.trim().is_empty()).map(found_of).collect()
    }

    /// Runs of this kind that came to their end, oldest first.
    pub(crate) async fn finished_runs(&self, kind: &str) -> Vec<String> {
        let query = format!(
            "SELECT HEX(id) FROM consistency_runs WHERE kind = '{kind}' AND status = 'finished' ORDER BY started_at"
        );
        self.sql(&query).await.lines().map(str::to_owned).filter(|line| !line.is_empty()).collect()
    }

    /// Waits until nothing is on its way.
    pub(crate) async fn settled(&self, server: &Program) {
        eventually(PATIENCE, "empty journals", async || {
            let (code, stats) = server.get("/cache/stats").await.unwrap();
            if code == 200 && stats["available"] == true && stats["pending"] == 0 { Ok(()) } else { Err(stats) }
        })
        .await;
    }
}

/// The client prints newlines in values as `\n`, which base64 breaks lines with.
fn found_of(line: &str) -> Found {
    let columns: Vec<&str> = line.split('\t').collect();
    let [run, kind, verdict, subject, repaired, details] = columns[..] else { panic!("{line:?}") };
    let details = decode(&details.replace("\\n", ""));
    Found {
        run: run.to_owned(),
        kind: kind.to_owned(),
        verdict: verdict.to_owned(),
        subject: subject.to_owned(),
        repaired: repaired == "1",
        details: serde_json::from_slice(&details).unwrap(),
    }
}

fn decode(base64: &str) -> Vec<u8> {
    let value = |letter: u8| match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let mut bytes = Vec::new();
    for four in base64.trim_end_matches('=').as_bytes().chunks(4) {
        let bits = four.iter().fold(0_u32, |bits, letter| bits << 6 | u32::from(value(*letter)));
        let bits = bits << (6 * (4 - four.len()));
        bytes.extend_from_slice(&bits.to_be_bytes()[1..four.len()]);
    }
    bytes
}

/// What these tests ask of programs.
pub(crate) trait Asked {
    /// Whether this checker may repair.
    async fn leader(&self) -> bool;

    /// Checks a video.
    async fn check(&self, video: i64, dry_run: bool) -> (u16, Value);

    async fn client(&self) -> Client;
}

impl Asked for Program {
    async fn leader(&self) -> bool {
        let (code, body) = self.check(1, true).await;
        assert_eq!(code, 200, "{body}");
        body["leader"] == true
    }

    async fn check(&self, video: i64, dry_run: bool) -> (u16, Value) {
        let body = format!("{{\"resource_type\":\"video\",\"resource_id\":{video},\"dry_run\":{dry_run}}}");
        self.post("/consistency/check", &body).await.unwrap()
    }

    async fn client(&self) -> Client {
        let endpoint = Channel::from_shared(format!("http://{}", self.grpc())).unwrap();
        Client::new(eventually(PATIENCE, "a connection", async || endpoint.connect().await).await)
    }
}

pub(crate) fn operation(pair: Pair, liked: bool) -> v1::LikeOperation {
    let action = if liked { v1::Action::Like } else { v1::Action::Unlike };
    let kind = match pair.resource.kind {
        domain::ResourceType::Video => v1::ResourceType::Video,
        domain::ResourceType::Comment => v1::ResourceType::Comment,
    };
    v1::LikeOperation {
        user_id: pair.user.get(),
        resource: Some(v1::Resource { r#type: kind.into(), id: pair.resource.id.get() }),
        action: action.into(),
        idempotency_key: String::new(),
    }
}

/// Every one of these must be accepted.
pub(crate) async fn apply(client: &mut Client, operations: Vec<v1::LikeOperation>) {
    for some in operations.chunks(100) {
        let request = v1::ApplyLikesRequest { operations: some.to_vec() };
        let results = client.apply_likes(request).await.unwrap().into_inner().results;
        for result in results {
            assert!(matches!(result.outcome, Some(v1::like_result::Outcome::Response(_))), "{result:?}");
        }
    }
}

pub(crate) fn video_of(id: i64) -> Resource {
    test_support::build::video_pair(1, id).resource
}
