//! `verify`: compares stores with logs and histories of load.

use crate::Verdict;
use crate::credentials::CredentialArgs;
use crate::output::{Format, print_one};
use crate::verify::{self, AllowedLoss, HistoryOptions, ServedBy, VerifyOptions};
use anyhow::Context;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;
use traffic::check::Observed;

/// Of histories only.
#[derive(Debug, Args)]
struct JudgementArgs {
    /// What may be lost: a file of lines `user,v|c,id,begin,end,reason`, the window in microseconds of the history.
    #[arg(long, requires = "history", help_heading = "Histories")]
    excuses: Option<PathBuf>,
    /// A run without each behaviour that could have gone wrong is a failure.
    #[arg(long, requires = "history", help_heading = "Histories")]
    strict: bool,
    /// Calls that servers sent to the cache a second time, by their metric interaction_cache_calls_repeated_total.
    #[arg(long, requires = "history", default_value_t = 0, help_heading = "Histories")]
    asked_again: u64,
    /// "Unchanged" answers that servers wrote instead, by their metric interaction_confirm_rewrites_total.
    #[arg(long, requires = "history", default_value_t = 0, help_heading = "Histories")]
    confirm_rewrites: u64,
}

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// Oplogs in the order of their runs.
    #[arg(long)]
    oplog: Vec<PathBuf>,
    /// Histories of load --people, recorded on one machine since it started; a file may have nothing but faults.
    #[arg(long, required_unless_present = "oplog", conflicts_with = "oplog")]
    history: Vec<PathBuf>,
    #[command(flatten)]
    judgement: JudgementArgs,
    /// Database, for example mysql://user:password@host/name.
    #[arg(long, env = "DATABASE_URL", help_heading = "Stores", hide_env_values = true)]
    database_url: String,
    /// Cache, for example redis://host:6379; of a Redis Cluster, any node.
    #[arg(
        long,
        env = "REDIS_URL",
        help_heading = "Stores",
        hide_env_values = true,
        required_unless_present = "grpc_addr"
    )]
    redis_url: Option<String>,
    /// Instead of a cache: gRPC of the server whose counts and states are compared, for standalone.
    #[arg(long, requires = "http_addr", help_heading = "Stores")]
    grpc_addr: Option<String>,
    /// The same server's ops HTTP, host:port: it knows what is still on its way.
    #[arg(long, requires = "grpc_addr", help_heading = "Stores")]
    http_addr: Option<String>,
    #[command(flatten)]
    credentials: CredentialArgs,
    /// What all keys of the cache start with.
    #[arg(long, env = "REDIS_PREFIX", help_heading = "Stores", default_value = "")]
    redis_prefix: String,
    /// Seconds to wait for quiet.
    #[arg(long, default_value_t = 60.0, value_parser = super::not_negative)]
    wait: f64,
    /// Lost pairs that are no failure: a number, or a file of lines `user,v|c,id`.
    #[arg(long)]
    allow_loss: Option<String>,
    /// Write every lost pair to this file, in the form that --allow-loss reads.
    #[arg(long)]
    lost_file: Option<PathBuf>,
    /// Dead and discarded events in the ledger are no failure.
    #[arg(long)]
    allow_dead: bool,
    /// Others wrote too: rows outside the oplogs are no failure.
    #[arg(long)]
    shared: bool,
    /// The same as -o json.
    #[arg(long)]
    json: bool,
}

impl VerifyArgs {
    pub(super) async fn run(self, format: Format) -> anyhow::Result<Verdict> {
        let format = format.or_json(self.json);
        let allowed_loss = match &self.allow_loss {
            Some(text) => AllowedLoss::parse(text)?,
            None => AllowedLoss::default(),
        };
        let credentials = self.credentials.read()?;
        let served_by = self.grpc_addr.zip(self.http_addr);
        let options = VerifyOptions {
            oplogs: self.oplog,
            database_url: self.database_url,
            redis_url: self.redis_url.unwrap_or_default(),
            redis_prefix: self.redis_prefix,
            served_by: served_by.map(|(grpc, http)| ServedBy { grpc, http, credentials }),
            wait: Duration::from_secs_f64(self.wait),
            allowed_loss,
            allow_dead: self.allow_dead,
            shared: self.shared,
        };
        if !self.history.is_empty() {
            let JudgementArgs { excuses, strict, asked_again, confirm_rewrites } = self.judgement;
            let observed = Observed { asked_again, confirm_rewrites };
            let of = HistoryOptions { histories: self.history, excuses, strict, observed };
            let report = Box::pin(verify::judge(&options, &of)).await?;
            print_one(format, &report, || print!("{report}"))?;
            return Ok(Verdict::from_fine(report.is_fine()));
        }
        let report = Box::pin(verify::run(&options)).await?;
        if let Some(path) = &self.lost_file {
            let text: String = report.lost_pairs.iter().map(|pair| verify::loss_line(*pair)).collect();
            std::fs::write(path, text).with_context(|| format!("could not write {}", path.display()))?;
        }
        print_one(format, &report, || report.print())?;
        Ok(Verdict::from_fine(report.is_fine()))
    }
}
