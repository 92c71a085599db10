//! Typed callers of a server, and what they say.

use interaction_proto::v1;
use interaction_proto::v1::interaction_service_client::InteractionServiceClient;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use test_support::{Deployment, Program, eventually};
use tokio::sync::OnceCell;
use tonic::transport::Channel;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) type Client = InteractionServiceClient<Channel>;

/// What gRPC needs of a server.
pub(crate) trait Grpc {
    fn grpc_url(&self) -> String;

    async fn channel(&self) -> Channel {
        let endpoint = Channel::from_shared(self.grpc_url()).unwrap();
        eventually(PATIENCE, "a connection", async || endpoint.connect().await).await
    }

    async fn client(&self) -> Client {
        Client::new(self.channel().await)
    }
}

impl Grpc for Program {
    fn grpc_url(&self) -> String {
        format!("http://{}", self.grpc())
    }
}

/// A deployment of the test's own, on the shared stores.
pub(crate) async fn deployed() -> Deployment {
    Deployment::build("server").start().await.unwrap()
}

/// A server and a consumer that are well.
pub(crate) async fn started(deployment: &Deployment) -> (Program, Program) {
    tokio::try_join!(deployment.server().start_ready(), deployment.consumer().start_ready()).unwrap()
}

/// One server and one consumer with the default limits, for all tests that break nothing.
pub(crate) async fn shared_server() -> &'static Program {
    static SHARED: OnceCell<(Program, Program)> = OnceCell::const_new();
    let (server, _consumer) = SHARED.get_or_init(async || started(&deployed().await).await).await;
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
