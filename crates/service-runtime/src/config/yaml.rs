//! The file as a tree. Words keep their letters until a key takes them: a password `12345`, a version `1.10` and a name `no`
//! are what they look like, and a number is read by the key that wants one.

use super::load::ConfigError;
use super::value::Node;
use std::collections::{BTreeMap, HashMap};
use yaml_rust2::parser::{Event, Parser, Tag};
use yaml_rust2::scanner::{Marker, ScanError, TScalarStyle};

const MAX_DEPTH: usize = 32;

/// Aliases of aliases grow quickly.
const MAX_NODES: usize = 100_000;

/// The map that a file holds; `name` is what errors call the file.
pub(super) fn read(name: &str, text: &str) -> Result<BTreeMap<String, Node>, ConfigError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader =
        Reader { name, text, parser: Parser::new_from_str(text), anchors: HashMap::new(), path: Vec::new(), nodes: 0 };
    let mut found = None;
    loop {
        match reader.next()?.0 {
            Event::StreamEnd => break,
            Event::Nothing | Event::StreamStart | Event::DocumentStart | Event::DocumentEnd => {}
            _ if found.is_some() => return Err(reader.syntax("holds several documents, divided by ---".to_owned())),
            event => found = Some(reader.node(event)?),
        }
    }
    match found {
        None | Some(Node::Null) => Ok(BTreeMap::new()),
        Some(Node::Map(entries)) => Ok(entries),
        Some(_) => Err(reader.syntax("must hold sections, such as redis:".to_owned())),
    }
}

struct Reader<'t> {
    name: &'t str,
    text: &'t str,
    parser: Parser<std::str::Chars<'t>>,
    anchors: HashMap<usize, Node>,
    path: Vec<String>,
    nodes: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Result<(Event, Marker), ConfigError> {
        self.parser.next_token().map_err(|error| self.unreadable(&error))
    }

    fn syntax(&self, reason: String) -> ConfigError {
        ConfigError::Syntax { file: self.name.to_owned(), reason }
    }

    /// An error about the key that is being read.
    fn wrong(&self, reason: impl std::fmt::Display) -> ConfigError {
        ConfigError::key(if self.path.is_empty() { self.name.to_owned() } else { self.path.join(".") }, reason)
    }

    /// Names the line, and the key in it if there is one.
    fn unreadable(&self, error: &ScanError) -> ConfigError {
        let number = error.marker().line();
        let line = self.text.lines().nth(number.saturating_sub(1)).unwrap_or_default();
        let key = line.split_once(':').map(|(key, _)| key.trim().trim_start_matches("- "));
        let named = |key: &&str| !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let key = key.filter(named).map(|key| format!(", {key}")).unwrap_or_default();
        let tab = line.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t');
        let tab = if tab { " (it begins with a tab: YAML takes spaces)" } else { "" };
        self.syntax(format!("line {number}{key}: {}{tab}", error.info()))
    }

    fn node(&mut self, event: Event) -> Result<Node, ConfigError> {
        self.nodes += 1;
        if self.path.len() > MAX_DEPTH || self.nodes > MAX_NODES {
            return Err(self.wrong("holds too much: more than any configuration"));
        }
        let (anchor, node) = match event {
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                let node = node.ok_or_else(|| self.wrong("is an alias of what it stands in"))?;
                self.nodes += weight(&node);
                return Ok(node);
            }
            Event::Scalar(text, style, anchor, tag) => (anchor, self.scalar(text, style, tag)?),
            Event::SequenceStart(anchor, tag) => {
                self.refuse(tag)?;
                (anchor, self.list()?)
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse(tag)?;
                (anchor, self.map()?)
            }
            _ => return Err(self.wrong("ends too early")),
        };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn refuse(&self, tag: Option<Tag>) -> Result<(), ConfigError> {
        tag.map_or(Ok(()), |tag| {
            Err(self.wrong(format!("has the tag {}{}, which means nothing here", tag.handle, tag.suffix)))
        })
    }

    fn scalar(&self, text: String, style: TScalarStyle, tag: Option<Tag>) -> Result<Node, ConfigError> {
        let word = match tag {
            None => style == TScalarStyle::Plain,
            Some(tag) if tag.handle == "tag:yaml.org,2002:" => match tag.suffix.as_str() {
                "str" => false,
                "int" | "float" | "bool" | "null" => true,
                _ => return self.refuse(Some(tag)).map(|()| Node::Null),
            },
            tag => return self.refuse(tag).map(|()| Node::Null),
        };
        Ok(match text.as_str() {
            "" | "~" | "null" | "Null" | "NULL" if word => Node::Null,
            _ if word => Node::Plain(text),
            _ => Node::Text(text),
        })
    }

    fn list(&mut self) -> Result<Node, ConfigError> {
        let mut items = Vec::new();
        loop {
            match self.next()?.0 {
                Event::SequenceEnd => return Ok(Node::List(items)),
                event => {
                    self.path.push(items.len().to_string());
                    items.push(self.node(event)?);
                    self.path.pop();
                }
            }
        }
    }

    fn map(&mut self) -> Result<Node, ConfigError> {
        let mut entries = BTreeMap::new();
        let mut lines: HashMap<String, usize> = HashMap::new();
        let mut merged = Vec::new();
        loop {
            let (event, marker) = self.next()?;
            let (key, plain) = match event {
                Event::MappingEnd => break,
                Event::Scalar(key, style, ..) => (key, style == TScalarStyle::Plain),
                _ => return Err(self.wrong(format!("line {}: a key that is no word", marker.line()))),
            };
            self.path.push(key.clone());
            if let Some(before) = lines.insert(key.clone(), marker.line()) {
                return Err(self.wrong(format!("is given twice, in lines {before} and {}", marker.line())));
            }
            let event = self.next()?.0;
            let value = self.node(event)?;
            match value {
                Node::Map(more) if plain && key == "<<" => merged.push(more),
                Node::List(items) if plain && key == "<<" => {
                    for item in items {
                        let Node::Map(more) = item else { return Err(self.wrong("must be a section, or several")) };
                        merged.push(more);
                    }
                }
                _ if plain && key == "<<" => return Err(self.wrong("must be a section, or several")),
                value => drop(entries.insert(key, value)),
            }
            self.path.pop();
        }
        // What stands in the map itself counts, then what was merged first.
        for (key, value) in merged.into_iter().flatten() {
            entries.entry(key).or_insert(value);
        }
        Ok(Node::Map(entries))
    }
}

fn weight(node: &Node) -> usize {
    match node {
        Node::Map(entries) => 1 + entries.values().map(weight).sum::<usize>(),
        Node::List(items) => 1 + items.iter().map(weight).sum::<usize>(),
        _ => 1,
    }
}
