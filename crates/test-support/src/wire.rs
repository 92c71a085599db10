//! A few words of AMQP 0-9-1, for what no part of the system may do: publish any bytes, take them out, delete queues.
//!
//! By hand, because the client library belongs to the broker's adapter alone.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const FRAME_END: u8 = 0xCE;
const MAX_BODY_FRAME: usize = 100_000;

/// One connection with one channel in confirm mode.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    sent: u64,
    /// Delivery tags.
    unconfirmed: BTreeSet<u64>,
}

impl Wire {
    /// Connects to an `amqp://user:password@host:port/vhost` address.
    pub async fn connect(url: &str) -> Result<Self> {
        let rest = url.strip_prefix("amqp://").context("not an amqp:// address")?;
        let (login, rest) = rest.split_once('@').context("no user")?;
        let (user, password) = login.split_once(':').context("no password")?;
        let (address, vhost) = rest.split_once('/').context("no vhost")?;
        let vhost = vhost.replace("%2f", "/").replace("%2F", "/");

        let mut wire = Self { stream: TcpStream::connect(address).await?, sent: 0, unconfirmed: BTreeSet::new() };
        wire.stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
        wire.expect(10, 10).await?;
        let response = format!("\0{user}\0{password}");
        let mut start = 0u32.to_be_bytes().to_vec();
        start.extend(short("PLAIN")?);
        start.extend(u32::try_from(response.len())?.to_be_bytes());
        start.extend(response.as_bytes());
        start.extend(short("en_US")?);
        wire.method(0, 10, 11, &start).await?;
        let tune = wire.expect(10, 30).await?;
        wire.method(0, 10, 31, &[&tune[..6], &[0, 0]].concat()).await?;
        wire.method(0, 10, 40, &[short(&vhost)?, short("")?, vec![0]].concat()).await?;
        wire.expect(10, 41).await?;
        wire.method(1, 20, 10, &short("")?).await?;
        wire.expect(20, 11).await?;
        wire.method(1, 85, 10, &[0]).await?;
        wire.expect(85, 11).await?;
        Ok(wire)
    }

    /// Publishes to an exchange and waits for the confirm.
    pub async fn publish(&mut self, exchange: &str, body: &[u8]) -> Result<()> {
        self.send(exchange, &[0, 0], body).await?;
        self.confirmed().await
    }

    /// Publishes and does not wait. `properties` are the flags and values of the content header, as they go on the wire.
    pub async fn send(&mut self, exchange: &str, properties: &[u8], body: &[u8]) -> Result<()> {
        self.method(1, 60, 40, &[vec![0, 0], short(exchange)?, short("likes")?, vec![0]].concat()).await?;
        let length = (body.len() as u64).to_be_bytes();
        self.frame(HEADER, 1, &[&[0, 60, 0, 0][..], &length, properties].concat()).await?;
        for part in body.chunks(MAX_BODY_FRAME) {
            self.frame(BODY, 1, part).await?;
        }
        self.sent += 1;
        self.unconfirmed.insert(self.sent);
        Ok(())
    }

    /// Waits until everything sent is confirmed.
    pub async fn confirmed(&mut self) -> Result<()> {
        while !self.unconfirmed.is_empty() {
            let ack = self.expect(60, 80).await?;
            let tag = u64::from_be_bytes(ack[..8].try_into()?);
            // One tag, or all up to it.
            if ack[8] & 1 == 1 {
                self.unconfirmed.retain(|later| *later > tag);
            } else {
                self.unconfirmed.remove(&tag);
            }
        }
        Ok(())
    }

    /// Messages that wait in a queue.
    pub async fn depth(&mut self, queue: &str) -> Result<u32> {
        self.declared(queue).await.map(|(messages, _)| messages)
    }

    /// Who has subscribed to a queue.
    pub async fn consumers(&mut self, queue: &str) -> Result<u32> {
        self.declared(queue).await.map(|(_, consumers)| consumers)
    }

    async fn declared(&mut self, queue: &str) -> Result<(u32, u32)> {
        self.method(1, 50, 10, &[vec![0, 0], short(queue)?, vec![1, 0, 0, 0, 0]].concat()).await?;
        let declared = self.expect(50, 11).await?;
        let counts = declared.get(1 + queue.len()..).context("no counts")?;
        Ok((u32::from_be_bytes(counts[..4].try_into()?), u32::from_be_bytes(counts[4..8].try_into()?)))
    }

    /// Declares an exchange that takes messages of other exchanges only.
    pub async fn declare_internal_exchange(&mut self, exchange: &str) -> Result<()> {
        const DURABLE_AND_INTERNAL: u8 = 0b01010;
        self.declare_exchange(exchange, DURABLE_AND_INTERNAL).await
    }

    /// An error if there is no such exchange; this connection is of no use then.
    pub async fn find_exchange(&mut self, exchange: &str) -> Result<()> {
        const PASSIVE: u8 = 0b00001;
        self.declare_exchange(exchange, PASSIVE).await
    }

    async fn declare_exchange(&mut self, exchange: &str, bits: u8) -> Result<()> {
        let arguments = [vec![0, 0], short(exchange)?, short("topic")?, vec![bits], vec![0; 4]];
        self.method(1, 40, 10, &arguments.concat()).await?;
        self.expect(40, 11).await.map(drop)
    }

    /// Takes the first message out of a queue, if there is one.
    pub async fn take(&mut self, queue: &str) -> Result<Option<Vec<u8>>> {
        self.method(1, 60, 70, &[vec![0, 0], short(queue)?, vec![1]].concat()).await?;
        let (kind, answer) = self.read().await?;
        ensure!(kind == METHOD, "expected an answer, got a frame of kind {kind}");
        if answer[..4] == [0, 60, 0, 72] {
            return Ok(None);
        }
        ensure!(answer[..4] == [0, 60, 0, 71], "expected a message, got {}", String::from_utf8_lossy(&answer));
        let (kind, header) = self.read().await?;
        ensure!(kind == HEADER, "expected a header, got a frame of kind {kind}");
        let length = usize::try_from(u64::from_be_bytes(header[4..12].try_into()?))?;
        let mut body = Vec::new();
        while body.len() < length {
            let (kind, part) = self.read().await?;
            ensure!(kind == BODY, "expected a body, got a frame of kind {kind}");
            body.extend(part);
        }
        Ok(Some(body))
    }

    /// Declares a queue that drops its oldest messages, beyond so many, into an exchange, with the routing key of likes.
    pub async fn declare_dropping(&mut self, queue: &str, length: u32, dropped_to: &str) -> Result<()> {
        const DURABLE: u8 = 2;
        let mut arguments = [short("x-max-length")?, b"I".to_vec(), length.to_be_bytes().to_vec()].concat();
        for (name, text) in [("x-dead-letter-exchange", dropped_to), ("x-dead-letter-routing-key", "likes")] {
            arguments
                .extend([&short(name)?[..], b"S", &u32::try_from(text.len())?.to_be_bytes(), text.as_bytes()].concat());
        }
        let length = u32::try_from(arguments.len())?.to_be_bytes();
        let declared = [&[0, 0][..], &short(queue)?, &[DURABLE], &length, &arguments].concat();
        self.method(1, 50, 10, &declared).await?;
        self.expect(50, 11).await.map(drop)
    }

    /// Deletes a queue, whatever is in it.
    pub async fn delete_queue(&mut self, queue: &str) -> Result<()> {
        self.method(1, 50, 40, &[vec![0, 0], short(queue)?, vec![0]].concat()).await?;
        self.expect(50, 41).await.map(drop)
    }

    /// Takes a binding away.
    pub async fn unbind(&mut self, queue: &str, exchange: &str, key: &str) -> Result<()> {
        let arguments = [vec![0, 0], short(queue)?, short(exchange)?, short(key)?, vec![0; 4]].concat();
        self.method(1, 50, 50, &arguments).await?;
        self.expect(50, 51).await.map(drop)
    }

    /// Deletes an exchange.
    pub async fn delete_exchange(&mut self, exchange: &str) -> Result<()> {
        self.method(1, 40, 20, &[vec![0, 0], short(exchange)?, vec![0]].concat()).await?;
        self.expect(40, 21).await.map(drop)
    }

    async fn method(&mut self, channel: u16, class: u16, method: u16, arguments: &[u8]) -> Result<()> {
        let payload = [&class.to_be_bytes(), &method.to_be_bytes(), arguments].concat();
        self.frame(METHOD, channel, &payload).await
    }

    async fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) -> Result<()> {
        let length = u32::try_from(payload.len())?;
        let frame = [&[kind][..], &channel.to_be_bytes(), &length.to_be_bytes(), payload, &[FRAME_END]].concat();
        Ok(self.stream.write_all(&frame).await?)
    }

    /// Kind and payload of the next frame.
    async fn read(&mut self) -> Result<(u8, Vec<u8>)> {
        let kind = self.stream.read_u8().await?;
        let _channel = self.stream.read_u16().await?;
        let mut payload = vec![0; self.stream.read_u32().await? as usize];
        self.stream.read_exact(&mut payload).await?;
        ensure!(self.stream.read_u8().await? == FRAME_END, "a frame without its end");
        Ok((kind, payload))
    }

    /// Arguments of the next method, which must be this one.
    async fn expect(&mut self, class: u16, method: u16) -> Result<Vec<u8>> {
        loop {
            let (kind, mut payload) = self.read().await?;
            if kind == METHOD {
                let found =
                    (u16::from_be_bytes([payload[0], payload[1]]), u16::from_be_bytes([payload[2], payload[3]]));
                let said = String::from_utf8_lossy(&payload);
                ensure!(found == (class, method), "expected {class}.{method}, got {found:?}: {said}");
                return Ok(payload.split_off(4));
            }
        }
    }
}

fn short(text: &str) -> Result<Vec<u8>> {
    Ok([&[u8::try_from(text.len())?], text.as_bytes()].concat())
}
