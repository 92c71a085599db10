//! A glance at the database: one question that says whether more need be asked.
//!
//! A full look proves that likes could be written, in some thirty statements. While all is well one process at a time does that,
//! and leaves word in the database (`sync_meta`, `looked:<account>`: rights are the account's). What differs by process it asks
//! each time: whether it is answered, by a server that writes, and whether that still has what this process knows to be committed.
//!
//! The word is the database's time of the look, and of the last one that asked the cache what was settled. Whoever finds it older
//! than [`HOLDS`] takes the turn, by writing its own over it; of several that find it one succeeds. That is a commit, so one that
//! hangs lets the word grow old, and each process looks by itself.

use crate::sql::error::StoreError;
#[cfg(feature = "mysql")]
use crate::sql::hosts;
use crate::sql::lanes::Expected;
use crate::sql::script::utc;
use crate::sql::store::{EventStore, SERVER, get, row};
use crate::tables::meta::{SHARDS, WRITE_PATH, read_shards};
use crate::tables::recovery::RECOVERY;
use crate::tables::went_back::{Held, NOTE, select_lanes};
use chrono::{DateTime, NaiveDateTime, Utc};
use domain::{ShardCount, WritePath};
use sea_orm::QueryResult;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// From one full look to the next; a little less than from one glance to the next, so that two do not look in turns.
const HOLDS: Duration = Duration::from_millis(900);

/// How often the cache is asked what was settled.
const ASKS: Duration = Duration::from_secs(5);

/// Longest name of an account in the name of a note.
const ACCOUNT: usize = 48;

/// What one question was answered.
#[derive(Debug)]
pub struct Glance {
    /// The database's clock.
    pub now: DateTime<Utc>,
    /// Which server answers.
    pub server: String,
    /// As operators ordered it.
    pub write_path: Result<Option<WritePath>, StoreError>,
    /// That the data has; none if nobody has stored it yet.
    pub shards: Option<ShardCount>,
    /// Nobody says that it went back in time, or is recovered, and it has what it should.
    pub is_calm: bool,
    name: String,
    word: Option<String>,
}

/// Whose turn it is to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Somebody has looked.
    Others,
    /// It is ours.
    Ours {
        /// And to ask the cache.
        asks: bool,
    },
    /// It failed for somebody: everybody looks.
    Everybodys,
}

/// What the word says: when somebody looked and when somebody asked the cache, in microseconds.
#[derive(Debug, PartialEq, Eq)]
struct Word {
    looked: i64,
    asked: i64,
    trouble: bool,
}

impl Word {
    fn read(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (looked, asked) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let trouble = match words.next() {
            None => false,
            Some(TROUBLE) => true,
            Some(_) => return None,
        };
        Some(Self { looked, asked, trouble })
    }

    fn written(&self) -> String {
        let Self { looked, asked, trouble } = self;
        if *trouble { format!("{looked} {asked} {TROUBLE}") } else { format!("{looked} {asked}") }
    }
}

const TROUBLE: &str = "trouble";

/// Without that feature nobody is asked.
#[cfg(not(feature = "mysql"))]
mod hosts {
    pub(super) const ROLE: &str = "''";

    pub(super) const fn writes(_: &str) -> bool {
        true
    }
}

/// Whether it is less than this ago. What is to come is another clock's.
fn is_within(then: i64, now: i64, limit: Duration) -> bool {
    u64::try_from(now.saturating_sub(then)).is_ok_and(|age| Duration::from_micros(age) < limit)
}

impl EventStore {
    /// One question, answered within `connect_timeout`; none where one process has the database for itself.
    pub async fn glance(&self) -> Result<Option<Glance>, StoreError> {
        let Some(account) = self.pool.account() else { return Ok(None) };
        let name = format!("looked:{}", account.chars().take(ACCOUNT).collect::<String>());
        let mut script = self.script();
        let now = script.dialect().now();
        script.begin("SELECT ").words(now).words(", ").words(hosts::ROLE).words(", ").words(SERVER);
        for note in [WRITE_PATH, NOTE, RECOVERY, SHARDS, &name] {
            script.words(", (SELECT value FROM sync_meta WHERE name = ").text(note).words(")");
        }
        let expected = self.expected(&[]);
        let lanes = script.statements();
        select_lanes(&mut script, &expected);
        let asked = match timeout(self.ping_timeout, self.pool.read(&script)).await {
            Ok(answer) => self.noticed(answer)?,
            Err(_) => return self.noticed(Err(self.silent(self.ping_timeout).await)),
        };
        let told = row(&asked, 0, "sync_meta")?;
        if !hosts::writes(&get::<String>(told, 1, "variables")?) {
            return self.noticed(Err(StoreError::only_reads()));
        }
        let now = utc(get::<NaiveDateTime>(told, 0, "clock")?);
        self.horizon.learn(now);
        let note = |column| get::<Option<String>>(told, column, "sync_meta");
        let noted = note(4)?.is_some() || note(5)?.is_some() || self.went_back().is_some();
        Ok(Some(Glance {
            now,
            server: get(told, 2, "variables")?,
            write_path: note(3)?.map(|text| Self::ordered(&text)).transpose(),
            is_calm: !noted && self.has_all(&asked[lanes..], &expected)?,
            shards: note(6)?.map(|text| read_shards(&text)).transpose()?,
            word: note(7)?,
            name,
        }))
    }

    /// Whose turn it is to look, which may be taken by that.
    pub async fn take_turn(&self, glance: &Glance) -> Result<Turn, StoreError> {
        let now = glance.now.timestamp_micros();
        let before = glance.word.as_deref().and_then(Word::read);
        let fresh = before.as_ref().filter(|word| is_within(word.looked, now, HOLDS));
        match fresh {
            Some(word) if word.trouble => return Ok(Turn::Everybodys),
            Some(_) => return Ok(Turn::Others),
            None => {}
        }
        let asked = before.map_or(0, |word| word.asked);
        let asks = !is_within(asked, now, ASKS);
        let ours = Word { looked: now, asked: if asks { now } else { asked }, trouble: false };
        let mut script = self.script();
        match &glance.word {
            Some(word) => script
                .begin("UPDATE sync_meta SET value = ")
                .text(&ours.written())
                .words(" WHERE name = ")
                .text(&glance.name)
                .words(" AND value = ")
                .text(word),
            None => script
                .begin("INSERT IGNORE INTO sync_meta (name, value) VALUES (")
                .text(&glance.name)
                .words(",")
                .text(&ours.written())
                .words(")"),
        };
        let taken = match timeout(self.ping_timeout, self.pool.read(&script)).await {
            Ok(answer) => self.noticed(answer)?.changed(0) > 0,
            Err(_) => return self.noticed(Err(self.silent(self.ping_timeout).await)),
        };
        if !taken {
            return Ok(Turn::Others);
        }
        // It was one.
        *self.probe_committed() = Some(Instant::now());
        Ok(Turn::Ours { asks })
    }

    /// Everybody is to look. Who does not hear it learns it when the word is old.
    pub async fn warn_others(&self, glance: &Glance) {
        let word = Word { looked: glance.now.timestamp_micros(), asked: 0, trouble: true };
        let mut script = self.script();
        script.begin("UPDATE sync_meta SET value = ").text(&word.written()).words(" WHERE name = ").text(&glance.name);
        let warned = timeout(WARNING, self.pool.read(&script)).await;
        if let Ok(Err(error)) = warned {
            tracing::debug!(%error, "that the database is not well was not left to others");
        }
    }
}

/// Who found trouble does not wait for others to hear of it.
const WARNING: Duration = Duration::from_millis(500);

impl EventStore {
    /// Whether all these lanes are found to be as far as they should.
    fn has_all(&self, rows: &[Vec<QueryResult>], expected: &[Expected]) -> Result<bool, StoreError> {
        let held = Held::of(rows)?;
        if !held.lack(expected).is_empty() {
            return Ok(false);
        }
        self.saw_lanes(&held);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_read_as_it_was_written() {
        for trouble in [false, true] {
            let word = Word { looked: 17, asked: 4, trouble };
            assert_eq!(Word::read(&word.written()), Some(word));
        }
        for text in ["", "1", "1 x", "1 2 well"] {
            assert_eq!(Word::read(text), None, "{text}");
        }
    }

    #[test]
    fn a_word_of_the_future_is_none() {
        let limit = Duration::from_micros(10);
        let within = |then| is_within(then, 100, limit);
        assert_eq!([within(90), within(91), within(100), within(101)], [false, true, true, false]);
    }
}
