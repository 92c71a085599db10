//! A data directory, addresses, and the processes on them.

use interaction_proto::v1;
use interaction_proto::v1::interaction_service_client::InteractionServiceClient;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use test_support::{Binary, PortLease, eventually, http, lease_port, try_eventually};
use tonic::transport::Channel;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) type Client = InteractionServiceClient<Channel>;

pub(crate) struct House {
    dir: TempDir,
    grpc: PortLease,
    http: PortLease,
    settings: Vec<(String, String)>,
}

impl House {
    pub(crate) fn new() -> Self {
        let quick = [
            ("SERVICE__WORKER_THREADS", "2"),
            ("EVENT_DRIVEN_SYNC__REPUBLISH_AFTER", "500ms"),
            ("EVENT_DRIVEN_SYNC__RESCUE_INTERVAL", "50ms"),
            ("RATE_LIMITING__USER_ACTION__ENABLED", "false"),
        ];
        let house = Self {
            dir: tempfile::tempdir().unwrap(),
            grpc: lease_port().unwrap(),
            http: lease_port().unwrap(),
            settings: Vec::new(),
        };
        quick.into_iter().fold(house, |house, (key, value)| house.with(key, value))
    }

    /// Sets `INTERACTION__<key>`.
    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        self.settings.push((format!("INTERACTION__{key}"), value.to_owned()));
        self
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data dir")
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Starts the program; it may not be ready yet. `failpoint` may be empty.
    pub(crate) fn start(&self, failpoint: &str, args: &[&str]) -> Binary {
        let binary = Binary::build("standalone")
            .args(["--grpc-addr".to_owned(), self.grpc_addr(), "--http-addr".to_owned(), self.http_addr()])
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(args.iter().copied())
            .env("INTERACTION_FAILPOINT", failpoint);
        self.settings.iter().fold(binary, |binary, (name, value)| binary.env(name, value.as_str())).start().unwrap()
    }

    /// The same with other addresses.
    pub(crate) fn start_at(&self, args: &[&str]) -> Binary {
        let grpc = self.grpc_addr();
        let binary = Binary::build("standalone").args(["--grpc-addr", &grpc]).args(args.iter().copied());
        let binary = binary.arg("--data-dir").arg(self.data_dir());
        self.settings.iter().fold(binary, |binary, (name, value)| binary.env(name, value.as_str())).start().unwrap()
    }

    pub(crate) async fn start_ready(&self, failpoint: &str) -> Binary {
        let binary = self.start(failpoint, &[]);
        self.ready(&binary).await;
        binary
    }

    pub(crate) async fn ready(&self, binary: &Binary) {
        let ready = try_eventually(PATIENCE, "health", async || match http::get(&self.http_addr(), "/health").await {
            Ok((200, body)) if body.contains("\"status\":\"ok\"") => Ok(()),
            Ok((code, body)) => Err(format!("{code} {body}")),
            Err(error) => Err(format!("{error:#}")),
        });
        if let Err(error) = ready.await {
            panic!("{error:#}\n{}", binary.log());
        }
    }

    pub(crate) fn grpc_addr(&self) -> String {
        self.grpc.addr().to_string()
    }

    pub(crate) fn http_addr(&self) -> String {
        self.http.addr().to_string()
    }

    pub(crate) async fn client(&self) -> Client {
        let endpoint = Channel::from_shared(format!("http://{}", self.grpc_addr())).unwrap();
        Client::new(eventually(PATIENCE, "a connection", async || endpoint.connect().await).await)
    }

    pub(crate) fn oplog(&self) -> PathBuf {
        self.dir.path().join("oplog")
    }

    /// No file of the program may grow beyond so many bytes: as if the disk were full, and not the end of it.
    pub(crate) fn start_with_file_limit(&self, bytes: u64) -> Binary {
        let limited_server = self.start("", &[]);
        let pid = limited_server.pid().unwrap().to_string();
        let limited =
            std::process::Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}:")]).status();
        assert!(limited.unwrap().success());
        limited_server
    }

    pub(crate) fn load_without_retries(&self, likes: u32) -> Binary {
        self.load_with(likes, &["--retry-for", "0"])
    }

    /// Sends generated likes, and again whatever is not answered, for as long as a restart takes.
    pub(crate) fn load(&self, likes: u32) -> Binary {
        self.load_with(likes, &["--retry-for", "60"])
    }

    fn load_with(&self, likes: u32, args: &[&str]) -> Binary {
        Binary::build("syncctl")
            .args([
                "load",
                "--generate",
                "--users",
                "300",
                "--resources",
                "40",
                "--unlikes",
                "0.3",
                "--comments",
                "0.2",
            ])
            .args(["--concurrency", "16", "--timeout", "5", "--addr"])
            .arg(self.grpc_addr())
            .args(["--likes".to_owned(), likes.to_string()])
            .args(args.iter().copied())
            .arg("--oplog")
            .arg(self.oplog())
            .start()
            .unwrap()
    }

    /// Number of operations that are written down so far.
    pub(crate) fn acknowledged(&self) -> usize {
        std::fs::read(self.oplog()).map_or(0, |log| log.iter().filter(|byte| **byte == b'\n').count())
    }

    /// Compares database and server with every answer.
    pub(crate) async fn verify(&self) {
        self.verify_with(&[]).await;
    }

    /// The same where the log does not know of all likes.
    pub(crate) async fn verify_shared(&self) {
        self.verify_with(&["--shared"]).await;
    }

    async fn verify_with(&self, args: &[&str]) {
        let url = format!("sqlite:{}", self.data_dir().join("interaction.db").display()).replace(' ', "%20");
        let verify = Binary::build("syncctl")
            .args(["verify", "--grpc-addr", &self.grpc_addr(), "--http-addr", &self.http_addr()])
            .args(["--database-url", &url, "--oplog"])
            .arg(self.oplog())
            .args(args.iter().copied())
            .start()
            .unwrap();
        let status = verify.wait_exit(PATIENCE * 2).await.unwrap();
        assert!(status.success(), "verify: {}", verify.log());
    }

    /// Ends it as an operator would.
    pub(crate) async fn end(&self, binary: Binary) {
        binary.terminate().unwrap();
        let status = binary.wait_exit(PATIENCE).await.unwrap();
        assert_eq!(status.code(), Some(0), "{}", binary.log());
        assert!(!binary.log().contains("panicked"), "{}", binary.log());
    }
}

/// The load ended, and every operation was answered.
pub(crate) async fn finished(load: &Binary) {
    let status = load.wait_exit(PATIENCE * 3).await.unwrap();
    assert!(status.success(), "load: {}", load.log());
}

pub(crate) fn video(id: i64) -> v1::Resource {
    v1::Resource { r#type: v1::ResourceType::Video.into(), id }
}

pub(crate) fn like(user_id: i64, video_id: i64) -> v1::LikeRequest {
    v1::LikeRequest { user_id, resource: Some(video(video_id)), idempotency_key: String::new() }
}
