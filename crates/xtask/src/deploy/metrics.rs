//! The metrics of the source and those of `deploy/METRICS.md`.

use super::tree::{Problems, Tree};
use anyhow::{Context, Result};
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

/// The programs, by their letter in `deploy/METRICS.md`.
pub(crate) const PROGRAMS: &[(&str, &str)] =
    &[("S", "interaction-server"), ("C", "sync-consumer"), ("K", "consistency-checker"), ("A", "standalone")];

const TABLE: &str = "deploy/METRICS.md";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Metric {
    pub(crate) kind: String,
    pub(crate) labels: BTreeSet<String>,
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels: Vec<_> = self.labels.iter().map(String::as_str).collect();
        write!(f, "{} with labels [{}]", self.kind, labels.join(", "))
    }
}

/// A line of the table.
#[derive(Debug)]
pub(crate) struct Documented {
    pub(crate) metric: Metric,
    /// Letters of the programs that move it.
    pub(crate) moved_by: Vec<String>,
    /// Shown from the start, not only after the first event.
    pub(crate) from_start: bool,
}

/// What the source says.
#[derive(Debug, Default)]
pub(crate) struct Source {
    pub(crate) metrics: BTreeMap<String, Metric>,
    /// Those that have a HELP line: a literal name and, after it, a literal text.
    pub(crate) described: BTreeSet<String>,
    /// Every text in it that is one word: what a label may be compared with.
    pub(crate) words: BTreeSet<String>,
}

impl Source {
    /// All product code, as the compiler's tokens: comments and texts cannot be mistaken for code.
    ///
    /// # Errors
    ///
    /// If a file cannot be read.
    pub(crate) fn read(root: &Path, problems: &mut Problems) -> Result<Self> {
        let mut source = Self::default();
        for directory in std::fs::read_dir(root.join("crates"))? {
            let directory = directory?;
            if directory.file_name() != env!("CARGO_PKG_NAME") {
                source.add_directory(root, &directory.path().join("src"), problems)?;
            }
        }
        if source.metrics.is_empty() {
            problems.say("no metric found in crates/*/src".into());
        }
        Ok(source)
    }

    fn add_directory(&mut self, root: &Path, directory: &Path, problems: &mut Problems) -> Result<()> {
        if !directory.is_dir() {
            return Ok(());
        }
        let mut paths = std::fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        paths.sort();
        for path in paths {
            if path.is_dir() {
                self.add_directory(root, &path, problems)?;
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
                let text = std::fs::read_to_string(&path).with_context(|| name.clone())?;
                self.add(&name, &text, problems);
            }
        }
        Ok(())
    }

    fn add(&mut self, name: &str, text: &str, problems: &mut Problems) {
        match text.parse::<TokenStream>() {
            Ok(tokens) => self.add_tokens(name, tokens, problems),
            Err(error) => problems.say(format!("{name}: {error}")),
        }
    }

    fn add_tokens(&mut self, name: &str, tokens: TokenStream, problems: &mut Problems) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        for (position, token) in tokens.iter().enumerate() {
            if let Some(word) = text_of(token).filter(|text| is_word(text)) {
                self.words.insert(word);
            }
            if let Some(name) = described(&tokens[position..]) {
                self.described.insert(name);
            }
            let TokenTree::Group(group) = token else { continue };
            self.add_tokens(name, group.stream(), problems);
            let [.., TokenTree::Ident(kind), TokenTree::Punct(mark)] = &tokens[..position] else { continue };
            let kind = kind.to_string();
            let is_metric = ["counter", "gauge", "histogram"].contains(&kind.as_str());
            if !is_metric || mark.as_char() != '!' || group.delimiter() != Delimiter::Parenthesis {
                continue;
            }
            // Without a literal it is a list of names to be shown from the start; each is used with its literal elsewhere.
            let Some((metric, labels)) = use_of_metric(group.stream()) else { continue };
            let found = Metric { kind, labels };
            let known = self.metrics.entry(metric.clone()).or_insert_with(|| found.clone());
            if *known != found {
                problems.say(format!("{name}: {metric} is a {found} here and a {known} elsewhere"));
            }
        }
    }
}

/// The name at the beginning of `"name", "some text"`.
fn described(tokens: &[TokenTree]) -> Option<String> {
    let [name, TokenTree::Punct(comma), help, ..] = tokens else { return None };
    let (name, help) = (text_of(name)?, text_of(help)?);
    (comma.as_char() == ',' && is_word(&name) && help.contains(' ')).then_some(name)
}

/// Name and labels of `"name", "label" => value, ...`.
fn use_of_metric(arguments: TokenStream) -> Option<(String, BTreeSet<String>)> {
    let tokens: Vec<_> = arguments.into_iter().collect();
    let name = tokens.first().and_then(text_of)?;
    let labels = tokens.windows(3).filter_map(|window| match window {
        [label, TokenTree::Punct(equals), TokenTree::Punct(greater)]
            if equals.as_char() == '=' && greater.as_char() == '>' =>
        {
            text_of(label)
        }
        _ => None,
    });
    Some((name, labels.collect()))
}

/// What a literal text holds, if it has no escapes.
fn text_of(token: &TokenTree) -> Option<String> {
    let TokenTree::Literal(literal) = token else { return None };
    let text = literal.to_string();
    let inside = text.strip_prefix('"')?.strip_suffix('"')?;
    (!inside.contains('\\')).then(|| inside.to_owned())
}

/// Letters, digits and underscores, and at least one.
pub(crate) fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|char| char.is_alphanumeric() || char == '_')
}

/// The table of `deploy/METRICS.md`, by name.
pub(crate) fn table(tree: &Tree, problems: &mut Problems) -> BTreeMap<String, Documented> {
    let mut found = BTreeMap::new();
    for line in tree.text(TABLE, problems).lines() {
        let cells: Vec<_> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        let &[name, kind, labels, _unit, _meaning, moved_by, shown] = cells.as_slice() else { continue };
        let Some(name) = name.strip_prefix('`').and_then(|name| name.strip_suffix('`')).filter(|name| is_word(name))
        else {
            continue;
        };
        let moved_by: Vec<_> = moved_by.split_whitespace().map(str::to_owned).collect();
        let known = |letter: &String| PROGRAMS.iter().any(|(known, _)| known == letter);
        if !moved_by.iter().all(known) || !["start", "use"].contains(&shown) {
            problems.say(format!("{TABLE}: {name}: the last two columns make no sense"));
        }
        let labels = labels.split(|char: char| !char.is_alphanumeric() && char != '_');
        let labels = labels.filter(|label| !label.is_empty()).map(str::to_owned).collect();
        let metric = Metric { kind: kind.to_owned(), labels };
        let documented = Documented { metric, moved_by, from_start: shown == "start" };
        if found.insert(name.to_owned(), documented).is_some() {
            problems.say(format!("{TABLE}: {name} stands there twice"));
        }
    }
    found
}

/// What names start with, but for those that all clients of Prometheus call the same.
const PREFIX: &str = "interaction_";
const OF_ALL_CLIENTS: &[&str] = &["process_resident_memory_bytes"];

pub(crate) fn compare(source: &Source, table: &BTreeMap<String, Documented>, problems: &mut Problems) {
    for (name, metric) in &source.metrics {
        if !name.starts_with(PREFIX) && !OF_ALL_CLIENTS.contains(&name.as_str()) {
            problems.say(format!("crates/*/src: {name} does not start with {PREFIX}"));
        }
        if !source.described.contains(name) {
            problems.say(format!("crates/*/src: {name} has no HELP line"));
        }
        match table.get(name) {
            None => problems.say(format!("{TABLE}: lacks {name}")),
            Some(documented) if documented.metric != *metric => {
                problems.say(format!("{TABLE}: {name} is a {} there, in the source a {metric}", documented.metric));
            }
            Some(_) => {}
        }
    }
    for name in table.keys().filter(|name| !source.metrics.contains_key(*name)) {
        problems.say(format!("{TABLE}: {name} is nowhere in crates/*/src"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> (Source, Vec<String>) {
        let (mut source, mut problems) = (Source::default(), Problems::default());
        source.add("a.rs", text, &mut problems);
        (source, problems.into_lines())
    }

    #[test]
    fn metrics_are_found_in_code_and_nowhere_else() {
        let (found, problems) = source(
            r#"
            // counter!("comment_total")
            const TEXT: &str = "counter!(\"text_total\")";
            fn f() {
                if true { metrics::counter!("a_total", "kind" => x.name(), "verdict" => g("y")).increment(1); }
                let _registered = histogram!("b_seconds");
                counter!(name, label => *value).increment(0);
                print!("c_total");
                describe_counter!("a_total", "Things that came");
                f("b_seconds", "word");
            }
            "#,
        );
        assert_eq!(problems, Vec::<String>::new());
        let shown: Vec<_> = found.metrics.iter().map(|(name, metric)| format!("{name}: {metric}")).collect();
        assert_eq!(shown, ["a_total: counter with labels [kind, verdict]", "b_seconds: histogram with labels []"]);
        assert_eq!(found.described.iter().collect::<Vec<_>>(), ["a_total"]);
        assert!(found.words.contains("y") && !found.words.contains("comment_total"));
    }

    #[test]
    fn a_metric_of_two_kinds_is_a_problem() {
        let (_, problems) = source(r#"fn f() { gauge!("a").set(1.0); counter!("a").increment(1); }"#);
        assert_eq!(problems, ["a.rs: a is a counter with labels [] here and a gauge with labels [] elsewhere"]);
        let (_, problems) = source("fn f() { counter!(");
        assert_eq!(problems.len(), 1, "{problems:?}");
    }

    #[test]
    fn the_table_is_compared_both_ways() {
        let row = |name: &str, kind: &str| format!("| `{name}` | {kind} | `kind` | rows | Rows | S A | start |\n");
        let text = [
            row("interaction_a", "gauge"),
            row("b", "counter"),
            row("b", "counter"),
            "| `c` | gauge | | | | X | start |".into(),
        ];
        let tree = Tree::of_texts([(TABLE, text.concat())]);
        let mut problems = Problems::default();
        let table = table(&tree, &mut problems);
        let (source, _) = source(
            r#"fn f() { counter!("interaction_a", "kind" => 1); counter!("d"); describe_counter!("d", "A d"); }"#,
        );
        compare(&source, &table, &mut problems);
        let expected = [
            "b stands there twice",
            "c: the last two columns make no sense",
            "lacks d",
            "interaction_a is a gauge with labels [kind] there, in the source a counter with labels [kind]",
            "b is nowhere in crates/*/src",
            "c is nowhere in crates/*/src",
        ];
        let (of_table, of_source): (Vec<_>, Vec<_>) =
            problems.into_lines().into_iter().partition(|line| line.starts_with(TABLE));
        assert_eq!(of_table, expected.map(|line| format!("{TABLE}: {line}")));
        let expected = ["d does not start with interaction_", "interaction_a has no HELP line"];
        assert_eq!(BTreeSet::from_iter(of_source), expected.map(|line| format!("crates/*/src: {line}")).into());
    }
}
