//! gRPC clients, one HTTP/2 connection each.

use crate::UsageError;
use crate::credentials::{Bearer, CredentialArgs, Credentials};
use anyhow::Context;
use clap::Args;
use domain::{Resource, ResourceType};
use interaction_proto::v1;
use interaction_proto::v1::interaction_service_client::InteractionServiceClient;
use interaction_proto::v1::sync_admin_service_client::SyncAdminServiceClient;
use std::time::Duration;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};

/// Client over one connection; clones share it.
pub type Client = InteractionServiceClient<InterceptedService<Channel, Bearer>>;

/// The same for the calls of operators.
pub type AdminClient = SyncAdminServiceClient<InterceptedService<Channel, Bearer>>;

/// Flags of commands that call one server.
#[derive(Debug, Clone, Args)]
pub struct ServerArgs {
    /// Server: host:port, http://host:port, or https://host:port with --ca-file.
    #[arg(long, env = "GRPC_ADDR", default_value = "127.0.0.1:50051", global = true, help_heading = "Access")]
    pub(crate) addr: String,
    #[command(flatten)]
    pub(crate) credentials: CredentialArgs,
}

impl ServerArgs {
    /// [`connect`] with what the flags say.
    pub async fn connect(&self) -> anyhow::Result<Client> {
        connect(&self.addr, &self.credentials.read()?).await
    }

    /// [`connect_admin`] with what the flags say.
    pub async fn connect_admin(&self) -> anyhow::Result<AdminClient> {
        connect_admin(&self.addr, &self.credentials.read()?).await
    }
}

/// How to reach a server from `host:port`, `http://host:port` or `https://host:port`; with an authority, by TLS.
pub fn endpoint(addr: &str, credentials: &Credentials) -> Result<Endpoint, UsageError> {
    let scheme = if credentials.tls.is_some() { "https" } else { "http" };
    let uri = if addr.contains("://") { addr.to_owned() } else { format!("{scheme}://{addr}") };
    let bad = || UsageError(format!("--addr: expected host:port or http(s)://host:port, got {addr:?}"));
    let mut endpoint = Endpoint::from_shared(uri).map_err(|_| bad())?;
    if endpoint.uri().authority().is_none() {
        return Err(bad());
    }
    match (endpoint.uri().scheme_str(), &credentials.tls) {
        (Some("http"), None) => {}
        (Some("https"), Some(tls)) => {
            let refused = |error| UsageError(format!("--ca-file: {error}"));
            endpoint = endpoint.tls_config(tls.clone()).map_err(refused)?;
        }
        (Some("https"), None) => return Err(UsageError(format!("--addr: {addr} needs --ca-file"))),
        (Some("http"), Some(_)) => return Err(UsageError(format!("--ca-file: {addr} is not https://"))),
        _ => return Err(bad()),
    }
    Ok(endpoint
        .connect_timeout(Duration::from_secs(5))
        .tcp_keepalive(Some(Duration::from_secs(10)))
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(5)))
}

/// Connects now, and again whenever the connection is lost.
pub async fn connect(addr: &str, credentials: &Credentials) -> anyhow::Result<Client> {
    Ok(InteractionServiceClient::with_interceptor(channel(addr, credentials).await?, credentials.bearer()))
}

/// The same for the calls of operators.
pub async fn connect_admin(addr: &str, credentials: &Credentials) -> anyhow::Result<AdminClient> {
    Ok(SyncAdminServiceClient::with_interceptor(channel(addr, credentials).await?, credentials.bearer()))
}

async fn channel(addr: &str, credentials: &Credentials) -> anyhow::Result<Channel> {
    endpoint(addr, credentials)?.connect().await.with_context(|| format!("could not connect to {addr}"))
}

/// Connects at the first call, and again whenever the connection is lost.
pub fn connect_later(addr: &str, credentials: &Credentials) -> Result<Client, UsageError> {
    let channel = endpoint(addr, credentials)?.connect_lazy();
    Ok(InteractionServiceClient::with_interceptor(channel, credentials.bearer()))
}

/// A type as the contract writes it.
pub(crate) const fn wire_type(kind: ResourceType) -> i32 {
    kind as i32
}

/// The type of a resource of an answer.
pub(crate) fn kind_of(resource: &v1::Resource) -> Option<ResourceType> {
    ResourceType::from_code(u8::try_from(resource.r#type).ok()?).ok()
}

/// A resource as the contract writes it.
pub fn to_proto(resource: Resource) -> v1::Resource {
    v1::Resource { r#type: wire_type(resource.kind), id: resource.id.get() }
}

/// A resource of an answer as it is written on the command line.
pub(crate) fn name(resource: Option<&v1::Resource>) -> String {
    let Some(resource) = resource else { return "?".to_owned() };
    kind_of(resource)
        .map_or_else(|| format!("type {}:{}", resource.r#type, resource.id), |kind| format!("{kind}:{}", resource.id))
}

/// A resource from `video:ID` or `comment:ID`.
pub fn parse_resource(text: &str) -> Result<Resource, String> {
    let (kind, id) = text.split_once(':').ok_or_else(|| format!("expected video:ID or comment:ID, got {text:?}"))?;
    let kind = kind.parse::<ResourceType>().map_err(|invalid| invalid.to_string())?;
    let id = id.parse().map_err(|_| format!("expected a whole number after {kind}:, got {id:?}"))?;
    Resource::new(kind, id).map_err(|invalid| invalid.to_string())
}

/// A user's id.
pub(crate) fn parse_user(text: &str) -> Result<i64, String> {
    let user = text.parse().ok().filter(|user| *user > 0);
    user.ok_or_else(|| "expected the id of a user, a whole number from 1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_and_without_scheme() {
        let nothing = Credentials::default();
        let uri = |addr: &str, credentials| endpoint(addr, credentials).map(|endpoint| endpoint.uri().to_string());
        assert_eq!(uri("127.0.0.1:50051", &nothing).unwrap(), "http://127.0.0.1:50051/");
        assert_eq!(uri("http://host:1", &nothing).unwrap(), "http://host:1/");
        for bad in ["", "http://", "https://host:1", "ftp://host:1"] {
            assert!(uri(bad, &nothing).is_err(), "{bad}");
        }
        let tls = Credentials::with_tls(tonic::transport::ClientTlsConfig::new());
        assert_eq!(uri("host:1", &tls).unwrap(), "https://host:1/");
        assert_eq!(uri("https://host:1", &tls).unwrap(), "https://host:1/");
        assert!(uri("http://host:1", &tls).is_err());
    }

    #[test]
    fn resources_from_text() {
        assert_eq!(parse_resource("comment:7").unwrap().to_string(), "comment:7");
        for bad in ["video", "film:1", "video:x", "video:0"] {
            assert!(parse_resource(bad).is_err(), "{bad}");
        }
    }
}
