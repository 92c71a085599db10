//! The command line.

mod load;
mod migration;
mod people;
mod verify;

use crate::changes::ChangesCommand;
use crate::client::{ServerArgs, parse_resource, parse_user};
use crate::clock::ClockArgs;
use crate::commands;
use crate::consistency::{CheckArgs, ReconcileArgs, RecoverArgs, RepairArgs, WarmupArgs};
use crate::dead_letters::DeadLettersArgs;
use crate::delete::{DeleteResourceArgs, RestoreResourceArgs};
use crate::environment::Environment;
use crate::erase::EraseUserArgs;
use crate::events::EventsArgs;
use crate::explain::ExplainArgs;
use crate::lists::{CacheStatsArgs, LikedArgs, LikersArgs};
use crate::of_users::{ExportUserArgs, UndoLikesArgs};
use crate::output::Format;
use crate::redo::RedoLogArgs;
use crate::report::ReportArgs;
use crate::status::StatusArgs;
use crate::{UsageError, Verdict};
use anyhow::Context;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use domain::{Action, Resource, ResourceType};
use std::ffi::OsString;
use std::path::PathBuf;
use tokio_util::sync::CancellationToken;

/// Operates the like pipeline: sends load, verifies the stores, migrates the database.
#[derive(Debug, Parser)]
#[command(name = "syncctl", version)]
pub struct Cli {
    /// How results are printed.
    #[arg(
        short = 'o',
        long = "output",
        global = true,
        value_enum,
        default_value_t,
        env = "SYNCCTL_OUTPUT",
        help_heading = "Output"
    )]
    output: Format,
    /// Section of the file of contexts that flags are taken from; SYNCCTL_CONTEXTS names the file.
    #[arg(long, global = true, env = "SYNCCTL_CONTEXT", help_heading = "Access")]
    context: Option<String>,
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
        #[arg(long, env = "DATABASE_URL", help_heading = "Stores", hide_env_values = true)]
        database_url: String,
        /// Accounts of the programs, each ROLE=USER or ROLE=USER@HOST: serve, consume and check are given what interaction-server,
        /// sync-consumer and consistency-checker do, and nothing else. The database's url is that of who owns the schema and
        /// may grant.
        #[arg(long, value_name = "ROLE=USER,...", value_delimiter = ',')]
        grant: Vec<event_store::Account>,
        /// Cuts sync_events and user_behaviors into partitions, where they are not (MySQL, MariaDB), without copying them, and makes
        /// partitions that are missing. Nothing is written for as long as the tables are away, moments on MySQL; likes wait. What ended
        /// half way goes on.
        #[arg(long)]
        partition: bool,
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
    /// Gives the data another number of shards, while likes go on. Run again after it was stopped, it goes on.
    Reshard(Box<crate::reshard::ReshardArgs>),
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
        #[arg(value_parser = parse_user)]
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
    /// Shows what is liked and unliked most at the moment, or was liked most within an hour, a day or a week.
    Hot {
        #[command(flatten)]
        server: ServerArgs,
        /// Only these: video or comment.
        #[arg(long = "type")]
        kind: Option<ResourceType>,
        /// At the moment, or by likes gained within a window.
        #[arg(long, value_enum, default_value_t)]
        window: crate::hot::HotWindow,
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
    /// Shows what others hear of committed likes.
    Changes {
        #[command(subcommand)]
        command: ChangesCommand,
    },
    /// Has a server cache counters before somebody asks for them.
    Warmup(WarmupArgs),
    /// Lists a server's events, and replays or discards those that failed.
    Events(Box<EventsArgs>),
    /// Erases everything that a user did, or proves that it is gone.
    EraseUser(Box<EraseUserArgs>),
    /// Deletes a resource with its likes: nobody can like it until it is restored. Or proves that its likes are gone.
    DeleteResource(Box<DeleteResourceArgs>),
    /// Lets a deleted resource be liked again; the likes of before do not come back.
    RestoreResource(RestoreResourceArgs),
    /// Writes everything that a user likes, a line of JSON for each.
    ExportUser(ExportUserArgs),
    /// Takes back what users like since a time, such as the likes of bots; may be repeated.
    UndoLikes(UndoLikesArgs),
    /// Tells what became of a user's likes of a resource, what that comes to, and what to do.
    Explain(ExplainArgs),
    /// Shows on one screen whether anything is wrong, and where likes are.
    Status(StatusArgs),
    /// Shows what is wrong now, and what the checkers found.
    Report(ReportArgs),
    /// Lists, replays or drains what was given up.
    DeadLetters(Box<DeadLettersArgs>),
    /// Shows the accounting of every journal, and how often the cache knew the answer.
    CacheStats(CacheStatsArgs),
    /// Lists who likes a resource, the latest first.
    Likers(LikersArgs),
    /// Lists what a user likes, the latest first.
    Liked(LikedArgs),
    /// Prints completions for a shell.
    Completions {
        /// For this shell.
        shell: clap_complete::Shell,
    },
    /// Writes a manual page for each command.
    Man {
        /// Into this directory.
        directory: PathBuf,
    },
}

#[derive(Debug, Args)]
struct OneArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// User id.
    #[arg(value_parser = parse_user)]
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
    /// Reads the command line, and where a flag is missing what the environment gives for it.
    pub(crate) fn parse_with(
        args: impl IntoIterator<Item = OsString>,
        environment: &Environment,
    ) -> Result<Self, clap::Error> {
        let args: Vec<OsString> = args.into_iter().collect();
        let texts: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
        // Needed before anything else is understood.
        let context = texts.iter().enumerate().find_map(|(at, arg)| match arg.strip_prefix("--context") {
            Some("") => texts.get(at + 1).map(ToString::to_string),
            Some(rest) => rest.strip_prefix('=').map(str::to_owned),
            None => None,
        });
        let plain = Self::command();
        let command = environment
            .apply(plain.clone(), context.as_deref())
            .map_err(|UsageError(what)| plain.clone().error(ErrorKind::ValueValidation, what))?;
        Self::from_arg_matches(&command.try_get_matches_from(args)?)
    }

    /// Runs the command.
    pub fn run(self) -> anyhow::Result<Verdict> {
        let threads = if let Command::Load(args) = &self.command { args.threads() } else { 1 };
        // Load shares its machine with what it measures: one thread spends the least on waking others.
        let runtime = if threads > 1 {
            tokio::runtime::Builder::new_multi_thread().worker_threads(threads as usize).enable_all().build()
        } else {
            tokio::runtime::Builder::new_current_thread().enable_all().build()
        }?;
        runtime.block_on(Box::pin(self.command.run(self.output)))
    }
}

impl Command {
    async fn run(self, format: Format) -> anyhow::Result<Verdict> {
        match self {
            Self::Load(args) => args.run(format).await,
            Self::Verify(args) => args.run(format).await,
            Self::Migrate { database_url, grant, partition } => {
                crate::migrate::migrate(&database_url, &grant, partition, format).await
            }
            Self::Backfill(args) => args.run(format).await,
            Self::ImportLegacy(args) => args.run(format).await,
            Self::Config { command } => command.run(format).await,
            Self::WritePath(args) => args.run(format).await,
            Self::Reshard(args) => args.run(format).await,
            Self::Like(args) => commands::like(&args.server, args.user, args.resource, Action::Like, format).await,
            Self::Unlike(args) => commands::like(&args.server, args.user, args.resource, Action::Unlike, format).await,
            Self::Counts { server, resources } => commands::counts(&server, &resources, format).await,
            Self::States { server, user, resources } => commands::states(&server, user, &resources, format).await,
            Self::Watch { server, updates, resources } => {
                let stop = CancellationToken::new();
                tokio::spawn(interrupt_on_signal(stop.clone()));
                commands::watch(&server, &resources, updates, stop, format).await
            }
            Self::Hot { server, kind, window, limit } => crate::hot::hot(&server, kind, window, limit, format).await,
            Self::Check(args) => args.run(format).await,
            Self::Repair(args) => args.run(format).await,
            Self::Reconcile(args) => args.run(format).await,
            Self::Recover(args) => args.run(format).await,
            Self::Clock(args) => args.run(format).await,
            Self::RedoLog(args) => args.run(format).await,
            Self::Changes { command } => command.run(format).await,
            Self::Warmup(args) => args.run(format).await,
            Self::Events(args) => args.run(format).await,
            Self::EraseUser(args) => args.run(format).await,
            Self::DeleteResource(args) => args.run(format).await,
            Self::RestoreResource(args) => args.run(format).await,
            Self::ExportUser(args) => args.run().await,
            Self::UndoLikes(args) => args.run(format).await,
            Self::Explain(args) => args.run(format).await,
            Self::Status(args) => args.run(format).await,
            Self::Report(args) => args.run(format).await,
            Self::DeadLetters(args) => args.run(format).await,
            Self::CacheStats(args) => args.run(format).await,
            Self::Likers(args) => args.run(format).await,
            Self::Liked(args) => args.run(format).await,
            Self::Completions { shell } => {
                clap_complete::generate(shell, &mut Cli::command(), "syncctl", &mut std::io::stdout());
                Ok(Verdict::Fine)
            }
            Self::Man { directory } => {
                std::fs::create_dir_all(&directory)
                    .and_then(|()| clap_mangen::generate_to(Cli::command(), &directory))
                    .with_context(|| directory.display().to_string())?;
                Ok(Verdict::Fine)
            }
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
