//! What a server is shown, and what it must show: token, authority, certificate.

use crate::UsageError;
use anyhow::Context;
use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use std::fmt;
use std::path::{Path, PathBuf};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};
use tonic::{Request, Status};

/// Flags of every command that calls a server.
#[derive(Debug, Clone, Default, Args)]
pub struct CredentialArgs {
    /// Token, where the server wants one; better in the environment than here.
    #[arg(long, global = true, help_heading = "Access", env = "TOKEN", hide_env_values = true)]
    token: Option<SecretString>,
    /// File that holds the token.
    #[arg(long, global = true, help_heading = "Access", env = "TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Authority of the server's certificate, in PEM; for https://.
    #[arg(long, global = true, help_heading = "Access", env = "CA_FILE")]
    ca_file: Option<PathBuf>,
    /// Own certificate in PEM, where the server wants one.
    #[arg(long, global = true, help_heading = "Access", env = "CLIENT_CERT_FILE", requires_all = ["ca_file", "client_key_file"])]
    client_cert_file: Option<PathBuf>,
    /// Its private key.
    #[arg(long, global = true, help_heading = "Access", env = "CLIENT_KEY_FILE", requires = "client_cert_file")]
    client_key_file: Option<PathBuf>,
}

/// The same, read from its files. The default shows nothing and expects no TLS.
#[derive(Clone, Default)]
pub struct Credentials {
    bearer: Bearer,
    pub(crate) tls: Option<ClientTlsConfig>,
}

/// Puts the token into every call.
#[derive(Clone, Default)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl CredentialArgs {
    /// Reads the files.
    pub fn read(&self) -> anyhow::Result<Credentials> {
        // An empty variable is none.
        let token = self.token.as_ref().map(ExposeSecret::expose_secret).filter(|token| !token.is_empty());
        let file = self.token_file.as_ref().filter(|file| !file.as_os_str().is_empty());
        let bearer = match (token, file) {
            (Some(_), Some(_)) => return Err(UsageError("--token and --token-file: one of them".to_owned()).into()),
            (Some(token), None) => Bearer(Some(header(token)?)),
            (None, Some(file)) => Bearer(Some(header(read("--token-file", file)?.trim())?)),
            (None, None) => Bearer(None),
        };
        let mut tls = None;
        if let Some(file) = &self.ca_file {
            let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read("--ca-file", file)?));
            if let (Some(cert), Some(key)) = (&self.client_cert_file, &self.client_key_file) {
                let (cert, key) = (read("--client-cert-file", cert)?, read("--client-key-file", key)?);
                config = config.identity(Identity::from_pem(cert, key));
            }
            tls = Some(config);
        }
        Ok(Credentials { bearer, tls })
    }
}

impl Credentials {
    /// No token, and TLS like this.
    #[cfg(test)]
    pub(crate) fn with_tls(tls: ClientTlsConfig) -> Self {
        Self { tls: Some(tls), ..Self::default() }
    }

    /// For calls.
    pub fn bearer(&self) -> Bearer {
        self.bearer.clone()
    }

    /// Of a request over HTTP/1, with its end of line; nothing without a token.
    pub(crate) fn http_header(&self) -> String {
        let value = self.bearer.0.as_ref().and_then(|value| value.to_str().ok());
        value.map_or_else(String::new, |value| format!("Authorization: {value}\r\n"))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

fn header(token: &str) -> Result<MetadataValue<Ascii>, UsageError> {
    let value = MetadataValue::try_from(format!("Bearer {token}"));
    let mut value = value.map_err(|_| UsageError("--token: has characters that no token has".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn read(flag: &str, file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("{flag}: could not read {}", file.display()))
}
