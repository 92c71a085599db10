//! What is stored where about one resource and its pairs.

use super::System;
use anyhow::{Context, Result};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Events of the resource cannot be older than the probe; some air for clocks that differ.
const CLOCK_AIR: Duration = Duration::from_secs(600);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Video,
    Comment,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::Comment => "comment",
        }
    }

    /// How behaviours of this kind begin.
    pub(super) fn behaviour_prefix(self) -> &'static str {
        match self {
            Self::Video => "",
            Self::Comment => "comment_",
        }
    }

    fn letter(self) -> &'static str {
        &self.name()[..1]
    }

    fn number(self) -> u64 {
        match self {
            Self::Video => 1,
            Self::Comment => 2,
        }
    }
}

pub(super) struct Resource<'a> {
    system: &'a System,
    pub(super) kind: Kind,
    pub(super) id: u64,
    /// What the shard's keys begin with.
    keys: String,
    since: u128,
}

impl<'a> Resource<'a> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one clock of this crate, for a bound with air for differing clocks"
    )]
    pub(super) fn new(system: &'a System, kind: Kind, id: u64) -> Result<Self> {
        let shards = system.redis(&["hget", &format!("{}meta", system.redis_prefix), "shards"])?;
        let keys = format!("{}{{{}}}:", system.redis_prefix, tag_of(kind, id, &shards)?);
        let since = (SystemTime::now().duration_since(UNIX_EPOCH)? - CLOCK_AIR).as_millis();
        Ok(Self { system, kind, id, keys, since })
    }

    pub(super) fn name(&self) -> String {
        format!("{}:{}", self.kind.name(), self.id)
    }

    fn counter_key(&self) -> String {
        format!("{}c:{}{}", self.keys, self.kind.letter(), self.id)
    }

    fn pair_key(&self, user: u64) -> String {
        format!("{}p:{}{user}:{}", self.keys, self.kind.letter(), self.id)
    }

    /// Ledger ids are UUID v7, so the time makes a range of the primary key: nothing else is read, however long the
    /// ledger is.
    fn recent(&self, column: &str) -> String {
        format!("{column} >= UNHEX('{:012x}00000000000000000000')", self.since)
    }

    /// Number of events of a pair, with this status or (`%`) any.
    pub(super) fn ledger(&self, user: u64, status: &str) -> Result<String> {
        let (recent, kind, id) = (self.recent("id"), self.kind.name(), self.id);
        self.system.sql(&format!(
            "SELECT COUNT(*) FROM sync_events WHERE {recent} AND user_id = {user} AND resource_type = '{kind}'
             AND resource_id = {id} AND status LIKE '{status}'"
        ))
    }

    /// Number of behaviours of a pair.
    pub(super) fn behaviours(&self, user: u64, name: &str) -> Result<String> {
        let (recent, id) = (self.recent("event_id"), self.id);
        self.system.sql(&format!(
            "SELECT COUNT(*) FROM user_behaviors WHERE {recent} AND user_id = {user} AND video_id = {id}
             AND behavior_type = '{name}'"
        ))
    }

    fn of_row(&self, user: u64, column: &str) -> Result<String> {
        let (kind, id) = (self.kind.name(), self.id);
        self.system.sql(&format!("SELECT {column} FROM {kind}_likes WHERE user_id = {user} AND {kind}_id = {id}"))
    }

    /// `live`, `tombstone` or `none`.
    pub(super) fn row(&self, user: u64) -> Result<String> {
        let found = self.of_row(user, "IF(deleted_at IS NULL, 'live', 'tombstone')")?;
        Ok(if found.is_empty() { "none".into() } else { found })
    }

    pub(super) fn row_version(&self, user: u64) -> Result<String> {
        self.of_row(user, "version")
    }

    fn live_rows(&self) -> Result<String> {
        let (kind, id) = (self.kind.name(), self.id);
        self.system.sql(&format!("SELECT COUNT(*) FROM {kind}_likes WHERE {kind}_id = {id} AND deleted_at IS NULL"))
    }

    /// Of the stored count.
    pub(super) fn stored(&self, expression: &str) -> Result<String> {
        let (kind, id) = (self.kind.name(), self.id);
        let condition = format!("resource_type = '{kind}' AND resource_id = {id}");
        self.system.sql(&format!("SELECT {expression} FROM like_counts WHERE {condition}"))
    }

    fn served_count(&self) -> Result<String> {
        let (_, answer) = self.system.ask(&["counts", &self.name(), "-o", "tsv"]);
        let line = answer.lines().last().unwrap_or_default();
        line.split('\t').nth(1).map(str::to_owned).context(answer)
    }

    /// A field of the cached counter.
    pub(super) fn cached(&self, field: &str) -> Result<String> {
        self.system.redis(&["hget", &self.counter_key(), field])
    }

    pub(super) fn cached_pair(&self, user: u64) -> Result<String> {
        shown_pair(&self.system.redis(&["get", &self.pair_key(user)])?)
    }

    /// Loses the cached counter and the pair.
    pub(super) fn forget(&self, user: u64) -> Result<()> {
        self.system.redis(&["del", &self.counter_key(), &self.pair_key(user)]).map(drop)
    }

    /// The id of a journal entry, if it is still there; its payload is binary.
    pub(super) fn in_journal(&self, version: &str) -> Result<String> {
        let id = format!("{version}-0");
        let entry = self.system.redis(&["xrange", &format!("{}j", self.keys), &id, &id])?;
        Ok(entry.lines().next().unwrap_or_default().to_owned())
    }

    /// What the four places say, in one line: served, cached and its pending, stored, live rows.
    pub(super) fn all_counts(&self) -> Result<String> {
        let parts = [self.served_count()?, self.cached("n")?, self.cached("p")?, self.stored("like_count")?];
        Ok(format!("{} {}", parts.join(" "), self.live_rows()?))
    }
}

/// The hash tag of a resource where this is recorded: `16`, or `64@1` after resharding.
fn tag_of(kind: Kind, id: u64, recorded: &str) -> Result<String> {
    let (shards, epoch) = recorded.split_once('@').unwrap_or((recorded, ""));
    let shards = shards.parse().with_context(|| format!("the number of shards is {recorded:?}"))?;
    let shard = shard_of(kind, id, shards);
    Ok(if epoch.is_empty() { format!("s{shard}") } else { format!("s{shard}.{epoch}") })
}

/// SplitMix64's finalizer over kind and id. Written again here, because a probe is an independent witness.
fn shard_of(kind: Kind, id: u64, shards: u64) -> u64 {
    let mut hash = (id ^ (kind.number() << 62)).wrapping_add(0x9E37_79B9_7F4A_7C15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (hash ^ (hash >> 31)).checked_rem(shards).unwrap_or_default()
}

/// `liked VERSION` or `not liked VERSION`; a version that was only seen in the database is negative.
fn shown_pair(value: &str) -> Result<String> {
    if value.is_empty() {
        return Ok("not cached".into());
    }
    let value: i64 = value.parse().with_context(|| format!("the cached pair is {value:?}"))?;
    let value = value.unsigned_abs();
    Ok(format!("{} {}", if value & 1 == 1 { "liked" } else { "not liked" }, value >> 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_looked_for_where_the_system_puts_it() -> Result<()> {
        let shards = domain::ShardCount::new(16)?;
        for id in [1, 42, 1_000_000_000_000_007, i64::MAX] {
            for (kind, theirs) in
                [(Kind::Video, domain::ResourceType::Video), (Kind::Comment, domain::ResourceType::Comment)]
            {
                let expected = shards.of(domain::Resource::new(theirs, id)?).0;
                assert_eq!(shard_of(kind, id.unsigned_abs(), 16), u64::from(expected), "{kind:?} {id}");
                for shards in [shards, shards.resharded_to(64)?] {
                    let tag = shards.name_of(shards.of(domain::Resource::new(theirs, id)?)).to_string();
                    assert_eq!(tag_of(kind, id.unsigned_abs(), &shards.to_string())?, tag);
                }
            }
        }
        Ok(())
    }

    #[test]
    fn cached_pairs_are_shown() -> Result<()> {
        for (value, expected) in [("", "not cached"), ("9", "liked 4"), ("8", "not liked 4"), ("-9", "liked 4")] {
            assert_eq!(shown_pair(value)?, expected);
        }
        assert!(shown_pair("x").is_err());
        Ok(())
    }
}
