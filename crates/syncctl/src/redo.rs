//! `redo-log` and `recover`: what the redo log has, and telling it to a database that came back from a copy.
//!
//! Both read the broker themselves and need no server. `recover` writes by the code that all events go through, so services may
//! run meanwhile.

#[cfg(feature = "distributed")]
mod work;

use crate::events::parse_time;
use chrono::{DateTime, Utc};
use clap::Args;
use std::path::PathBuf;

/// Where the log is.
#[derive(Debug, Args)]
struct BrokerArgs {
    /// Broker, for example amqp://user:password@host/%2f.
    #[arg(long, env = "AMQP_URL", hide_env_values = true)]
    amqp_url: String,
    /// Authority of an amqps:// url, PEM; beside the public ones.
    #[arg(long, env = "AMQP_CA_FILE")]
    amqp_ca_file: Option<PathBuf>,
    /// What the names of exchanges and queues start with.
    #[arg(long, env = "AMQP_PREFIX", default_value = "interaction")]
    amqp_prefix: String,
}

/// Arguments of `redo-log`.
#[derive(Debug, Args)]
pub(crate) struct RedoLogArgs {
    #[command(flatten)]
    broker: BrokerArgs,
    /// Count what was published at or after, for example 2026-01-31T07:00:00Z.
    #[arg(long, value_parser = parse_time)]
    since: Option<DateTime<Utc>>,
    /// And print each event: when it was published, its version, id, user, resource and action.
    #[arg(long, requires = "since")]
    list: bool,
    /// Print the result, and each event, as a line of JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `recover`.
#[derive(Debug, Args)]
pub(crate) struct RecoverArgs {
    /// Database, for example mysql://user:password@host/name.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,
    /// Cache, for example redis://host:6379.
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    redis_url: String,
    /// Authority of a rediss:// url, PEM; else the public ones.
    #[arg(long, env = "REDIS_CA_FILE")]
    redis_ca_file: Option<PathBuf>,
    /// What all keys of the cache start with.
    #[arg(long, env = "REDIS_PREFIX", default_value = "")]
    redis_prefix: String,
    #[command(flatten)]
    broker: BrokerArgs,
    /// What was published at or after: when the copy of the database was made, or earlier by as much as likes waited then.
    #[arg(long, value_parser = parse_time)]
    since: DateTime<Utc>,
    /// Only say how much is missing.
    #[arg(long)]
    dry_run: bool,
    /// Begin again instead of going on where the last run with this --since stopped; harmless, only slower.
    #[arg(long)]
    restart: bool,
    /// Events asked for, and applied, at once.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..=4096))]
    batch_size: u16,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

#[cfg(not(feature = "distributed"))]
impl RedoLogArgs {
    pub(crate) async fn run(self) -> anyhow::Result<crate::Verdict> {
        let Self { broker: BrokerArgs { amqp_url: _, amqp_ca_file: _, amqp_prefix: _ }, since: _, list: _, json: _ } =
            self;
        Err(crate::not_built_in("--amqp-url"))
    }
}

#[cfg(not(feature = "distributed"))]
impl RecoverArgs {
    pub(crate) async fn run(self) -> anyhow::Result<crate::Verdict> {
        let Self { database_url: _, redis_url: _, redis_ca_file: _, redis_prefix: _, broker: _, since: _, .. } = self;
        let Self { dry_run: _, restart: _, batch_size: _, json: _, .. } = self;
        Err(crate::not_built_in("--amqp-url"))
    }
}
