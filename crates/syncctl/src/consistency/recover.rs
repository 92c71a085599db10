//! `recover`: tells a database again what it has lost that became what it once was.

use super::StoreArgs;
use crate::Verdict;
use crate::cli::interrupt_on_signal;
use crate::events::parse_time;
use crate::output::{Format, print_one};
use crate::progress;
#[cfg(feature = "distributed")]
use crate::redo;
use chrono::{DateTime, Utc};
use clap::Args;
use event_store::WentBack;
use serde::Serialize;
use std::path::PathBuf;
use sync_engine::apply::Applier;
use sync_engine::recover::lost_pairs::{LostPairs, Recovered};
#[cfg(feature = "distributed")]
use sync_engine::recover::replay::ReplayOptions;
use sync_engine::{RecoveryConfig, RetryConfig, Stores};
use tokio_util::sync::CancellationToken;

/// Arguments of `recover`.
#[derive(Debug, Args)]
pub(crate) struct RecoverArgs {
    #[command(flatten)]
    stores: StoreArgs,
    /// Only say what the database has lost.
    #[arg(long)]
    dry_run: bool,
    /// From the redo log, what was published at or after: when the copy of the database was made, or earlier by as much as
    /// likes waited then. Without it: from the cached pairs.
    #[arg(long, value_parser = parse_time, requires = "amqp_url")]
    since: Option<DateTime<Utc>>,
    /// Broker with the log, for example amqp://user:password@host/%2f.
    #[arg(long, env = "AMQP_URL", help_heading = "Stores", hide_env_values = true)]
    amqp_url: Option<String>,
    /// Authority of an amqps:// url, PEM; beside the public ones.
    #[arg(long, env = "AMQP_CA_FILE", help_heading = "Stores")]
    amqp_ca_file: Option<PathBuf>,
    /// What the names of exchanges and queues start with.
    #[arg(long, env = "AMQP_PREFIX", help_heading = "Stores", default_value = "interaction")]
    amqp_prefix: String,
    /// Begin the log again instead of going on where the last run with this --since stopped; harmless, only slower.
    #[arg(long, requires = "since")]
    restart: bool,
    /// Events of the log asked for, and applied, at once.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..=4096))]
    batch_size: u16,
}

impl RecoverArgs {
    /// Problems if something is lost and not brought back.
    pub(crate) async fn run(self, format: Format) -> anyhow::Result<Verdict> {
        let format = format.or_json(self.stores.json);
        let stores = super::open_stores(&self.stores).await?;
        #[cfg(feature = "distributed")]
        if let Some(log) = self.log(format)? {
            return redo::recover(stores, RetryConfig::default(), log).await;
        }
        self.recover_pairs(stores, format).await
    }

    #[cfg(feature = "distributed")]
    fn log(&self, format: Format) -> anyhow::Result<Option<redo::LogRecovery>> {
        let (Some(since), Some(amqp_url)) = (self.since, self.amqp_url.clone()) else { return Ok(None) };
        let (amqp_ca_file, amqp_prefix) = (self.amqp_ca_file.clone(), self.amqp_prefix.clone());
        let bus = redo::BrokerArgs { amqp_url, amqp_ca_file, amqp_prefix }.config()?;
        let (dry_run, restart, batch_size) = (self.dry_run, self.restart, self.batch_size.into());
        let options = ReplayOptions { since, dry_run, restart, batch_size };
        Ok(Some(redo::LogRecovery { bus, options, format }))
    }

    async fn recover_pairs(self, stores: Stores, format: Format) -> anyhow::Result<Verdict> {
        stores.prepare_database().await?;
        let step_back = stores.history.went_back().map(|evidence| StepBack::of(&evidence));
        match &step_back {
            Some(step_back) => eprintln!("{}", step_back.in_words()),
            None => eprintln!("nothing says that the database went back in time"),
        }
        let applier = Applier::new(stores.clone(), RetryConfig::default().into());
        let recovery = LostPairs::new(stores, applier, self.stores.max_rate, self.dry_run)
            .at_once(RecoveryConfig::default().at_once);
        let interrupt = CancellationToken::new();
        tokio::spawn(interrupt_on_signal(interrupt.clone()));
        let bar = progress::spinner(format);
        let done = recovery
            .run(&interrupt, |done| {
                bar.tick();
                bar.set_message(line(&done));
            })
            .await?;
        progress::finish(&bar);
        print_one(format, &Told { step_back, done }, || {
            let interrupted = if done.finished { "" } else { "interrupted: " };
            let written = if self.dry_run { " (nothing was to be written)" } else { "" };
            println!("{interrupted}{}{written}", line(&done));
        })?;
        Ok(Verdict::from_fine(done.finished && done.lost == done.applied))
    }
}

/// What is known of the step back.
#[derive(Debug, Serialize)]
struct StepBack {
    evidence: String,
    noticed_at: DateTime<Utc>,
    /// The latest commit that is known to be lost.
    from: DateTime<Utc>,
    /// How far; none: nobody can say.
    back_to: Option<DateTime<Utc>>,
}

impl StepBack {
    fn of(evidence: &WentBack) -> Self {
        let (noticed_at, from, back_to) = (evidence.noticed_at, evidence.lost_until, evidence.back_to());
        Self { evidence: evidence.to_string(), noticed_at, from, back_to }
    }

    fn in_words(&self) -> String {
        let Self { evidence, noticed_at, from, back_to } = self;
        let back_to = back_to.map_or_else(|| "an unknown time".to_owned(), |at| at.to_rfc3339());
        let (from, noticed_at) = (from.to_rfc3339(), noticed_at.to_rfc3339());
        format!("the database went back from {from} to {back_to}, noticed at {noticed_at}: {evidence}")
    }
}

/// What the command says: why, and what came back, all of it from cached pairs.
#[derive(Debug, Serialize)]
struct Told {
    step_back: Option<StepBack>,
    #[serde(flatten)]
    done: Recovered,
}

fn line(done: &Recovered) -> String {
    let Recovered { pairs, lost, applied, in_ledger, recounted, .. } = *done;
    format!(
        "cached pairs {pairs}, lost {lost}, applied again {applied}, left to the ledger {in_ledger}, \
         counted again {recounted}"
    )
}
