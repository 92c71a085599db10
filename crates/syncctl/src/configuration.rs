//! `config`: what a file means here, key by key, and the same in our keys.

use crate::output::{Format, Row, print};
use crate::{UnusableConfig, Verdict};
use anyhow::{Context, ensure};
use clap::Subcommand;
use serde::Serialize;
use settings::ENV_PREFIX;
use settings::old_system::{Checked, Meaning, Start, check, convert};

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Programs take no longer ones, either.
const MAX_LEN: u64 = 1 << 20;

/// What to do with a file.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Says of every key what it means here, and of every program whether it starts with the file in this environment; exit code
    /// 1 if one does not that the file is for.
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

/// A key of the file, a program that may start with it, or what should be looked at.
#[derive(Debug, Serialize)]
struct ConfigRow {
    /// `key`, `program` or `remark`.
    what: &'static str,
    name: String,
    says: String,
}

impl Row for ConfigRow {
    const HEADERS: &'static [&'static str] = &["WHAT", "NAME", "SAYS"];

    fn cells(&self) -> Vec<String> {
        vec![self.what.to_owned(), self.name.clone(), self.says.clone()]
    }
}

fn rows(checked: &Checked) -> Vec<ConfigRow> {
    let keys = checked.keys.iter();
    let keys = keys.map(|(key, meaning)| ConfigRow { what: "key", name: key.clone(), says: meaning.to_string() });
    let programs = checked.programs.iter().map(|start| ConfigRow {
        what: "program",
        name: start.program.name().to_owned(),
        says: start.refused.as_ref().map_or_else(|| "starts".to_owned(), |why| format!("does not start: {why}")),
    });
    let remark = |remark: &String| {
        let (key, says) = remark.split_once(": ").unwrap_or(("", remark));
        ConfigRow { what: "remark", name: key.to_owned(), says: says.to_owned() }
    };
    keys.chain(programs).chain(checked.remarks.iter().map(remark)).collect()
}

impl ConfigCommand {
    pub(crate) async fn run(self, format: Format) -> anyhow::Result<Verdict> {
        match self {
            Self::Check { file } => {
                let (name, text) = read(&file)?;
                let environment =
                    std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value))).collect::<Vec<_>>();
                let checked = check(&name, &text, &environment).await.map_err(unusable)?;
                let fine = Checked::all_start(&checked.programs);
                if format != Format::Table {
                    print(format, &rows(&checked))?;
                    return Ok(Verdict::from_fine(fine && checked.is_answered()));
                }
                for (key, meaning) in &checked.keys {
                    println!("{key}: {meaning}");
                }
                let variables = environment.iter().filter(|(name, _)| name.starts_with(ENV_PREFIX)).count();
                if variables > 0 {
                    println!("{variables} variables {ENV_PREFIX}... of this environment count, too");
                }
                checked.remarks.iter().for_each(|remark| println!("look at {remark}"));
                say(&checked.programs);
                if !fine && checked.keys.iter().any(|(_, meaning)| !matches!(meaning, Meaning::Ours)) {
                    advise(&name, &checked);
                }
                Ok(Verdict::from_fine(fine && checked.is_answered()))
            }
            Self::Convert { file } => {
                let (name, text) = read(&file)?;
                print!("{}", convert(&name, &text).map_err(unusable)?);
                Ok(Verdict::Fine)
            }
        }
    }
}

fn lossy(text: OsString) -> String {
    text.to_string_lossy().into_owned()
}

fn say(starts: &[Start]) {
    for Start { program, meant, refused } in starts {
        let aside = if *meant { "" } else { " (the file is not for it)" };
        match refused {
            None => println!("{}{aside}: starts", program.name()),
            Some(refused) => println!("{}{aside}: does not start: {refused}", program.name()),
        }
    }
}

/// What becomes of it in our keys: only what is true.
fn advise(name: &str, checked: &Checked) {
    match &checked.converted {
        Err(error) => println!("it cannot be converted before this is mended: {error}"),
        Ok(starts) if Checked::all_start(starts) => {
            println!("syncctl config convert {name} writes one that they start with");
        }
        Ok(starts) => {
            println!("in our keys, as syncctl config convert {name} writes it:");
            say(starts);
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
    UnusableConfig(error.to_string()).into()
}
