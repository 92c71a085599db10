//! Every relative link leads to a file, a directory or a heading that is there; so does every document that code names.

use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};
use test_support::documents::{Document, Repository};

/// Anchors by path of the document.
type Anchors = BTreeMap<String, BTreeSet<String>>;

/// Where this lives itself: its examples are no links.
const EXAMPLES: &[&str] = &["crates/test-support/src/documents.rs", "crates/test-support/tests/docs/links.rs"];

/// A target as seen from a file, as a path from the root; none if it leaves the repository.
fn resolve(file: &str, target: &str) -> Option<String> {
    let mut path: Vec<&str> = file.split('/').collect();
    path.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(path.pop()?),
            _ => path.push(part),
        }
    }
    Some(path.join("/"))
}

/// What is wrong with a link of a document; nothing if it is well, or not ours.
fn broken(repository: &Repository, anchors: &Anchors, file: &str, link: &str) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
    let target = if path.is_empty() { Some(file.to_owned()) } else { resolve(file, path) };
    let Some(target) = target.filter(|target| repository.has(target)) else {
        return Some(format!("{file}: {link} leads nowhere"));
    };
    let missing = anchor.filter(|anchor| !anchors.get(&target).is_some_and(|known| known.contains(*anchor)));
    missing.map(|anchor| format!("{file}: {target} has no heading for #{anchor}"))
}

fn anchors(documents: &[Document]) -> Anchors {
    documents.iter().map(|document| (document.path.clone(), document.anchors())).collect()
}

#[test]
fn every_link_leads_somewhere() -> Result<()> {
    let repository = Repository::of_this_workspace()?;
    let documents = repository.documents()?;
    let anchors = anchors(&documents);
    let links = documents.iter().flat_map(|document| document.links().into_iter().map(|link| (&document.path, link)));
    let links: Vec<_> = links.collect();
    assert!(links.len() > 100, "only {} links were found", links.len());
    let broken: Vec<_> = links.iter().filter_map(|(file, link)| broken(&repository, &anchors, file, link)).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    Ok(())
}

/// Words like `docs/API.md#errors` in a file that is no document.
fn mentions(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |letter: char| letter.is_alphanumeric() || "/._-#:".contains(letter);
    text.split(move |letter| !is_part(letter)).map(|word| word.trim_end_matches(['.', ':'])).filter(|word| {
        let path = word.split('#').next().unwrap_or_default();
        path.ends_with(".md") && path.len() > ".md".len() && !word.contains("://")
    })
}

/// Comments name documents from the root, from where they stand, or by their name alone.
#[test]
fn documents_that_code_names_are_there() -> Result<()> {
    let repository = Repository::of_this_workspace()?;
    let documents = repository.documents()?;
    let anchors = anchors(&documents);
    let mut seen = 0;
    let mut broken_mentions = Vec::new();
    for file in repository.files().iter().filter(|file| !file.ends_with(".md") && !EXAMPLES.contains(&file.as_str())) {
        // What is no text names nothing.
        let Ok(text) = repository.read(file) else { continue };
        for mention in mentions(&text) {
            seen += 1;
            let (path, _) = mention.split_once('#').unwrap_or((mention, ""));
            let by_name = documents.iter().any(|document| document.path.rsplit('/').next() == Some(path));
            let from_root = broken(&repository, &anchors, "README.md", mention);
            if let Some(problem) = from_root
                && broken(&repository, &anchors, file, mention).is_some()
                && !(by_name && path == mention)
            {
                broken_mentions.push(format!("{file} names {mention}: {problem}"));
            }
        }
    }
    assert!(seen > 5, "only {seen} mentions of documents were found");
    assert!(broken_mentions.is_empty(), "{}", broken_mentions.join("\n"));
    Ok(())
}

#[test]
fn a_broken_link_is_found() -> Result<()> {
    let repository = Repository::of_this_workspace()?;
    let anchors = anchors(&repository.documents()?);
    for (link, problem) in [
        ("docs/API.md", None),
        ("docs", None),
        ("https://example.org/x.md", None),
        ("docs/API.md#errors", None),
        ("docs/API.md#mistakes", Some("README.md: docs/API.md has no heading for #mistakes")),
        ("docs/APIS.md", Some("README.md: docs/APIS.md leads nowhere")),
        ("doc", Some("README.md: doc leads nowhere")),
        ("target", Some("README.md: target leads nowhere")),
        ("../README.md", Some("README.md: ../README.md leads nowhere")),
        ("#nothing-of-this", Some("README.md: README.md has no heading for #nothing-of-this")),
    ] {
        assert_eq!(broken(&repository, &anchors, "README.md", link).as_deref(), problem, "{link}");
    }
    let found: Vec<_> = mentions("see docs/API.md#errors, (`../METRICS.md`) and https://x.org/y.md or .md").collect();
    assert_eq!(found, ["docs/API.md#errors", "../METRICS.md"]);
    Ok(())
}
