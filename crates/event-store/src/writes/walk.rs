//! The erasure of users and resources in tables without an index by either: gone through once, page by page, for all whose erasure
//! waits.

use crate::sql::error::StoreError;
use crate::sql::script::{CHUNK, Script};
use crate::sql::store::{EventStore, get, row};
use crate::tables::fences::Erasure;
use crate::tables::findings;
use crate::tables::ledger::uuid_of;
use crate::writes::erase::numbers_in;
use chrono::NaiveDateTime;
use domain::{Action, Erased, Resource, ResourceType, UserId, Version};
use std::collections::{BTreeMap, BTreeSet};
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
    /// `operator_actions`: a user's number in selections and reasons becomes `[erased]`.
    OperatorActions,
    /// `idempotency_keys` of resources; those of users are found by an index.
    Keys,
    /// `archived_tombstones`, likewise.
    Tombstones,
}

impl Walked {
    /// In the order of a walk.
    pub const ALL: [Self; 8] = [
        Self::Ledger,
        Self::History,
        Self::Refreshes,
        Self::Unpublished,
        Self::Findings,
        Self::OperatorActions,
        Self::Keys,
        Self::Tombstones,
    ];

    /// Whether anything of it is to be found here.
    pub const fn has(self, of: Erased) -> bool {
        match of {
            Erased::User(_) => !matches!(self, Self::Keys | Self::Tombstones),
            // Its number tells nothing of anybody.
            Erased::Resource(_) => !matches!(self, Self::OperatorActions),
        }
    }

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
            Self::Keys => ("idempotency_keys", "id", "version"),
            Self::Tombstones => ("archived_tombstones", "resource_type, user_id, resource_id", "version"),
        }
    }

    /// The columns of type and number of the resource.
    const fn resource(self) -> (&'static str, &'static str) {
        match self {
            Self::History => ("behavior_type", "video_id"),
            _ => ("resource_type", "resource_id"),
        }
    }

    /// What stands in the column of the type, for a resource of this kind.
    fn types(self, kind: ResourceType) -> Vec<&'static str> {
        match self {
            Self::History => [Action::Like, Action::Unlike].map(|action| kind.behavior(action)).to_vec(),
            _ => vec![kind.name()],
        }
    }

    const fn has_uuids(self) -> bool {
        matches!(self, Self::Ledger | Self::History | Self::OperatorActions)
    }
}

/// One step of a walk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WalkStep {
    /// Rows of users and resources in it: deleted, or only seen.
    pub found: u64,
    /// Those among them that go with a resource.
    pub of_resources: u64,
    /// Where the next step begins, as text; none at the end.
    pub next: Option<String>,
}

impl EventStore {
    /// Looks at the next `scan` rows of a table, in the order of its key, for what is behind these fences: deletes it with `remove`,
    /// or counts it. A table that has nothing of these is not looked at.
    pub async fn walk_step(
        &self,
        table: Walked,
        of: &[Erasure],
        after: Option<&str>,
        scan: u32,
        remove: bool,
    ) -> Result<WalkStep, StoreError> {
        let of: Vec<Erasure> = of.iter().filter(|erasure| table.has(erasure.fence.of)).copied().collect();
        if of.is_empty() {
            return Ok(WalkStep::default());
        }
        if table == Walked::Tombstones {
            return self.walk_tombstones(&of, after, scan, remove).await;
        }
        let (name, key, _) = table.columns();
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
        if let Some(last) = &last {
            // A piece of a statement.
            let mut range = self.script();
            range.words(" FROM ").words(name).words(index).words(" WHERE ").words(key).words(" > ");
            literal(&mut range, after)?;
            range.words(" AND ").words(key).words(" <= ");
            literal(&mut range, last)?;
            if table == Walked::OperatorActions {
                step.found = self.redact_actions(&range, &of, remove).await?;
            } else {
                self.walk_page(table, &range, &of, remove, &mut step).await?;
            }
        }
        step.next = last.filter(|_| rows_seen >= i64::from(scan.max(1)));
        if table == Walked::Findings && step.next.is_none() {
            self.erase_findings(&of, remove, &mut step).await?;
        }
        Ok(step)
    }

    async fn walk_page(
        &self,
        table: Walked,
        range: &Script,
        of: &[Erasure],
        remove: bool,
        step: &mut WalkStep,
    ) -> Result<(), StoreError> {
        let (name, key, before) = table.columns();
        let (kind, id) = table.resource();
        let mut script = self.script();
        for chunk in of.chunks(CHUNK) {
            script.begin("SELECT ").words(key).words(", user_id, ").words(before).words(", ").words(kind).words(", ");
            script.words(id).words(range.as_str()).words(" AND (");
            theirs(&mut script, table, chunk);
            script.words(")");
        }
        let results = self.read(&script).await?;
        let by_whom: BTreeMap<Erased, &Erasure> = of.iter().map(|erasure| (erasure.fence.of, erasure)).collect();
        let believed = self.horizon.for_writes();
        // A row may go with its user and with its resource.
        let (mut uuids, mut numbers) = (BTreeSet::new(), BTreeSet::new());
        for row in results.iter().flatten() {
            let user = get::<Option<i64>>(row, 1, name)?.and_then(|user| UserId::new(user).ok()).map(Erased::User);
            let kind = kind_of(table, &get::<String>(row, 3, name)?);
            let id: i64 = get(row, 4, name)?;
            let resource = kind.and_then(|kind| Resource::new(kind, id).ok()).map(Erased::Resource);
            // Looks find what is half gone, too.
            let created = matches!(table, Walked::Findings | Walked::Unpublished);
            let (created, version) = if created {
                (Some(get::<NaiveDateTime>(row, 2, name)?.and_utc()), Version::ZERO)
            } else {
                (None, believed.version(Version(get(row, 2, name)?)))
            };
            let is_behind = |erasure: &Erasure| match created {
                Some(created) => erasure.cleaned_at.is_none_or(|ended| created <= ended),
                None => version <= erasure.fence.up_to,
            };
            let goes =
                |of: Option<Erased>| of.and_then(|of| by_whom.get(&of)).is_some_and(|erasure| is_behind(erasure));
            if !goes(user) && !goes(resource) {
                continue;
            }
            let is_new = if table.has_uuids() {
                uuids.insert(uuid_of(&get::<Vec<u8>>(row, 0, name)?)?)
            } else {
                numbers.insert(get::<i64>(row, 0, name)?)
            };
            step.found += u64::from(is_new);
            step.of_resources += u64::from(is_new && !goes(user));
        }
        let (uuids, numbers): (Vec<Uuid>, Vec<i64>) = (uuids.into_iter().collect(), numbers.into_iter().collect());
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
        Ok(())
    }

    /// Both tables of findings are as large as what is wrong, or was lately.
    async fn erase_findings(&self, of: &[Erasure], remove: bool, step: &mut WalkStep) -> Result<(), StoreError> {
        let (resources, users): (Vec<Erasure>, Vec<Erasure>) =
            of.iter().copied().partition(|erasure| matches!(erasure.fence.of, Erased::Resource(_)));
        for name in findings::TABLES {
            for (of, are_resources) in [(&users, false), (&resources, true)] {
                for chunk in of.chunks(CHUNK) {
                    let mut script = self.script();
                    script.begin("SELECT COUNT(*) FROM ").words(name);
                    findings_behind(&mut script, chunk);
                    let found = get::<i64>(row(&self.read(&script).await?, 0, name)?, 0, name)?.unsigned_abs();
                    step.found += found;
                    step.of_resources += if are_resources { found } else { 0 };
                    if remove {
                        let mut script = self.script();
                        script.begin("DELETE FROM ").words(name);
                        findings_behind(&mut script, chunk);
                        self.write("erase_findings", &script).await?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// A condition: rows of these users and resources.
fn theirs(script: &mut Script, table: Walked, of: &[Erasure]) {
    let users: Vec<i64> = of
        .iter()
        .filter_map(|erasure| match erasure.fence.of {
            Erased::User(user) => Some(user.get()),
            Erased::Resource(_) => None,
        })
        .collect();
    let mut or = "";
    if !users.is_empty() {
        numbers_in(script, "user_id", &users);
        or = " OR ";
    }
    let (column, id) = table.resource();
    for kind in ResourceType::ALL {
        let ids: Vec<i64> = of
            .iter()
            .filter_map(|erasure| match erasure.fence.of {
                Erased::Resource(resource) if resource.kind == kind => Some(resource.id.get()),
                _ => None,
            })
            .collect();
        if ids.is_empty() {
            continue;
        }
        script.words(or).words(column).words(" IN (");
        script.list(table.types(kind), |script, name| {
            script.name(name);
        });
        script.words(") AND ");
        numbers_in(script, id, &ids);
        if table == Walked::Unpublished {
            // The others are of the counter alone, which is to be told.
            script.words(" AND user_id > 0");
        }
        or = " OR ";
    }
}

/// What the column of the type says; none for what is no resource.
fn kind_of(table: Walked, text: &str) -> Option<ResourceType> {
    ResourceType::ALL.into_iter().find(|kind| table.types(*kind).contains(&text))
}

fn findings_behind(script: &mut Script, of: &[Erasure]) {
    script.words(" WHERE (");
    for (n, erasure) in of.iter().enumerate() {
        script.words(if n > 0 { " OR " } else { "" });
        match erasure.fence.of {
            Erased::User(user) => script.words("user_id = ").int(user.get()),
            Erased::Resource(resource) => {
                script.words("resource_type = ").name(resource.kind.name());
                script.words(" AND resource_id = ").int(resource.id.get())
            }
        };
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
