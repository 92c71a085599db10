//! Empties and deletes a queue: the few frames of AMQP 0-9-1 that this takes, because the client library belongs to
//! the adapter under test and `rabbitmqctl` starts a virtual machine every time.

use anyhow::{Context, Result, bail, ensure};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(5);
const FRAME_END: u8 = 0xCE;
const LONGEST_FRAME: u32 = 1 << 17;

/// Removes all ready messages of a queue.
pub(crate) async fn purge_queue(addr: &str, queue: &str) -> Result<()> {
    let mut arguments = vec![0, 0];
    short_text(&mut arguments, queue)?;
    arguments.push(0);
    timeout(LIMIT, command(addr, (50, 30), &arguments)).await.context("purging a queue takes too long")?.map(drop)
}

/// Deletes a queue, used or not.
pub(crate) async fn delete_queue(addr: &str, queue: &str) -> Result<()> {
    let mut arguments = vec![0, 0];
    short_text(&mut arguments, queue)?;
    arguments.push(0);
    timeout(LIMIT, command(addr, (50, 40), &arguments)).await.context("deleting a queue takes too long")?.map(drop)
}

/// Connects as guest, and has one method of a channel answered.
async fn command(addr: &str, method: (u16, u16), arguments: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(addr).await.context("connect to the broker")?;
    stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
    expect(&mut stream, (10, 10)).await?;
    // No properties, PLAIN.
    let mut start_ok = vec![0; 4];
    short_text(&mut start_ok, "PLAIN")?;
    let login = b"\0guest\0guest";
    start_ok.extend((login.len() as u32).to_be_bytes());
    start_ok.extend(login);
    short_text(&mut start_ok, "en_US")?;
    send(&mut stream, 0, (10, 11), &start_ok).await?;
    let mut tune = expect(&mut stream, (10, 30)).await?;
    ensure!(tune.len() >= 8, "short tune");
    // The broker's own limits, no heartbeat.
    tune.truncate(8);
    tune[6..].fill(0);
    send(&mut stream, 0, (10, 31), &tune).await?;
    let mut open = Vec::new();
    short_text(&mut open, "/")?;
    open.extend([0, 0]);
    send(&mut stream, 0, (10, 40), &open).await?;
    expect(&mut stream, (10, 41)).await?;
    send(&mut stream, 1, (20, 10), &[0]).await?;
    expect(&mut stream, (20, 11)).await?;
    send(&mut stream, 1, method, arguments).await?;
    expect(&mut stream, (method.0, method.1 + 1)).await
}

async fn send(stream: &mut TcpStream, channel: u16, method: (u16, u16), arguments: &[u8]) -> Result<()> {
    let mut frame = vec![1];
    frame.extend(channel.to_be_bytes());
    frame.extend((arguments.len() as u32 + 4).to_be_bytes());
    frame.extend(method.0.to_be_bytes());
    frame.extend(method.1.to_be_bytes());
    frame.extend(arguments);
    frame.push(FRAME_END);
    stream.write_all(&frame).await.context("send to the broker")
}

/// Arguments of the next method, which must be this one.
async fn expect(stream: &mut TcpStream, method: (u16, u16)) -> Result<Vec<u8>> {
    loop {
        let mut head = [0; 7];
        stream.read_exact(&mut head).await.context("read from the broker")?;
        let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
        ensure!(length <= LONGEST_FRAME, "a frame of {length} bytes");
        let mut payload = vec![0; length as usize + 1];
        stream.read_exact(&mut payload).await.context("read from the broker")?;
        ensure!(payload.pop() == Some(FRAME_END), "no end of frame");
        if head[0] != 1 {
            continue;
        }
        ensure!(payload.len() >= 4, "short method");
        let arguments = payload.split_off(4);
        let seen = (u16::from_be_bytes([payload[0], payload[1]]), u16::from_be_bytes([payload[2], payload[3]]));
        if seen != method {
            bail!("method {seen:?} instead of {method:?}: {}", String::from_utf8_lossy(&arguments));
        }
        return Ok(arguments);
    }
}

fn short_text(bytes: &mut Vec<u8>, text: &str) -> Result<()> {
    bytes.push(u8::try_from(text.len()).context("text too long")?);
    bytes.extend(text.as_bytes());
    Ok(())
}
