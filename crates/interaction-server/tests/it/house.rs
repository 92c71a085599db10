//! Installations: a schema, key prefix and queue of one's own, and the programs that run on them.

use interaction_proto::v1;
use interaction_proto::v1::interaction_service_client::InteractionServiceClient;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use test_support::{
    Binary, PortLease, eventually, fresh_database, http, lease_port, shared, try_eventually, unique_name,
};
use tokio::sync::OnceCell;
use tonic::transport::Channel;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) type Client = InteractionServiceClient<Channel>;

/// What the programs of one installation are told.
#[derive(Clone)]
pub(crate) struct House {
    pub(crate) settings: Vec<(String, String)>,
}

impl House {
    /// On the shared servers.
    pub(crate) async fn new() -> Self {
        let (redis, mariadb, rabbitmq) = tokio::join!(shared::redis(), shared::mariadb(), shared::rabbitmq());
        Self::on(redis.unwrap().url(), mariadb.unwrap().url(), rabbitmq.unwrap().url()).await
    }

    pub(crate) async fn on(redis: &str, mariadb: &str, rabbitmq: &str) -> Self {
        let database = fresh_database(mariadb).await.unwrap();
        let name = unique_name("server");
        Self { settings: Vec::new() }
            .with("REDIS__URL", redis)
            .with("REDIS__KEY_PREFIX", &name)
            .with("DATABASE__URL", &database)
            .with("RABBITMQ__URL", rabbitmq)
            .with("RABBITMQ__PREFIX", &name)
    }

    /// Sets `INTERACTION__<key>`; the last one counts.
    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        let key = format!("INTERACTION__{key}");
        self.settings.retain(|(name, _)| *name != key);
        self.settings.push((key, value.to_owned()));
        self
    }

    /// The value of `INTERACTION__<key>`.
    pub(crate) fn setting(&self, key: &str) -> String {
        let key = format!("INTERACTION__{key}");
        self.settings.iter().find(|(name, _)| *name == key).unwrap().1.clone()
    }

    fn run(&self, program: &str, ports: &[(&str, &PortLease)]) -> Binary {
        let settings = ports.iter().fold(self.clone(), |house, (key, port)| house.with(key, &port.addr().to_string()));
        let binary = Binary::build(program);
        settings.settings.into_iter().fold(binary, |binary, (name, value)| binary.env(name, value)).start().unwrap()
    }

    /// Starts a server; it may not be ready yet.
    pub(crate) fn server(&self) -> Server {
        let (grpc, http) = (lease_port().unwrap(), lease_port().unwrap());
        let ports = [("SERVICE__GRPC_ADDR", &grpc), ("SERVICE__HTTP_ADDR", &http)];
        Server { binary: self.run("interaction-server", &ports), grpc, http }
    }

    /// Starts a consumer; it may not be ready yet.
    pub(crate) fn consumer(&self) -> Consumer {
        let http = lease_port().unwrap();
        Consumer { binary: self.run("sync-consumer", &[("SERVICE__CONSUMER_HTTP_ADDR", &http)]), http }
    }
}

pub(crate) struct Server {
    pub(crate) binary: Binary,
    grpc: PortLease,
    http: PortLease,
}

pub(crate) struct Consumer {
    pub(crate) binary: Binary,
    http: PortLease,
}

impl Server {
    /// Waits until all parts are there.
    pub(crate) async fn ready(self) -> Self {
        wait_ready(&self.http, &self.binary).await;
        self
    }

    pub(crate) fn http(&self) -> String {
        self.http.addr().to_string()
    }

    pub(crate) fn grpc_url(&self) -> String {
        format!("http://{}", self.grpc.addr())
    }

    pub(crate) async fn channel(&self) -> Channel {
        let endpoint = Channel::from_shared(self.grpc_url()).unwrap();
        eventually(PATIENCE, "a connection", async || endpoint.connect().await).await
    }

    pub(crate) async fn client(&self) -> Client {
        Client::new(self.channel().await)
    }

    pub(crate) async fn health(&self) -> Result<(u16, serde_json::Value), String> {
        health(&self.http).await
    }
}

impl Consumer {
    pub(crate) async fn ready(self) -> Self {
        wait_ready(&self.http, &self.binary).await;
        self
    }

    pub(crate) fn http(&self) -> String {
        self.http.addr().to_string()
    }
}

async fn health(http: &PortLease) -> Result<(u16, serde_json::Value), String> {
    let (code, body) = http::get(&http.addr().to_string(), "/health").await.map_err(|error| format!("{error:#}"))?;
    let body = serde_json::from_str(&body).map_err(|error| format!("{error}: {body}"))?;
    Ok((code, body))
}

async fn wait_ready(http: &PortLease, binary: &Binary) {
    let ready = try_eventually(PATIENCE, "every part", async || match health(http).await? {
        (200, body) if body["status"] == "ok" => Ok(()),
        (code, body) => Err(format!("{code} {body}")),
    });
    if let Err(error) = ready.await {
        panic!("{error:#}\n{}", binary.log());
    }
}

/// One server and one consumer with the default limits, for all tests that break nothing.
pub(crate) async fn shared_server() -> &'static Server {
    static SHARED: OnceCell<(Server, Consumer)> = OnceCell::const_new();
    let (server, _consumer) = SHARED
        .get_or_init(async || {
            let house = House::new().await;
            let (server, consumer) = (house.server(), house.consumer());
            (server.ready().await, consumer.ready().await)
        })
        .await;
    server
}

/// An id that no other test uses.
pub(crate) fn fresh_id() -> i64 {
    static NEXT: AtomicI64 = AtomicI64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

pub(crate) fn video(id: i64) -> v1::Resource {
    v1::Resource { r#type: v1::ResourceType::Video.into(), id }
}

pub(crate) fn comment(id: i64) -> v1::Resource {
    v1::Resource { r#type: v1::ResourceType::Comment.into(), id }
}

pub(crate) fn like(user_id: i64, resource: v1::Resource) -> v1::LikeRequest {
    v1::LikeRequest { user_id, resource: Some(resource), idempotency_key: String::new() }
}

pub(crate) fn unlike(user_id: i64, resource: v1::Resource) -> v1::UnlikeRequest {
    v1::UnlikeRequest { user_id, resource: Some(resource), idempotency_key: String::new() }
}

pub(crate) fn operation(user_id: i64, resource: v1::Resource, action: v1::Action) -> v1::LikeOperation {
    v1::LikeOperation { user_id, resource: Some(resource), action: action.into(), idempotency_key: String::new() }
}

/// Fields that a refused request got wrong, in their order.
pub(crate) fn fields(status: tonic::Status) -> Vec<String> {
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status:?}");
    let details = tonic_types::StatusExt::get_error_details(&status);
    let violations = &details.bad_request().expect("no field violations").field_violations;
    assert!(violations.iter().all(|violation| !violation.description.is_empty()), "{violations:?}");
    assert!(status.message().starts_with(&violations[0].field), "{}", status.message());
    violations.iter().map(|violation| violation.field.clone()).collect()
}
