//! The erasure of users in tables without an index by user: gone through once, page by page, for all whose erasure waits.

use crate::sql::error::StoreError;
use crate::sql::script::{CHUNK, Script};
use crate::sql::store::{EventStore, get, row, rows};
use crate::tables::fences::Erasure;
use crate::tables::findings;
use crate::tables::ledger::uuid_of;
use crate::writes::erase::numbers_in;
use chrono::NaiveDateTime;
use domain::Version;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Tables that are gone through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walked {
    /// `sync_events`, with what operators did with each event.
    Ledger,
    /// `user_behaviors`.
    History,
    /// `cache_refreshes`: what the cache was not told yet. Only counted: telling it is what takes them away.
    Refreshes,
    /// `unpublished_changes`: only the counter of each stays to be told.
    Unpublished,
    /// `data_consistency_checks`, and with its end both tables of findings.
    Findings,
    /// `operator_actions`: the user's number in selections and reasons becomes `[erased]`.
    OperatorActions,
}

impl Walked {
    /// In the order of a walk.
    pub const ALL: [Self; 6] =
        [Self::Ledger, Self::History, Self::Refreshes, Self::Unpublished, Self::Findings, Self::OperatorActions];

    /// As it is shown and noted.
    pub const fn name(self) -> &'static str {
        self.columns().0
    }

    /// Table, key, and the column that tells before from after.
    const fn columns(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Ledger => ("sync_events", "id", "version"),
            Self::History => ("user_behaviors", "event_id", "version"),
            Self::Refreshes => ("cache_refreshes", "id", "version"),
            Self::Unpublished => ("unpublished_changes", "id", "created_at"),
            Self::Findings => ("data_consistency_checks", "id", "created_at"),
            Self::OperatorActions => ("operator_actions", "id", "created_at"),
        }
    }

    const fn has_uuids(self) -> bool {
        matches!(self, Self::Ledger | Self::History | Self::OperatorActions)
    }
}

/// One step of a walk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WalkStep {
    /// Rows of the users in it: deleted, or only seen.
    pub found: u64,
    /// Where the next step begins, as text; none at the end.
    pub next: Option<String>,
}

impl EventStore {
    /// Looks at the next `scan` rows of a table, in the order of its key, for what these users did before their fences: deletes it
    /// with `remove`, or counts it.
    pub async fn walk_step(
        &self,
        table: Walked,
        of: &[Erasure],
        after: Option<&str>,
        scan: u32,
        remove: bool,
    ) -> Result<WalkStep, StoreError> {
        let (name, key, before) = table.columns();
        let literal = |script: &mut Script, key: &str| -> Result<(), StoreError> {
            if table.has_uuids() {
                script.uuid(key.parse().map_err(|error| StoreError::corrupt(name, error))?);
            } else {
                script.int(key.parse().map_err(|error| StoreError::corrupt(name, error))?);
            }
            Ok(())
        };
        let first = if table.has_uuids() { Uuid::nil().to_string() } else { "0".to_owned() };
        let after = after.unwrap_or(&first);
        let mut script = self.script();
        let index = script.dialect().by_primary_key();
        script.begin("SELECT COUNT(*), MAX(k) FROM (SELECT ").words(key).words(" AS k FROM ").words(name).words(index);
        script.words(" WHERE ").words(key).words(" > ");
        literal(&mut script, after)?;
        script.words(" ORDER BY ").words(key).words(" LIMIT ").int(i64::from(scan)).words(") AS scanned");
        let results = self.read(&script).await?;
        let scanned = row(&results, 0, name)?;
        let rows_seen: i64 = get(scanned, 0, name)?;
        let last = match (rows_seen, table.has_uuids()) {
            (0, _) => None,
            (_, true) => Some(uuid_of(&get::<Vec<u8>>(scanned, 1, name)?)?.to_string()),
            (_, false) => Some(get::<i64>(scanned, 1, name)?.to_string()),
        };
        let mut step = WalkStep::default();
        if let Some(last) = &last
            && !of.is_empty()
        {
            // A piece of a statement.
            let mut range = self.script();
            range.words(" FROM ").words(name).words(index).words(" WHERE ").words(key).words(" > ");
            literal(&mut range, after)?;
            range.words(" AND ").words(key).words(" <= ");
            literal(&mut range, last)?;
            step.found = if table == Walked::OperatorActions {
                self.redact_actions(&range, of, remove).await?
            } else {
                self.walk_page(table, &range, before, of, remove).await?
            };
        }
        step.next = last.filter(|_| rows_seen >= i64::from(scan.max(1)));
        if table == Walked::Findings && step.next.is_none() {
            step.found += self.erase_findings(of, remove).await?;
        }
        Ok(step)
    }

    async fn walk_page(
        &self,
        table: Walked,
        range: &Script,
        before: &'static str,
        of: &[Erasure],
        remove: bool,
    ) -> Result<u64, StoreError> {
        let (name, key, _) = table.columns();
        let mut script = self.script();
        for chunk in of.chunks(CHUNK) {
            script.begin("SELECT ").words(key).words(", user_id, ").words(before).words(range.as_str()).words(" AND ");
            users_in(&mut script, chunk);
        }
        let results = self.read(&script).await?;
        let by_user: BTreeMap<i64, &Erasure> = of.iter().map(|erasure| (erasure.fence.user.get(), erasure)).collect();
        let believed = self.horizon.for_writes();
        let (mut uuids, mut numbers) = (Vec::new(), Vec::new());
        for row in results.iter().flatten() {
            let Some(erasure) = by_user.get(&get::<i64>(row, 1, name)?) else { continue };
            let is_behind = if matches!(table, Walked::Findings | Walked::Unpublished) {
                // Looks find what is half gone, too.
                let created = get::<NaiveDateTime>(row, 2, name)?.and_utc();
                erasure.cleaned_at.is_none_or(|ended| created <= ended)
            } else {
                believed.version(Version(get(row, 2, name)?)) <= erasure.fence.up_to
            };
            if !is_behind {
                continue;
            }
            if table.has_uuids() {
                uuids.push(uuid_of(&get::<Vec<u8>>(row, 0, name)?)?);
            } else {
                numbers.push(get::<i64>(row, 0, name)?);
            }
        }
        if remove && table != Walked::Refreshes {
            for chunk in uuids.chunks(CHUNK) {
                let mut script = self.script();
                // Of its event is known who it was: so this goes first.
                if table == Walked::Ledger {
                    script.begin("DELETE FROM operator_events WHERE event_id IN (");
                    uuid_list(&mut script, chunk);
                }
                script.begin("DELETE FROM ").words(name).words(" WHERE ").words(key).words(" IN (");
                uuid_list(&mut script, chunk);
                self.write("erase_walked", &script).await?;
            }
            for chunk in numbers.chunks(CHUNK) {
                let mut script = self.script();
                if table == Walked::Unpublished {
                    script.begin("UPDATE unpublished_changes SET user_id = 0 WHERE ");
                } else {
                    script.begin("DELETE FROM ").words(name).words(" WHERE ");
                }
                numbers_in(&mut script, key, chunk);
                self.write("erase_walked", &script).await?;
            }
        }
        Ok((uuids.len() + numbers.len()) as u64)
    }

    /// Both tables of findings are as large as what is wrong, or was lately.
    async fn erase_findings(&self, of: &[Erasure], remove: bool) -> Result<u64, StoreError> {
        let mut found = 0;
        for name in findings::TABLES {
            for chunk in of.chunks(CHUNK) {
                let mut script = self.script();
                script.begin("SELECT COUNT(*) FROM ").words(name);
                findings_behind(&mut script, chunk);
                found += get::<i64>(row(&self.read(&script).await?, 0, name)?, 0, name)?.unsigned_abs();
                if remove {
                    let mut script = self.script();
                    script.begin("DELETE FROM ").words(name);
                    findings_behind(&mut script, chunk);
                    self.write("erase_findings", &script).await?;
                }
            }
        }
        Ok(found)
    }

    async fn redact_actions(&self, range: &Script, of: &[Erasure], remove: bool) -> Result<u64, StoreError> {
        const ACTIONS: &str = "operator_actions";
        let mut script = self.script();
        script.begin("SELECT id, selection, reason").words(range.as_str());
        let results = self.read(&script).await?;
        let numbers: Vec<String> = of.iter().map(|erasure| erasure.fence.user.to_string()).collect();
        let mut script = self.script();
        let mut found = 0;
        for row in rows(&results, 0) {
            let text = |column| get::<Option<String>>(row, column, ACTIONS);
            let redacted = [text(1)?, text(2)?].map(|text| text.map(|text| (redact(&text, &numbers), text)));
            if redacted.iter().flatten().all(|(after, before)| after == before) {
                continue;
            }
            found += 1;
            let [selection, reason] = redacted.map(|text| text.map(|(after, _)| after));
            script.begin("UPDATE operator_actions SET selection = ").text_or_null(selection.as_deref());
            script.words(", reason = ").text_or_null(reason.as_deref()).words(" WHERE id = ");
            script.uuid(uuid_of(&get::<Vec<u8>>(row, 0, ACTIONS)?)?);
        }
        if remove {
            self.write("redact_actions", &script).await?;
        }
        Ok(found)
    }
}

/// Numbers of users, where they stand alone, give way.
fn redact(text: &str, numbers: &[String]) -> String {
    let mut redacted = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (word, after) = if digits > 0 {
            rest.split_at(digits)
        } else {
            rest.split_at(rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len()))
        };
        redacted.push_str(if digits > 0 && numbers.iter().any(|number| number == word) { "[erased]" } else { word });
        rest = after;
    }
    redacted
}

fn users_in(script: &mut Script, of: &[Erasure]) {
    let users: Vec<i64> = of.iter().map(|erasure| erasure.fence.user.get()).collect();
    numbers_in(script, "user_id", &users);
}

fn findings_behind(script: &mut Script, of: &[Erasure]) {
    script.words(" WHERE (");
    for (n, erasure) in of.iter().enumerate() {
        script.words(if n > 0 { " OR " } else { "" });
        script.words("user_id = ").int(erasure.fence.user.get());
        if let Some(ended) = erasure.cleaned_at {
            script.words(" AND opened_at <= ").time(ended);
        }
    }
    script.words(")");
}

fn uuid_list(script: &mut Script, ids: &[Uuid]) {
    script.list(ids, |script, id| {
        script.uuid(*id);
    });
    script.words(")");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_numbers_of_the_erased_give_way() {
        let numbers = ["7".to_owned(), "12".to_owned()];
        assert_eq!(redact("at most 77 dead by user 7", &numbers), "at most 77 dead by user [erased]");
        assert_eq!(redact("7: 12,712;12", &numbers), "[erased]: [erased],712;[erased]");
        assert_eq!(redact("no number, ünï", &numbers), "no number, ünï");
    }
}
