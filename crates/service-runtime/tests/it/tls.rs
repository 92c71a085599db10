//! Ops HTTP with TLS, with and without certificates of clients. gRPC's listener is the same.

use crate::guarded::Guarded;
use axum::Router;
use axum::routing::get;
use service_runtime::{Gate, OpsTls, ServiceConfig, Status, TlsConfig};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use test_support::http::{self, Answer};
use test_support::{Authority, Credential, eventually, try_eventually};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

const PATIENCE: Duration = Duration::from_secs(20);

/// With this certificate; with an authority of clients, to those that it knows.
async fn started(server: &Credential, client_ca: Option<PathBuf>) -> Guarded {
    let routes = Router::new().route("/things", get(async || "things"));
    Guarded::start(tempfile::tempdir().unwrap(), &config(server, client_ca), routes).await
}

impl Guarded {
    async fn get(&self, ca: &Path, client: Option<&Credential>) -> anyhow::Result<Answer> {
        self.get_by(&[b"http/1.1"], ca, client).await
    }

    async fn get_by(&self, protocols: &[&[u8]], ca: &Path, client: Option<&Credential>) -> anyhow::Result<Answer> {
        self.request(protocols, ca, client, "/things", &[]).await
    }

    async fn request(
        &self,
        protocols: &[&[u8]],
        ca: &Path,
        client: Option<&Credential>,
        path: &str,
        headers: &[&str],
    ) -> anyhow::Result<Answer> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca)?)?;
        let builder = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let mut config = match client {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let chain = vec![CertificateDer::from_pem_file(&own.cert)?];
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&own.key)?)?
            }
        };
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let stream = TcpStream::connect(&self.addr).await?;
        let stream = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost")?, stream).await?;
        http::send_over(stream, "localhost", &format!("GET {path}"), headers, "").await
    }
}

fn config(server: &Credential, client_ca_file: Option<PathBuf>) -> ServiceConfig {
    with_ops(server, client_ca_file, OpsTls::Same)
}

fn with_ops(server: &Credential, client_ca_file: Option<PathBuf>, ops: OpsTls) -> ServiceConfig {
    let (cert_file, key_file) = (Some(server.cert.clone()), Some(server.key.clone()));
    ServiceConfig { tls: TlsConfig { cert_file, key_file, client_ca_file, ops }, ..ServiceConfig::default() }
}

#[tokio::test]
async fn whoever_knows_the_authority_may_come() {
    let ca = Authority::new("ours").unwrap();
    let ops = started(&ca.issue("server").unwrap(), None).await;
    assert_eq!(ops.get(&ca.ca(), None).await.unwrap().body, "things");
    // Who offers more speaks HTTP/1.1 here; who offers only HTTP/2 does not get that far.
    assert_eq!(ops.get_by(&[b"h2", b"http/1.1"], &ca.ca(), None).await.unwrap().status, 200);
    assert!(ops.get_by(&[b"h2"], &ca.ca(), None).await.is_err());
    let other = Authority::new("theirs").unwrap();
    assert!(ops.get(&other.ca(), None).await.is_err());
    assert!(http::get(&ops.addr, "/things").await.is_err(), "served without TLS");
    assert_eq!(ops.get(&ca.ca(), None).await.unwrap().status, 200);
}

#[tokio::test]
async fn an_expired_server_is_not_believed() {
    let ca = Authority::new("ours").unwrap();
    let ops = started(&ca.issue_expired("server").unwrap(), None).await;
    assert!(ops.get(&ca.ca(), None).await.is_err());
}

#[tokio::test]
async fn with_an_authority_of_clients_each_needs_its_certificate() {
    let (ca, other) = (Authority::new("ours").unwrap(), Authority::new("theirs").unwrap());
    let ops = started(&ca.issue("server").unwrap(), Some(ca.ca())).await;
    let good = ca.issue("client").unwrap();
    assert_eq!(ops.get(&ca.ca(), Some(&good)).await.unwrap().body, "things");
    assert!(ops.get(&ca.ca(), None).await.is_err(), "served without a certificate");
    let foreign = other.issue("client").unwrap();
    assert!(ops.get(&ca.ca(), Some(&foreign)).await.is_err(), "served with a foreign certificate");
    let old = ca.issue_expired("old-client").unwrap();
    assert!(ops.get(&ca.ca(), Some(&old)).await.is_err(), "served with an expired certificate");
    assert_eq!(ops.get(&ca.ca(), Some(&good)).await.unwrap().status, 200);
}

/// Probes and Prometheus beside callers with certificates: health for everybody, metrics by token, and nothing else.
#[tokio::test]
async fn probes_and_prometheus_need_no_certificate_where_it_is_said() {
    let ca = Authority::new("ours").unwrap();
    let (server, client) = (ca.issue("server").unwrap(), ca.issue("client").unwrap());
    let foreign = Authority::new("theirs").unwrap().issue("client").unwrap();
    for ops in [OpsTls::Probes, OpsTls::Plain] {
        for tokens in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let mut config = with_ops(&server, Some(ca.ca()), ops);
            if tokens {
                let file = dir.path().join("tokens");
                std::fs::write(
                    &file,
                    "prometheus metrics token-for-metrics-1\noperator operate token-that-operates-1\n",
                )
                .unwrap();
                config.access.tokens_file = Some(file);
            }
            let routes = Router::new().route("/things", get(async || "things"));
            let guarded = Guarded::start(dir, &config, routes).await;
            let ask = async |path: &str, token: &str, own: Option<&Credential>| {
                let token = format!("authorization: Bearer {token}");
                match ops {
                    OpsTls::Plain => http::send(&guarded.addr, &format!("GET {path}"), &[&token], "").await,
                    _ => guarded.request(&[b"http/1.1"], &ca.ca(), own, path, &[&token]).await,
                }
            };
            for path in ["/health", "/health/live"] {
                assert_eq!(ask(path, "", None).await.unwrap().status, 200, "{ops:?} {path}");
            }
            // No recorder is installed here.
            let metrics = ask("/metrics", "token-for-metrics-1", None).await.unwrap();
            assert_eq!(metrics.status, if tokens { 404 } else { 401 }, "{ops:?}");
            for path in ["/things", "/", "/session", "/assets/page.js", "/health/"] {
                let answer = ask(path, "token-that-operates-1", None).await.unwrap();
                assert_eq!(answer.status, 401, "{ops:?} {path}");
                assert!(answer.body.contains("CERTIFICATE_MISSING"), "{}", answer.body);
            }
            if ops == OpsTls::Probes {
                let answer = ask("/things", "token-that-operates-1", Some(&client)).await.unwrap();
                assert_eq!((answer.status, answer.body.as_str()), (200, "things"));
                assert!(ask("/health", "", Some(&foreign)).await.is_err(), "a foreign certificate was taken");
            }
        }
    }
}

#[tokio::test]
async fn ops_http_is_plain_where_it_is_said() {
    let ca = Authority::new("ours").unwrap();
    let config = with_ops(&ca.issue("server").unwrap(), None, OpsTls::Plain);
    let routes = Router::new().route("/things", get(async || "things"));
    let ops = Guarded::start(tempfile::tempdir().unwrap(), &config, routes).await;
    assert_eq!(http::get(&ops.addr, "/things").await.unwrap(), (200, "things".to_owned()));
    assert!(ops.get(&ca.ca(), None).await.is_err());
}

#[tokio::test]
async fn who_never_finishes_the_handshake_holds_nobody_up() {
    let ca = Authority::new("ours").unwrap();
    let ops = started(&ca.issue("server").unwrap(), None).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(&ops.addr).await.unwrap());
    }
    assert_eq!(ops.get(&ca.ca(), None).await.unwrap().status, 200);
}

#[tokio::test]
async fn certificates_change_without_a_restart() {
    let (ca, next) = (Authority::new("ours").unwrap(), Authority::new("tomorrows").unwrap());
    let server = ca.issue("server").unwrap();
    let ops = started(&server, None).await;
    assert!(ops.get(&ca.ca(), None).await.is_ok());
    // The certificate without its key is nothing yet.
    let new = next.issue("server").unwrap();
    std::fs::copy(&new.cert, &server.cert).unwrap();
    let early = try_eventually(Duration::from_millis(2_500), "the new one", async || ops.get(&next.ca(), None).await);
    assert!(early.await.is_err());
    assert!(ops.get(&ca.ca(), None).await.is_ok());
    let parts = ops.context.health.report().await.parts;
    assert_eq!(parts["certificates"].status, Status::Degraded, "{parts:?}");
    assert_eq!(parts["certificate_expiry"].status, Status::Ok, "{parts:?}");
    std::fs::copy(&new.key, &server.key).unwrap();
    eventually(PATIENCE, "the new certificate", async || ops.get(&next.ca(), None).await.map(drop)).await;
    assert!(ops.get(&ca.ca(), None).await.is_err());
    // Health does not look again within a second.
    eventually(PATIENCE, "a part that is well", async || {
        let part = ops.context.health.report().await.parts["certificates"].clone();
        if part.status == Status::Ok { Ok(()) } else { Err(part.detail) }
    })
    .await;
}

#[test]
fn files_that_cannot_be_used_are_named_with_their_key() {
    let ca = Authority::new("ours").unwrap();
    let (server, other) = (ca.issue("server").unwrap(), ca.issue("other").unwrap());
    let (missing, empty) = (ca.path("missing"), ca.path("empty"));
    std::fs::write(&empty, "").unwrap();
    let (cert, key) = (Some(server.cert.clone()), Some(server.key.clone()));
    let files = |cert: &Option<PathBuf>, key: &Option<PathBuf>, client_ca: Option<&PathBuf>| TlsConfig {
        cert_file: cert.clone(),
        key_file: key.clone(),
        client_ca_file: client_ca.cloned(),
        ops: OpsTls::Same,
    };
    for (tls, expected, file) in [
        (files(&cert, &None, None), "service.tls.key_file: is needed", None),
        (files(&None, &key, None), "service.tls.cert_file: is needed", None),
        (files(&None, &None, Some(&ca.ca())), "service.tls.cert_file: is needed", None),
        (TlsConfig { ops: OpsTls::Plain, ..TlsConfig::default() }, "service.tls.ops: is of use only with", None),
        (TlsConfig { ops: OpsTls::Probes, ..files(&cert, &key, None) }, "service.tls.ops: probes is of use only", None),
        (files(&Some(missing.clone()), &key, None), "service.tls.cert_file: ", Some(&missing)),
        (files(&Some(empty.clone()), &key, None), "service.tls.cert_file: ", Some(&empty)),
        (files(&Some(server.key.clone()), &key, None), "service.tls.cert_file: ", Some(&server.key)),
        (files(&cert, &Some(missing.clone()), None), "service.tls.key_file: ", Some(&missing)),
        (files(&cert, &Some(server.cert.clone()), None), "service.tls.key_file: ", Some(&server.cert)),
        (files(&cert, &Some(other.key.clone()), None), "service.tls.key_file: ", Some(&other.key)),
        (files(&cert, &key, Some(&missing)), "service.tls.client_ca_file: ", Some(&missing)),
        (files(&cert, &key, Some(&empty)), "service.tls.client_ca_file: ", Some(&empty)),
    ] {
        let error = Gate::open(&ServiceConfig { tls, ..ServiceConfig::default() }).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{expected}: {error}");
        assert!(file.is_none_or(|file| error.contains(file.to_str().unwrap())), "{file:?}: {error}");
        assert!(!error.contains("BEGIN") && error.lines().count() == 1, "{error}");
    }
}
