//! What the documents say of `syncctl` is what it understands: every command is described, every example parses.

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use syncctl::cli::Cli;
use test_support::documents::{Repository, words};

/// What stands for something in an example, and something.
const STAND_INS: [(&str, &str); 4] =
    [("USER", "1"), ("RESOURCE", "video:1"), ("ID", "0198c0de-0000-7000-8000-000000000001"), ("...", "x")];

/// Why these arguments are none; an example may leave out addresses of stores. A command alone is only named.
fn refused(arguments: &[String]) -> Option<String> {
    if let [_, command] = arguments {
        let known = Cli::command().find_subcommand(command).is_some();
        return (!known).then(|| format!("there is no command {command}"));
    }
    let stood_in = arguments.iter().map(|word| {
        STAND_INS.iter().find(|(name, _)| word == name).map_or_else(|| word.clone(), |(_, value)| (*value).to_owned())
    });
    match Cli::try_parse_from(stood_in) {
        Err(error) if error.kind() == ErrorKind::MissingRequiredArgument => {
            // Only stores may be missing: whoever forgets --reason shows something that does not work.
            let names = error.to_string();
            let missing = names.lines().skip(1).take_while(|line| line.starts_with("  ")).map(str::trim);
            let others: Vec<_> = missing.filter(|name| !name.contains("-url <") && !name.contains("--oplog")).collect();
            (!others.is_empty()).then(|| format!("missing: {}", others.join(", ")))
        }
        Err(error) => Some(error.to_string()),
        Ok(_) => None,
    }
}

/// `syncctl ...` and `target/release/syncctl ...`, in runnable blocks and in inline code.
fn examples(repository: &Repository) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for document in repository.documents().unwrap() {
        let in_blocks = document.commands().unwrap().into_iter().map(|command| (command.place, command.words));
        let inline = document.code_spans().into_iter().map(|code| (document.path.clone(), words(&code)));
        found.extend(in_blocks.chain(inline).filter(|(_, words)| {
            words.len() > 1
                && words[0].rsplit('/').next() == Some("syncctl")
                && words[1].starts_with(|c: char| c.is_lowercase())
        }));
    }
    found
}

#[test]
fn every_example_parses() {
    let repository = Repository::of_this_workspace().unwrap();
    let examples = examples(&repository);
    assert!(examples.len() > 10, "{examples:?}");
    let wrong = examples.iter().filter_map(|(place, words)| {
        let reason = refused(words)?;
        Some(format!("{place}: {}: {reason}", words.join(" ")))
    });
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_command_is_described() {
    let repository = Repository::of_this_workspace().unwrap();
    let described = repository.document("docs/OPERATING.md").unwrap().section("syncctl").unwrap().code_spans();
    let mut missing = Vec::new();
    for command in Cli::command().get_subcommands() {
        let below: Vec<String> =
            command.get_subcommands().map(|inner| format!("{} {}", command.get_name(), inner.get_name())).collect();
        let wanted = if below.is_empty() { vec![command.get_name().to_owned()] } else { below };
        missing.extend(wanted.into_iter().filter(|name| !described.contains(name)));
    }
    assert!(missing.is_empty(), "docs/OPERATING.md does not describe {missing:?}");
}

#[test]
fn an_example_that_does_not_work_is_found() {
    for (example, reason) in [
        ("syncctl like 1 film:42", "expected video or comment"),
        ("syncctl warmup --topp 1000", "--topp"),
        ("syncctl liek 1 video:42", "liek"),
        ("syncctl like 1", "missing"),
        ("syncctl likes", "no command likes"),
    ] {
        let found = refused(&words(example)).unwrap_or_default();
        assert!(found.contains(reason), "{example}: {found:?}");
    }
    assert_eq!(refused(&words("syncctl reconcile")), None);
    assert_eq!(refused(&words("syncctl explain USER video:42")), None);
}
