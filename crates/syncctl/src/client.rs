//! gRPC clients, one HTTP/2 connection each.

use crate::UsageError;
use anyhow::Context;
use domain::{Resource, ResourceType};
use interaction_proto::v1;
use interaction_proto::v1::interaction_service_client::InteractionServiceClient;
use interaction_proto::v1::sync_admin_service_client::SyncAdminServiceClient;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};

/// Client over one connection; clones share it.
pub type Client = InteractionServiceClient<Channel>;

/// How to reach a server from `host:port` or `http://host:port`.
pub fn endpoint(addr: &str) -> Result<Endpoint, UsageError> {
    let uri = if addr.contains("://") { addr.to_owned() } else { format!("http://{addr}") };
    let bad = || UsageError(format!("--addr: expected host:port or http://host:port, got {addr:?}"));
    let endpoint = Endpoint::from_shared(uri).map_err(|_| bad())?;
    if endpoint.uri().authority().is_none() {
        return Err(bad());
    }
    Ok(endpoint
        .connect_timeout(Duration::from_secs(5))
        .tcp_keepalive(Some(Duration::from_secs(10)))
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(5)))
}

/// Connects now, and again whenever the connection is lost.
pub async fn connect(addr: &str) -> anyhow::Result<Client> {
    let channel = endpoint(addr)?.connect().await.with_context(|| format!("could not connect to {addr}"))?;
    Ok(InteractionServiceClient::new(channel))
}

/// The same for the calls of operators.
pub async fn connect_admin(addr: &str) -> anyhow::Result<SyncAdminServiceClient<Channel>> {
    let channel = endpoint(addr)?.connect().await.with_context(|| format!("could not connect to {addr}"))?;
    Ok(SyncAdminServiceClient::new(channel))
}

/// Connects at the first call, and again whenever the connection is lost.
pub fn connect_later(addr: &str) -> Result<Client, UsageError> {
    Ok(InteractionServiceClient::new(endpoint(addr)?.connect_lazy()))
}

/// A resource as the contract writes it.
pub fn to_proto(resource: Resource) -> v1::Resource {
    let kind = match resource.kind {
        ResourceType::Video => v1::ResourceType::Video,
        ResourceType::Comment => v1::ResourceType::Comment,
    };
    v1::Resource { r#type: kind.into(), id: resource.id.get() }
}

/// A resource from `video:ID` or `comment:ID`.
pub fn parse_resource(text: &str) -> Result<Resource, String> {
    let (kind, id) = text.split_once(':').ok_or_else(|| format!("expected video:ID or comment:ID, got {text:?}"))?;
    let kind = kind.parse::<ResourceType>().map_err(|invalid| invalid.to_string())?;
    let id = id.parse().map_err(|_| format!("expected a whole number after {kind}:, got {id:?}"))?;
    Resource::new(kind, id).map_err(|invalid| invalid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_and_without_scheme() {
        assert_eq!(endpoint("127.0.0.1:50051").unwrap().uri().to_string(), "http://127.0.0.1:50051/");
        assert_eq!(endpoint("http://host:1").unwrap().uri().to_string(), "http://host:1/");
        assert!(endpoint("").is_err());
        assert!(endpoint("http://").is_err());
    }

    #[test]
    fn resources_from_text() {
        assert_eq!(parse_resource("comment:7").unwrap().to_string(), "comment:7");
        for bad in ["video", "film:1", "video:x", "video:0"] {
            assert!(parse_resource(bad).is_err(), "{bad}");
        }
    }
}
