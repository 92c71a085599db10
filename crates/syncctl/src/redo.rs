//! `redo-log`: what the redo log has; and what `recover` does with it.
//!
//! Both read the broker themselves and need no server. Recovery writes by the code that all events go through, so services may
//! run meanwhile.

#[cfg(feature = "distributed")]
mod work;

use crate::events::parse_time;
use chrono::{DateTime, Utc};
use clap::Args;
use std::path::PathBuf;
#[cfg(feature = "distributed")]
pub(crate) use work::{LogRecovery, recover};

/// Where the log is.
#[derive(Debug, Args)]
pub(crate) struct BrokerArgs {
    /// Broker, for example amqp://user:password@host/%2f.
    #[arg(long, env = "AMQP_URL", help_heading = "Stores", hide_env_values = true)]
    pub(crate) amqp_url: String,
    /// Authority of an amqps:// url, PEM; beside the public ones.
    #[arg(long, env = "AMQP_CA_FILE", help_heading = "Stores")]
    pub(crate) amqp_ca_file: Option<PathBuf>,
    /// What the names of exchanges and queues start with.
    #[arg(long, env = "AMQP_PREFIX", help_heading = "Stores", default_value = "interaction")]
    pub(crate) amqp_prefix: String,
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
    /// The same as -o json: the result, and before it each event, as a line of JSON.
    #[arg(long)]
    json: bool,
}

#[cfg(not(feature = "distributed"))]
impl RedoLogArgs {
    pub(crate) async fn run(self, _: crate::output::Format) -> anyhow::Result<crate::Verdict> {
        let Self { broker: BrokerArgs { amqp_url: _, amqp_ca_file: _, amqp_prefix: _ }, since: _, list: _, json: _ } =
            self;
        Err(crate::not_built_in("--amqp-url"))
    }
}
