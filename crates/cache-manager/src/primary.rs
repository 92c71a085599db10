//! Which node writes, and connections to it.
//!
//! There is one address, or several of which one is the primary's, or Sentinels that know it. Whatever leads to it, a node
//! is only connected to after it has said that it is the primary (`ROLE`). The node that was found is kept until it fails,
//! is demoted, or most Sentinels name another one; then all connections of before end, and it is looked for again.
//!
//! Two primaries at once are none: which one is the right one nobody here can tell, and the database can be written to
//! meanwhile. Sentinels can tell, so they are asked together, and what most of them say counts.

mod node;
mod slots;

pub(crate) use node::client_at;
pub(crate) use slots::ask_for_slots;

use crate::config::RedisConfig;
use crate::meaning::{Meaning, is_denied, meaning};
use arc_swap::ArcSwapOption;
use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{
    AsyncConnectionConfig, Cmd, ConnectionInfo, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value, cmd,
};
use domain::addresses::join;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use node::{Node, Sentinel};
use planted_bugs::is_planted;
use secrecy::ExposeSecret;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

/// After one node has said that it is the primary, the others have this long to say the same.
const GRACE: Duration = Duration::from_millis(200);

/// Leads to the primary.
pub(crate) struct Primary {
    whereabouts: Whereabouts,
    timeouts: AsyncConnectionConfig,
    connect_timeout: Duration,
    /// Of the login, which may change.
    config: RedisConfig,
    /// The node that was found last, until it is not the one any more.
    known: ArcSwapOption<Node>,
    /// Whoever looks for it holds this: where it was found last.
    last: Mutex<Option<String>>,
    /// How often all connections were given up.
    generation: AtomicU64,
    /// It was said that nobody here may ask for roles.
    said: AtomicBool,
    /// One primary of a cluster: what it does not do, another node does.
    member: bool,
}

enum Whereabouts {
    One(Node),
    Nodes(Vec<Node>),
    Sentinels { sentinels: Vec<Sentinel>, master: String, like: ConnectionInfo },
}

impl Primary {
    pub(crate) fn new(config: &RedisConfig) -> RedisResult<Self> {
        let client = config.client()?;
        let like = client.get_connection_info();
        let whereabouts = if !config.nodes.is_empty() {
            let nodes = config.nodes.iter().map(|address| Node::at(like, address));
            Whereabouts::Nodes(nodes.collect::<RedisResult<_>>()?)
        } else if !config.sentinels.is_empty() {
            let sentinels = config.sentinels.iter().map(|sentinel| Sentinel::at(like, sentinel.expose_secret()));
            let sentinels = sentinels.collect::<RedisResult<_>>()?;
            Whereabouts::Sentinels { sentinels, master: config.master.clone(), like: like.clone() }
        } else {
            Whereabouts::One(Node { address: "redis.url".to_owned(), client })
        };
        Ok(Self::of(whereabouts, config))
    }

    /// The node of a cluster at this address; login and TLS are those of the url.
    pub(crate) fn member(config: &RedisConfig, address: &str) -> RedisResult<Self> {
        let node = Node::at(config.client()?.get_connection_info(), address)?;
        Ok(Self { member: true, ..Self::of(Whereabouts::One(node), config) })
    }

    fn of(whereabouts: Whereabouts, config: &RedisConfig) -> Self {
        let timeouts = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(config.connect_timeout))
            .set_response_timeout(Some(config.response_timeout));
        Self {
            whereabouts,
            timeouts,
            connect_timeout: config.connect_timeout,
            config: config.clone(),
            known: ArcSwapOption::empty(),
            last: Mutex::new(None),
            generation: AtomicU64::new(0),
            said: AtomicBool::new(false),
            member: false,
        }
    }

    /// Connections of another generation than this are of no use any more.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Ends all connections of this generation, and looks for the primary again. What a former connection has met says
    /// nothing about those of now.
    fn renounce(&self, generation: u64) {
        if is_planted("keeps_demoted_connection") {
            return;
        }
        let next = generation + 1;
        if self.generation.compare_exchange(generation, next, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            self.known.store(None);
            fail::fail_point!("pool.generation");
        }
    }

    /// All connections of before end when nobody uses them: others log in from now on.
    pub(crate) fn renew(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Connections to a server that is not the one that writes, or that was told other rights, are not used again.
    pub(crate) fn note(&self, error: &RedisError, generation: u64) {
        if matches!(meaning(error), Meaning::Elsewhere | Meaning::Misconfigured) {
            self.renounce(generation);
        }
    }

    /// As whom connections are opened now.
    pub(crate) fn user(&self) -> RedisResult<String> {
        Ok(self.config.settings()?.username().unwrap_or("default").to_owned())
    }

    /// Whether no other node could be the primary.
    pub(crate) fn is_alone(&self) -> bool {
        !self.member && self.is_at_one_address()
    }

    const fn is_at_one_address(&self) -> bool {
        matches!(self.whereabouts, Whereabouts::One(_))
    }

    /// A new connection to the node that writes, within `connect_timeout`, and the generation that it belongs to.
    pub(crate) async fn connect(&self) -> RedisResult<(MultiplexedConnection, u64)> {
        // Before: what changes meanwhile makes it a former one.
        let generation = self.generation();
        if let Whereabouts::One(node) = &self.whereabouts {
            let opened = within(Instant::now() + self.connect_timeout, self.open(node)).await;
            if opened.as_ref().is_err_and(is_demoted) {
                // So were those of before.
                self.renounce(generation);
            }
            return Ok((opened?, generation));
        }
        if let Some(known) = self.known.load_full() {
            let limit = Instant::now() + self.connect_timeout / 2;
            if let Ok(connection) = within(limit, self.open(&known)).await {
                return Ok((connection, generation));
            }
            let _ = self.known.compare_and_swap(&known, None);
        }
        let limit = Instant::now() + self.connect_timeout / 2;
        // One at a time looks; the others go where it found it.
        let mut last = within(limit, async { Ok(self.last.lock().await) }).await?;
        let generation = self.generation();
        if let Some(known) = self.known.load_full() {
            return Ok((within(limit, self.open(&known)).await?, generation));
        }
        let (node, connection) = self.look(limit).await?;
        let before = last.replace(node.address.clone());
        let address = node.address.clone();
        self.known.store(Some(Arc::new(node)));
        if before.as_deref() == Some(address.as_str()) {
            return Ok((connection, generation));
        }
        tracing::info!(address, "found the primary of redis");
        // What rests was opened to the one before.
        Ok((connection, self.generation.fetch_add(1, Ordering::AcqRel) + 1))
    }

    /// Asks over a connection that rested whether it may be used again.
    pub(crate) async fn may_be_used(&self, connection: &mut MultiplexedConnection, generation: u64) -> RedisResult<()> {
        let asked = self.ask_role(connection).await;
        if asked.as_ref().is_err_and(is_demoted) {
            self.renounce(generation);
        }
        asked
    }

    /// Asks over a connection that is in use whether it still leads to the primary; an error is to end its generation.
    pub(crate) async fn confirm(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        self.ask_role(connection).await?;
        self.confirm_elsewhere().await
    }

    /// Whether Sentinels, if there are any, still name the node that is known.
    pub(crate) async fn confirm_elsewhere(&self) -> RedisResult<()> {
        let Whereabouts::Sentinels { sentinels, master, .. } = &self.whereabouts else { return Ok(()) };
        let Some(known) = self.known.load_full() else { return Ok(()) };
        let named = self.votes(sentinels, master, Instant::now() + self.connect_timeout).await;
        match named.first() {
            Some((address, votes)) if *address != known.address && *votes > sentinels.len() / 2 => {
                Err(demoted(&format!("sentinels name {address} instead of {}", known.address)))
            }
            _ => Ok(()),
        }
    }

    async fn look(&self, limit: Instant) -> RedisResult<(Node, MultiplexedConnection)> {
        match &self.whereabouts {
            Whereabouts::One(node) => Ok((node.clone(), self.open(node).await?)),
            Whereabouts::Nodes(nodes) => self.only_primary(nodes, limit).await,
            Whereabouts::Sentinels { sentinels, master, like } => {
                let named = self.votes(sentinels, master, limit).await;
                let mut failure = RedisError::from((ErrorKind::Io, "no sentinel knows the primary", master.clone()));
                for (address, _) in named {
                    let node = Node::at(like, &address)?;
                    match within(limit, self.open(&node)).await {
                        Ok(connection) => return Ok((node, connection)),
                        Err(error) => failure = error,
                    }
                }
                Err(failure)
            }
        }
    }

    /// Asks all at once.
    async fn only_primary(&self, nodes: &[Node], mut limit: Instant) -> RedisResult<(Node, MultiplexedConnection)> {
        let mut asked: FuturesUnordered<_> = nodes.iter().map(async |node| (node, self.open(node).await)).collect();
        let mut found: Option<(Node, MultiplexedConnection)> = None;
        let mut failure = late();
        while let Ok(Some((node, opened))) = timeout_at(limit, asked.next()).await {
            match opened {
                Ok(_) if found.is_some() => {
                    let both = found.map(|(first, _)| format!("{} and {}", first.address, node.address));
                    return Err(demoted(&format!("{} both say that they are the primary", both.unwrap_or_default())));
                }
                Ok(connection) => {
                    found = Some((node.clone(), connection));
                    limit = limit.min(Instant::now() + GRACE);
                }
                // What a node says is worth more than that another one is silent.
                Err(error) if failure.is_io_error() || (!error.is_io_error() && is_demoted(&failure)) => {
                    failure = error
                }
                Err(_) => {}
            }
        }
        found.ok_or(failure)
    }

    /// Addresses that Sentinels name, the one that most of them name first. Those that say nothing in time have no voice.
    async fn votes(&self, sentinels: &[Sentinel], master: &str, limit: Instant) -> Vec<(String, usize)> {
        let ask = |sentinel| self.ask_sentinel(sentinel, master);
        let mut asked: FuturesUnordered<_> = sentinels.iter().map(ask).collect();
        let mut named: Vec<(String, usize)> = Vec::new();
        while let Ok(Some(answer)) = timeout_at(limit, asked.next()).await {
            let address = match answer {
                Ok(Some(address)) => address,
                Ok(None) => continue,
                Err(error) => {
                    tracing::debug!(%error, "a sentinel does not answer");
                    continue;
                }
            };
            match named.iter_mut().find(|(known, _)| *known == address) {
                Some((_, votes)) => *votes += 1,
                None => named.push((address, 1)),
            }
            if named.iter().any(|(_, votes)| *votes > sentinels.len() / 2) {
                break;
            }
        }
        named.sort_by_key(|(_, votes)| std::cmp::Reverse(*votes));
        named
    }

    async fn ask_sentinel(&self, sentinel: &Sentinel, master: &str) -> RedisResult<Option<String>> {
        let mut kept = sentinel.connection.lock().await;
        // Dropped in the middle, or after an error, it is not kept.
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => sentinel.client.get_multiplexed_async_connection_with_config(&self.timeouts).await?,
        };
        let mut ask = cmd("SENTINEL");
        ask.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
        let answer: Option<(String, u16)> = ask.query_async(&mut connection).await?;
        *kept = Some(connection);
        Ok(answer.map(|(host, port)| join(&host, port)))
    }

    async fn open(&self, node: &Node) -> RedisResult<MultiplexedConnection> {
        let client = node.as_whom(self.config.settings()?)?;
        // Boxed: it is large, and is held inside the futures of all calls.
        let connecting = Box::pin(client.get_multiplexed_async_connection_with_config(&self.timeouts));
        let mut connection = connecting.await?;
        self.ask_role(&mut connection).await?;
        Ok(connection)
    }

    async fn ask_role(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        match Cmd::new().arg("ROLE").query_async::<Value>(connection).await {
            Ok(answer) => judge(&answer),
            // What a user may not ask nobody can say; of several somebody must.
            Err(error) if self.is_at_one_address() && is_denied(&error) => {
                if !self.said.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "redis does not let us ask for its role (+role): it is taken for the primary");
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

async fn within<T>(limit: Instant, step: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    timeout_at(limit, step).await.unwrap_or_else(|_| Err(late()))
}

fn late() -> RedisError {
    RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut))
}

/// What is said of one that is asked as if it were a server.
pub(crate) const SENTINEL: &str = "it says that it is a Sentinel: those belong into redis.sentinels";

/// What `ROLE` answered.
fn judge(answer: &Value) -> RedisResult<()> {
    let role = match answer {
        Value::Array(parts) => parts.first(),
        other => Some(other),
    };
    let role = match role {
        Some(Value::BulkString(role)) => String::from_utf8_lossy(role).into_owned(),
        Some(Value::SimpleString(role)) => role.clone(),
        _ => String::new(),
    };
    match role.as_str() {
        "master" => Ok(()),
        "slave" => Err(demoted("it says that it is a replica")),
        "sentinel" => Err(demoted(SENTINEL)),
        other => Err(demoted(&format!("it says that it is {other:?}"))),
    }
}

fn demoted(why: &str) -> RedisError {
    RedisError::from((ErrorKind::Server(ServerErrorKind::ReadOnly), "not the primary", why.to_owned()))
}

fn is_demoted(error: &RedisError) -> bool {
    meaning(error) == Meaning::Elsewhere
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_primary_is_one() {
        let role = |word: &str| judge(&Value::Array(vec![Value::BulkString(word.into()), Value::Int(7)]));
        role("master").unwrap();
        for other in ["slave", "sentinel", "", "loading"] {
            assert_eq!(meaning(&role(other).unwrap_err()), Meaning::Elsewhere, "{other}");
        }
        assert!(role("sentinel").unwrap_err().to_string().contains("redis.sentinels"));
        judge(&Value::Nil).unwrap_err();
    }
}
