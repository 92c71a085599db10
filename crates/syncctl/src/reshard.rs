//! `reshard`: another number of shards, under load.
//!
//! The keys of the new number share no name with those of the old one, so this is a move into an empty cache, of which the system
//! knows how to make good: all that must not be lost is brought to the database first, and what the database does not have (clocks,
//! erased users, deleted resources, answers to idempotency keys) is handed over. In order:
//!
//! 1. *order*: all servers write synchronously, as `write-path set synchronous` has them do. Nobody need have heard it.
//! 2. *drain*: until all journals are empty. An entry leaves its journal when the database has its event, or the ledger has it as failed
//!    or dead, so nothing of the old shards is on its way any more but repetitions, which their versions make harmless.
//! 3. *close*: each shard is closed in one script, and only if it is empty at that moment. Who did not hear the order, because it was
//!    frozen, cut off, or of an older release, meets a key of the wrong type from then on: it cannot accept, settle or remember there, and
//!    does what it does without Redis. Likes are written to the database, and what the cache has to be told stands in a list there.
//! 4. *hand over*: the new shards' clocks stand above all that the old ones ever gave, and above all that they know what was said.
//! 5. *seal*: until here it can be undone, and is if something stays unsettled. Now closed shards stay closed.
//! 6. *record*: in the database, then in Redis. Of two the later one holds, whichever is lost again. Who starts from now on works with the
//!    new shards.
//! 7. *go on*: the order is taken back, what was left of the old shards is removed. Processes of before write to the database until they
//!    are restarted; consumers and checkers end by themselves for that.
//!
//! Each step may be repeated. A note in the database says which reshard is under way; whoever runs it again goes on where it stopped.

#[cfg(feature = "distributed")]
mod drain;
#[cfg(feature = "distributed")]
mod facts;
#[cfg(feature = "distributed")]
mod lease;
#[cfg(feature = "distributed")]
mod steps;
#[cfg(feature = "distributed")]
mod under_way;

use crate::Verdict;
use crate::cache_args::CacheArgs;
use crate::output::Format;
use clap::Args;

/// Arguments of `reshard`.
#[derive(Debug, Args)]
pub(crate) struct ReshardArgs {
    /// The new number of shards.
    #[arg(long, value_name = "SHARDS", value_parser = clap::value_parser!(u16).range(1..=i64::from(domain::ShardCount::MAX)))]
    to: u16,
    /// Only say what would be done, and what stands in the way.
    #[arg(long)]
    dry_run: bool,
    /// Seconds that the journals may take to become empty; then all is as it was before.
    #[arg(long, default_value_t = 120.0, value_parser = crate::cli::positive)]
    drain_for: f64,
    /// End when the data has its new number, without waiting until all processes were restarted.
    #[arg(long)]
    no_wait: bool,
    /// Database, for example mysql://user:password@host/name.
    #[arg(long, env = "DATABASE_URL", help_heading = "Stores", hide_env_values = true)]
    database_url: String,
    #[command(flatten)]
    cache: CacheArgs,
}

impl ReshardArgs {
    #[cfg(feature = "distributed")]
    pub(crate) async fn run(self, format: Format) -> anyhow::Result<Verdict> {
        Box::pin(steps::run(self, format)).await
    }

    #[cfg(not(feature = "distributed"))]
    pub(crate) async fn run(self, _: Format) -> anyhow::Result<Verdict> {
        let Self { to: _, dry_run: _, drain_for: _, no_wait: _, .. } = self;
        Err(crate::not_built_in("--redis-url"))
    }
}
