//! A client for one plain request at a time, which is all that probes need.

use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// For the connection, and between any two pieces of an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// More than any answer that is meant for a probe.
const MOST_BYTES: u64 = 64 << 20;

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    /// # Errors
    ///
    /// If the status is not 200.
    pub(crate) fn body(self) -> Result<String> {
        if self.status != 200 {
            bail!("status {}: {}", self.status, self.body);
        }
        Ok(self.body)
    }
}

/// # Errors
///
/// If there is no connection or the answer is not HTTP; any status is an answer.
pub(crate) fn get(address: &str, path: &str) -> Result<Answer> {
    request(address, &format!("GET {path}"), "", "")
}

/// # Errors
///
/// As [`get`].
pub(crate) fn get_with_token(address: &str, path: &str, token: Option<&str>) -> Result<Answer> {
    request(address, &format!("GET {path}"), &authorization(token), "")
}

/// # Errors
///
/// As [`get`].
pub(crate) fn post(address: &str, path: &str, json: &str, token: Option<&str>) -> Result<Answer> {
    let headers = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", json.len());
    request(address, &format!("POST {path}"), &(headers + &authorization(token)), json)
}

fn authorization(token: Option<&str>) -> String {
    token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default()
}

/// A connection that gives up on a peer that says nothing.
pub(crate) fn connect(address: &str) -> Result<TcpStream> {
    let resolved = address.to_socket_addrs().with_context(|| format!("{address} is no address"))?.next();
    let resolved = resolved.with_context(|| format!("{address} is no address"))?;
    let stream =
        TcpStream::connect_timeout(&resolved, PATIENCE).with_context(|| format!("no connection to {address}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn request(address: &str, line: &str, headers: &str, body: &str) -> Result<Answer> {
    let mut stream = connect(address)?;
    // In version 1.0 the answer ends with the connection and comes in one piece.
    stream.write_all(format!("{line} HTTP/1.0\r\nHost: {address}\r\n{headers}\r\n{body}").as_bytes())?;
    let mut answer = vec![];
    stream.take(MOST_BYTES).read_to_end(&mut answer).with_context(|| format!("{address} does not answer"))?;
    parse(&String::from_utf8_lossy(&answer)).with_context(|| format!("{address} does not speak HTTP"))
}

fn parse(answer: &str) -> Option<Answer> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split_whitespace().nth(1)?.parse().ok()?;
    Some(Answer { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Answers one request with this, and gives back what was asked.
    fn answer_once(answer: &'static str) -> Result<(String, std::thread::JoinHandle<std::io::Result<String>>)> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let asked = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept()?;
            let mut asked = vec![];
            // An answer to half a request would cut the connection.
            while !asked.ends_with(b"\r\n\r\n") && !asked.ends_with(b"{}") {
                let mut piece = [0; 1024];
                let length = stream.read(&mut piece)?;
                asked.extend_from_slice(&piece[..length]);
            }
            stream.write_all(answer.as_bytes())?;
            Ok(String::from_utf8_lossy(&asked).into_owned())
        });
        Ok((address, asked))
    }

    #[test]
    fn a_request_gets_status_and_body() -> Result<()> {
        let (address, asked) = answer_once("HTTP/1.1 503 Service Unavailable\r\nX: y\r\n\r\n{\"a\":1}")?;
        let answer = post(&address, "/check", "{}", Some("secret"))?;
        assert_eq!((answer.status, answer.body.as_str()), (503, "{\"a\":1}"));
        assert!(answer.body().is_err());
        let asked = asked.join().map_err(|_| anyhow::anyhow!("the listener failed"))??;
        assert!(
            asked.starts_with("POST /check HTTP/1.0\r\n") && asked.contains("\r\nContent-Length: 2\r\n"),
            "{asked}"
        );
        assert!(asked.contains("\r\nAuthorization: Bearer secret\r\n"), "{asked}");
        Ok(())
    }

    #[test]
    fn what_is_not_http_is_an_error() -> Result<()> {
        let (address, _asked) = answer_once("SSH-2.0\r\n\r\n")?;
        assert!(get(&address, "/").unwrap_err().to_string().contains("does not speak HTTP"));
        assert!(get("nowhere", "/").is_err());
        Ok(())
    }
}
