//! Beats, by which a process knows how old that is what a replica shows.
//!
//! A beat is a text in the database that nobody ever writes twice. A replica that shows one has everything that was committed
//! before it. Since when that is, a process measures by its own steady clock: from before it wrote the beat or, if another
//! process did, from before it last saw that it was not there yet. So no clock is compared with another one, and a replica
//! whose own source has stopped, or that copies another database, cannot pass for a fresh one.

use crate::sql::error::StoreError;
use crate::sql::pool::Results;
use crate::sql::store::{EventStore, get, rows};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Reads the beat; also in front of other statements.
pub(crate) const SELECT: &str = "SELECT value FROM sync_meta WHERE name = 'replica_beat'";

/// Beats that are remembered: what a replica shows that is further behind is of an unknown age.
const REMEMBERED: usize = 512;

/// The beats that a process has seen in the database that writes.
#[derive(Debug)]
pub(crate) struct Beats {
    writer: Uuid,
    every: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Each with the moment whose commits it certainly follows; the newest is the last one.
    known: VecDeque<(String, Instant)>,
    /// When the last look began.
    looked: Option<Instant>,
    /// When a look first saw the beat that is the newest.
    changed: Option<Instant>,
    written: u64,
}

impl Beats {
    pub(crate) fn new(every: Duration) -> Self {
        Self { writer: Uuid::now_v7(), every, state: Mutex::default() }
    }

    /// How old, at most, that is what was read together with this beat, which a replica showed. None: older than anything that is
    /// remembered.
    pub(crate) fn age(&self, beat: &str, now: Instant) -> Option<Duration> {
        let state = self.lock();
        let (_, since) = state.known.iter().rev().find(|(known, _)| known == beat)?;
        Some(now.saturating_duration_since(*since))
    }

    /// What a look saw that began at `began`; gives the beat to write in its place, if one is due.
    fn saw(&self, beat: Option<&str>, began: Instant) -> Option<String> {
        let mut state = self.lock();
        // After a pause it is not known since when another one's beat is there.
        let before =
            state.looked.replace(began).filter(|before| began.saturating_duration_since(*before) <= 2 * self.every);
        if let Some((beat, before)) = beat.zip(before)
            && state.known.back().is_none_or(|(newest, _)| newest != beat)
        {
            state.remember(beat.to_owned(), before);
            state.changed = Some(began);
            return None;
        }
        let due = |changed: Instant| began.saturating_duration_since(changed) >= self.every;
        if before.is_some() && !state.changed.is_none_or(due) {
            return None;
        }
        state.written += 1;
        Some(format!("{} {}", self.writer.simple(), state.written))
    }

    /// It was written by us, after `began`.
    fn wrote(&self, beat: String, began: Instant) {
        let mut state = self.lock();
        state.remember(beat, began);
        state.changed = Some(began);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remember(&mut self, beat: String, since: Instant) {
        if self.known.len() >= REMEMBERED {
            self.known.pop_front();
        }
        self.known.push_back((beat, since));
    }
}

/// The beat among the results of [`SELECT`] as the first statement.
pub(crate) fn beat_of(results: &Results) -> Result<Option<String>, StoreError> {
    rows(results, 0).first().map(|row| get(row, 0, "sync_meta")).transpose()
}

impl EventStore {
    /// Looks at the beat of the database that writes, and writes the next one where nobody else has in time: of all processes that
    /// look, one does.
    pub(crate) async fn beat(&self, beats: &Beats) -> Result<(), StoreError> {
        let began = Instant::now();
        let mut script = self.script();
        script.begin(SELECT);
        let found = beat_of(&self.read(&script).await?)?;
        let Some(next) = beats.saw(found.as_deref(), began) else { return Ok(()) };
        let mut script = self.script();
        match &found {
            Some(found) => {
                script.begin("UPDATE sync_meta SET value = ").text(&next);
                script.words(" WHERE name = 'replica_beat' AND value = ").text(found);
            }
            None => {
                let keep = script.dialect().keep_existing("name");
                script.begin("INSERT INTO sync_meta (name, value) VALUES ('replica_beat', ").text(&next);
                script.words(")").words(&keep);
            }
        }
        let written = self.write("replica_beat", &script).await?;
        // Else another one was first, which the next look sees.
        if written.changed(0) > 0 {
            beats.wrote(next, began);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_millis(100);

    #[test]
    fn a_beat_is_dated_before_it_was_there() {
        let (one, other) = (Beats::new(EVERY), Beats::new(EVERY));
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        // Of another one's beat that is there at the first look nobody knows how old it is.
        let first = one.saw(Some("of somebody"), at(0)).unwrap();
        one.wrote(first.clone(), at(0));
        assert_eq!((one.age("of somebody", at(5)), one.age(&first, at(5))), (None, Some(Duration::from_millis(5))));

        // It is not written anew before its time, and then only by who looks first.
        let second = other.saw(Some(&first), at(10)).unwrap();
        assert_eq!(one.saw(Some(&first), at(50)), None);
        other.wrote(second.clone(), at(10));
        assert_eq!(one.saw(Some(&second), at(90)), None);
        assert_eq!(one.age(&second, at(90)), Some(Duration::from_millis(40)), "since the look that did not see it");
        assert_eq!(other.age(&second, at(90)), Some(Duration::from_millis(80)));
        assert_eq!(one.saw(Some(&second), at(189)), None);
        let third = one.saw(Some(&second), at(190)).unwrap();
        assert!(third != first && third != second, "{third}");

        // After a pause it is unknown since when a beat is there.
        let fourth = one.saw(Some("after a pause"), at(10_000)).unwrap();
        assert_eq!(one.age("after a pause", at(10_001)), None);
        assert!(fourth != third, "{fourth}");
    }

    #[test]
    fn so_many_are_remembered() {
        let beats = Beats::new(EVERY);
        let start = Instant::now();
        (0..REMEMBERED + 1).for_each(|number| beats.wrote(number.to_string(), start));
        let known = |number: usize| beats.age(&number.to_string(), start).is_some();
        assert!(!known(0) && known(1) && known(REMEMBERED));
    }
}
