//! A proxy such as nginx is by default: it serves a part of its own addresses from somewhere else, names that one as the host,
//! and knows nothing of the page.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Serves `http://<upstream>/` at `<prefix>/` of the address that it gives.
pub(crate) async fn serve(prefix: &'static str, upstream: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let Ok((client, _)) = listener.accept().await else { return };
            let upstream = upstream.clone();
            // Whoever leaves in the middle of an exchange leaves.
            tokio::spawn(async move { drop(exchange(client, prefix, &upstream).await) });
        }
    });
    format!("127.0.0.1:{}", addr.port())
}

async fn exchange(mut client: TcpStream, prefix: &str, upstream: &str) -> std::io::Result<()> {
    let mut asked = Vec::new();
    let end = loop {
        if let Some(end) = asked.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end + 4;
        }
        if client.read_buf(&mut asked).await? == 0 {
            return Ok(());
        }
    };
    let head = String::from_utf8_lossy(&asked[..end]).into_owned();
    let mut lines = head.lines();
    let line = lines.next().unwrap_or_default();
    let Some((method, rest)) = line.split_once(' ') else { return Ok(()) };
    let Some(path) = rest.strip_prefix(prefix).filter(|path| path.starts_with('/')) else {
        return client.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    };
    let named = |line: &str, name: &str| line.to_ascii_lowercase().starts_with(name);
    let length = lines.clone().find(|line| named(line, "content-length:"));
    let length: usize = length.and_then(|line| line.split(':').nth(1)?.trim().parse().ok()).unwrap_or(0);
    let mut request = format!("{method} {path}\r\nHost: {upstream}\r\nConnection: close\r\n");
    for line in lines.filter(|line| !line.is_empty() && !named(line, "host:") && !named(line, "connection:")) {
        request += line;
        request += "\r\n";
    }
    request += "\r\n";
    while asked.len() < end + length {
        if client.read_buf(&mut asked).await? == 0 {
            return Ok(());
        }
    }
    let mut server = TcpStream::connect(upstream).await?;
    server.write_all(request.as_bytes()).await?;
    server.write_all(&asked[end..end + length]).await?;
    tokio::io::copy(&mut server, &mut client).await?;
    client.shutdown().await
}
