//! Arguments of what a migration from an older system needs.

use super::positive;
use crate::job::JobOptions;
use crate::legacy::table::{Renamed, Table, parse_renamed};
use crate::legacy::{self, ImportLegacy};
use crate::output::Format;
use crate::{Verdict, backfill, commands, progress};
use chrono::FixedOffset;
use clap::{Args, Subcommand};
use domain::WritePath;
use std::path::PathBuf;

/// What every job has.
#[derive(Debug, Args)]
struct JobArgs {
    /// Rows read and events written at once.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1000))]
    batch_size: u32,
    /// Most rows per second; as fast as it goes without.
    #[arg(long, value_parser = positive)]
    max_rate: Option<f64>,
    /// No server runs and no cache holds anything: nobody need be told what changes.
    #[arg(long)]
    offline: bool,
    /// Begin again instead of going on where the last run stopped; harmless, only slower.
    #[arg(long)]
    restart: bool,
    /// The same as -o json.
    #[arg(long)]
    json: bool,
}

impl JobArgs {
    const fn options(&self) -> JobOptions {
        JobOptions {
            batch_size: self.batch_size,
            max_rate: self.max_rate,
            offline: self.offline,
            restart: self.restart,
        }
    }
}

/// Arguments of `backfill`.
#[derive(Debug, Args)]
pub(super) struct BackfillArgs {
    /// Database, for example mysql://user:password@host/name.
    #[arg(long, env = "DATABASE_URL", help_heading = "Stores", hide_env_values = true)]
    database_url: String,
    #[command(flatten)]
    job: JobArgs,
}

impl BackfillArgs {
    pub(super) async fn run(self, format: Format) -> anyhow::Result<Verdict> {
        let format = format.or_json(self.job.json);
        let bar = progress::bar(0, format);
        let report = Box::pin(backfill::run(&self.database_url, self.job.options(), &bar)).await?;
        backfill::conclude(&report, format)
    }
}

/// Arguments of `import-legacy`.
#[derive(Debug, Args)]
pub(super) struct ImportLegacyArgs {
    /// Database to import into, for example mysql://user:password@host/name.
    #[arg(long, env = "DATABASE_URL", help_heading = "Stores", hide_env_values = true)]
    database_url: String,
    /// Database to import from; the same one if not given, then --table-prefix tells the tables apart.
    #[arg(long, env = "LEGACY_DATABASE_URL", help_heading = "Stores", hide_env_values = true)]
    from_url: Option<String>,
    /// Tables to import.
    #[arg(long, value_delimiter = ',', default_value = "user_behaviors,video_likes,comment_likes")]
    tables: Vec<Table>,
    /// What stands before the names of the old tables, for example legacy_.
    #[arg(long, default_value = "")]
    table_prefix: String,
    /// A column that has another name: table.column=actual_column.
    #[arg(long = "column", value_parser = parse_renamed)]
    renamed: Vec<Renamed>,
    /// Columns that mean nothing for likes; any other unknown column is an error.
    #[arg(long, value_delimiter = ',')]
    ignore_columns: Vec<String>,
    /// Zone of times that name none, as an offset.
    #[arg(long, default_value = "+00:00", allow_hyphen_values = true)]
    timezone: FixedOffset,
    /// File for rows that cannot be imported, with the reason: table, id, reason.
    #[arg(long, default_value = "import-rejects.tsv")]
    rejects: PathBuf,
    /// Rejected rows are no failure.
    #[arg(long)]
    allow_rejects: bool,
    #[command(flatten)]
    job: JobArgs,
}

impl ImportLegacyArgs {
    pub(super) async fn run(self, format: Format) -> anyhow::Result<Verdict> {
        let format = format.or_json(self.job.json);
        let bar = progress::bar(0, format);
        let import = ImportLegacy {
            source_url: self.from_url.unwrap_or_else(|| self.database_url.clone()),
            database_url: self.database_url,
            tables: self.tables,
            table_prefix: self.table_prefix,
            renamed: self.renamed,
            ignored_columns: self.ignore_columns,
            zone: self.timezone,
            rejects: self.rejects,
            job: self.job.options(),
        };
        let report = Box::pin(legacy::run(&import, &bar)).await?;
        legacy::conclude(&report, &import.rejects, self.allow_rejects, format)
    }
}

/// Arguments of `write-path`.
#[derive(Debug, Args)]
pub(super) struct WritePathArgs {
    #[command(subcommand)]
    command: WritePathCommand,
}

#[derive(Debug, Subcommand)]
enum WritePathCommand {
    /// Shows what was ordered.
    Get(DatabaseArg),
    /// Orders a path for all servers, which follow within about a second; it holds until another is ordered.
    Set {
        /// synchronous, event_driven, or a percentage of users like 25%.
        path: WritePath,
        #[command(flatten)]
        database: DatabaseArg,
    },
    /// Takes the order back: every server's configuration decides again.
    Unset(DatabaseArg),
}

#[derive(Debug, Args)]
struct DatabaseArg {
    /// Database, for example mysql://user:password@host/name.
    #[arg(long, env = "DATABASE_URL", help_heading = "Stores", hide_env_values = true)]
    database_url: String,
}

impl WritePathArgs {
    pub(super) async fn run(self, format: Format) -> anyhow::Result<Verdict> {
        match self.command {
            WritePathCommand::Get(database) => commands::write_path(&database.database_url, format).await,
            WritePathCommand::Set { path, database } => {
                commands::order_write_path(&database.database_url, Some(path), format).await
            }
            WritePathCommand::Unset(database) => commands::order_write_path(&database.database_url, None, format).await,
        }
    }
}
