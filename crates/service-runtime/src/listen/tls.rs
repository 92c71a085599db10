//! Certificates of the listeners, gRPC and ops HTTP alike: rustls on ring, TLS 1.2 and 1.3.
//!
//! With `client_ca_file` clients need a certificate of that authority. The files are read again when they change; new
//! connections then use what they hold, and files that make no sense change nothing.

use crate::config::{ConfigError, TlsConfig, reload};
use crate::listen::expiry::{self, Validity};
use arc_swap::ArcSwap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

const CERT: &str = "service.tls.cert_file";
const KEY: &str = "service.tls.key_file";
const CLIENT_CA: &str = "service.tls.client_ca_file";

/// What is spoken inside; clients must not choose another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Ops HTTP.
    Http1,
    /// gRPC.
    Http2,
}

impl Protocol {
    /// The label of metrics.
    pub(crate) const fn surface(self) -> &'static str {
        match self {
            Self::Http1 => "http",
            Self::Http2 => "grpc",
        }
    }
}

/// The certificates that are valid now. Clones share them.
#[derive(Clone)]
pub(crate) struct Tls(Arc<Files>);

struct Files {
    cert: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    loaded: ArcSwap<Loaded>,
    seen: reload::Fingerprint,
}

struct Loaded {
    http1: Arc<ServerConfig>,
    http2: Arc<ServerConfig>,
    expires: Option<SystemTime>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Reads the files, if any are configured.
    pub(crate) fn open(config: &TlsConfig) -> Result<Option<Self>, ConfigError> {
        let (cert, key) = match (&config.cert_file, &config.key_file) {
            (Some(cert), Some(key)) => (cert.clone(), key.clone()),
            (Some(_), None) => return Err(ConfigError::key(KEY, format!("is needed with {CERT}"))),
            (None, Some(_)) => return Err(ConfigError::key(CERT, format!("is needed with {KEY}"))),
            (None, None) if config.client_ca_file.is_some() => {
                return Err(ConfigError::key(CERT, format!("is needed with {CLIENT_CA}")));
            }
            (None, None) => return Ok(None),
        };
        let client_ca = config.client_ca_file.clone();
        let files: Vec<_> = [Some(&cert), Some(&key), client_ca.as_ref()].into_iter().flatten().cloned().collect();
        let seen = reload::Fingerprint::of(&files);
        let loaded = ArcSwap::from_pointee(load(&cert, &key, client_ca.as_deref())?);
        Ok(Some(Self(Arc::new(Files { cert, key, client_ca, loaded, seen }))))
    }

    /// For one connection.
    pub(crate) fn acceptor(&self, protocol: Protocol) -> TlsAcceptor {
        let loaded = self.0.loaded.load();
        let config = match protocol {
            Protocol::Http1 => &loaded.http1,
            Protocol::Http2 => &loaded.http2,
        };
        TlsAcceptor::from(Arc::clone(config))
    }

    /// How long the certificate is valid.
    #[expect(clippy::disallowed_methods, reason = "certificates end by the wall clock of those who look at them")]
    pub(crate) fn validity(&self) -> Validity {
        expiry::validity(self.0.loaded.load().expires, SystemTime::now())
    }

    /// For how long the certificate is valid, negative once it is not; none if nobody knows.
    #[expect(clippy::disallowed_methods, reason = "certificates end by the wall clock of those who look at them")]
    pub(crate) fn seconds_left(&self) -> Option<f64> {
        let now = SystemTime::now();
        let expires = self.0.loaded.load().expires?;
        Some(expires.duration_since(now).map_or_else(|over| -over.duration().as_secs_f64(), |left| left.as_secs_f64()))
    }

    /// Reads the files again whenever they change; never returns.
    pub(crate) async fn watch(self, refusal: reload::Refusal) {
        let files = &self.0;
        let mut paths = vec![files.cert.clone(), files.key.clone()];
        paths.extend(files.client_ca.clone());
        reload::watch(paths, files.seen, refusal, || {
            let loaded = load(&files.cert, &files.key, files.client_ca.as_deref())?;
            tracing::info!("{CERT}: read again");
            files.loaded.store(Arc::new(loaded));
            Ok(())
        })
        .await;
    }
}

fn load(cert: &Path, key: &Path, client_ca: Option<&Path>) -> Result<Loaded, ConfigError> {
    let provider = Arc::new(default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| ConfigError::key(CERT, error))?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let fail = |reason: String| named(CLIENT_CA, file, &reason);
            let mut roots = RootCertStore::empty();
            for certificate in certificates(CLIENT_CA, file)? {
                roots.add(certificate).map_err(|error| fail(error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().map_err(|error| fail(error.to_string()))?)
        }
    };
    let chain = certificates(CERT, cert)?;
    let expires = chain.iter().filter_map(|certificate| expiry::of(certificate)).min();
    // What is wrong with a key is not repeated: it might quote it.
    let private = match reload::read_bounded(key) {
        Err(error) => return Err(named(KEY, key, &error)),
        Ok(text) => PrivateKeyDer::from_pem_slice(&text).map_err(|_| named(KEY, key, &"no private key in PEM"))?,
    };
    let config = builder.with_single_cert(chain, private).map_err(|error| {
        use tokio_rustls::rustls::Error::{InconsistentKeys, InvalidCertificate};
        match error {
            InvalidCertificate(_) => named(CERT, cert, &error),
            InconsistentKeys(_) => named(KEY, key, &format!("not the key of {}", cert.display())),
            other => named(KEY, key, &other),
        }
    })?;
    let speaking = |name: &[u8]| {
        let mut config = config.clone();
        config.alpn_protocols = vec![name.to_vec()];
        Arc::new(config)
    };
    Ok(Loaded { http1: speaking(b"http/1.1"), http2: speaking(b"h2"), expires })
}

fn certificates(key: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let text = reload::read_bounded(file).map_err(|error| named(key, file, &error))?;
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if found.is_empty() => Err(named(key, file, &"no certificate in PEM")),
        Ok(found) => Ok(found),
        Err(_) => Err(named(key, file, &"not PEM")),
    }
}

fn named(key: &'static str, file: &Path, reason: &dyn fmt::Display) -> ConfigError {
    ConfigError::key(key, format!("{}: {reason}", file.display()))
}
