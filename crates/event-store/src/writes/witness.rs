//! Whose fault a refusal is: what refuses one row may refuse all of them, as a trigger, a constraint or a column of a changed
//! schema does. Then the event that happened to come is as good as any other, and is not given up.
//!
//! Asked is not whether others were committed: one that came again changes nothing, and meets no trigger. Other rows of the
//! same kind are written as the event would be, and taken back: each with the opposite action first, so that the row is written
//! new and changed, whichever of both the event would have done. They are rows of nobody, which a foreign key or a narrow
//! column may refuse, and rows of pairs that were written before, which only a fault can refuse. One that is taken is enough.

use crate::sql::error::StoreError;
use crate::sql::script::version_of;
use crate::sql::store::{EventStore, get, rows};
use chrono::{DateTime, Utc};
use domain::{Action, LikeEvent, Origin, Pair, ResourceType, Version};
use uuid::Uuid;

/// Newest completed events among which pairs are looked for.
const LOOKED_AT: i64 = 50;

/// Pairs that were written before, each of another resource.
const KNOWN: usize = 3;

/// Rows like this one are refused, whosesoever they are.
#[derive(Debug, thiserror::Error)]
#[error("it refuses every row of this kind: {0}")]
struct RefusesAll(#[source] StoreError);

impl EventStore {
    /// Whether other rows of the kind of `suspect` can be written: same table, same action, with a key if it has one.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: none of them can, so `suspect` is not to blame.
    pub async fn takes_others(&self, suspect: &LikeEvent, now: DateTime<Utc>) -> Result<(), StoreError> {
        let pair = suspect.pair();
        let nobody = |kind: ResourceType| Pair::new(any_id(), kind, any_id());
        let nobody = nobody(pair.resource.kind).map_err(|error| StoreError::corrupt("sync_events", error))?;
        let Err(first) = self.takes(suspect, nobody, now).await? else { return Ok(()) };
        for known in self.written_lately(pair).await? {
            if self.takes(suspect, known, now).await?.is_ok() {
                return Ok(());
            }
        }
        Err(StoreError::Unavailable(RefusesAll(first).into()))
    }

    /// The inner error is that of this row.
    async fn takes(
        &self,
        suspect: &LikeEvent,
        pair: Pair,
        now: DateTime<Utc>,
    ) -> Result<Result<(), StoreError>, StoreError> {
        let other = |action, version| {
            let mut other = suspect.clone();
            other.intent.id = Uuid::now_v7();
            other.intent.pair = pair;
            other.intent.action = action;
            other.intent.trace = None;
            if let Some(key) = &mut other.intent.idempotency_key {
                *key = other.intent.id.to_string();
            }
            other.origin = Origin::Direct;
            other.version = version;
            other
        };
        let version = version_of(now);
        let before = other(Action::from_liked(!suspect.intent.action.liked()), version);
        let same = other(suspect.intent.action, Version(version.0 + 1));
        match self.rehearse(&[before, same], now).await {
            Err(error) if error.is_unavailable() => Err(error),
            done => Ok(done),
        }
    }

    async fn written_lately(&self, besides: Pair) -> Result<Vec<Pair>, StoreError> {
        let mut script = self.script();
        script.begin("SELECT user_id, resource_type, resource_id FROM sync_events WHERE status = 'completed'");
        script.words(" ORDER BY id DESC LIMIT ").int(LOOKED_AT);
        let results = self.read(&script).await?;
        let mut resources = vec![besides.resource];
        let mut pairs = Vec::new();
        for row in rows(&results, 0) {
            let bad = |error: String| StoreError::corrupt("sync_events", error);
            let kind = get::<String>(row, 1, "sync_events")?.parse().map_err(|error| bad(format!("{error}")))?;
            let pair = Pair::new(get(row, 0, "sync_events")?, kind, get(row, 2, "sync_events")?)
                .map_err(|error| bad(error.to_string()))?;
            if kind == besides.resource.kind && !resources.contains(&pair.resource) && pairs.len() < KNOWN {
                resources.push(pair.resource);
                pairs.push(pair);
            }
        }
        Ok(pairs)
    }
}

/// Of nobody, most likely, and as long as such numbers are.
fn any_id() -> i64 {
    i64::from(Uuid::now_v7().as_u128() as u32 >> 1) + 1
}
