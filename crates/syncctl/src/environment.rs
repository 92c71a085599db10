//! Where flags come from that are not given: variables, files that variables name, and a named context.
//!
//! For a flag whose variable is `DATABASE_URL`, in this order: the flag, `SYNCCTL_DATABASE_URL`, the file that
//! `SYNCCTL_DATABASE_URL_FILE` names, `DATABASE_URL`, the file of `DATABASE_URL_FILE`, and `database_url` or `database_url_file` of
//! the context. So no password has to stand among the arguments, where every process of the machine can read it.
//!
//! Contexts are a file of sections, `SYNCCTL_CONTEXTS` or `~/.config/syncctl/contexts`; `--context` or `SYNCCTL_CONTEXT` names one,
//! else the line `current = NAME` at its head does:
//!
//! ```text
//! current = production
//!
//! [production]
//! addr = likes.example.com:50051
//! ca_file = /etc/likes/ca.pem
//! token_file = /run/secrets/likes-token
//! ```

use crate::UsageError;
use clap::{Arg, Command};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

const PREFIX: &str = "SYNCCTL_";

/// Variables that have another name with the prefix.
const RENAMED: [(&str, &str); 1] = [("GRPC_ADDR", "ADDR")];

/// Variables that are not about stores or servers.
const FOREIGN: [&str; 1] = ["USER"];

/// The variables of a process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment(BTreeMap<String, String>);

type Context = BTreeMap<String, String>;

impl Environment {
    /// Of this process.
    pub(crate) fn of_process() -> Self {
        let text = |text: OsString| text.to_string_lossy().into_owned();
        Self(std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The command, with the values that variables, files and the context give.
    pub(crate) fn apply(&self, command: Command, context: Option<&str>) -> Result<Command, UsageError> {
        let context = self.context(context)?;
        let mut failed = None;
        let command = self.apply_to(command, &context, &mut failed);
        failed.map_or(Ok(command), Err)
    }

    fn apply_to(&self, command: Command, context: &Context, failed: &mut Option<UsageError>) -> Command {
        let command = command.mut_args(|arg| match self.adapted(arg.clone(), context) {
            Ok(adapted) => adapted,
            Err(error) => {
                failed.get_or_insert(error);
                arg
            }
        });
        command.mut_subcommands(|inner| self.apply_to(inner, context, failed))
    }

    fn adapted(&self, arg: Arg, context: &Context) -> Result<Arg, UsageError> {
        let Some(plain) = arg.get_env().and_then(|name| name.to_str()).map(str::to_owned) else { return Ok(arg) };
        if FOREIGN.contains(&plain.as_str()) || plain.starts_with(PREFIX) {
            return Ok(arg);
        }
        let short = RENAMED.iter().find(|(name, _)| *name == plain).map_or(plain.as_str(), |(_, short)| *short);
        let ours = format!("{PREFIX}{short}");
        // The flag of a file reads it itself.
        let is_file = plain.ends_with("_FILE");
        let file_of = |name: &str| if is_file || plain == "TOKEN" { None } else { self.get(&format!("{name}_FILE")) };
        if self.get(&ours).is_some() {
            return Ok(arg.env(leaked(ours)));
        }
        if let Some(file) = file_of(&ours) {
            return Ok(with_value(arg, read(Path::new(file))?));
        }
        if self.get(&plain).is_some() {
            return Ok(arg);
        }
        if let Some(file) = file_of(&plain) {
            return Ok(with_value(arg, read(Path::new(file))?));
        }
        let key = short.to_lowercase();
        if let Some(value) = context.get(&key) {
            return Ok(with_value(arg, value.clone()));
        }
        match context.get(&format!("{key}_file")).filter(|_| !is_file && plain != "TOKEN") {
            Some(file) => Ok(with_value(arg, read(Path::new(file))?)),
            None => Ok(arg),
        }
    }

    fn context(&self, named: Option<&str>) -> Result<Context, UsageError> {
        let named = named.or_else(|| self.get("SYNCCTL_CONTEXT"));
        let home = || Some(PathBuf::from(self.get("HOME")?).join(".config"));
        let config = || self.get("XDG_CONFIG_HOME").map(PathBuf::from).or_else(home);
        let file = self.get("SYNCCTL_CONTEXTS").map(PathBuf::from);
        let must_exist = file.is_some() || named.is_some();
        let Some(file) = file.or_else(|| Some(config()?.join("syncctl").join("contexts"))) else {
            return Ok(Context::new());
        };
        match std::fs::read_to_string(&file) {
            Ok(text) => chosen(&file, &text, named),
            Err(_) if !must_exist => Ok(Context::new()),
            Err(error) => Err(UsageError(format!("{}: {error}", file.display()))),
        }
    }
}

/// A section of the file of contexts.
fn chosen(file: &Path, text: &str, named: Option<&str>) -> Result<Context, UsageError> {
    let wrong = |line: usize, what: &str| UsageError(format!("{}, line {line}: {what}", file.display()));
    let mut sections: BTreeMap<String, Context> = BTreeMap::new();
    let (mut section, mut current) = (None::<String>, None::<String>);
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            sections.entry(name.to_owned()).or_default();
            section = Some(name.to_owned());
            continue;
        }
        let Some((key, value)) = line.split_once('=') else { return Err(wrong(number, "expected key = value")) };
        let (key, value) = (key.trim().to_lowercase(), value.trim().to_owned());
        match &section {
            None if key == "current" => current = Some(value),
            None => return Err(wrong(number, "expected current = NAME or [NAME]")),
            Some(section) => drop(sections.entry(section.clone()).or_default().insert(key, value)),
        }
    }
    let Some(name) = named.map(str::to_owned).or(current) else { return Ok(Context::new()) };
    let known: Vec<_> = sections.keys().cloned().collect();
    sections
        .remove(&name)
        .ok_or_else(|| UsageError(format!("--context: {} has no {name:?}, but: {}", file.display(), known.join(", "))))
}

fn read(file: &Path) -> Result<String, UsageError> {
    let text = std::fs::read_to_string(file).map_err(|error| UsageError(format!("{}: {error}", file.display())))?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// A value that nobody sees in the help.
fn with_value(arg: Arg, value: String) -> Arg {
    // Of a flag clap shows no default, and does not let itself be told so.
    let hidden = arg.get_action().takes_values();
    let arg = arg.env(None::<&'static str>).required(false).default_value(leaked(value));
    if hidden { arg.hide_default_value(true) } else { arg }
}

/// The command line lives as long as the process.
fn leaked(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    fn command() -> Command {
        let url = Arg::new("database-url").long("database-url").env("SYNCCTL_TEST_ABSENT_DATABASE").required(true);
        Command::new("test").subcommand(Command::new("migrate").arg(url.env("ABSENT_DATABASE_URL")))
    }

    fn parsed(variables: &[(&str, &str)], context: Option<&str>, flags: &[&str]) -> Result<String, String> {
        let command = environment(variables).apply(command(), context).map_err(|error| error.0)?;
        let matches = command.try_get_matches_from(["test", "migrate"].iter().chain(flags));
        let matches = matches.map_err(|error| error.to_string())?;
        let inner = matches.subcommand_matches("migrate");
        Ok(inner.and_then(|inner| inner.get_one::<String>("database-url")).cloned().unwrap_or_default())
    }

    #[test]
    fn a_value_comes_from_the_nearest_place() {
        let dir = std::env::temp_dir().join(format!("syncctl-environment-{}", std::process::id()));
        let file = dir.join("url");
        let contexts = dir.join("contexts");
        if std::fs::create_dir_all(&dir).is_err() {
            unreachable!("a directory for temporary files");
        }
        let written = std::fs::write(&file, "of-the-file\n").and_then(|()| {
            std::fs::write(
                &contexts,
                "# mine\ncurrent = one\n[one]\nabsent_database_url = of-one\n\n[two]\nabsent_database_url = of-two\n",
            )
        });
        assert!(written.is_ok(), "{written:?}");
        let (file, contexts) = (file.to_string_lossy().into_owned(), contexts.to_string_lossy().into_owned());
        let ours_file = ("SYNCCTL_ABSENT_DATABASE_URL_FILE", file.as_str());
        let named = ("SYNCCTL_CONTEXTS", contexts.as_str());
        let value = |variables: &[(&str, &str)], context| parsed(variables, context, &[]);
        assert!(value(&[], None).unwrap_err().contains("--database-url"), "nothing gives it");
        assert_eq!(value(&[named], None).as_deref(), Ok("of-one"));
        assert_eq!(value(&[named], Some("two")).as_deref(), Ok("of-two"));
        assert_eq!(value(&[named, ("SYNCCTL_CONTEXT", "two")], None).as_deref(), Ok("of-two"));
        assert!(value(&[named], Some("three")).unwrap_err().contains("one, two"));
        assert_eq!(value(&[named, ("ABSENT_DATABASE_URL_FILE", &file)], None).as_deref(), Ok("of-the-file"));
        assert_eq!(value(&[named, ours_file], Some("two")).as_deref(), Ok("of-the-file"));
        assert_eq!(parsed(&[ours_file], None, &["--database-url", "given"]).as_deref(), Ok("given"));
        assert!(value(&[("SYNCCTL_ABSENT_DATABASE_URL_FILE", "/nowhere")], None).unwrap_err().contains("/nowhere"));
        let _ = std::fs::remove_dir_all(dir);
    }

    #[test]
    fn a_mistake_in_the_contexts_names_its_line() {
        let read = |text: &str| chosen(Path::new("contexts"), text, None).map_err(|error| error.0);
        assert_eq!(read("[one]\naddr\n"), Err("contexts, line 2: expected key = value".to_owned()));
        assert_eq!(read("addr = x\n"), Err("contexts, line 1: expected current = NAME or [NAME]".to_owned()));
        assert_eq!(read(""), Ok(Context::new()));
    }
}
