//! A few commands to Redis, spoken by hand: no client library is needed to flush, to count and to load a script.

use anyhow::{Context, Result, bail};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Flushing a large database takes long.
const LIMIT: Duration = Duration::from_secs(300);

/// Sum of the lengths of the streams `KEYS`.
const LENGTHS: &str = "local n = 0; for _, key in ipairs(KEYS) do n = n + redis.call('XLEN', key) end; return n";

const MAX_TEXT: usize = 64 << 20;

/// A connection to one database.
pub(crate) struct Redis {
    stream: BufStream<TcpStream>,
}

#[derive(Debug, Clone, PartialEq)]
enum Reply {
    Int(i64),
    Text(String),
}

impl Redis {
    /// To `host:port`.
    pub(crate) async fn connect(addr: &str, database: u32) -> Result<Self> {
        let stream = TcpStream::connect(addr).await.with_context(|| format!("redis at {addr}"))?;
        stream.set_nodelay(true)?;
        let mut redis = Self { stream: BufStream::new(stream) };
        redis.text(&["SELECT", &database.to_string()]).await?;
        Ok(redis)
    }

    /// Empties all databases, and the append-only file with them: its rewriting must not fall into a measurement.
    pub(crate) async fn flush_all(&mut self) -> Result<()> {
        self.text(&["FLUSHALL", "SYNC"]).await?;
        self.rewritten().await?;
        self.text(&["BGREWRITEAOF"]).await?;
        self.rewritten().await
    }

    async fn rewritten(&mut self) -> Result<()> {
        for key in ["aof_rewrite_scheduled:", "aof_rewrite_in_progress:"] {
            while self.info("persistence", key).await? != 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }

    /// Empties this connection's database.
    pub(crate) async fn flush(&mut self) -> Result<()> {
        self.text(&["FLUSHDB", "SYNC"]).await.map(drop)
    }

    /// Sets fields of a hash.
    pub(crate) async fn set_fields(&mut self, key: &str, fields: &[&str]) -> Result<()> {
        self.command(&[&["HSET", key], fields].concat()).await.map(drop)
    }

    /// Sends many commands, a thousand at a time, whose answers say nothing.
    pub(crate) async fn send_all(&mut self, commands: impl IntoIterator<Item = Vec<String>>) -> Result<()> {
        let (mut commands, mut sent) = (commands.into_iter().peekable(), 0_u64);
        while commands.peek().is_some() {
            let mut some = 0;
            for command in commands.by_ref().take(1_000) {
                let command: Vec<&str> = command.iter().map(String::as_str).collect();
                self.stream.write_all(encode(&command).as_bytes()).await?;
                some += 1;
            }
            self.stream.flush().await?;
            for _ in 0..some {
                let reply = timeout(LIMIT, self.reply()).await.context("redis: no answer")?;
                reply.with_context(|| format!("redis: command {sent}"))?;
                sent += 1;
            }
        }
        Ok(())
    }

    /// Commands that the server has worked on since it started.
    pub(crate) async fn commands(&mut self) -> Result<f64> {
        self.info("stats", "total_commands_processed:").await.map(|commands| commands as f64)
    }

    /// The script's digest.
    pub(crate) async fn load_script(&mut self, script: &str) -> Result<String> {
        self.text(&["SCRIPT", "LOAD", script]).await
    }

    /// Entries in all these streams together.
    pub(crate) async fn stream_lengths(&mut self, keys: &[String]) -> Result<u64> {
        let count = keys.len().to_string();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        match self.command(&[&["EVAL", LENGTHS, &count], keys.as_slice()].concat()).await? {
            Reply::Int(length) => u64::try_from(length).context("a negative length"),
            other => bail!("redis: expected a number, got {other:?}"),
        }
    }

    /// Bytes that the data and its overhead take.
    pub(crate) async fn used_memory(&mut self) -> Result<f64> {
        self.info("memory", "used_memory:").await.map(|bytes| bytes as f64)
    }

    /// Sum of all numbers whose key starts with `prefix`.
    pub(crate) async fn sum(&mut self, prefix: &str) -> Result<i64> {
        const SUM: &str = "local sum = 0; for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do \
                           sum = sum + tonumber(redis.call('GET', key)) end; return sum";
        match self.command(&["EVAL", SUM, "0", prefix]).await? {
            Reply::Int(sum) => Ok(sum),
            other => bail!("redis: expected a number, got {other:?}"),
        }
    }

    async fn info(&mut self, section: &str, key: &str) -> Result<i64> {
        let text = self.text(&["INFO", section]).await?;
        let value = text.lines().find_map(|line| line.strip_prefix(key));
        value.and_then(|value| value.trim().parse().ok()).with_context(|| format!("no {key} in INFO {section}"))
    }

    async fn text(&mut self, arguments: &[&str]) -> Result<String> {
        match self.command(arguments).await? {
            Reply::Text(text) => Ok(text),
            other => bail!("redis: expected text, got {other:?}"),
        }
    }

    async fn command(&mut self, arguments: &[&str]) -> Result<Reply> {
        let request = encode(arguments);
        let name = arguments.first().copied().unwrap_or_default();
        let exchange = async {
            self.stream.write_all(request.as_bytes()).await?;
            self.stream.flush().await?;
            self.reply().await
        };
        timeout(LIMIT, exchange)
            .await
            .with_context(|| format!("redis: no answer to {name}"))?
            .with_context(|| format!("redis: {name}"))
    }

    async fn reply(&mut self) -> Result<Reply> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).await? == 0 {
            bail!("the connection was closed");
        }
        let line = line.trim_end();
        match line.split_at_checked(1) {
            Some((":", number)) => Ok(Reply::Int(number.parse()?)),
            Some(("+", text)) => Ok(Reply::Text(text.to_owned())),
            Some(("$", length)) => {
                let length: usize = length.parse().context("no value")?;
                if length > MAX_TEXT {
                    bail!("{length} bytes are too many");
                }
                let mut bytes = vec![0; length + 2];
                self.stream.read_exact(&mut bytes).await?;
                bytes.truncate(length);
                Ok(Reply::Text(String::from_utf8(bytes)?))
            }
            Some(("-", error)) => bail!("{error}"),
            _ => bail!("unexpected reply {line:?}"),
        }
    }
}

fn encode(arguments: &[&str]) -> String {
    let mut request = format!("*{}\r\n", arguments.len());
    for argument in arguments {
        request.push_str(&format!("${}\r\n{argument}\r\n", argument.len()));
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_arrays_of_counted_strings() {
        assert_eq!(encode(&["SET", "k", "é"]), "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\né\r\n");
    }

    #[tokio::test]
    async fn it_speaks_with_a_real_server() {
        let server = test_support::Redis::start(test_support::RedisOptions::default()).await.unwrap();
        let addr = server.addr().unwrap();
        let mut redis = Redis::connect(&addr, 1).await.unwrap();
        redis.text(&["SET", "count:1", "3"]).await.unwrap();
        redis.text(&["SET", "count:2", "4"]).await.unwrap();
        assert_eq!(redis.sum("count:").await.unwrap(), 7);
        redis.text(&["XADD", "one", "1-0", "e", "x"]).await.unwrap();
        assert_eq!(redis.stream_lengths(&["one".into(), "two".into()]).await.unwrap(), 1);
        redis
            .send_all((0..2_500).map(|i| vec!["HSET".to_owned(), format!("h{i}"), "n".into(), "1".into()]))
            .await
            .unwrap();
        assert_eq!(redis.command(&["DBSIZE"]).await.unwrap(), Reply::Int(2_503));
        assert!(redis.send_all([vec!["HSET".to_owned(), "one".into(), "n".into(), "1".into()]]).await.is_err());
        assert!(redis.commands().await.unwrap() >= 2_505.0);
        assert!(redis.used_memory().await.unwrap() > 100_000.0);
        assert!(redis.text(&["GET", "absent"]).await.is_err());
        let error = redis.text(&["NONSENSE"]).await.unwrap_err();
        assert!(format!("{error:#}").contains("unknown command"), "{error:#}");
        // Other databases keep theirs.
        let mut other = Redis::connect(&addr, 0).await.unwrap();
        other.flush().await.unwrap();
        assert_eq!(redis.sum("count:").await.unwrap(), 7);
        other.flush_all().await.unwrap();
        assert_eq!(redis.sum("count:").await.unwrap(), 0);
    }
}
