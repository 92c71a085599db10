//! Whether the caller has left, whatever it left behind.
//!
//! The HTTP/1 server looks for the end of a connection by reading, and reads no further than the request that it works on:
//! one byte behind that (a line break, another request) hides the end until the answer is written. The end of a caller is
//! the end of its call, so it is asked for apart from the bytes.

use crate::listen::connection::Stream;
use std::io::{self, ErrorKind};
use std::net;
use std::os::fd::AsFd;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Sees when the other side will send nothing more.
#[derive(Debug)]
pub(crate) struct Leaving(TcpStream);

impl Leaving {
    /// Of this connection; costs a descriptor.
    pub(crate) fn of(stream: &Stream) -> io::Result<Self> {
        let tcp = match stream {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => tls.get_ref().0,
        };
        let descriptor = tcp.as_fd().try_clone_to_owned()?;
        Ok(Self(TcpStream::from_std(net::TcpStream::from(descriptor))?))
    }

    /// Returns when it has left, or when nobody can say any more.
    pub(crate) async fn left(&self) {
        while let Ok(news) = self.0.ready(Interest::READABLE).await {
            if news.is_read_closed() {
                return;
            }
            // Bytes are somebody else's: this waits for the next news.
            let _not_read = self.0.try_io(Interest::READABLE, || Err::<(), _>(ErrorKind::WouldBlock.into()));
        }
    }
}
