//! `PROGRAM health`: asks the program of this name that runs here how it is, for whoever starts and restarts it.
//!
//! Where it listens, and whether by TLS, comes from the same configuration. What is asked needs no token. Exit code 0: it is
//! well, or degraded; 1: it is down; [`EXIT_UNAVAILABLE`]: nobody answers, or somebody else.

use crate::config::{ConfigError, OpsTls, ServiceConfig};
use crate::lifecycle::run::{EXIT_CONFIG, Options};
use crate::listen::tls;
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{self, CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

/// Exit code when nobody answers (`EX_UNAVAILABLE`).
pub(crate) const EXIT_UNAVAILABLE: u8 = 69;

/// Less than the five seconds after which orchestrators give up, more than the two that a part may take.
const PATIENCE: Duration = Duration::from_secs(4);
/// Longest answer.
const MAX_ANSWER: u64 = 1 << 20;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Question {
    /// Whether it does its work, if with less than all its stores.
    #[default]
    Ready,
    /// Whether it answers at all; a store that is away is no reason to restart it.
    Live,
}

impl Question {
    const fn path(self) -> &'static str {
        match self {
            Self::Ready => "/health",
            Self::Live => "/health/live",
        }
    }
}

/// Asks, prints the answer as one line, and gives the exit code.
pub(crate) fn ask(options: &Options, config: &ServiceConfig, question: Question) -> ExitCode {
    let name = options.service;
    let address = reach(config.ops_addr(name));
    let connector = match connector(config) {
        Ok(connector) => connector,
        Err(error) => {
            eprintln!("{name}: {error}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    let asked = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(anyhow::Error::from);
    let asked = asked.and_then(|runtime| {
        let answer = runtime.block_on(async {
            let late = |_| anyhow::anyhow!("no answer within {PATIENCE:?}");
            tokio::time::timeout(PATIENCE, exchange(address, connector, question)).await.map_err(late)?
        })?;
        judge(name, question, answer.0, &answer.1)
    });
    match asked {
        Ok((is_fine, line)) => {
            println!("{name} {line}");
            if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("{name} does not answer at {address}: {error:#}");
            ExitCode::from(EXIT_UNAVAILABLE)
        }
    }
}

/// A program that listens at all addresses is reached at this machine's own.
fn reach(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

async fn exchange(
    address: SocketAddr,
    connector: Option<TlsConnector>,
    question: Question,
) -> anyhow::Result<(u16, String)> {
    let stream = TcpStream::connect(address).await?;
    match connector {
        None => speak(stream, address, question).await,
        Some(connector) => {
            let stream = connector.connect(ServerName::IpAddress(address.ip().into()), stream).await?;
            speak(stream, address, question).await
        }
    }
}

async fn speak(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    address: SocketAddr,
    question: Question,
) -> anyhow::Result<(u16, String)> {
    let path = question.path();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    let read = stream.take(MAX_ANSWER).read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    // Who closes a connection of TLS without saying so may have answered nevertheless.
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        read?;
        anyhow::bail!("no HTTP");
    };
    let status = head.strip_prefix("HTTP/1.").and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
    Ok((status.ok_or_else(|| anyhow::anyhow!("no HTTP"))?, body.to_owned()))
}

/// Whether it is fine, and what to say; an error if that was not the answer of this program.
fn judge(name: &str, question: Question, code: u16, body: &str) -> anyhow::Result<(bool, String)> {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let (status, service) = (body["status"].as_str(), body["service"].as_str());
    let (true, Some(status), Some(service)) = (matches!(code, 200 | 503), status, service) else {
        anyhow::bail!("somebody answers {code}, and not about health");
    };
    anyhow::ensure!(service == name, "it is {} that answers", one_line(service));
    if question == Question::Live {
        return Ok((code == 200, "lives".to_owned()));
    }
    let mut line = format!("is {}", one_line(status));
    let parts = body["parts"].as_object().into_iter().flatten();
    let ailing: Vec<_> = parts
        .filter(|(_, part)| part["status"] != "ok")
        .map(|(name, part)| {
            let (status, detail) = (part["status"].as_str(), part["detail"].as_str());
            let detail = detail.map(|detail| format!(" ({detail})")).unwrap_or_default();
            one_line(&format!("{name} {}{detail}", status.unwrap_or("unknown")))
        })
        .collect();
    if !ailing.is_empty() {
        line = format!("{line}: {}", ailing.join(", "));
    }
    Ok((code == 200, line))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// None where ops HTTP is plain.
fn connector(config: &ServiceConfig) -> Result<Option<TlsConnector>, ConfigError> {
    let tls = &config.tls;
    let Some(cert) = tls.cert_file.as_deref().filter(|_| tls.ops.is_encrypted()) else { return Ok(None) };
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| ConfigError::key(tls::CERT, error))?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)));
    // Where probes need a certificate, too, the server's own is shown: it is of use where one authority issues both kinds.
    let mut client = match (&tls.client_ca_file, &tls.key_file) {
        (Some(_), Some(key)) if tls.ops == OpsTls::Same => {
            let chain = tls::certificates(tls::CERT, cert)?;
            let private = tls::private_key(key)?;
            builder.with_client_auth_cert(chain, private).map_err(|error| ConfigError::key(tls::KEY, error))?
        }
        _ => builder.with_no_client_auth(),
    };
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(TlsConnector::from(Arc::new(client))))
}

/// Believes every certificate: the question holds no secret, the answer comes from an address of this machine, and a
/// certificate that was just replaced, or has expired, must not have a process killed.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(question: Question, code: u16, body: &str) -> Result<(bool, String), String> {
        judge("sync-consumer", question, code, body).map_err(|error| error.to_string())
    }

    #[test]
    fn an_answer_is_one_line_with_what_is_not_well() {
        let ok = r#"{"status":"ok","service":"sync-consumer","parts":{"redis":{"status":"ok"}}}"#;
        assert_eq!(judged(Question::Ready, 200, ok), Ok((true, "is ok".to_owned())));
        let degraded = r#"{"status":"degraded","service":"sync-consumer",
            "parts":{"mysql":{"status":"ok"},"redis":{"status":"down","detail":"no\nanswer"}}}"#;
        assert_eq!(
            judged(Question::Ready, 200, degraded),
            Ok((true, "is degraded: redis down (no answer)".to_owned()))
        );
        assert_eq!(judged(Question::Ready, 503, degraded).map(|(is_fine, _)| is_fine), Ok(false));
        let live = r#"{"status":"ok","service":"sync-consumer"}"#;
        assert_eq!(judged(Question::Live, 200, live), Ok((true, "lives".to_owned())));
    }

    #[test]
    fn what_is_not_this_programs_answer_is_none() {
        for (code, body, expected) in [
            (200, r#"{"status":"ok","service":"standalone"}"#, "it is standalone that answers"),
            (200, "<html>", "somebody answers 200"),
            (403, r#"{"status":403,"error":"no"}"#, "somebody answers 403"),
            (503, r#"{"status":503,"error":"no place"}"#, "somebody answers 503"),
        ] {
            let error = judged(Question::Ready, code, body).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn a_program_at_all_addresses_is_asked_at_this_machines_own() {
        for (listens, asked) in [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:2", "[::1]:2"), ("10.0.0.1:3", "10.0.0.1:3")] {
            assert_eq!(reach(listens.parse().unwrap()).to_string(), asked);
        }
    }
}
