//! `load --people`.

use crate::UsageError;
use crate::people::Knobs;
use clap::Args;
use std::path::PathBuf;

/// What only people have.
#[derive(Debug, Args)]
#[command(next_help_heading = "People")]
pub(super) struct PeopleArgs {
    /// Act as so many people with one to three devices each, who give up, go on elsewhere, repeat keys and read in between.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    people: Option<u32>,
    /// Write every attempt to this file, for verify --history.
    #[arg(long, requires = "people")]
    history: Option<PathBuf>,
    /// How often people do what: NAME=SHARE, from 0 to 1; may be repeated. `--share help` shows all.
    #[arg(long = "share", requires = "people")]
    shares: Vec<String>,
}

impl PeopleArgs {
    pub(super) const fn number(&self) -> Option<u32> {
        self.people
    }

    pub(super) fn history(&self) -> Option<PathBuf> {
        self.history.clone()
    }

    pub(super) fn knobs(&self) -> Result<Knobs, UsageError> {
        let mut knobs = Knobs::default();
        for share in &self.shares {
            if share == "help" {
                return Err(UsageError(format!("--share NAME=SHARE, from 0 to 1:\n{knobs}")));
            }
            knobs.set(share).map_err(|wrong| UsageError(format!("--share: {wrong}")))?;
        }
        Ok(knobs)
    }
}
