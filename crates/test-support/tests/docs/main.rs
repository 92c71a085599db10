//! The documents say what is true: links lead somewhere, commands exist, tables are complete.
//!
//! Nothing here needs a network or builds a program.

mod commands;
mod links;
mod tables;

use anyhow::Result;
use test_support::documents::Repository;

/// What a newcomer reads in one go.
const README_WORDS: usize = 800;

#[test]
fn the_readme_is_short() -> Result<()> {
    let words = Repository::of_this_workspace()?.read("README.md")?.split_whitespace().count();
    assert!(words <= README_WORDS, "README.md has {words} words, at most {README_WORDS} are allowed");
    Ok(())
}
