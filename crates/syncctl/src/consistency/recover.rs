//! `recover`: brings back from cached pairs what a database has lost that became what it once was.

use super::StoreArgs;
use crate::Verdict;
use crate::cli::interrupt_on_signal;
use clap::Args;
use indicatif::ProgressBar;
use sync_engine::RetryConfig;
use sync_engine::apply::Applier;
use sync_engine::recover::lost_pairs::{LostPairs, Recovered};
use tokio_util::sync::CancellationToken;

/// Arguments of `recover`.
#[derive(Debug, Args)]
pub(crate) struct RecoverArgs {
    #[command(flatten)]
    stores: StoreArgs,
    /// Only say what the database has lost.
    #[arg(long)]
    dry_run: bool,
}

impl RecoverArgs {
    /// Problems if something is lost and not brought back.
    pub(crate) async fn run(self) -> anyhow::Result<Verdict> {
        let stores = super::open_stores(&self.stores).await?;
        stores.prepare_database().await?;
        match stores.history.went_back() {
            Some(evidence) => eprintln!("the database went back in time: {evidence}"),
            None => eprintln!("nothing says that the database went back in time"),
        }
        let applier = Applier::new(stores.clone(), RetryConfig::default().into());
        let recovery = LostPairs::new(stores, applier, self.stores.max_rate, self.dry_run);
        let interrupt = CancellationToken::new();
        tokio::spawn(interrupt_on_signal(interrupt.clone()));
        let bar = if self.stores.json { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
        let done = recovery
            .run(&interrupt, |done| {
                bar.tick();
                bar.set_message(line(&done));
            })
            .await?;
        bar.finish_and_clear();
        if self.stores.json {
            println!("{}", serde_json::to_string(&done)?);
        } else {
            let interrupted = if done.finished { "" } else { "interrupted: " };
            let written = if self.dry_run { " (nothing was to be written)" } else { "" };
            println!("{interrupted}{}{written}", line(&done));
        }
        Ok(Verdict::from_fine(done.finished && done.lost == done.applied))
    }
}

fn line(done: &Recovered) -> String {
    let Recovered { pairs, lost, applied, in_ledger, recounted, .. } = *done;
    format!(
        "{pairs} cached pairs, {lost} lost, {applied} applied again, {in_ledger} left to the ledger, \
         {recounted} counters counted again"
    )
}
