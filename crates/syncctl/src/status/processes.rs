//! Processes on the screen: as each says of itself when it is asked, and as the database knows all of them.

use super::{PATIENCE, Trouble};
use crate::http::fetch;
use crate::output::Row;
use interaction_proto::v1;
use serde::Serialize;
use serde_json::Value;

/// A process that was asked.
#[derive(Debug, Serialize)]
pub(super) struct Process {
    address: String,
    name: String,
    status: String,
    /// Parts that are not ok, with what they say.
    wrong: Vec<String>,
}

/// Parts of a process that say of themselves what the screen says of a store already.
const OF_STORES: [(&str, &[&str]); 2] =
    [("database_unreachable", &["mysql", "database", "ledger_unread"]), ("cache_unreachable", &["redis", "journal"])];

/// Parts that the screen has read itself, later than the process did: what it does not say is over.
const READ_LATER: [&str; 2] = ["dead_events", "open_findings"];

impl Process {
    /// What is wrong with it, and not said already: a line for each part.
    pub(super) fn troubles(&self, said: &[Trouble]) -> Vec<Trouble> {
        if self.status == "ok" {
            return Vec::new();
        }
        let known = |part: &str| {
            let of_store = |kind: &str| OF_STORES.iter().any(|(store, parts)| *store == kind && parts.contains(&part));
            READ_LATER.contains(&part) || said.iter().any(|one| one.kind == part || of_store(&one.kind))
        };
        let who = if self.name == "-" { self.address.clone() } else { format!("{} at {}", self.name, self.address) };
        let mut troubles = Vec::new();
        for wrong in &self.wrong {
            let part = wrong.split(':').next().unwrap_or_default();
            if self.name != "-" && known(part) {
                continue;
            }
            let (kind, hint) = match self.name.as_str() {
                "-" => ("process", "does it run, is this its ops address, may this token read?"),
                _ => (part, "docs/OPERATING.md#health says what the part means"),
            };
            let state = if self.name == "-" { format!(" is {}", self.status) } else { String::new() };
            let detail = format!("{who}{state}: {wrong}");
            troubles.push(Trouble { kind: kind.to_owned(), detail, hint: hint.to_owned() });
        }
        if self.wrong.is_empty() {
            let detail = format!("{who} is {}, and does not say why", self.status);
            troubles.push(Trouble { kind: "process".to_owned(), detail, hint: "its log may".to_owned() });
        }
        troubles
    }

    /// By its health.
    pub(super) fn of_parts(address: &str, health: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let wrong = health["parts"].as_object().into_iter().flatten().filter(|(_, part)| part["status"] != "ok");
        Self {
            address: address.to_owned(),
            name: text(&health["service"]),
            status: text(&health["status"]),
            wrong: wrong.map(|(name, part)| line(name, part)).collect(),
        }
    }

    /// What it says of one of its parts, if that is not well.
    pub(super) fn says_of(&self, part: &str) -> Option<String> {
        let (_, said) = self.wrong.iter().filter_map(|wrong| wrong.split_once(": ")).find(|(name, _)| *name == part)?;
        Some(said.to_owned())
    }
}

impl Row for Process {
    const HEADERS: &'static [&'static str] = &["ADDRESS", "PROCESS", "HEALTH", "WHAT IS WRONG"];

    fn cells(&self) -> Vec<String> {
        vec![self.address.clone(), self.name.clone(), self.status.clone(), self.wrong.join("; ")]
    }
}

/// Names of parts are words of small letters.
fn is_part(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// What a process says of itself.
pub(super) async fn process(address: &str, header: &str) -> Process {
    let unreachable = |why: String| Process {
        address: address.to_owned(),
        name: "-".to_owned(),
        status: "unreachable".to_owned(),
        wrong: vec![why],
    };
    let body = match tokio::time::timeout(PATIENCE, fetch(address, "/health", header)).await {
        Err(_) => return unreachable(format!("no answer within {} s", PATIENCE.as_secs())),
        Ok(Err(error)) => {
            let why = format!("{error:#}");
            // It answers, though not with its health: it wants another token.
            let status = if why.starts_with("HTTP/") { "unknown" } else { "unreachable" };
            return Process { status: status.to_owned(), ..unreachable(why) };
        }
        Ok(Ok(body)) => body,
    };
    let Ok(health) = serde_json::from_str::<Value>(&body) else { return unreachable("not health".to_owned()) };
    Process::of_parts(address, &health)
}

/// What a part says, with the error that it met last: that has the cause, and often the cure.
fn line(name: &str, part: &Value) -> String {
    let detail = part["detail"].as_str().unwrap_or_default();
    let error = part["last_error"]["error"].as_str().filter(|error| !detail.contains(error));
    format!("{name}: {detail}{}", error.map(|error| format!("; {error}")).unwrap_or_default())
}

/// A process as the database knows it.
#[derive(Debug, Serialize)]
pub(super) struct Registered {
    service: String,
    instance: String,
    status: String,
    detail: String,
    /// Its last word is so old.
    age_ms: i64,
}

impl Registered {
    pub(super) fn of(process: &v1::ProcessState) -> Self {
        let v1::ProcessState { service, instance, status, detail, age_ms, .. } = process.clone();
        Self { service, instance, status, detail, age_ms }
    }

    /// What it said of one of its parts: each stands as `name: words`, and words have semicolons, too.
    pub(super) fn says_of(&self, part: &str) -> Option<String> {
        let begins = |piece: &str| piece.split_once(": ").is_some_and(|(name, _)| is_part(name));
        let mut pieces = self.detail.split("; ").skip_while(|piece| !piece.starts_with(&format!("{part}: ")));
        let first = pieces.next()?.split_once(": ")?.1.to_owned();
        Some(pieces.take_while(|piece| !begins(piece)).fold(first, |said, more| format!("{said}; {more}")))
    }
}

impl Row for Registered {
    const HEADERS: &'static [&'static str] = &["PROCESS", "INSTANCE", "LAST WORD", "HEALTH THEN", "WHAT WAS WRONG"];

    fn cells(&self) -> Vec<String> {
        let Self { service, instance, status, detail, age_ms } = self;
        let ago = match age_ms / 1_000 {
            seconds @ 0..120 => format!("{seconds} s ago"),
            seconds @ 120..7_200 => format!("{} min ago", seconds / 60),
            seconds => format!("{} h ago", seconds / 3_600),
        };
        vec![service.clone(), instance.clone(), ago, status.clone(), detail.clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(name: &str, status: &str, wrong: &[&str]) -> Process {
        let wrong = wrong.iter().map(|one| (*one).to_owned()).collect();
        Process { address: "c:8894".to_owned(), name: name.to_owned(), status: status.to_owned(), wrong }
    }

    fn named(process: &Process, said: &[Trouble]) -> Vec<String> {
        process.troubles(said).into_iter().map(|one| one.detail).collect()
    }

    #[test]
    fn whatever_makes_the_state_not_ok_is_named_once() {
        assert!(named(&process("sync-consumer", "ok", &[]), &[]).is_empty());
        let lagging = process("sync-consumer", "degraded", &["redis_disk: slow", "commit_lag: p99 9 s"]);
        let both = ["sync-consumer at c:8894: redis_disk: slow", "sync-consumer at c:8894: commit_lag: p99 9 s"];
        assert_eq!(named(&lagging, &[]), both);
        let said = |kind: &str| Trouble { kind: kind.to_owned(), detail: String::new(), hint: String::new() };
        assert_eq!(named(&lagging, &[said("commit_lag")]), both[..1]);
        let before =
            process("sync-consumer", "degraded", &["open_findings: 3 inconsistencies are open", "commit_lag: p99 9 s"]);
        assert_eq!(named(&before, &[]), both[1..], "the screen says how many are open now");
        let cut_off = process("sync-consumer", "down", &["mysql: unreachable", "ledger_unread: 9 s"]);
        assert!(named(&cut_off, &[said("database_unreachable")]).is_empty());
        assert_eq!(named(&cut_off, &[said("cache_unreachable")]).len(), 2);
        let silent = process("-", "unreachable", &["no answer within 5 s"]);
        assert_eq!(named(&silent, &[]), ["c:8894 is unreachable: no answer within 5 s"]);
        assert_eq!(named(&process("x", "degraded", &[]), &[]), ["x at c:8894 is degraded, and does not say why"]);
    }

    #[test]
    fn what_a_process_said_last_stands_with_its_age() {
        let of = |age_ms| {
            let (service, instance) = ("sync-consumer".to_owned(), "c-1".to_owned());
            let process = v1::ProcessState { service, instance, status: "ok".to_owned(), age_ms, ..Default::default() };
            Registered::of(&process).cells().join(" | ")
        };
        assert_eq!(of(1_900), "sync-consumer | c-1 | 1 s ago | ok | ");
        assert_eq!(of(27_000), "sync-consumer | c-1 | 27 s ago | ok | ");
        assert_eq!(of(7_200_000), "sync-consumer | c-1 | 2 h ago | ok | ");
    }
}
