//! `load --people`.

use crate::UsageError;
use crate::people::Knobs;
use clap::Args;
use std::path::PathBuf;

/// What only people have.
#[derive(Debug, Args)]
pub(super) struct PeopleArgs {
    /// Act as so many people with one to three devices each, who give up, go on elsewhere, repeat keys and read in between.
    #[arg(long, help_heading = "People", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    people: Option<u32>,
    /// Write every attempt to this file, for verify --history.
    #[arg(long, help_heading = "People", requires = "people")]
    history: Option<PathBuf>,
    /// How often people do what: NAME=SHARE, from 0 to 1; may be repeated. `--share help` shows all, and does nothing else.
    #[arg(long = "share", help_heading = "People")]
    shares: Vec<String>,
}

impl PeopleArgs {
    pub(super) const fn number(&self) -> Option<u32> {
        self.people
    }

    pub(super) fn history(&self) -> Option<PathBuf> {
        self.history.clone()
    }

    /// All shares, if that is what was asked for.
    pub(super) fn help(&self) -> Option<String> {
        let asked = self.shares.iter().any(|share| share == "help");
        asked.then(|| format!("--share NAME=SHARE, from 0 to 1:\n{}", Knobs::default()))
    }

    pub(super) fn has_shares(&self) -> bool {
        !self.shares.is_empty()
    }

    pub(super) fn knobs(&self) -> Result<Knobs, UsageError> {
        let mut knobs = Knobs::default();
        for share in &self.shares {
            knobs.set(share).map_err(|wrong| UsageError(format!("--share: {wrong}")))?;
        }
        Ok(knobs)
    }
}
