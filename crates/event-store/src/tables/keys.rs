//! Idempotency keys, so that they work on the paths that no cache serves: one row per key of a pair, written in the
//! transaction that applies its event, with what the first call was told.
//!
//! A key lives for `idempotency_ttl` by the database's clock, which also writes when it began: processes whose clocks differ
//! agree. An older row is no key any more, whether retention has come by or not.

use crate::sql::error::StoreError;
use crate::sql::pool::Results;
use crate::sql::script::{CHUNK, Script};
use crate::sql::store::{EventStore, get, rows};
use chrono::{DateTime, Utc};
use domain::cache::{Answer, FirstAnswer};
use domain::{LikeIntent, Pair, PairState, Version};
use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

const TABLE: &str = "idempotency_keys";

/// What the first call with a key was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KnownKey {
    /// What was asked for, and the version that was answered.
    pub(crate) state: PairState,
    /// Whether that call changed something.
    pub(crate) changed: bool,
    /// How long the key is known.
    pub(crate) age: Duration,
}

/// A key to be kept.
#[derive(Debug, Clone)]
pub(crate) struct NewKey {
    pub(crate) pair: Pair,
    pub(crate) key: String,
    pub(crate) known: KnownKey,
}

impl NewKey {
    /// The key of an intent, if it has one.
    pub(crate) fn of(intent: &LikeIntent, version: Version, changed: bool) -> Option<Self> {
        let key = intent.idempotency_key.clone()?;
        let state = PairState { liked: intent.action.liked(), version };
        Some(Self { pair: intent.pair, key, known: KnownKey { state, changed, age: Duration::ZERO } })
    }
}

impl EventStore {
    /// The keys of these pairs with what their first calls were told: at most `limit` after the one with the id `after`, and
    /// where the next page begins, if there is one. At most 500 pairs.
    pub async fn load_keys(
        &self,
        pairs: &[Pair],
        after: i64,
        limit: u32,
    ) -> Result<(Vec<FirstAnswer>, Option<i64>), StoreError> {
        let mut script = self.script();
        for chunk in pairs.chunks(CHUNK) {
            select_known(&mut script);
            script.words(", id FROM idempotency_keys WHERE (user_id, resource_type, resource_id) IN (");
            let list = script.dialect().row_list();
            script.words(list);
            script.list(chunk, |script, pair| {
                script.words("(").int(pair.user.get()).words(",").name(pair.resource.kind.name()).words(",");
                script.int(pair.resource.id.get()).words(")");
            });
            only_alive(script.words(") AND "), self.idempotency_ttl);
            script.words(" AND id > ").int(after).words(" ORDER BY id LIMIT ").int(i64::from(limit));
        }
        let results = self.read(&script).await?;
        let known = read_known(&results, 0..script.statements())?;
        let page = rows(&results, 0);
        let full = page.len() >= limit as usize;
        let next = page.last().filter(|_| full).map(|row| get(row, 8, TABLE)).transpose()?;
        let answer = |((pair, key), KnownKey { state, changed, age })| FirstAnswer {
            pair,
            key,
            liked: state.liked,
            answer: Answer { count: None, version: state.version },
            changed,
            age,
        };
        Ok((known.into_iter().map(answer).collect(), next))
    }

    /// Deletes keys from before `before`, at most `limit`; returns how many.
    pub async fn purge_keys(&self, before: DateTime<Utc>, limit: u32) -> Result<u64, StoreError> {
        let mut script = self.script();
        script.begin("SELECT id FROM idempotency_keys WHERE created_at < ").time(before);
        script.words(" ORDER BY created_at LIMIT ").int(i64::from(limit));
        let results = self.read(&script).await?;
        let ids: Vec<i64> = rows(&results, 0).iter().map(|row| get(row, 0, TABLE)).collect::<Result<_, _>>()?;
        let mut script = self.script();
        for chunk in ids.chunks(CHUNK) {
            script.begin("DELETE FROM idempotency_keys WHERE id IN (");
            script.list(chunk, |script, id| {
                script.int(*id);
            });
            script.words(")");
        }
        self.write("purge_keys", &script).await?;
        Ok(ids.len() as u64)
    }
}

/// Keeps keys; one that is known stays as it was first answered. One that is not known any more gives way, unless its call
/// came later: a replay is no new call.
pub(crate) fn record(script: &mut Script, keys: &[NewKey], ttl: Duration) {
    let dialect = script.dialect();
    let keep_when =
        format!("created_at >= {} OR version > {}", dialect.earlier(ttl.as_secs()), dialect.new_value("version"));
    let keep = dialect.overwrite(
        "user_id, resource_type, resource_id, idempotency_key",
        // A version that was just written is not above itself: so MySQL, from left to right, decides the last two alike.
        &["liked", "changed", "version", "created_at"],
        Some(&keep_when),
    );
    for chunk in keys.chunks(CHUNK) {
        script.begin(
            "INSERT INTO idempotency_keys (user_id, resource_type, resource_id, idempotency_key, liked, version, \
             changed, created_at) VALUES ",
        );
        script.list(chunk, |script, new| {
            let Pair { user, resource } = new.pair;
            script.words("(").int(user.get()).words(",").name(resource.kind.name()).words(",");
            script.int(resource.id.get()).words(",").text(&new.key).words(",");
            script.int(i64::from(new.known.state.liked)).words(",").int(new.known.state.version.0).words(",");
            script.int(i64::from(new.known.changed)).words(",").words(dialect.now()).words(")");
        });
        script.words(&keep);
    }
}

/// Asks for the keys of these intents; the result is for [`read_known`].
pub(crate) fn known<'i>(
    script: &mut Script,
    intents: impl Iterator<Item = &'i LikeIntent>,
    ttl: Duration,
) -> Range<usize> {
    let first = script.statements();
    let keyed: Vec<(Pair, &str)> =
        intents.filter_map(|intent| Some((intent.pair, intent.idempotency_key.as_deref()?))).collect();
    for chunk in keyed.chunks(CHUNK) {
        select_known(script);
        script.words(" FROM idempotency_keys WHERE (user_id, resource_type, resource_id, idempotency_key) IN (");
        let list = script.dialect().row_list();
        script.words(list);
        script.list(chunk, |script, (pair, key)| {
            script.words("(").int(pair.user.get()).words(",").name(pair.resource.kind.name()).words(",");
            script.int(pair.resource.id.get()).words(",").text(key).words(")");
        });
        only_alive(script.words(") AND "), ttl);
    }
    first..script.statements()
}

/// Begins what [`read_known`] reads.
fn select_known(script: &mut Script) {
    let age = script.dialect().age_us("created_at");
    script.begin("SELECT user_id, resource_type, resource_id, idempotency_key, liked, version, changed, ").words(&age);
}

fn only_alive(script: &mut Script, ttl: Duration) {
    let oldest = script.dialect().earlier(ttl.as_secs());
    script.words("created_at >= ").words(&oldest);
}

pub(crate) fn read_known(
    results: &Results,
    statements: Range<usize>,
) -> Result<HashMap<(Pair, String), KnownKey>, StoreError> {
    statements
        .flat_map(|statement| rows(results, statement))
        .map(|row| {
            let kind = get::<String>(row, 1, TABLE)?.parse().map_err(|error| StoreError::corrupt(TABLE, error))?;
            let pair = Pair::new(get(row, 0, TABLE)?, kind, get(row, 2, TABLE)?)
                .map_err(|error| StoreError::corrupt(TABLE, error))?;
            let state = PairState { liked: get::<i64>(row, 4, TABLE)? != 0, version: Version(get(row, 5, TABLE)?) };
            // Negative where the database's clock was set back.
            let age = Duration::from_micros(u64::try_from(get::<i64>(row, 7, TABLE)?).unwrap_or(0));
            Ok(((pair, get(row, 3, TABLE)?), KnownKey { state, changed: get::<i64>(row, 6, TABLE)? != 0, age }))
        })
        .collect()
}
