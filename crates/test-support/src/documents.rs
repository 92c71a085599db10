//! The repository's own documents, for tests that hold them to what is really there.
//!
//! Markdown is read as far as these tests need it: fences, inline code, headings, links. A fence that says
//! ` ```console runnable ` promises that its commands work as they stand; [`Document::commands`] are those.

use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Files of the working tree that git tracks, or would with the next commit.
#[derive(Debug)]
pub struct Repository {
    root: PathBuf,
    files: BTreeSet<String>,
}

/// One Markdown file.
#[derive(Debug)]
pub struct Document {
    /// Path from the root.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// A command of a runnable block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShellCommand {
    /// `path:line`.
    pub place: String,
    /// The words, without quotes; variables set for this command alone are left out.
    pub words: Vec<String>,
}

impl Repository {
    /// The one that this crate is part of.
    pub fn of_this_workspace() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
        let output = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(&root)
            .output()
            .context("git ls-files")?;
        ensure!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
        let listed = String::from_utf8(output.stdout)?;
        // A file that was removed and not committed is still listed.
        let there = listed.split_terminator('\0').filter(|file| root.join(file).is_file());
        let files: BTreeSet<String> = there.map(str::to_owned).collect();
        ensure!(files.contains("README.md"), "git lists no README.md in {}", root.display());
        Ok(Self { root, files })
    }

    /// The root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// All files, as paths from the root.
    pub const fn files(&self) -> &BTreeSet<String> {
        &self.files
    }

    /// Whether the path is a file, or a directory with files in it.
    pub fn has(&self, path: &str) -> bool {
        let below = format!("{}/", path.trim_end_matches('/'));
        path.is_empty()
            || self.files.contains(path)
            || self.files.range(below.clone()..).next().is_some_and(|next| next.starts_with(&below))
    }

    /// The text of a file.
    pub fn read(&self, path: &str) -> Result<String> {
        std::fs::read_to_string(self.root.join(path)).with_context(|| path.to_owned())
    }

    /// One document.
    pub fn document(&self, path: &str) -> Result<Document> {
        Ok(Document { path: path.to_owned(), text: self.read(path)? })
    }

    /// Every Markdown file.
    pub fn documents(&self) -> Result<Vec<Document>> {
        self.files.iter().filter(|file| file.ends_with(".md")).map(|file| self.document(file)).collect()
    }
}

impl Document {
    /// The text without what stands in fences: those lines are empty.
    pub fn prose(&self) -> String {
        let mut fence: Option<&str> = None;
        let mut prose = String::with_capacity(self.text.len());
        for line in self.text.lines() {
            let start = line.trim_start();
            let mark = ["```", "~~~"].into_iter().find(|mark| start.starts_with(mark));
            match (fence, mark) {
                (None, Some(mark)) => fence = Some(mark),
                (Some(open), Some(mark)) if open == mark && start.trim_end().len() == 3 => fence = None,
                (None, None) => prose.push_str(line),
                _ => {}
            }
            prose.push('\n');
        }
        prose
    }

    /// Where the document points to: the targets of links, images and the attributes `src`, `srcset` and `href`.
    pub fn links(&self) -> Vec<String> {
        links(&without_code(&self.prose()))
    }

    /// Inline code.
    pub fn code_spans(&self) -> Vec<String> {
        let prose = self.prose();
        spans(&prose).into_iter().map(|(start, end)| prose[start..end].trim_matches('`').trim().to_owned()).collect()
    }

    /// What a link can name after `#`, as the usual hosts make it of headings.
    pub fn anchors(&self) -> BTreeSet<String> {
        let mut seen = BTreeMap::<String, usize>::new();
        let mut anchors = BTreeSet::new();
        for (_, heading) in self.headings() {
            let slug = slug(&heading);
            let before = seen.entry(slug.clone()).or_default();
            anchors.insert(if *before == 0 { slug } else { format!("{slug}-{before}") });
            *before += 1;
        }
        anchors
    }

    /// Level and text of each heading.
    pub fn headings(&self) -> Vec<(usize, String)> {
        let prose = self.prose();
        let heading = |line: &str| {
            let level = line.bytes().take_while(|byte| *byte == b'#').count();
            let text = line[level..].strip_prefix(' ')?;
            (1..=6).contains(&level).then(|| (level, text.trim().to_owned()))
        };
        prose.lines().filter_map(heading).collect()
    }

    /// The part below a heading of the second level.
    pub fn section(&self, heading: &str) -> Result<Self> {
        let start = format!("\n## {heading}\n");
        let (_, rest) =
            self.text.split_once(&start).with_context(|| format!("{} has no \"## {heading}\"", self.path))?;
        let text = rest.split("\n## ").next().unwrap_or(rest).to_owned();
        Ok(Self { path: self.path.clone(), text })
    }

    /// The commands of all blocks that are marked ` ```console runnable `: lines that begin with `$ `, continued after a
    /// backslash, and taken apart at `&&`.
    pub fn commands(&self) -> Result<Vec<ShellCommand>> {
        let mut commands = Vec::new();
        let mut lines = self.text.lines().enumerate();
        while let Some((_, line)) = lines.next() {
            if line.trim() != "```console runnable" {
                continue;
            }
            while let Some((number, line)) = lines.next().filter(|(_, line)| line.trim() != "```") {
                let Some(start) = line.strip_prefix("$ ") else { continue };
                let mut text = start.to_owned();
                while let Some(cut) = text.strip_suffix('\\').map(str::len) {
                    text.truncate(cut);
                    text.push_str(lines.next().context("a command that does not end")?.1.trim_start());
                }
                let place = format!("{}:{}", self.path, number + 1);
                commands.extend(text.split("&&").map(|text| ShellCommand { place: place.clone(), words: words(text) }));
            }
        }
        Ok(commands)
    }
}

/// The words of a command as a shell splits it, as far as documents use one.
pub fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for letter in text.chars() {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (None, '\'' | '"') => quote = Some(letter),
            (None, _) if letter.is_whitespace() => words.push(std::mem::take(&mut word)),
            _ => word.push(letter),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    let is_variable = |word: &String| {
        word.split_once('=')
            .is_some_and(|(name, _)| name.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_'))
    };
    let variables = words.iter().take_while(|word| is_variable(word)).count();
    words.split_off(variables)
}

/// Byte ranges of inline code, ticks included.
fn spans(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = text[at..].find('`').map(|offset| at + offset) {
        let ticks = text[start..].bytes().take_while(|byte| *byte == b'`').count();
        let mark = "`".repeat(ticks);
        let inside = start + ticks;
        // It ends in its own paragraph, or it is none.
        let limit = text[inside..].find("\n\n").map_or(text.len(), |offset| inside + offset);
        at = match text[inside..limit].find(&mark) {
            Some(offset) => {
                found.push((start, inside + offset + ticks));
                inside + offset + ticks
            }
            None => inside,
        };
    }
    found
}

fn without_code(text: &str) -> String {
    let mut left = String::with_capacity(text.len());
    let mut at = 0;
    for (start, end) in spans(text) {
        left.push_str(&text[at..start]);
        at = end;
    }
    left.push_str(&text[at..]);
    left
}

fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for part in text.split("](").skip(1) {
        let target = part.split([')', ' ', '\n']).next().unwrap_or_default();
        found.push(target.trim_matches(['<', '>']).to_owned());
    }
    for line in text.lines() {
        if let Some((_, target)) = line.strip_prefix('[').and_then(|line| line.split_once("]: ")) {
            found.push(target.split_whitespace().next().unwrap_or_default().to_owned());
        }
    }
    for attribute in [" src=\"", " srcset=\"", " href=\""] {
        found.extend(text.split(attribute).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned));
    }
    found
}

fn slug(heading: &str) -> String {
    let mut text = String::new();
    // Of a link only its text is left.
    let mut rest = heading;
    while let Some((before, after)) = rest.split_once("](") {
        text.push_str(&before.replace('[', ""));
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    text.push_str(rest);
    text.to_lowercase()
        .chars()
        .filter_map(|letter| match letter {
            ' ' => Some('-'),
            '-' | '_' => Some(letter),
            _ => letter.is_alphanumeric().then_some(letter),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Document {
        Document { path: "x.md".to_owned(), text: text.to_owned() }
    }

    #[test]
    fn links_are_found_wherever_they_stand_and_code_is_none() {
        let text = "[a](b.md#c \"title\") ![`d`](<e.svg>) `[f](g)` ``[h](`i)``\n\n```\n[j](k)\n```\n[l]: m.md\n<img src=\"n.png\">";
        assert_eq!(document(text).links(), ["b.md#c", "e.svg", "m.md", "n.png"]);
    }

    #[test]
    fn anchors_are_those_of_the_usual_hosts() {
        let text =
            "# Do cache & `database` agree?\n## [Links](x.md) of_it\n## Twice\n## Twice\n```\n# no heading\n```\n#no";
        let anchors = document(text).anchors();
        let expected = ["do-cache--database-agree", "links-of_it", "twice", "twice-1"];
        assert_eq!(anchors, expected.map(str::to_owned).into());
    }

    #[test]
    fn commands_are_taken_from_runnable_blocks_alone() {
        let text = "```console\n$ no\n```\n\n```console runnable\n$ A=1 run 'it now' \\\n    --flag && then this\noutput\n```\n";
        let commands = document(text).commands().unwrap();
        let words: Vec<_> = commands.iter().map(|command| command.words.join("|")).collect();
        assert_eq!(words, ["run|it now|--flag", "then|this"]);
        assert_eq!(commands[0].place, "x.md:6");
    }
}
