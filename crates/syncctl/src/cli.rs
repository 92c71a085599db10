//! The command line.

mod load;
mod migration;
mod people;
mod verify;

use crate::Verdict;
use crate::client::{ServerArgs, parse_resource};
use crate::clock::ClockArgs;
use crate::commands;
use crate::consistency::{CheckArgs, ReconcileArgs, RecoverArgs, RepairArgs, WarmupArgs};
use crate::events::{EventsArgs, ExplainArgs};
use crate::redo::RedoLogArgs;
use clap::{Args, Parser, Subcommand};
use domain::{Action, Resource, ResourceType};
use tokio_util::sync::CancellationToken;

/// Operates the like pipeline: sends load, verifies the stores, migrates the database.
#[derive(Debug, Parser)]
#[command(name = "syncctl", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Sends likes, from a trace or generated, or as people would.
    Load(Box<load::LoadArgs>),
    /// Compares all stores with what the oplogs or histories of load say must be there.
    Verify(Box<verify::VerifyArgs>),
    /// Brings the database to the current schema.
    Migrate {
        /// Database, for example mysql://user:password@host/name.
        #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
        database_url: String,
    },
    /// Folds user_behaviors into likes and counts; goes on where it stopped, and may run beside live traffic.
    Backfill(migration::BackfillArgs),
    /// Imports the old schema: user_behaviors, video_likes, comment_likes; may be repeated, also beside live traffic.
    ImportLegacy(migration::ImportLegacyArgs),
    /// Says what a configuration means here, also one of the old system, or writes it in our keys.
    Config {
        #[command(subcommand)]
        command: crate::configuration::ConfigCommand,
    },
    /// Switches all servers between the synchronous and the event-driven way of writing likes, without a restart.
    WritePath(migration::WritePathArgs),
    /// Makes a user like a resource.
    Like(OneArgs),
    /// Takes a like back.
    Unlike(OneArgs),
    /// Shows the counts of resources.
    Counts {
        #[command(flatten)]
        server: ServerArgs,
        /// video:ID or comment:ID.
        #[arg(required = true, value_parser = parse_resource)]
        resources: Vec<Resource>,
    },
    /// Shows whether a user likes resources.
    States {
        #[command(flatten)]
        server: ServerArgs,
        /// User id.
        user: i64,
        /// video:ID or comment:ID.
        #[arg(required = true, value_parser = parse_resource)]
        resources: Vec<Resource>,
    },
    /// Shows counts, and each change of them, until it is interrupted.
    Watch {
        #[command(flatten)]
        server: ServerArgs,
        /// Stop after so many updates; the first counts are one.
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
        updates: Option<u64>,
        /// video:ID or comment:ID; at most 100.
        #[arg(required = true, value_parser = parse_resource)]
        resources: Vec<Resource>,
    },
    /// Shows what is liked and unliked most at the moment.
    Hot {
        #[command(flatten)]
        server: ServerArgs,
        /// Only these: video or comment.
        #[arg(long = "type")]
        kind: Option<ResourceType>,
        /// How many.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
        limit: u32,
    },
    /// Asks a server whether cache and database agree on resources; repairs nothing.
    Check(CheckArgs),
    /// Repairs resources, or everything; without --apply only says what would be done.
    Repair(Box<RepairArgs>),
    /// Compares everything: cache with database, and the database's tables with each other; repairs nothing.
    Reconcile(Box<ReconcileArgs>),
    /// Brings back what a database has lost that became what it once was: from the redo log (--since), or from cached pairs,
    /// after which it is believed again.
    Recover(Box<RecoverArgs>),
    /// Shows how far the clocks of the stores are apart, and what is dated later than now; changes nothing.
    Clock(ClockArgs),
    /// Shows how far the redo log reaches, and counts or lists what was published since a time.
    RedoLog(RedoLogArgs),
    /// Has a server cache counters before somebody asks for them.
    Warmup(WarmupArgs),
    /// Lists a server's events, and replays or discards those that failed.
    Events(Box<EventsArgs>),
    /// Tells what became of a user's likes of a resource.
    Explain(ExplainArgs),
}

#[derive(Debug, Args)]
struct OneArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// User id.
    user: i64,
    /// video:ID or comment:ID.
    #[arg(value_parser = parse_resource)]
    resource: Resource,
}

pub(crate) fn not_negative(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=1e9).contains(&value) => Ok(value),
        _ => Err("expected a number from 0 to 1e9".into()),
    }
}

pub(crate) fn positive(text: &str) -> Result<f64, String> {
    not_negative(text).and_then(|value| if value > 0.0 { Ok(value) } else { Err("must be greater than 0".into()) })
}

impl Cli {
    /// Runs the command.
    pub fn run(self) -> anyhow::Result<Verdict> {
        let threads = if let Command::Load(args) = &self.command { args.threads() } else { 1 };
        // Load shares its machine with what it measures: one thread spends the least on waking others.
        let runtime = if threads > 1 {
            tokio::runtime::Builder::new_multi_thread().worker_threads(threads as usize).enable_all().build()
        } else {
            tokio::runtime::Builder::new_current_thread().enable_all().build()
        }?;
        runtime.block_on(Box::pin(self.command.run()))
    }
}

impl Command {
    async fn run(self) -> anyhow::Result<Verdict> {
        match self {
            Self::Load(args) => args.run().await,
            Self::Verify(args) => args.run().await,
            Self::Migrate { database_url } => commands::migrate(&database_url).await,
            Self::Backfill(args) => args.run().await,
            Self::ImportLegacy(args) => args.run().await,
            Self::Config { command } => command.run().await,
            Self::WritePath(args) => args.run().await,
            Self::Like(args) => commands::like(&args.server, args.user, args.resource, Action::Like).await,
            Self::Unlike(args) => commands::like(&args.server, args.user, args.resource, Action::Unlike).await,
            Self::Counts { server, resources } => commands::counts(&server, &resources).await,
            Self::States { server, user, resources } => commands::states(&server, user, &resources).await,
            Self::Watch { server, updates, resources } => {
                let stop = CancellationToken::new();
                tokio::spawn(interrupt_on_signal(stop.clone()));
                commands::watch(&server, &resources, updates, stop).await
            }
            Self::Hot { server, kind, limit } => commands::hot(&server, kind, limit).await,
            Self::Check(args) => args.run().await,
            Self::Repair(args) => args.run().await,
            Self::Reconcile(args) => args.run().await,
            Self::Recover(args) => args.run().await,
            Self::Clock(args) => args.run().await,
            Self::RedoLog(args) => args.run().await,
            Self::Warmup(args) => args.run().await,
            Self::Events(args) => args.run().await,
            Self::Explain(args) => args.run().await,
        }
    }
}

pub(crate) async fn interrupt_on_signal(interrupt: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    // Without handlers the signals simply end the process.
    let (Ok(mut int), Ok(mut term)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else {
        return;
    };
    tokio::select! {
        _ = int.recv() => {}
        _ = term.recv() => {}
    }
    interrupt.cancel();
}
