//! Certificates for tests.

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// An authority; its files live as long as it does.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
}

/// A certificate and its key, as files in PEM.
#[derive(Debug, Clone)]
pub struct Credential {
    /// The certificate.
    pub cert: PathBuf,
    /// Its private key, PKCS #8.
    pub key: PathBuf,
}

impl Authority {
    /// Signs with a key of its own.
    pub fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::new(vec![])?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let dir = TempDir::with_prefix("authority-")?;
        fs::write(dir.path().join("ca.pem"), issuer.pem()).context("write ca.pem")?;
        Ok(Self { issuer, dir })
    }

    /// Its own certificate, in PEM.
    pub fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// A file beside it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A certificate for `localhost` and `127.0.0.1`, for servers and clients alike.
    pub fn issue(&self, name: &str) -> Result<Credential> {
        self.sign(name, 2100)
    }

    /// The same, but it ended long ago.
    pub fn issue_expired(&self, name: &str) -> Result<Credential> {
        self.sign(name, 2001)
    }

    fn sign(&self, name: &str, last_year: i32) -> Result<Credential> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(last_year, 1, 1);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?;
        let write = |end: &str, text: String| -> Result<PathBuf> {
            let path: &Path = &self.path(&format!("{name}.{end}"));
            fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
            Ok(path.to_owned())
        };
        Ok(Credential { cert: write("crt", cert.pem())?, key: write("key", key.serialize_pem())? })
    }
}
