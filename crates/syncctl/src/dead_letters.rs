//! `dead-letters`: likes that were given up, which the ledger has, and what else lies in the dead-letter queue.
//!
//! The ledger is asked through a server. The queue is read at the broker itself, where its address is given: who lists leaves
//! everything there, who drains takes out what is no event of ours.

#[cfg(feature = "distributed")]
mod queue;

use crate::Verdict;
use crate::client::ServerArgs;
use crate::events::{EventRow, FilterArgs, OperateArgs, list};
use crate::output::{Format, Row, print};
use clap::{Args, Subcommand};
use interaction_proto::v1;
use serde::Serialize;
use std::path::PathBuf;

/// Arguments of `dead-letters`.
#[derive(Debug, Args)]
pub(crate) struct DeadLettersArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    command: DeadLettersCommand,
}

#[derive(Debug, Subcommand)]
enum DeadLettersCommand {
    /// Lists accepted likes that were given up and why; with --amqp-url also what else lies in the dead-letter queue: likes that
    /// the broker moved there itself, and what is no event of ours.
    List {
        #[command(flatten)]
        filter: FilterArgs,
        /// At most so many.
        #[arg(long, default_value_t = 20)]
        limit: u32,
        #[command(flatten)]
        queue: QueueArgs,
    },
    /// Has dead events tried again; safe at any time. Their letters go when they are applied.
    Replay(OperateArgs),
    /// Takes what is no event of ours out of the dead-letter queue, after writing it to a file.
    Drain {
        #[command(flatten)]
        queue: QueueArgs,
        /// A line of JSON for each letter is added to this file: its reason, its headers, its bytes in hexadecimal.
        #[arg(long)]
        file: PathBuf,
        /// Only say what would be taken out.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Where the dead-letter queue is.
#[derive(Debug, Args)]
struct QueueArgs {
    /// Broker, for example amqp://user:password@host/%2f.
    #[arg(long, env = "AMQP_URL", help_heading = "Stores", hide_env_values = true)]
    amqp_url: Option<String>,
    /// Authority of an amqps:// url, PEM; beside the public ones.
    #[arg(long, env = "AMQP_CA_FILE", help_heading = "Stores")]
    amqp_ca_file: Option<PathBuf>,
    /// What the names of exchanges and queues start with.
    #[arg(long, env = "AMQP_PREFIX", help_heading = "Stores", default_value = "interaction")]
    amqp_prefix: String,
}

/// An event that was given up, one that the broker moved by itself, or another letter of the queue.
#[derive(Debug, Serialize)]
struct DeadRow {
    /// `event`: given up; `moved`: consumers apply it; `letter`: no event of ours.
    kind: &'static str,
    /// Of an event its id, of another letter its place in the queue.
    id: String,
    user: Option<i64>,
    resource: Option<String>,
    action: Option<String>,
    accepted_at: Option<String>,
    error: String,
}

impl Row for DeadRow {
    const HEADERS: &'static [&'static str] = &["KIND", "ID", "USER", "RESOURCE", "ACTION", "ACCEPTED", "ERROR"];

    fn cells(&self) -> Vec<String> {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        vec![
            self.kind.to_owned(),
            self.id.clone(),
            self.user.map_or_else(|| "-".to_owned(), |user| user.to_string()),
            text(&self.resource),
            text(&self.action),
            text(&self.accepted_at),
            self.error.clone(),
        ]
    }
}

impl From<EventRow> for DeadRow {
    fn from(event: EventRow) -> Self {
        Self {
            kind: "event",
            id: event.id,
            user: Some(event.user),
            resource: Some(event.resource),
            action: Some(event.action),
            accepted_at: Some(event.accepted_at),
            error: event.error,
        }
    }
}

impl DeadLettersArgs {
    /// Lists, replays or drains.
    pub(crate) async fn run(self, format: Format) -> anyhow::Result<Verdict> {
        match self.command {
            DeadLettersCommand::List { mut filter, limit, queue } => {
                filter.or_status(v1::EventStatus::Dead);
                let events = list(&self.server, &filter, limit).await?;
                let mut rows: Vec<_> = events.into_iter().map(DeadRow::from).collect();
                if queue.amqp_url.is_some() {
                    rows.extend(queue.letters().await?);
                }
                print(format, &rows)?;
                Ok(Verdict::Fine)
            }
            DeadLettersCommand::Replay(args) => {
                args.or_status(v1::EventStatus::Dead).run(&self.server, false, format).await
            }
            DeadLettersCommand::Drain { queue, file, dry_run } => queue.drain(&file, dry_run, format).await,
        }
    }
}

#[cfg(not(feature = "distributed"))]
impl QueueArgs {
    async fn letters(&self) -> anyhow::Result<Vec<DeadRow>> {
        let Self { amqp_url: _, amqp_ca_file: _, amqp_prefix: _ } = self;
        Err(crate::not_built_in("--amqp-url"))
    }

    async fn drain(&self, _: &std::path::Path, _: bool, _: Format) -> anyhow::Result<Verdict> {
        self.letters().await.map(|_| Verdict::Fine)
    }
}
