//! The program on a data directory and addresses that stay, and who sends it likes.

use interaction_proto::v1;
use interaction_proto::v1::interaction_service_client::InteractionServiceClient;
use std::path::{Path, PathBuf};
use std::time::Duration;
use test_support::{Deployment, Load, Ports, Program, ProgramBuilder, eventually};
use tonic::transport::Channel;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) type Client = InteractionServiceClient<Channel>;

pub(crate) struct Standalone {
    pub(crate) deployment: Deployment,
    ports: Ports,
}

impl Standalone {
    pub(crate) async fn new() -> Self {
        let deployment = Deployment::build("standalone").without_stores().start().await.unwrap().with_all(&[
            ("SERVICE__WORKER_THREADS", "2"),
            ("EVENT_DRIVEN_SYNC__REPUBLISH_AFTER", "500ms"),
            ("EVENT_DRIVEN_SYNC__RESCUE_INTERVAL", "50ms"),
            ("RATE_LIMITING__USER_ACTION__ENABLED", "false"),
        ]);
        Self { deployment, ports: Ports::lease().unwrap() }
    }

    /// Sets `INTERACTION__<key>`.
    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        self.deployment = self.deployment.with(key, value);
        self
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.deployment.data_dir()
    }

    pub(crate) fn path(&self) -> &Path {
        self.deployment.dir()
    }

    /// Always on the same addresses.
    pub(crate) fn program(&self) -> ProgramBuilder {
        self.deployment.standalone().at(&self.ports)
    }

    pub(crate) async fn start_ready(&self) -> Program {
        self.program().start_ready().await.unwrap()
    }

    pub(crate) fn grpc_addr(&self) -> String {
        self.ports.grpc()
    }

    pub(crate) fn http_addr(&self) -> String {
        self.ports.http()
    }

    pub(crate) async fn channel(&self) -> Channel {
        let endpoint = Channel::from_shared(format!("http://{}", self.grpc_addr())).unwrap();
        eventually(PATIENCE, "a connection", async || endpoint.connect().await).await
    }

    pub(crate) async fn client(&self) -> Client {
        Client::new(self.channel().await)
    }

    /// No file of the program may grow beyond so many bytes: as if the disk were full, and not the end of it.
    pub(crate) fn start_with_file_limit(&self, bytes: u64) -> Program {
        let limited_server = self.program().start().unwrap();
        let pid = limited_server.pid().unwrap().to_string();
        let limited =
            std::process::Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}:")]).status();
        assert!(limited.unwrap().success());
        limited_server
    }

    pub(crate) fn load_without_retries(&self, likes: u32) -> Load {
        self.load_with(likes, "0")
    }

    /// Sends generated likes, and again whatever is not answered, for as long as a restart takes.
    pub(crate) fn load(&self, likes: u32) -> Load {
        self.load_with(likes, "60")
    }

    fn load_with(&self, likes: u32, retry_for: &str) -> Load {
        let shape = ["--users", "300", "--resources", "40", "--unlikes", "0.3", "--comments", "0.2"];
        let likes = likes.to_string();
        let size = ["--likes", &likes, "--concurrency", "16", "--timeout", "5", "--retry-for", retry_for];
        self.deployment.load(&self.grpc_addr(), &[&shape[..], &size].concat()).unwrap()
    }

    /// Compares database and server with every answer.
    pub(crate) async fn verify(&self, load: &Load) {
        self.verify_with(load, &[]).await;
    }

    /// The same where the log does not know of all likes.
    pub(crate) async fn verify_shared(&self, load: &Load) {
        self.verify_with(load, &["--shared"]).await;
    }

    async fn verify_with(&self, load: &Load, args: &[&str]) {
        let url = format!("sqlite:{}", self.data_dir().join("interaction.db").display()).replace(' ', "%20");
        let (grpc, http) = (self.grpc_addr(), self.http_addr());
        let stores = ["--grpc-addr", &grpc, "--http-addr", &http, "--database-url", &url];
        let args = [&stores[..], args].concat();
        let verified = self.deployment.verify([load.oplog()], &args, PATIENCE * 2).await.unwrap();
        assert!(verified.good, "verify: {}", verified.report);
    }
}

/// The load ended, and every operation was answered.
pub(crate) async fn finished(load: &Load) {
    load.finished(PATIENCE * 3).await.unwrap();
}

pub(crate) fn video(id: i64) -> v1::Resource {
    v1::Resource { r#type: v1::ResourceType::Video.into(), id }
}

pub(crate) fn like(user_id: i64, video_id: i64) -> v1::LikeRequest {
    v1::LikeRequest { user_id, resource: Some(video(video_id)), idempotency_key: String::new() }
}
