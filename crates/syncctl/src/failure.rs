//! How a command ends that could not do its work: one line, `CODE: what: hint`, and an exit code.

use crate::{EXIT_CONFIG, EXIT_FAILED, EXIT_UNREACHABLE, EXIT_USAGE, UnusableConfig, UsageError};
use std::process::ExitCode;
use tonic::{Code, Status};

/// What a shell says of a program that wrote to somebody who had read enough.
const READER_GONE: i32 = 141;

/// Whoever reads may have read enough, as `head` has: then this program ends without a word, as others do.
pub(crate) fn end_with_the_reader() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload_as_str().is_some_and(|said| said.contains("Broken pipe")) {
            std::process::exit(READER_GONE);
        }
        usual(panic);
    }));
}

/// Says what is wrong with a command line, in the form of all errors; help that was asked for is what it is.
pub(crate) fn tell_usage(error: &clap::Error) -> ExitCode {
    let said = in_plain_words(&error.to_string());
    match said.strip_prefix("error: ").filter(|_| error.use_stderr()) {
        Some(what) => eprint!("syncctl: USAGE: {what}"),
        // Nothing can be done about a closed terminal.
        None => drop(error.print()),
    }
    if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS }
}

/// What types of the language say of a text that is none of theirs, and what was expected.
const OF_TYPES: [(&str, &str); 8] = [
    ("invalid digit found in string", "expected a whole number"),
    ("cannot parse integer from empty string", "expected a whole number"),
    ("number too large to fit in target type", "the number is too large"),
    ("number too small to fit in target type", "the number is too small"),
    ("number would be zero for non-zero type", "expected a whole number from 1"),
    ("invalid float literal", "expected a number"),
    ("cannot parse float from empty string", "expected a number"),
    ("provided string was not `true` or `false`", "expected true or false"),
];

/// An error of the command line names the argument; whoever reads it knows no types.
fn in_plain_words(said: &str) -> String {
    OF_TYPES.iter().fold(said.to_owned(), |said, (of_type, plain)| said.replace(of_type, plain))
}

/// What is told of an error, and what it means.
pub(crate) struct Failure {
    code: &'static str,
    what: String,
    hint: &'static str,
    exit: u8,
}

impl Failure {
    /// Of any error of a command.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        if let Some(UsageError(what)) = error.downcast_ref() {
            return Self { code: "USAGE", what: what.clone(), hint: "syncctl help says more", exit: EXIT_USAGE };
        }
        if let Some(UnusableConfig(what)) = error.downcast_ref() {
            return Self { code: "CONFIG", what: what.clone(), hint: "", exit: EXIT_CONFIG };
        }
        if let Some(status) = error.chain().find_map(|cause| cause.downcast_ref::<Status>()) {
            // What was tried, then the server's own words: its type prints more than that.
            let tried = error.to_string();
            let what = if tried == status.to_string() {
                status.message().to_owned()
            } else {
                format!("{tried}: {}", status.message())
            };
            let (code, hint) = answered(status.code());
            let exit = match status.code() {
                Code::Unavailable => EXIT_UNREACHABLE,
                // The server knows better than we what makes sense.
                Code::InvalidArgument => EXIT_USAGE,
                _ => EXIT_FAILED,
            };
            return Self { code, what, hint, exit };
        }
        if is_unreachable(error) {
            let what = in_words(error);
            let hint = cure(&what);
            return Self { code: "UNREACHABLE", what, hint, exit: EXIT_UNREACHABLE };
        }
        let what = in_words(error);
        let hint = if what.contains("redis.cluster must be true") { cure(&what) } else { "" };
        Self { code: "FAILED", what, hint, exit: EXIT_FAILED }
    }

    /// Says it, and gives the exit code.
    pub(crate) fn tell(self) -> ExitCode {
        let Self { code, what, hint, exit } = self;
        let hint = if hint.is_empty() { String::new() } else { format!(": {hint}") };
        eprintln!("syncctl: {code}: {what}{hint}");
        ExitCode::from(exit)
    }
}

/// What to do about a store or server that is of no use.
fn cure(what: &str) -> &'static str {
    if what.contains("it is a replica") {
        "syncctl wants the primary of now: --redis-url or REDIS_URL"
    } else if what.contains("redis.cluster must be true") {
        "add --redis-cluster, or REDIS_CLUSTER=true, unless it is there"
    } else if what.contains("Access denied") || what.contains("is wrong") {
        "--help says which flag and variable name it"
    } else {
        "is it running, and is its address right? --help says which flag and variable name it"
    }
}

/// What was tried, and why it failed: many causes repeat in their words what is below them.
fn in_words(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |mut said, cause| {
        let cause = cause.to_string();
        if !said.contains(&cause) {
            let colon = if said.is_empty() { "" } else { ": " };
            said.extend([colon, &cause]);
        }
        said
    })
}

const fn answered(code: Code) -> (&'static str, &'static str) {
    match code {
        Code::Unavailable => ("UNAVAILABLE", "syncctl status says which store is unreachable"),
        Code::Unauthenticated => ("UNAUTHENTICATED", "show a token: --token-file or SYNCCTL_TOKEN_FILE"),
        Code::PermissionDenied => ("PERMISSION_DENIED", "this needs a token of another role, or with other limits"),
        Code::InvalidArgument => ("INVALID_ARGUMENT", ""),
        Code::NotFound => ("NOT_FOUND", ""),
        Code::ResourceExhausted => ("RESOURCE_EXHAUSTED", "try again later"),
        Code::DeadlineExceeded => ("DEADLINE_EXCEEDED", "try again later"),
        Code::Unimplemented => ("UNIMPLEMENTED", "the server is older than this syncctl"),
        _ => ("FAILED", ""),
    }
}

#[cfg(feature = "distributed")]
fn is_broker_unreachable(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.downcast_ref::<event_bus::BusError>().is_some_and(event_bus::BusError::is_unavailable)
}

#[cfg(not(feature = "distributed"))]
fn is_broker_unreachable(_: &(dyn std::error::Error + 'static)) -> bool {
    false
}

fn is_unreachable(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<tonic::transport::Error>()
            || is_broker_unreachable(cause)
            || cause.downcast_ref::<event_store::StoreError>().is_some_and(event_store::StoreError::is_unavailable)
            || cause.downcast_ref::<domain::cache::CacheError>().is_some_and(domain::cache::CacheError::is_unavailable)
            || cause.downcast_ref::<std::io::Error>().is_some_and(|error| {
                use std::io::ErrorKind::{
                    ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut,
                };
                matches!(
                    error.kind(),
                    ConnectionRefused | ConnectionReset | HostUnreachable | NetworkUnreachable | TimedOut
                )
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    fn failure(error: anyhow::Error) -> (&'static str, String, u8) {
        let Failure { code, what, exit, .. } = Failure::of(&error);
        (code, what, exit)
    }

    #[test]
    fn each_error_has_a_code_and_no_type() {
        let status =
            |code| Err::<(), _>(Status::new(code, "the database is unreachable")).context("the list was refused");
        let refused = failure(status(Code::Unavailable).unwrap_err());
        assert_eq!(refused, ("UNAVAILABLE", "the list was refused: the database is unreachable".to_owned(), 69));
        assert_eq!(failure(status(Code::InvalidArgument).unwrap_err()).2, 2);
        assert_eq!(failure(status(Code::PermissionDenied).unwrap_err()).2, 1);
        assert_eq!(failure(UsageError("--x: no".to_owned()).into()), ("USAGE", "--x: no".to_owned(), 2));
        let io = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let refused = failure(Err::<(), _>(io).context("could not connect to h:1").unwrap_err());
        assert_eq!((refused.0, refused.2), ("UNREACHABLE", 69));
        let below = anyhow::anyhow!("refused").context("pool: refused").context("database: pool: refused");
        assert_eq!(failure(below.context("no rows")).1, "no rows: database: pool: refused");
        assert_eq!(failure(anyhow::anyhow!("odd")), ("FAILED", "odd".to_owned(), 1));
    }
}
