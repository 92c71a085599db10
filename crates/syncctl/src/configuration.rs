//! `config`: what a file means here, key by key, and the same in our keys.

use crate::{UsageError, Verdict};
use anyhow::{Context, ensure};
use clap::Subcommand;
use settings::old_system::{check, convert};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Programs take no longer ones, either.
const MAX_LEN: u64 = 1 << 20;

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
    let mut text = String::new();
    let opened = File::open(file).with_context(|| name.clone())?;
    opened.take(MAX_LEN + 1).read_to_string(&mut text).with_context(|| name.clone())?;
    ensure!(text.len() as u64 <= MAX_LEN, "{name}: longer than {MAX_LEN} bytes");
    Ok((name, text))
}

fn unusable(error: impl std::fmt::Display) -> anyhow::Error {
    UsageError(error.to_string()).into()
}
