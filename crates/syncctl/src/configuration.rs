//! `config`: what a file means here, key by key, and the same in our keys.

use crate::{UsageError, Verdict};
use anyhow::Context;
use clap::Subcommand;
use settings::old_system::{check, convert};
use std::path::{Path, PathBuf};

/// What to do with a file.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Says of every key what it means here; exit code 1 if one is unknown or has a value that cannot be used.
    Check {
        /// YAML, ours or the old system's.
        file: PathBuf,
    },
    /// Prints the same configuration in our keys, passwords included.
    Convert {
        /// YAML, ours or the old system's.
        file: PathBuf,
    },
}

impl ConfigCommand {
    pub(crate) fn run(self) -> anyhow::Result<Verdict> {
        match self {
            Self::Check { file } => {
                let (name, text) = read(&file)?;
                let checked = check(&name, &text).map_err(unusable)?;
                for (key, meaning) in &checked.keys {
                    println!("{key}: {meaning}");
                }
                match &checked.refused {
                    None => println!("every program starts with this file as it is"),
                    Some(refused) => {
                        println!("no program starts with this file as it is ({refused})");
                        if checked.is_answered() {
                            println!("syncctl config convert {name} writes one that they start with");
                        }
                    }
                }
                Ok(Verdict::from_fine(checked.is_answered()))
            }
            Self::Convert { file } => {
                let (name, text) = read(&file)?;
                print!("{}", convert(&name, &text).map_err(unusable)?);
                Ok(Verdict::Fine)
            }
        }
    }
}

fn read(file: &Path) -> anyhow::Result<(String, String)> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).with_context(|| name.clone())?;
    Ok((name, text))
}

fn unusable(error: impl std::fmt::Display) -> anyhow::Error {
    UsageError(error.to_string()).into()
}
