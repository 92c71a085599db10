//! Everything under `deploy/`, read once.

use super::yaml;
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// The services' configuration file.
pub(crate) const CONFIGURATION: &str = "deploy/config/event_driven_sync.yml";

/// What is wrong, a line each.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<String>);

impl Problems {
    pub(crate) fn say(&mut self, line: String) {
        if !self.0.contains(&line) {
            self.0.push(line);
        }
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.0
    }
}

/// Files by their path in the repository.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    pub(crate) texts: BTreeMap<String, String>,
    /// Of every YAML and JSON file, its documents.
    pub(crate) parsed: BTreeMap<String, Vec<Value>>,
}

impl Tree {
    /// # Errors
    ///
    /// If a file cannot be read.
    pub(crate) fn read(root: &Path, problems: &mut Problems) -> Result<Self> {
        let mut tree = Self::default();
        tree.add_directory(root, &root.join("deploy"))?;
        let names: Vec<_> = tree.texts.keys().cloned().collect();
        for name in names.iter().filter(|name| [".yml", ".yaml", ".json"].iter().any(|end| name.ends_with(end))) {
            match yaml::read(name, &tree.texts[name]) {
                Ok(documents) => _ = tree.parsed.insert(name.clone(), documents),
                Err(error) => problems.say(format!("{name}: {error:#}")),
            }
        }
        Ok(tree)
    }

    fn add_directory(&mut self, root: &Path, directory: &Path) -> Result<()> {
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            if path.is_dir() {
                if name != "deploy/secrets" {
                    self.add_directory(root, &path)?;
                }
            } else {
                let text = std::fs::read_to_string(&path).with_context(|| name.clone())?;
                self.texts.insert(name, text);
            }
        }
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn of_texts<const N: usize>(texts: [(&str, String); N]) -> Self {
        Self { texts: texts.into_iter().map(|(name, text)| (name.to_owned(), text)).collect(), ..Self::default() }
    }

    /// A file's text; empty, and a problem, if there is no such file.
    pub(crate) fn text(&self, name: &str, problems: &mut Problems) -> &str {
        self.texts.get(name).map_or_else(
            || {
                problems.say(format!("{name}: there is no such file"));
                ""
            },
            String::as_str,
        )
    }

    /// The first document of a file; null if there is none.
    pub(crate) fn document(&self, name: &str) -> &Value {
        self.parsed.get(name).and_then(|documents| documents.first()).unwrap_or(&Value::Null)
    }
}
