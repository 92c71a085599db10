//! Requests to ops HTTP.

use super::generate::{bytes, chance, number, one_of, tamper, text};
use super::{Tally, count};
use crate::client::PATIENCE;
use test_support::Random;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const METHODS: [&str; 7] = ["GET", "POST", "GET", "POST", "PUT", "OPTIONS", "GE T"];
const PATHS: [&str; 26] = [
    "/health",
    "/health/live",
    "/metrics",
    "/openapi.json",
    "/cache/stats",
    "/cache/warmup",
    "/consistency/check",
    "/consistency/report",
    "/consistency/report?hours=",
    "/events",
    "/events?page_size=",
    "/events?resource_type=video&status=dead&resource_id=",
    "/events/replay",
    "/events/discard",
    "/explain?resource_type=comment&user_id=1&resource_id=",
    "/overview",
    "/v1/likes",
    "/v1/counts",
    "/v1/counts?resource=video:",
    "/assets/main.js",
    "/events/groups?error=",
    "/history?minutes=",
    "/resource?resource_type=video&resource_id=",
    "/session",
    "/../../etc/passwd",
    "/%00%ff?=&&%",
];

/// One connection per input: an answer below 500, or none.
pub(super) async fn throw(address: String, mut random: Random, inputs: u64) -> Tally {
    let mut tally = Tally::new();
    for input in 0..inputs {
        let request = request(&mut random);
        let exchange = exchange(&address, &request);
        let Ok(code) = tokio::time::timeout(PATIENCE, exchange).await else {
            panic!("input {input}: no end of {:?}", String::from_utf8_lossy(&request));
        };
        assert!(
            code.is_none_or(|code| code < 500),
            "input {input}: {code:?} for {:?}",
            String::from_utf8_lossy(&request)
        );
        count(&mut tally, code.map_or_else(|| "http, closed".to_owned(), |code| format!("http {code}")));
    }
    tally
}

async fn exchange(address: &str, request: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect(address).await.expect("the server takes no connections");
    let _ = stream.write_all(request).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).split(' ').nth(1)?.parse().ok()
}

fn request(random: &mut Random) -> Vec<u8> {
    if chance(random, 10) {
        return bytes(random, 500);
    }
    let (method, path, body) = (one_of(random, &METHODS), one_of(random, &PATHS), body(random));
    let path = if path.ends_with(['=', ':']) { format!("{path}{}", number(random)) } else { path.to_owned() };
    let length = if chance(random, 90) { body.len().to_string() } else { number(random).to_string() };
    let headers = match random.below(12) {
        0 => "Transfer-Encoding: chunked\r\n".to_owned(),
        1 => format!("X-Long: {}\r\n", "y".repeat(20_000)),
        2 => "X-Many: y\r\n".repeat(200),
        3 => format!("{}\r\n", text(random)),
        4 => "Accept: text/html\r\n".to_owned(),
        5 => "Expect: 100-continue\r\nContent-Encoding: gzip\r\n".to_owned(),
        _ => String::new(),
    };
    let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{headers}\r\n");
    let request = [head.as_bytes(), &body].concat();
    if chance(random, 80) { request } else { tamper(random, request) }
}

/// JSON, or nearly so.
fn body(random: &mut Random) -> Vec<u8> {
    let kind = one_of(random, &["\"video\"", "\"comment\"", "\"film\"", "null", "[]", "1e400"]);
    let whole = match random.below(9) {
        7 => format!(
            "{{\"user_id\":{},\"resource_type\":{kind},\"resource_id\":\"{}\",\"action\":\"like\"}}",
            number(random),
            number(random)
        ),
        0 => format!("{{\"resource_type\":{kind},\"resource_id\":{},\"dry_run\":true}}", number(random)),
        1 => format!("{{\"resource_type\":{kind},\"resource_id\":{}}}", number(random)),
        2 => format!("{{\"top_resources\":{},\"recent_events\":{}}}", number(random), random.below(50)),
        3 => format!("{{\"resources\":[{{\"resource_type\":{kind},\"resource_id\":{}}}]}}", number(random)),
        4 => format!("{{\"status\":\"dead\",\"user_id\":{},\"limit\":{}}}", number(random), number(random)),
        5 => format!("{{\"ids\":[\"{}\"],\"reason\":{kind},\"actor\":\"x\",\"dry_run\":false}}", number(random)),
        6 => "[".repeat(random.below(2000) as usize),
        _ => return bytes(random, 300),
    };
    if chance(random, 60) { whole.into_bytes() } else { tamper(random, whole.into_bytes()) }
}
