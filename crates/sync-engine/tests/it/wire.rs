//! A few words of AMQP 0-9-1, for what no part of the system may do: publish any bytes, delete and empty queues.
//!
//! By hand, because the client library belongs to the broker's adapter alone.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const FRAME_END: u8 = 0xCE;
const MAX_BODY_FRAME: usize = 100_000;

/// One connection with one channel in confirm mode.
pub(crate) struct Wire {
    stream: TcpStream,
}

impl Wire {
    pub(crate) async fn connect(url: &str) -> Self {
        let rest = url.strip_prefix("amqp://").unwrap();
        let (login, rest) = rest.split_once('@').unwrap();
        let (user, password) = login.split_once(':').unwrap();
        let (address, vhost) = rest.split_once('/').unwrap();
        let vhost = vhost.replace("%2f", "/").replace("%2F", "/");

        let mut wire = Self { stream: TcpStream::connect(address).await.unwrap() };
        wire.stream.write_all(b"AMQP\x00\x00\x09\x01").await.unwrap();
        wire.expect(10, 10).await;
        let response = format!("\0{user}\0{password}");
        let mut start = 0u32.to_be_bytes().to_vec();
        start.extend(short("PLAIN"));
        start.extend(u32::try_from(response.len()).unwrap().to_be_bytes());
        start.extend(response.as_bytes());
        start.extend(short("en_US"));
        wire.method(0, 10, 11, &start).await;
        let tune = wire.expect(10, 30).await;
        wire.method(0, 10, 31, &[&tune[..6], &[0, 0]].concat()).await;
        wire.method(0, 10, 40, &[short(&vhost), short(""), vec![0]].concat()).await;
        wire.expect(10, 41).await;
        wire.method(1, 20, 10, &short("")).await;
        wire.expect(20, 11).await;
        wire.method(1, 85, 10, &[0]).await;
        wire.expect(85, 11).await;
        wire
    }

    /// Publishes to an exchange and waits for the confirm.
    pub(crate) async fn publish(&mut self, exchange: &str, body: &[u8]) {
        self.method(1, 60, 40, &[vec![0, 0], short(exchange), short("likes"), vec![0]].concat()).await;
        let length = (body.len() as u64).to_be_bytes();
        self.frame(HEADER, 1, &[&[0, 60, 0, 0][..], &length, &[0, 0]].concat()).await;
        for part in body.chunks(MAX_BODY_FRAME) {
            self.frame(BODY, 1, part).await;
        }
        self.expect(60, 80).await;
    }

    pub(crate) async fn delete_queue(&mut self, queue: &str) {
        self.method(1, 50, 40, &[vec![0, 0], short(queue), vec![0]].concat()).await;
        self.expect(50, 41).await;
    }

    pub(crate) async fn delete_exchange(&mut self, exchange: &str) {
        self.method(1, 40, 20, &[vec![0, 0], short(exchange), vec![0]].concat()).await;
        self.expect(40, 21).await;
    }

    async fn method(&mut self, channel: u16, class: u16, method: u16, arguments: &[u8]) {
        let payload = [&class.to_be_bytes(), &method.to_be_bytes(), arguments].concat();
        self.frame(METHOD, channel, &payload).await;
    }

    async fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap();
        let frame = [&[kind][..], &channel.to_be_bytes(), &length.to_be_bytes(), payload, &[FRAME_END]].concat();
        self.stream.write_all(&frame).await.unwrap();
    }

    /// Arguments of the next method, which must be this one.
    async fn expect(&mut self, class: u16, method: u16) -> Vec<u8> {
        loop {
            let kind = self.stream.read_u8().await.unwrap();
            let _channel = self.stream.read_u16().await.unwrap();
            let mut payload = vec![0; self.stream.read_u32().await.unwrap() as usize];
            self.stream.read_exact(&mut payload).await.unwrap();
            assert_eq!(self.stream.read_u8().await.unwrap(), FRAME_END);
            if kind == METHOD {
                let found =
                    (u16::from_be_bytes([payload[0], payload[1]]), u16::from_be_bytes([payload[2], payload[3]]));
                assert_eq!(found, (class, method), "{}", String::from_utf8_lossy(&payload));
                return payload.split_off(4);
            }
        }
    }
}

fn short(text: &str) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
}
