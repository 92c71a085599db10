//! The standard gRPC health service, asked by hand: a preface, SETTINGS and one request in plain HPACK. No client for it
//! belongs to the system, and a whole gRPC library would be most of what this program compiles.

use crate::http;
use anyhow::{Context, Result, bail};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// More than any server sends before its answer.
const MOST_FRAMES: usize = 64;

/// `SERVING` or `NOT_SERVING`.
pub(super) fn ask(address: &str, service: &str) -> Result<String> {
    let address = address.trim_start_matches("http://");
    let mut stream = http::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(&request(address, service)?)?;
    for _ in 0..MOST_FRAMES {
        let (kind, payload) = read_frame(&mut stream).context("no answer to a health check")?;
        if kind == DATA {
            return status(&payload);
        }
    }
    bail!("no answer to a health check");
}

fn request(address: &str, service: &str) -> Result<Vec<u8>> {
    // :method POST and :scheme http by index, :path and :authority with indexed names; then content-type and te.
    let mut headers = vec![0x83, 0x86, 0x04];
    text(&mut headers, "/grpc.health.v1.Health/Check")?;
    headers.push(0x01);
    text(&mut headers, address)?;
    headers.extend([0x0f, 0x10]);
    text(&mut headers, "application/grpc")?;
    headers.push(0x00);
    text(&mut headers, "te")?;
    text(&mut headers, "trailers")?;
    // Field 1 of the message is the service.
    let mut message = vec![0x0a];
    text(&mut message, service)?;
    let mut body = vec![0];
    body.extend(u32::try_from(message.len())?.to_be_bytes());
    body.extend(message);

    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    frame(&mut bytes, HEADERS, END_HEADERS, &headers)?;
    frame(&mut bytes, DATA, END_STREAM, &body)?;
    Ok(bytes)
}

/// A text of at most 126 bytes, with its length in one byte before it.
fn text(bytes: &mut Vec<u8>, text: &str) -> Result<()> {
    let length = u8::try_from(text.len()).ok().filter(|length| *length < 127).context("a text is too long")?;
    bytes.push(length);
    bytes.extend(text.as_bytes());
    Ok(())
}

/// A frame of stream 1.
fn frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, payload: &[u8]) -> Result<()> {
    bytes.extend(&u32::try_from(payload.len())?.to_be_bytes()[1..]);
    bytes.extend([kind, flags, 0, 0, 0, 1]);
    bytes.extend(payload);
    Ok(())
}

fn read_frame(stream: &mut TcpStream) -> std::io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head)?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    if length > 1 << 16 {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut payload = vec![];
    stream.take(u64::from(length)).read_to_end(&mut payload)?;
    Ok((head[3], payload))
}

/// What the answer's message says; its field 1 is the status.
fn status(data: &[u8]) -> Result<String> {
    match data {
        [0, 0, 0, 0, 2, 0x08, 1, ..] => Ok("SERVING".into()),
        [0, 0, 0, 0, 2, 0x08, 2, ..] => Ok("NOT_SERVING".into()),
        other => bail!("an unknown answer to a health check: {other:02x?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn the_answer_is_found_among_other_frames() -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let expected = request(&address, "a.Service")?.len();
        let server = std::thread::spawn(move || -> Result<Vec<u8>> {
            let (mut stream, _) = listener.accept()?;
            let mut asked = vec![0; expected];
            stream.read_exact(&mut asked)?;
            let mut answer = vec![0, 0, 6, 4, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6];
            frame(&mut answer, HEADERS, END_HEADERS, &[0x88])?;
            frame(&mut answer, DATA, 0, &[0, 0, 0, 0, 2, 8, 2])?;
            stream.write_all(&answer)?;
            Ok(asked)
        });
        assert_eq!(ask(&address, "a.Service")?, "NOT_SERVING");
        let asked = server.join().map_err(|_| anyhow::anyhow!("the server failed"))??;
        assert!(asked.ends_with(b"\x0a\x09a.Service"), "{asked:02x?}");
        assert!(ask("127.0.0.1:1", "a.Service").is_err());
        Ok(())
    }
}
