//! HTTP/1.1 by hand, enough to ask a health page, and to send what no client would.

use anyhow::{Context, Result};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(30);
const MAX_ANSWER_BYTES: u64 = 32 << 20;

/// Status code and body of `http://<addr><path>`; at most 32 MiB within 30 s. Chunked bodies come as sent.
pub async fn get(addr: &str, path: &str) -> Result<(u16, String)> {
    request(addr, "GET", path, "").await
}

/// The same with a JSON body.
pub async fn post_json(addr: &str, path: &str, body: &str) -> Result<(u16, String)> {
    request(addr, "POST", path, body).await
}

/// What came back; header names as sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    /// The rest.
    pub body: String,
}

/// Sends `METHOD /path` with these headers (`Name: value`) besides `Host`, `Connection` and `Content-Length`; one of
/// the same name takes the place of `Host`.
pub async fn send(addr: &str, request_line: &str, headers: &[&str], body: &str) -> Result<Answer> {
    let stream = TcpStream::connect(addr).await.with_context(|| format!("connect to {addr}"))?;
    send_over(stream, addr, request_line, headers, body).await
}

/// The same over any stream.
pub async fn send_over<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    host: &str,
    request_line: &str,
    headers: &[&str],
    body: &str,
) -> Result<Answer> {
    let mut request = format!("{request_line} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    if !headers.iter().any(|header| header.to_ascii_lowercase().starts_with("host:")) {
        request += &format!("Host: {host}\r\n");
    }
    for header in headers {
        request += &format!("{header}\r\n");
    }
    request += &format!("\r\n{body}");
    let exchange = async {
        // A server may refuse, and close, before it has read all.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let received = stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer).await;
        if answer.is_empty() {
            received.context("receive")?;
        }
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").context("no end of headers")?;
        let status = head.split_whitespace().nth(1).and_then(|code| code.parse().ok()).context("no status code")?;
        Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
    };
    timeout(LIMIT, exchange).await.with_context(|| format!("{host} does not answer {request_line}"))?
}

async fn request(addr: &str, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
    timeout(LIMIT, exchange(addr, method, path, body)).await.with_context(|| format!("{addr}{path} does not answer"))?
}

async fn exchange(addr: &str, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(addr).await.with_context(|| format!("connect to {addr}"))?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.context("send")?;
    let mut answer = Vec::new();
    let mut stream = stream.take(MAX_ANSWER_BYTES);
    // Not every server closes when it was asked to.
    while !is_whole(&answer) && stream.read_buf(&mut answer).await.context("receive")? > 0 {}
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").context("no end of headers")?;
    let status = head.split_whitespace().nth(1).and_then(|code| code.parse().ok()).context("no status code")?;
    Ok((status, body.to_owned()))
}

/// Whether these are all the bytes that a `Content-Length` promised.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    length.is_some_and(|length| answer.len() >= end + 4 + length)
}
