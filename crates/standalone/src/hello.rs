//! The first thing a newcomer reads: what is served, where the data is, what to try.

use crate::demo;
use embedded_cache::Durability;
use std::fmt;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;

/// A like by HTTP.
const LIKE: &str = r#"{"user_id":"1","resource_type":"video","resource_id":"42","action":"like"}"#;

pub(crate) struct Facts<'a> {
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) data_dir: &'a Path,
    pub(crate) durability: Durability,
    pub(crate) replayed: u64,
    pub(crate) demo: Option<u32>,
    pub(crate) tls: bool,
    pub(crate) tokens: bool,
}

/// Writes to standard output; nobody may be listening.
pub(crate) fn print(facts: &Facts<'_>) {
    let mut out = std::io::stdout().lock();
    let _ = write!(out, "{facts}").and_then(|()| out.flush());
}

impl fmt::Display for Facts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let data_dir = std::path::absolute(self.data_dir).unwrap_or_else(|_| self.data_dir.to_owned());
        let survives = match self.durability {
            Durability::Host => "kill -9 and power failure",
            Durability::Process => "kill -9",
        };
        writeln!(f, "\nLikes, in one process: answered from memory, kept by a journal on disk, stored in SQLite.\n")?;
        writeln!(f, "  gRPC   {}   interaction.v1.InteractionService, with reflection", self.grpc)?;
        let scheme = if self.tls { "https" } else { "http" };
        writeln!(f, "  HTTP   {scheme}://{}/   the page; and /v1/likes, /health, /metrics, /openapi.json", self.http)?;
        writeln!(f, "  data   {}   an answered like survives {survives}", data_dir.display())?;
        if self.replayed > 0 {
            let likes = if self.replayed == 1 { "like was" } else { "likes were" };
            writeln!(f, "         {} {likes} brought to the database, from before the last end", self.replayed)?;
        }
        match (self.tokens, self.tls) {
            (true, true) => writeln!(f, "  access by token and TLS: give curl --cacert, syncctl TOKEN and --ca-file")?,
            (true, false) => writeln!(f, "  access by token: put one into TOKEN")?,
            (false, true) => writeln!(f, "  access by TLS: give curl --cacert, syncctl --ca-file")?,
            (false, false) => {}
        }
        if let Some(rate) = self.demo {
            writeln!(f, "  demo   {rate} generated likes a second, by users from {} on", demo::FIRST_USER)?;
        }
        let token = if self.tokens { "-H \"authorization: Bearer $TOKEN\" " } else { "" };
        writeln!(f, "\nTry, in another terminal, a like and its count:\n")?;
        writeln!(
            f,
            "  curl {token}-H 'content-type: application/json' {scheme}://{}/v1/likes -d '{LIKE}'\n  \
             curl {token}'{scheme}://{}/v1/counts?resource=video:42'",
            self.http, self.http
        )?;
        writeln!(f, "\nand look at {scheme}://{}/. Ctrl-C stops it; kill -9 loses nothing.\n", self.http)?;
        let addr = if self.grpc.port() == 50051 { String::new() } else { format!(" --addr {}", self.grpc) };
        writeln!(f, "Who has the client, too: syncctl like{addr} 1 video:42; who has grpcurl: see the reflection.\n")
    }
}
