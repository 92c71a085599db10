//! The little HTTP that is needed beside gRPC: what a process says of itself.

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A GET over plain HTTP/1.0, so that the body comes in one piece. Health that is bad is an answer, too.
pub(crate) async fn fetch(addr: &str, path: &str, header: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {addr}\r\n{header}\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.take(16 << 20).read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("not an answer")?;
    let code = head.split_whitespace().nth(1);
    let answered = code == Some("200") || path == "/health" && code == Some("503");
    ensure!(answered, "{}", head.lines().next().unwrap_or_default());
    Ok(body.to_owned())
}
