//! A GET over plain HTTP/1.1, enough to ask a health page.

use anyhow::{Context, Result};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
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
