//! Ports that stay one's own across restarts.

use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;

/// Below the ephemeral range (32768 and up on Linux): while a server is down, no outgoing connection may be given its
/// port, and no client that retries can connect to itself.
const RANGE: std::ops::Range<u16> = 15_000..32_000;

/// A free port of 127.0.0.1, reserved against other test processes until dropped.
#[derive(Debug)]
pub struct PortLease {
    port: u16,
    /// Holds the advisory lock that is the reservation.
    _lock: File,
}

impl PortLease {
    /// The port number.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:<port>`.
    pub fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

/// Reserves a port that nobody listens on.
pub fn lease_port() -> Result<PortLease> {
    let uid = fs::metadata("/proc/self").context("read /proc/self")?.uid();
    let dir = std::env::temp_dir().join(format!("test-support-ports-{uid}"));
    fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    let id = uuid::Uuid::now_v7();
    let seed = u16::from_le_bytes([id.as_bytes()[14], id.as_bytes()[15]]);
    let size = RANGE.end - RANGE.start;
    for step in 0..size {
        let port = RANGE.start + (seed % size + step) % size;
        let path = dir.join(port.to_string());
        let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
        if file.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(PortLease { port, _lock: file });
        }
    }
    bail!("no free port between {} and {}", RANGE.start, RANGE.end)
}
