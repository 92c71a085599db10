//! Certificates of the listeners, gRPC and ops HTTP alike: rustls on ring, TLS 1.2 and 1.3.
//!
//! With `client_ca_file` clients need a certificate of that authority; at ops HTTP `ops` may let them in without one, to what
//! [`guard`](crate::listen::access) answers then. The files are read again when they change; new
//! connections then use what they hold, and files that make no sense change nothing.

use crate::config::{ConfigError, OpsTls, TlsConfig, reload};
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

pub(crate) const CERT: &str = "service.tls.cert_file";
pub(crate) const KEY: &str = "service.tls.key_file";
const CLIENT_CA: &str = "service.tls.client_ca_file";
const OPS: &str = "service.tls.ops";

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
    ops: OpsTls,
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
            (None, None) if config.ops != OpsTls::Same => {
                return Err(ConfigError::key(OPS, format!("is of use only with {CERT}")));
            }
            (None, None) => return Ok(None),
        };
        let (client_ca, ops) = (config.client_ca_file.clone(), config.ops);
        if ops == OpsTls::Probes && client_ca.is_none() {
            return Err(ConfigError::key(OPS, format!("probes is of use only with {CLIENT_CA}")));
        }
        let files: Vec<_> = [Some(&cert), Some(&key), client_ca.as_ref()].into_iter().flatten().cloned().collect();
        let seen = reload::Fingerprint::of(&files);
        let loaded = ArcSwap::from_pointee(load(&cert, &key, client_ca.as_deref(), ops)?);
        Ok(Some(Self(Arc::new(Files { cert, key, client_ca, ops, loaded, seen }))))
    }

    /// Whether there is TLS at listeners of this kind.
    pub(crate) fn is_of(&self, protocol: Protocol) -> bool {
        protocol == Protocol::Http2 || self.0.ops.is_encrypted()
    }

    /// Whether ops HTTP lets clients in that show no certificate, although others demand one.
    pub(crate) fn lets_probes_in(&self) -> bool {
        self.0.client_ca.is_some() && self.0.ops != OpsTls::Same
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
            let loaded = load(&files.cert, &files.key, files.client_ca.as_deref(), files.ops)?;
            tracing::info!("{CERT}: read again");
            files.loaded.store(Arc::new(loaded));
            Ok(())
        })
        .await;
    }
}

fn load(cert: &Path, key: &Path, client_ca: Option<&Path>, ops: OpsTls) -> Result<Loaded, ConfigError> {
    let chain = certificates(CERT, cert)?;
    let expires = chain.iter().filter_map(|certificate| expiry::of(certificate)).min();
    let private = private_key(key)?;
    let roots = client_ca.map(client_roots).transpose()?;
    let speaking = |name: &[u8], needs_certificate: bool| {
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| ConfigError::key(CERT, error))?;
        let builder = match client_ca.zip(roots.clone()) {
            None => builder.with_no_client_auth(),
            Some((file, roots)) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                let verifier = if needs_certificate { verifier } else { verifier.allow_unauthenticated() };
                let verifier = verifier.build().map_err(|error| named(CLIENT_CA, file, &error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let config = builder.with_single_cert(chain.clone(), private.clone_key());
        let mut config = config.map_err(|error| refused(cert, key, error))?;
        config.alpn_protocols = vec![name.to_vec()];
        Ok(Arc::new(config))
    };
    Ok(Loaded { http1: speaking(b"http/1.1", ops == OpsTls::Same)?, http2: speaking(b"h2", true)?, expires })
}

fn refused(cert: &Path, key: &Path, error: tokio_rustls::rustls::Error) -> ConfigError {
    use tokio_rustls::rustls::Error::{InconsistentKeys, InvalidCertificate};
    match error {
        InvalidCertificate(_) => named(CERT, cert, &error),
        InconsistentKeys(_) => named(KEY, key, &format!("not the key of {}", cert.display())),
        other => named(KEY, key, &other),
    }
}

fn client_roots(file: &Path) -> Result<Arc<RootCertStore>, ConfigError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(CLIENT_CA, file)? {
        roots.add(certificate).map_err(|error| named(CLIENT_CA, file, &error))?;
    }
    Ok(Arc::new(roots))
}

/// What is wrong with a key is not repeated: it might quote it.
pub(crate) fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, ConfigError> {
    let text = reload::read_bounded(file).map_err(|error| named(KEY, file, &error))?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| named(KEY, file, &"no private key in PEM"))
}

pub(crate) fn certificates(key: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
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
