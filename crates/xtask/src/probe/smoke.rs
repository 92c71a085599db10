//! `scripts/verify_sync_service.sh`: every part answers, and a like arrives everywhere.

use super::resource::{Kind, Resource};
use super::{System, fresh_id, grpc_health};
use crate::http;
use anyhow::{Context, Result};
use serde_json::Value;

const GRPC_SERVICE: &str = "interaction.v1.InteractionService";

/// The lines of the table.
#[derive(Default)]
struct Table {
    lines: Vec<String>,
    failed: usize,
}

impl Table {
    fn add(&mut self, part: &str, is_good: bool, detail: &str) {
        self.failed += usize::from(!is_good);
        let result = if is_good { "ok" } else { "FAILED" };
        self.lines.push(format!("{part:<36} {result:<7} {}", detail.lines().next().unwrap_or_default()));
    }

    fn answer(&mut self, part: &str, answer: Result<String>) {
        match answer {
            Ok(answer) => self.add(part, true, &answer),
            Err(error) => self.add(part, false, &format!("{error:#}")),
        }
    }

    /// The look shows exactly this, soon.
    fn expect(&mut self, system: &System, part: &str, expected: &str, look: impl FnMut() -> Result<String>) {
        match system.becomes(expected, look) {
            Ok(()) => self.add(part, true, expected),
            Err(seen) if seen.is_empty() => self.add(part, false, &format!("no answer, expected {expected}")),
            Err(seen) => self.add(part, false, &format!("{seen}, expected {expected}")),
        }
    }
}

/// Smoke test of a running system. Harmless on a live one: it uses a new user and a new video, and takes its like back
/// (a tombstone and two ledger rows stay).
pub(crate) fn verify() -> Result<bool> {
    let system = System::find()?;
    let mut table = Table::default();
    // It succeeds, too, where it is refused.
    table.expect(&system, "redis", "PONG", || system.redis(&["ping"]));
    table.answer("mysql", system.sql("SELECT VERSION()"));
    check_service(&system, &mut table, "interaction-server", "HTTP_ADDR", Some("rabbitmq"));
    check_service(&system, &mut table, "sync-consumer", "CONSUMER_HTTP_ADDR", Some("rabbitmq"));
    check_service(&system, &mut table, "consistency-checker", "CHECKER_HTTP_ADDR", None);
    table.answer("GET /consistency/report", report(&system));
    table.expect(&system, "gRPC health", "SERVING", || grpc_health::ask(system.address("GRPC_ADDR"), GRPC_SERVICE));
    check_like(&system, &mut table);

    println!("{:<36} {:<7} detail\n{}", "part", "result", table.lines.join("\n"));
    if table.failed > 0 {
        println!("\n{} of {} checks failed", table.failed, table.lines.len());
    } else {
        println!("\nall {} checks are fine", table.lines.len());
    }
    Ok(table.failed == 0)
}

/// The service and, if given, what it thinks of a part.
fn check_service(system: &System, table: &mut Table, name: &str, address: &str, part: Option<&str>) {
    let health = system.health(address);
    let (is_good, detail) = match &health {
        Ok(health) => (is_well(health), summary(health)),
        Err(error) => (false, format!("{error:#}")),
    };
    table.add(&format!("{name} /health"), is_good, &detail);
    if let Some(part) = part {
        let parts = health.as_ref().map(parts).unwrap_or_default();
        let is_good = parts.iter().any(|(name, status)| *name == part && *status == "ok");
        table.add(&format!("{part}, seen by {name}"), is_good, if is_good { "ok" } else { "not ok" });
    }
}

/// A slow disk under Redis takes nothing from what works; the table shows it.
fn is_well(health: &Value) -> bool {
    let parts = parts(health);
    let are_well = parts.iter().all(|(name, status)| *status == "ok" || *name == "redis_disk");
    health["status"] == "ok" || (!parts.is_empty() && are_well)
}

/// Every part that `/health` speaks of and its status, wherever they stand in it.
fn parts(health: &Value) -> Vec<(&str, &str)> {
    let mut found = vec![];
    for (name, value) in health.as_object().into_iter().flatten() {
        if let Some(status) = value["status"].as_str() {
            found.push((name.as_str(), status));
        }
        found.extend(parts(value));
    }
    found
}

fn summary(health: &Value) -> String {
    let parts: Vec<_> = parts(health).iter().map(|(name, status)| format!("{name} {status}")).collect();
    if parts.is_empty() { health.to_string() } else { parts.join(",") }
}

fn report(system: &System) -> Result<String> {
    let answer =
        http::get_with_token(system.address("CHECKER_HTTP_ADDR"), "/consistency/report?hours=24", system.token())?;
    let answer = answer.body()?;
    let answer: Value = serde_json::from_str(&answer)?;
    let number = |name: &str| {
        find(&answer, name).and_then(Value::as_u64).with_context(|| format!("the report has no {name}: {answer}"))
    };
    Ok(format!("{} compared, {} inconsistent in 24 hours", number("checked")?, number("inconsistent")?))
}

/// The first member of this name, at the outermost place that has one.
fn find<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    value.get(name).or_else(|| value.as_object()?.values().find_map(|child| find(child, name)))
}

fn check_like(system: &System, table: &mut Table) {
    let user = fresh_id();
    let resource = match Resource::new(system, Kind::Video, fresh_id()) {
        Ok(resource) => resource,
        Err(error) => {
            table.add("like by gRPC", false, &format!("{error:#}"));
            return;
        }
    };
    let (name, user_text) = (resource.name(), user.to_string());
    let (succeeded, answer) = system.ask(&["like", &user_text, &name]);
    let version = answer.split_once(": liked, count 1, version ").map(|(_, version)| version.to_owned());
    let version = version.filter(|version| succeeded && version.parse::<u64>().is_ok());
    table.add("like by gRPC", version.is_some(), &answer);
    let Some(version) = version else { return };
    let consistent = |address| verdict(system, address, &resource);
    table.expect(system, "row in video_likes", &version, || resource.row_version(user));
    table.expect(system, "row is a live like", "live", || resource.row(user));
    table.expect(system, "sync_events says completed", "1", || resource.ledger(user, "completed"));
    table.expect(system, "user_behaviors has it once", "1", || resource.behaviours(user, "like"));
    table.expect(system, "counts: gRPC redis pending sql rows", "1 1 0 1 1", || resource.all_counts());
    table.expect(system, "cached pair", &format!("liked {version}"), || resource.cached_pair(user));
    table.expect(system, "consistency, by the checker", "consistent", || consistent("CHECKER_HTTP_ADDR"));
    table.expect(system, "consistency, by the server", "consistent", || consistent("HTTP_ADDR"));

    let (succeeded, answer) = system.ask(&["unlike", &user_text, &name]);
    table.add("unlike by gRPC", succeeded, &answer);
    table.expect(system, "row is a tombstone", "tombstone", || resource.row(user));
    table.expect(system, "counts: gRPC redis pending sql rows", "0 0 0 0 0", || resource.all_counts());
}

/// What `POST /consistency/check` says, without repairing.
fn verdict(system: &System, address: &str, resource: &Resource<'_>) -> Result<String> {
    let (kind, id) = (resource.kind.name(), resource.id);
    let body = format!("{{\"resource_type\":\"{kind}\",\"resource_id\":{id},\"dry_run\":true}}");
    let answer = http::post(system.address(address), "/consistency/check", &body, system.token())?.body;
    let answer: Value = serde_json::from_str(&answer).with_context(|| answer.clone())?;
    Ok(find(&answer, "verdict").and_then(Value::as_str).map_or_else(|| answer.to_string(), str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn health_is_summed_up() {
        let health =
            json!({ "status": "degraded", "parts": { "mysql": { "status": "ok" }, "redis": { "status": "down" } } });
        assert_eq!(summary(&health), "mysql ok,redis down");
        assert_eq!(summary(&json!({ "status": "ok" })), "{\"status\":\"ok\"}");
    }

    #[test]
    fn a_slow_disk_is_shown_and_nothing_else_is_let_through() {
        let health = |part: &str, status: &str| json!({ "status": "degraded", "parts": { "mysql": { "status": "ok" }, part: { "status": status } } });
        assert!(is_well(&health("redis_disk", "degraded")));
        assert!(!is_well(&health("flow", "degraded")));
        assert!(!is_well(&health("redis", "down")));
        assert!(!is_well(&json!({})));
        assert!(is_well(&json!({ "status": "ok" })));
    }

    #[test]
    fn the_outermost_member_counts() {
        let answer =
            json!({ "findings": [{ "verdict": "stale" }], "z": { "verdict": "inner" }, "verdict": "consistent" });
        assert_eq!(find(&answer, "verdict"), Some(&json!("consistent")));
        assert_eq!(find(&json!({ "a": { "checked": 3 } }), "checked"), Some(&json!(3)));
        assert_eq!(find(&answer, "checked"), None);
    }

    #[test]
    fn a_failure_is_counted_and_shown_in_one_line() {
        let mut table = Table::default();
        table.answer("redis", Ok("PONG".into()));
        table.answer("mysql", Err(anyhow::anyhow!("gone\nand more")));
        assert_eq!(table.failed, 1);
        assert_eq!(table.lines[1], format!("{:<36} FAILED  gone", "mysql"));
    }
}
