//! Reference: a server of tonic with nothing in front of its services, which answers the same calls as [`crate::noop`] sends.

use crate::cpu;
use anyhow::{Context, Result};
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::JoinHandle;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic_health::ServingStatus;

/// Runs until it is dropped, on one worker thread like the services that are measured.
pub(crate) struct Bare {
    addr: SocketAddr,
    /// The worker, to the kernel.
    thread: i32,
    stop: CancellationToken,
    runs: Option<JoinHandle<Result<()>>>,
}

impl Bare {
    pub(crate) fn start() -> Result<Self> {
        let stop = CancellationToken::new();
        let (started, starts) = mpsc::channel();
        let stopped = stop.clone();
        let runs = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
            let served = runtime.spawn(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await?;
                started.send((listener.local_addr()?, nix::unistd::gettid().as_raw()))?;
                serve(listener, stopped).await
            });
            runtime.block_on(served)?
        });
        let (addr, thread) = starts.recv().context("the bare server did not start")?;
        Ok(Self { addr, thread, stop, runs: Some(runs) })
    }

    pub(crate) fn addr(&self) -> String {
        self.addr.to_string()
    }

    /// CPU seconds so far.
    pub(crate) fn cpu(&self) -> Result<f64> {
        cpu::of_thread(self.thread)
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.stop.cancel();
        // It was asked for figures: what it ended with changes none.
        let _ended = self.runs.take().map(JoinHandle::join);
    }
}

async fn serve(listener: TcpListener, stop: CancellationToken) -> Result<()> {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("", ServingStatus::Serving).await;
    let incoming = tokio_stream::StreamExt::map(TcpListenerStream::new(listener), |stream| {
        let stream = stream?;
        stream.set_nodelay(true)?;
        std::io::Result::Ok(stream)
    });
    let served = Server::builder().add_service(health).serve_with_incoming(incoming);
    tokio::select! {
        served = served => Ok(served?),
        // Without a goodbye: clients may be connected still.
        () = stop.cancelled() => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noop;

    #[tokio::test]
    async fn it_answers_what_the_reference_asks_and_its_time_is_known() {
        let bare = Bare::start().unwrap();
        let called = noop::call(&bare.addr(), 8, 0.3).await.unwrap();
        assert!(called.calls > 8, "{called:?}");
        assert!(bare.cpu().unwrap() > 0.0);
    }
}
