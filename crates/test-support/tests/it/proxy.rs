//! The proxy passes, cuts, freezes and slows.

use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};
use test_support::Proxy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

const QUICK: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(200);

/// A server that sends everything back.
async fn echo() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?.to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ended = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    Ok(addr)
}

async fn round_trip(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"hello").await?;
    let mut answer = [0; 5];
    timeout(QUICK, stream.read_exact(&mut answer)).await??;
    ensure!(&answer == b"hello", "got {answer:?}");
    Ok(())
}

#[tokio::test]
async fn a_cut_drops_and_refuses_until_restored() -> Result<()> {
    let proxy = Proxy::start(echo().await?).await?;
    let mut old = TcpStream::connect(proxy.addr()).await?;
    round_trip(&mut old).await?;

    proxy.cut().await;
    let ended = timeout(QUICK, old.read(&mut [0; 8])).await?;
    ensure!(matches!(ended, Ok(0) | Err(_)), "the old connection lives: {ended:?}");
    ensure!(TcpStream::connect(proxy.addr()).await.is_err(), "a new connection was accepted");

    proxy.restore().await?;
    round_trip(&mut TcpStream::connect(proxy.addr()).await?).await
}

#[tokio::test]
async fn a_frozen_link_passes_nothing_and_loses_nothing() -> Result<()> {
    let proxy = Proxy::start(echo().await?).await?;
    let mut old = TcpStream::connect(proxy.addr()).await?;
    round_trip(&mut old).await?;
    proxy.freeze();
    old.write_all(b"later").await?;
    let mut new = TcpStream::connect(proxy.addr()).await?;
    new.write_all(b"later").await?;
    let mut answer = [0; 5];
    ensure!(timeout(SILENCE, old.read(&mut answer)).await.is_err(), "the old connection passed something");
    ensure!(timeout(SILENCE, new.read(&mut answer)).await.is_err(), "the new connection passed something");

    proxy.restore().await?;
    for stream in [&mut old, &mut new] {
        timeout(QUICK, stream.read_exact(&mut answer)).await??;
        assert_eq!(&answer, b"later");
    }
    Ok(())
}

/// A server that says what it has got, apart from what it sends back.
async fn listening_echo() -> Result<(String, mpsc::UnboundedReceiver<Vec<u8>>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?.to_string();
    let (got, seen) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let got = got.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 64];
                while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                    let _told = got.send(buffer[..length].to_vec());
                    if stream.write_all(&buffer[..length]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    Ok((addr, seen))
}

#[tokio::test]
async fn held_answers_come_after_the_server_has_done_everything() -> Result<()> {
    let (addr, mut seen) = listening_echo().await?;
    let proxy = Proxy::start(addr).await?;
    proxy.hold_answers();
    let mut stream = TcpStream::connect(proxy.addr()).await?;
    stream.write_all(b"hello").await?;
    assert_eq!(timeout(QUICK, seen.recv()).await?.as_deref(), Some(&b"hello"[..]));
    let mut answer = [0; 5];
    ensure!(timeout(SILENCE, stream.read(&mut answer)).await.is_err(), "an answer passed");
    proxy.restore().await?;
    timeout(QUICK, stream.read_exact(&mut answer)).await??;
    assert_eq!(&answer, b"hello");
    Ok(())
}

#[tokio::test]
async fn held_requests_reach_the_server_later_while_its_words_pass() -> Result<()> {
    let (addr, mut seen) = listening_echo().await?;
    let proxy = Proxy::start(addr).await?;
    // What is on its way back passes: first it is delayed so that it is.
    proxy.delay(Duration::from_millis(300));
    let mut stream = TcpStream::connect(proxy.addr()).await?;
    stream.write_all(b"first").await?;
    timeout(QUICK, seen.recv()).await?.context("the server has ended")?;
    proxy.hold_requests();
    stream.write_all(b"later").await?;
    let mut answer = [0; 5];
    timeout(QUICK, stream.read_exact(&mut answer)).await??;
    assert_eq!(&answer, b"first");
    ensure!(timeout(SILENCE, seen.recv()).await.is_err(), "a request passed");
    proxy.restore().await?;
    assert_eq!(timeout(QUICK, seen.recv()).await?.as_deref(), Some(&b"later"[..]));
    timeout(QUICK, stream.read_exact(&mut answer)).await??;
    assert_eq!(&answer, b"later");
    Ok(())
}

#[tokio::test]
async fn a_delay_counts_each_way_but_does_not_limit_throughput() -> Result<()> {
    let proxy = Proxy::start(echo().await?).await?;
    let delay = Duration::from_millis(100);
    proxy.delay(delay);
    let mut stream = TcpStream::connect(proxy.addr()).await?;
    let begin = Instant::now();
    round_trip(&mut stream).await?;
    ensure!(begin.elapsed() >= delay * 2, "too fast: {:?}", begin.elapsed());

    let begin = Instant::now();
    let (mut read, mut write) = stream.split();
    let mut back = vec![0; 1 << 20];
    let sent = vec![7; 1 << 20];
    let (written, received) = tokio::join!(write.write_all(&sent), timeout(QUICK, read.read_exact(&mut back)));
    written?;
    received??;
    ensure!(back == sent, "bytes were changed");
    ensure!(begin.elapsed() < QUICK, "one megabyte took {:?}", begin.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_missing_upstream_ends_the_connection() -> Result<()> {
    let nobody = test_support::lease_port()?;
    let proxy = Proxy::start(nobody.addr()).await?;
    let mut stream = TcpStream::connect(proxy.addr()).await?;
    let ended = timeout(QUICK, stream.read(&mut [0; 8])).await?;
    ensure!(matches!(ended, Ok(0) | Err(_)), "got {ended:?}");
    Ok(())
}

#[tokio::test]
async fn addresses_are_rewritten() -> Result<()> {
    let proxy = Proxy::start("127.0.0.1:1").await?;
    let addr = proxy.addr();
    assert_eq!(proxy.url_of("amqp://guest:guest@h:5672/%2f"), format!("amqp://guest:guest@{addr}/%2f"));
    assert_eq!(proxy.url_of("redis://h:1/"), format!("redis://{addr}/"));
    assert_eq!(proxy.url_of("mysql://root@h:1/db?a=b"), format!("mysql://root@{addr}/db?a=b"));
    Ok(())
}

#[tokio::test]
async fn a_moved_address_leads_new_connections_elsewhere_and_old_ones_stay() -> Result<()> {
    let (elsewhere, mut visitors) = mpsc::channel(1);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let other = listener.local_addr()?.to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _gone = elsewhere.send(stream).await;
        }
    });
    let proxy = Proxy::start(echo().await?).await?;
    let mut old = TcpStream::connect(proxy.addr()).await?;
    round_trip(&mut old).await?;
    proxy.retarget(other);
    let _new = TcpStream::connect(proxy.addr()).await?;
    timeout(QUICK, visitors.recv()).await?.context("nobody came")?;
    round_trip(&mut old).await
}
