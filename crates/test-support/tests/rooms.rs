//! Inside a crate, too, arrows point one way: a room uses only rooms below it.
//!
//! Read from the text: `crate::room` in code, not in comments and not in the unit tests at the end of a file. Deliberately
//! left out is the module `planted`: it holds wrong versions of whatever its crate does.

use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Rooms of a crate from the lowest floor up; those of one line do not use each other.
const FLOORS: &[(&str, &[&[&str]])] = &[
    (
        "sync-engine",
        &[
            &["clock", "config", "metrics"],
            &["trace"],
            &["stores"],
            &["apply"],
            &["deliver"],
            &["recover"],
            &["read"],
            &["accept", "operate"],
        ],
    ),
    ("event-store", &[&["sql"], &["tables"], &["reads"], &["writes"]]),
    (
        "consistency",
        &[&["config", "error", "finding"], &["metrics", "openapi", "inspect"], &["repair"], &["run"], &["report"]],
    ),
    ("service-runtime", &[&["config", "request_lines"], &["listen", "observe"], &["lifecycle"]]),
    (
        "interaction-api",
        &[&["status"], &["request"], &["dashboard", "openapi", "service", "admin"], &["grpc"], &["assembly"]],
    ),
];

/// What breaks the rule in one file of a room, a line each.
fn broken_by(text: &str, room: &str, floors: &[&[&str]]) -> Vec<String> {
    let floor_of = |name: &str| floors.iter().position(|floor| floor.contains(&name));
    let Some(own) = floor_of(room) else { return vec![format!("{room} is on no floor")] };
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text);
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let used: BTreeSet<&str> = lines.flat_map(|line| line.split("crate::").skip(1)).filter_map(first_word).collect();
    used.into_iter()
        .filter(|used| *used != room && floor_of(used).is_some_and(|floor| floor >= own))
        .map(|used| format!("{room} uses {used}, which is not below it"))
        .collect()
}

fn first_word(text: &str) -> Option<&str> {
    let end = text.find(|letter: char| !letter.is_ascii_lowercase() && letter != '_').unwrap_or(text.len());
    (end > 0).then(|| &text[..end])
}

fn files_of(room: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    if room.with_extension("rs").is_file() {
        files.push(room.with_extension("rs"));
    }
    if room.is_dir() {
        for entry in std::fs::read_dir(room)? {
            let path = entry?.path();
            match path.is_dir() || path.extension().is_some_and(|extension| extension == "rs") {
                true if path.is_dir() => files.extend(files_of(&path)?),
                true => files.push(path),
                false => {}
            }
        }
    }
    Ok(files)
}

#[test]
fn rooms_use_only_rooms_below_them() -> Result<()> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut broken = Vec::new();
    for (name, floors) in FLOORS {
        let src = crates.join(name).join("src");
        for room in floors.iter().flat_map(|floor| floor.iter()) {
            let files = files_of(&src.join(room))?;
            assert!(!files.is_empty(), "{name} has no room {room}");
            for file in files {
                let text = std::fs::read_to_string(&file)?;
                let found = broken_by(&text, room, floors);
                broken.extend(found.into_iter().map(|line| format!("{name}: {line}: {}", file.display())));
            }
        }
        // A room that is new must be put on a floor.
        let lib = std::fs::read_to_string(src.join("lib.rs")).context("lib.rs")?;
        for line in lib.lines() {
            let module = line.strip_prefix("pub ").unwrap_or(line).strip_prefix("mod ").and_then(first_word);
            let known = |module: &str| module == "planted" || floors.iter().any(|floor| floor.contains(&module));
            if let Some(module) = module.filter(|module| !known(module)) {
                broken.push(format!("{name}: the room {module} is on no floor"));
            }
        }
    }
    assert_eq!(broken, Vec::<String>::new());
    Ok(())
}

#[test]
fn an_arrow_back_up_is_found() {
    let floors: &[&[&str]] = &[&["stores"], &["apply", "read"], &["accept"]];
    let back = "use crate::accept::Acceptor;\n";
    assert_eq!(broken_by(back, "stores", floors), ["stores uses accept, which is not below it"]);
    assert_eq!(broken_by("fn f() { crate::read::now() }", "apply", floors), ["apply uses read, which is not below it"]);
    assert_eq!(broken_by("use crate::stores::Stores;\n// crate::accept\n", "apply", floors), Vec::<String>::new());
    assert_eq!(broken_by("#[cfg(test)]\nmod tests {\n use crate::accept; }", "stores", floors), Vec::<String>::new());
    assert_eq!(broken_by("", "cellar", floors), ["cellar is on no floor"]);
}
