//! HTTP/2 as far as a client needs it that does what no library would.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt};

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// With the largest window, of each stream and of the connection.
pub(crate) fn greeting() -> Vec<u8> {
    let most = u32::try_from(i32::MAX).unwrap();
    let settings = [&[0, 4][..], &most.to_be_bytes()].concat();
    let more = (most - 65_535).to_be_bytes();
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &settings), frame(8, 0, 0, &more)].concat()
}

/// Begins a call of gRPC.
pub(crate) fn head(stream: u32, path: &str, token: Option<&str>) -> Vec<u8> {
    let mut head = Vec::new();
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    for (name, value) in fields.into_iter().chain(token.map(|token| ("authorization", token))) {
        // Literals that no table remembers.
        head.push(0);
        for text in [name, value] {
            head.push(u8::try_from(text.len()).unwrap());
            head.extend(text.as_bytes());
        }
    }
    frame(1, 4, stream, &head)
}

/// The only message of a call, and the end of its request.
pub(crate) fn message(stream: u32, message: &[u8]) -> Vec<u8> {
    let prefixed = [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat();
    frame(0, 1, stream, &prefixed)
}

/// The same, longer by a field of so many bytes.
pub(crate) fn long_head(stream: u32, path: &str, token: Option<&str>, len: usize) -> Vec<u8> {
    let short = head(stream, path, token);
    let mut rest = len.checked_sub(127).unwrap();
    let mut field = vec![0, 1, b'x', 127];
    while rest >= 128 {
        field.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    field.push(u8::try_from(rest).unwrap());
    field.extend(vec![b'y'; len]);
    frame(1, 4, stream, &[&short[9..], &field].concat())
}

/// Reads a frame: its kind, and whose it is.
pub(crate) async fn next_frame(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<(u8, u32)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await?;
    let [high, middle, low, kind, _, of @ ..] = head;
    let mut payload = vec![0; usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low)];
    stream.read_exact(&mut payload).await?;
    Ok((kind, u32::from_be_bytes(of)))
}

/// Reads until the connection ends, and counts calls that were answered or refused.
pub(crate) async fn count_answers(mut stream: impl AsyncRead + Unpin, answers: &AtomicU64) -> std::io::Result<()> {
    let mut answered = HashSet::new();
    loop {
        // A refusal may be an answer, a reset, or both.
        if let (1 | 3, call) = next_frame(&mut stream).await?
            && answered.insert(call)
        {
            answers.fetch_add(1, Ordering::Relaxed);
        }
    }
}
