//! A server of IPv4, reached by IPv6.

use anyhow::{Context, Result};
use std::net::{Ipv6Addr, SocketAddr};
use tokio::net::{TcpListener, TcpStream};

/// Listens at `[::1]` and connects whoever comes to `upstream`, `host:port`, as long as the test runs.
pub async fn listen_by_ipv6(upstream: &str) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.context("[::1]")?;
    let (address, upstream) = (listener.local_addr()?, upstream.to_owned());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let upstream = upstream.clone();
            tokio::spawn(async move {
                if let Ok(mut server) = TcpStream::connect(upstream).await {
                    // Whichever end closes ends both.
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    });
    Ok(address)
}
