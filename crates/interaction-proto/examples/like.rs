//! One like from Rust: `cargo run -p interaction-proto --example like` while a server listens on this machine.

use interaction_proto::v1::interaction_service_client::InteractionServiceClient;
use interaction_proto::v1::{LikeRequest, Resource, ResourceType};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut client = InteractionServiceClient::connect("http://127.0.0.1:50051").await?;
    let video = Resource { r#type: ResourceType::Video.into(), id: 42 };
    let request = LikeRequest { user_id: 6, resource: Some(video), idempotency_key: String::new() };
    println!("{:?}", client.like(request).await?.into_inner());
    Ok(())
}
