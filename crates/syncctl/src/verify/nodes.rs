//! The servers of the cache: one, or the primaries of a Redis Cluster, found by asking any of its nodes.

use anyhow::{Context, anyhow};
use cache_manager::RedisConfig;
use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{
    AsyncConnectionConfig, Client, Cmd, FromRedisValue, RedisError, RedisResult, ServerErrorKind, Value, cmd, pipe,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// Times that slots are looked up anew while they move.
const ATTEMPTS: u32 = 20;

const PAUSE: Duration = Duration::from_millis(200);

pub(super) struct Nodes {
    config: RedisConfig,
    /// To the node that was named.
    first: MultiplexedConnection,
    /// First and last slot, and the address of the primary; none where there is one server only.
    ranges: Vec<(u16, u16, String)>,
    connections: BTreeMap<String, MultiplexedConnection>,
}

impl Nodes {
    pub(super) async fn connect(config: RedisConfig) -> anyhow::Result<Self> {
        let client = config.client().context("redis url")?;
        let first = open(&client).await.context("could not connect to the cache")?;
        let mut nodes = Self { config, first, ranges: Vec::new(), connections: BTreeMap::new() };
        nodes.look_up().await?;
        Ok(nodes)
    }

    /// Who has which slot. A server that is no cluster refuses the question.
    async fn look_up(&mut self) -> anyhow::Result<()> {
        let said: RedisResult<Vec<Vec<Value>>> = cmd("CLUSTER").arg("SLOTS").query_async(&mut self.first).await;
        let Ok(said) = said else { return Ok(()) };
        let client = self.config.client()?;
        let asked = client.get_connection_info().addr().to_string();
        let asked = asked.rsplit_once(':').map_or(asked.as_str(), |(host, _)| host);
        let range = |entry: Vec<Value>| match &entry[..] {
            [Value::Int(first), Value::Int(last), Value::Array(primary), ..] => match &primary[..] {
                [host, Value::Int(port), ..] => {
                    let host = match host {
                        Value::BulkString(host) if !host.is_empty() => String::from_utf8_lossy(host).into_owned(),
                        _ => asked.to_owned(),
                    };
                    let address = domain::addresses::join(&host, u16::try_from(*port)?);
                    Ok((u16::try_from(*first)?, u16::try_from(*last)?, address))
                }
                _ => Err(anyhow!("CLUSTER SLOTS says {primary:?}")),
            },
            _ => Err(anyhow!("CLUSTER SLOTS says {entry:?}")),
        };
        self.ranges = said.into_iter().map(range).collect::<anyhow::Result<_>>()?;
        self.connections.clear();
        Ok(())
    }

    /// The slots of keys; all the same where there is one server only.
    pub(super) async fn slots_of(&mut self, keys: &[String]) -> anyhow::Result<Vec<u16>> {
        if self.ranges.is_empty() {
            return Ok(vec![0; keys.len()]);
        }
        let mut pipeline = pipe();
        for key in keys {
            pipeline.cmd("CLUSTER").arg("KEYSLOT").arg(key);
        }
        pipeline.query_async(&mut self.first).await.context("slots of keys")
    }

    /// Answers to commands, each of which has its keys in one slot, in their order. What only reads may be asked again: while slots
    /// move it is.
    pub(super) async fn ask<T: FromRedisValue>(&mut self, commands: Vec<(u16, Cmd)>) -> anyhow::Result<Vec<T>> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.ask_once(&commands).await {
                Err(error) if attempts < ATTEMPTS && error.downcast_ref().is_some_and(is_redirect) => {
                    tokio::time::sleep(PAUSE).await;
                    self.look_up().await?;
                }
                other => return other,
            }
        }
    }

    async fn ask_once<T: FromRedisValue>(&mut self, commands: &[(u16, Cmd)]) -> anyhow::Result<Vec<T>> {
        let mut by_node: BTreeMap<Option<String>, Vec<usize>> = BTreeMap::new();
        for (number, (slot, _)) in commands.iter().enumerate() {
            by_node.entry(self.home(*slot)?).or_default().push(number);
        }
        let mut answers: Vec<Option<T>> = commands.iter().map(|_| None).collect();
        for (node, numbers) in by_node {
            let mut pipeline = pipe();
            for number in &numbers {
                pipeline.add_command(commands[*number].1.clone());
            }
            let connection = match &node {
                Some(address) => self.connection(address).await?,
                None => &mut self.first,
            };
            let found: Vec<T> = pipeline.query_async(connection).await?;
            for (number, answer) in numbers.into_iter().zip(found) {
                answers[number] = Some(answer);
            }
        }
        answers.into_iter().collect::<Option<_>>().context("fewer answers than commands")
    }

    /// The primary of a slot; none where there is one server only.
    fn home(&self, slot: u16) -> anyhow::Result<Option<String>> {
        if self.ranges.is_empty() {
            return Ok(None);
        }
        let range = self.ranges.iter().find(|(first, last, _)| (*first..=*last).contains(&slot));
        range.map(|(.., address)| Some(address.clone())).with_context(|| format!("no primary has slot {slot}"))
    }

    async fn connection(&mut self, address: &str) -> anyhow::Result<&mut MultiplexedConnection> {
        if !self.connections.contains_key(address) {
            let client = self.config.client_at(address)?;
            let connection = open(&client).await.with_context(|| format!("could not connect to {address}"))?;
            self.connections.insert(address.to_owned(), connection);
        }
        self.connections.get_mut(address).context("no connection")
    }
}

async fn open(client: &Client) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(10)))
        .set_response_timeout(Some(Duration::from_secs(60)));
    client.get_multiplexed_async_connection_with_config(&config).await
}

/// The slot is somewhere else, or on its way.
fn is_redirect(error: &RedisError) -> bool {
    use ServerErrorKind::{Ask, ClusterDown, Moved, TryAgain};
    let failed = error.clone().into_server_errors().unwrap_or_default();
    failed.iter().any(|(_, error)| matches!(error.kind(), Some(Moved | Ask | TryAgain | ClusterDown)))
}
