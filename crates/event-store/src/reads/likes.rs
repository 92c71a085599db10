//! Reads for servers and the checker: counts, states, lists.

use crate::sql::error::StoreError;
use crate::sql::parts::Parts;
use crate::sql::store::{EventStore, get, rows};
use crate::tables::likes::{LikeTable, Reading, table_of};
use domain::{Pair, PairState, Resource, ResourceType, StoredCount, UserId, Version};

/// A live like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Liked {
    /// Who and what.
    pub pair: Pair,
    /// When: the version is the time of acceptance in microseconds.
    pub version: Version,
}

/// Place in a list of likes, latest first: the next page begins after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LikeCursor {
    /// Version of the last like of the page.
    pub version: Version,
    /// Its resource in a list of a user's likes, its user in a list of likers.
    pub id: i64,
}

/// A page of likes, latest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LikePage {
    /// The likes.
    pub likes: Vec<Liked>,
    /// Where the next page begins; none at the end.
    pub next: Option<LikeCursor>,
}

/// A row, and whether it is about to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FreeState {
    /// As it is, and nobody is about to change it.
    Row(PairState),
    /// There is none.
    Missing,
    /// Another transaction may be changing it, or creating it.
    Held,
}

impl EventStore {
    /// Stored counts in the order asked for; all zero where there is no row.
    pub async fn load_counts(&self, resources: &[Resource]) -> Result<Vec<StoredCount>, StoreError> {
        let (mut parts, mut counts) = (Parts::of(resources.len()), Vec::with_capacity(resources.len()));
        while let Some(part) = parts.next() {
            counts.extend(parts.done(&part, self.counts_at_once(&resources[part.clone()]).await)?);
        }
        Ok(counts)
    }

    async fn counts_at_once(&self, resources: &[Resource]) -> Result<Vec<StoredCount>, StoreError> {
        let mut script = self.script();
        let mut reading = Reading::default();
        reading.read_counts(&mut script, resources, "");
        let snapshot = reading.snapshot(&self.read_lately(&script).await?, self.horizon.for_reads())?;
        Ok(resources.iter().map(|resource| snapshot.count(*resource)).collect())
    }

    /// Resources with the largest counts, at most `limit` of each kind, largest first. Reads every counter: nothing is
    /// indexed for it, because every like would pay for that.
    pub async fn top_counts(&self, limit: u32) -> Result<Vec<(Resource, i64)>, StoreError> {
        const TABLE: &str = "like_counts";
        let mut script = self.script();
        for kind in ResourceType::ALL {
            script.begin("SELECT resource_id, like_count FROM like_counts WHERE resource_type = ").name(kind.name());
            script.words(" ORDER BY like_count DESC LIMIT ").int(i64::from(limit));
        }
        let results = self.read_lately(&script).await?;
        let mut top = Vec::new();
        for (statement, kind) in ResourceType::ALL.into_iter().enumerate() {
            for row in rows(&results, statement) {
                let resource = Resource::new(kind, get(row, 0, TABLE)?);
                top.push((resource.map_err(|error| StoreError::corrupt(TABLE, error))?, get(row, 1, TABLE)?));
            }
        }
        top.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        Ok(top)
    }

    /// States in the order asked for; untouched where there is no row.
    pub async fn load_states(&self, pairs: &[Pair]) -> Result<Vec<PairState>, StoreError> {
        let (mut parts, mut states) = (Parts::of(pairs.len()), Vec::with_capacity(pairs.len()));
        while let Some(part) = parts.next() {
            states.extend(parts.done(&part, self.states_at_once(&pairs[part.clone()]).await)?);
        }
        Ok(states)
    }

    async fn states_at_once(&self, pairs: &[Pair]) -> Result<Vec<PairState>, StoreError> {
        let mut script = self.script();
        let mut reading = Reading::default();
        reading.read_states(&mut script, pairs);
        let snapshot = reading.snapshot(&self.read_lately(&script).await?, self.horizon.for_reads())?;
        Ok(pairs.iter().map(|pair| snapshot.state(*pair)).collect())
    }

    /// States that no transaction is about to change, in the order asked for.
    ///
    /// A plain read shows the last commit: a write that is already decided, and commits a moment later, would be missed.
    /// Nothing here waits for such a write.
    pub async fn load_free_states(&self, pairs: &[Pair]) -> Result<Vec<FreeState>, StoreError> {
        let (mut parts, mut states) = (Parts::of(pairs.len()), Vec::with_capacity(pairs.len()));
        while let Some(part) = parts.next() {
            states.extend(parts.done(&part, self.free_states_at_once(&pairs[part.clone()]).await)?);
        }
        Ok(states)
    }

    async fn free_states_at_once(&self, pairs: &[Pair]) -> Result<Vec<FreeState>, StoreError> {
        let mut script = self.script();
        let (skip_locked, no_wait) = (script.dialect().skip_locked(), script.dialect().no_wait());
        let mut reading = Reading::default();
        reading.read_states_with(&mut script, pairs, skip_locked);
        let free = reading.snapshot(&self.read(&script).await?, self.horizon.for_reads())?;
        let absent: Vec<Pair> = pairs.iter().copied().filter(|pair| free.known_state(*pair).is_none()).collect();
        if absent.is_empty() {
            return Ok(pairs.iter().map(|pair| FreeState::Row(free.state(*pair))).collect());
        }
        // Held by somebody, or not there at all: only a look that does not skip tells. What was held before may be free by
        // then: this look shows it.
        let mut script = self.script();
        let mut reading = Reading::default();
        reading.read_states_with(&mut script, &absent, no_wait);
        let looked = match self.read(&script).await {
            Ok(results) => Some(reading.snapshot(&results, self.horizon.for_reads())?),
            Err(StoreError::Conflict(_)) => None,
            Err(error) => return Err(error),
        };
        let state = |pair: &Pair| match (free.known_state(*pair), &looked) {
            (Some(row), _) => FreeState::Row(row),
            (None, None) => FreeState::Held,
            (None, Some(looked)) => looked.known_state(*pair).map_or(FreeState::Missing, FreeState::Row),
        };
        Ok(pairs.iter().map(state).collect())
    }

    /// What a user likes, latest first.
    pub async fn list_liked(
        &self,
        user: UserId,
        kind: ResourceType,
        within: Within,
        limit: u32,
        after: Option<LikeCursor>,
    ) -> Result<LikePage, StoreError> {
        let id = table_of(kind).id;
        let list = List { kind, by: "user_id", by_id: user.get(), other: id, within };
        self.list(list, limit, after, |other| Pair::new(user.get(), kind, other)).await
    }

    /// Who likes a resource, latest first.
    pub async fn list_likers(
        &self,
        resource: Resource,
        within: Within,
        limit: u32,
        after: Option<LikeCursor>,
    ) -> Result<LikePage, StoreError> {
        let id = table_of(resource.kind).id;
        let list = List { kind: resource.kind, by: id, by_id: resource.id.get(), other: "user_id", within };
        self.list(list, limit, after, |other| Pair::new(other, resource.kind, resource.id.get())).await
    }

    async fn list(
        &self,
        list: List,
        limit: u32,
        after: Option<LikeCursor>,
        pair: impl Fn(i64) -> Result<Pair, domain::Invalid>,
    ) -> Result<LikePage, StoreError> {
        let List { kind, by, by_id, other, within } = list;
        let LikeTable { name, .. } = table_of(kind);
        let limit = limit.max(1);
        let mut script = self.script();
        script.begin("SELECT version, ").words(other).words(" FROM ").words(name);
        script.words(" WHERE ").words(by).words(" = ").int(by_id).words(" AND deleted_at IS NULL");
        if let Some(since) = within.since {
            script.words(" AND version >= ").int(since.0);
        }
        if let Some(until) = within.until {
            script.words(" AND version < ").int(until.0);
        }
        if let Some(LikeCursor { version, id }) = after {
            script.words(" AND version <= ").int(version.0);
            script.words(" AND (version < ").int(version.0).words(" OR ").words(other).words(" < ").int(id).words(")");
        }
        script.words(" ORDER BY version DESC, ").words(other).words(" DESC LIMIT ").int(i64::from(limit) + 1);
        let results = self.read_lately(&script).await?;
        let rows = rows(&results, 0);
        let mut likes = Vec::with_capacity(rows.len());
        for row in rows.iter().take(limit as usize) {
            let pair = pair(get(row, 1, name)?).map_err(|error| StoreError::corrupt(name, error))?;
            likes.push(Liked { pair, version: Version(get(row, 0, name)?) });
        }
        let more = rows.len() > likes.len();
        let cursor = |last: &Liked| LikeCursor {
            version: last.version,
            id: if other == "user_id" { last.pair.user.get() } else { last.pair.resource.id.get() },
        };
        let next = likes.last().filter(|_| more).map(cursor);
        Ok(LikePage { likes, next })
    }
}

/// Which likes of a list, by when they were made; the default is all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Within {
    /// Those from this version on.
    pub since: Option<Version>,
    /// Those before this version.
    pub until: Option<Version>,
}

struct List {
    kind: ResourceType,
    by: &'static str,
    by_id: i64,
    other: &'static str,
    within: Within,
}
