//! A TCP link that can fail.

use anyhow::{Context, Result};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// Chunks on their way through a slow link, per direction.
const CHUNKS_IN_FLIGHT: usize = 64;
const CHUNK_BYTES: usize = 16 * 1024;
/// How long after a failed accept.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// A proxy before one upstream address; as long as it is not told otherwise it passes everything at once.
///
/// Runs on the runtime of the test that started it, until dropped.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    /// Where connections lead that are opened from now on.
    upstream: watch::Sender<String>,
    commands: mpsc::Sender<Command>,
    state: Arc<watch::Sender<Link>>,
    /// Ends the tasks when the proxy is dropped.
    end: CancellationToken,
}

/// What connections obey.
#[derive(Debug, Clone, Copy, Default)]
struct Link {
    requests_held: bool,
    answers_held: bool,
    delay: Duration,
}

impl Link {
    fn is_frozen(&self) -> bool {
        self.requests_held && self.answers_held
    }
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy)]
enum Way {
    Requests,
    Answers,
}

#[derive(Debug)]
enum Command {
    Cut(oneshot::Sender<()>),
    Restore(oneshot::Sender<Result<()>>),
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1; `upstream` is `host:port`, connected to anew for every connection.
    pub async fn start(upstream: impl Into<String>) -> Result<Self> {
        // Reserved, because the port must still be free when a cut link is restored.
        let lease = crate::lease_port()?;
        let listener = TcpListener::bind(lease.addr()).await.context("bind the proxy")?;
        let addr = listener.local_addr().context("address of the proxy")?;
        let (commands, inbox) = mpsc::channel(8);
        let (state, link) = watch::channel(Link::default());
        let (upstream, target) = watch::channel(upstream.into());
        let end = CancellationToken::new();
        let acceptor = ProxyListener { addr, upstream: target, link, end: end.clone(), _lease: lease };
        tokio::spawn(acceptor.run(listener, inbox));
        Ok(Self { addr, upstream, commands, state: Arc::new(state), end })
    }

    /// Where clients connect.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// New connections lead to another `host:port`; those that are open stay where they are. So a virtual address moves, or
    /// the record of a name.
    pub fn retarget(&self, upstream: impl Into<String>) {
        self.upstream.send_replace(upstream.into());
    }

    /// `url` with its host and port replaced by the proxy's.
    pub fn url_of(&self, url: &str) -> String {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let (authority, path) = rest.find(['/', '?']).map_or((rest, ""), |at| rest.split_at(at));
        let login = authority.rsplit_once('@').map(|(login, _)| format!("{login}@")).unwrap_or_default();
        let scheme = if scheme.is_empty() { String::new() } else { format!("{scheme}://") };
        format!("{scheme}{login}{}{path}", self.addr)
    }

    /// Closes every connection and refuses new ones; done when it returns.
    pub async fn cut(&self) {
        let (done, wait) = oneshot::channel();
        if self.commands.send(Command::Cut(done)).await.is_ok() {
            let _ended = wait.await;
        }
    }

    /// Undoes everything; what was held back passes.
    pub async fn restore(&self) -> Result<()> {
        self.state.send_replace(Link::default());
        let (done, wait) = oneshot::channel();
        self.commands.send(Command::Restore(done)).await.context("the proxy has ended")?;
        wait.await.context("the proxy has ended")?
    }

    /// Accepts and keeps connections but passes nothing, as when packets are dropped.
    pub fn freeze(&self) {
        self.state.send_modify(|link| (link.requests_held, link.answers_held) = (true, true));
    }

    /// What the client sends is kept back; what the server sends passes.
    pub fn hold_requests(&self) {
        self.state.send_modify(|link| link.requests_held = true);
    }

    /// The server gets and does everything, and its answers are kept back.
    pub fn hold_answers(&self) {
        self.state.send_modify(|link| link.answers_held = true);
    }

    /// Every byte takes this much longer, each way.
    pub fn delay(&self, delay: Duration) {
        self.state.send_modify(|link| link.delay = delay);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

struct ProxyListener {
    addr: SocketAddr,
    upstream: watch::Receiver<String>,
    link: watch::Receiver<Link>,
    end: CancellationToken,
    _lease: crate::PortLease,
}

impl ProxyListener {
    async fn run(self, listener: TcpListener, mut inbox: mpsc::Receiver<Command>) {
        let mut listener = Some(listener);
        // Replaced at every cut: ends the connections of its time.
        let mut connections = self.end.child_token();
        loop {
            tokio::select! {
                () = self.end.cancelled() => return,
                command = inbox.recv() => match command {
                    None => return,
                    Some(Command::Cut(done)) => {
                        listener = None;
                        connections.cancel();
                        connections = self.end.child_token();
                        let _gone = done.send(());
                    }
                    Some(Command::Restore(done)) => {
                        let result = match listener {
                            Some(_) => Ok(()),
                            None => TcpListener::bind(self.addr).await.map(|bound| listener = Some(bound)),
                        };
                        let _gone = done.send(result.context("bind the proxy again"));
                    }
                },
                client = accept(listener.as_ref()) => {
                    let connection = connect(client, self.upstream.borrow().clone(), self.link.clone());
                    let token = connections.clone();
                    tokio::spawn(async move { token.run_until_cancelled(connection).await });
                }
            }
        }
    }
}

/// The next client; waits for ever while there is no listener.
async fn accept(listener: Option<&TcpListener>) -> TcpStream {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        match listener.accept().await {
            Ok((client, _)) => return client,
            // A client that left before it was accepted, or too many open files: the next one may have more luck.
            Err(error) => {
                eprintln!("a proxy takes no client: {error}");
                sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

async fn connect(client: TcpStream, upstream: String, link: watch::Receiver<Link>) {
    let mut gate = link.clone();
    if gate.wait_for(|link| !link.is_frozen()).await.is_err() {
        return;
    }
    let Ok(server) = TcpStream::connect(&upstream).await else { return };
    let _latency = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    // Half-closed connections end wholly: no protocol used here relies on them.
    tokio::select! {
        () = pump(Way::Requests, client_read, server_write, link.clone()) => {}
        () = pump(Way::Answers, server_read, client_write, link) => {}
    }
}

/// Passes bytes one way; a chunk leaves when its delay is over, so that delay does not limit throughput.
async fn pump(way: Way, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut link: watch::Receiver<Link>) {
    let mut waiting: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut open = true;
    loop {
        let Link { requests_held, answers_held, delay } = *link.borrow_and_update();
        let held = match way {
            Way::Requests => requests_held,
            Way::Answers => answers_held,
        };
        let due = waiting.front().map(|(due, _)| *due);
        tokio::select! {
            changed = link.changed() => if changed.is_err() { return },
            read = from.read(&mut buffer), if open && !held && waiting.len() < CHUNKS_IN_FLIGHT => match read {
                Ok(length) if length > 0 => waiting.push_back((Instant::now() + delay, buffer[..length].to_vec())),
                _ => open = false,
            },
            () = async { sleep_until(due.unwrap_or_else(Instant::now)).await }, if due.is_some() && !held => {
                let Some((_, chunk)) = waiting.pop_front() else { continue };
                if to.write_all(&chunk).await.is_err() {
                    return;
                }
            }
            else => if !open && waiting.is_empty() { return },
        }
        if !open && waiting.is_empty() {
            return;
        }
    }
}
