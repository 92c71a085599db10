//! The verdict that this database is not what it was: it lacks commits that it had confirmed.
//!
//! Whoever notices writes it down, in the database that has gone back, so that all processes know: a note that stands until it
//! is taken away, with the evidence that reaches furthest back.

use crate::sql::error::StoreError;
use crate::sql::lanes::Expected;
use crate::sql::script::{CHUNK, Script, time_of};
use crate::sql::store::EventStore;
use crate::sql::verdict::{Verdict, WentBack};
use crate::tables::meta::write_note;
use crate::tables::recovery::{RECOVERED, RECOVERY};
use crate::tables::writers::{WRITERS_KEPT, found, select};
use chrono::{DateTime, Utc};
use domain::cache::{CommitNumber, ToldCommit};
use planted_bugs::planted;
use sea_orm::QueryResult;
use std::collections::HashMap;
use std::time::Duration;
use uuid::Uuid;

pub(crate) const NOTE: &str = "went_back";

/// What is missing is looked for once more.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

impl EventStore {
    /// That the database has become what it once was, as far as this process knows.
    pub fn went_back(&self) -> Option<WentBack> {
        self.history.lock().map(|verdict| verdict.evidence)
    }

    /// Compares what the database has with what it had confirmed: to this process, and, as `told` says or the last look has seen,
    /// to others. Tells the others what is found, and learns what they have found.
    ///
    /// What is in `told` was told before this call.
    pub async fn look_back(&self, told: &[ToldCommit]) -> Result<Option<WentBack>, StoreError> {
        planted!("went_back_ignored" => Ok(None));
        let expected = self.expected(told);
        let mut held = self.held(&expected).await?;
        let mut lacking = held.lack(&expected);
        if !lacking.is_empty() {
            // A server that took over may still have to write what it has received.
            tokio::time::sleep(LOOK_AGAIN).await;
            let again: Vec<Expected> = lacking.iter().map(|(expected, _)| *expected).collect();
            let later = self.held(&again).await?;
            lacking = later.lack(&again);
            held.0.extend(later.0);
        }
        self.saw_lanes(&held);
        for (expected, found) in &lacking {
            self.writer.give_up(&expected.commit);
            self.note_went_back(WentBack::new(expected, *found, self.latest_clock()));
        }
        self.share().await?;
        Ok(self.went_back())
    }

    /// Takes the verdict away: what the database had lost is in it again, or is given up. What is in `told` is expected no more,
    /// and no recovery is under way any more.
    pub async fn forget_went_back(&self, told: &[ToldCommit]) -> Result<(), StoreError> {
        let mut script = self.script();
        self.settle_with(&mut script, told).await?;
        script.begin("DELETE FROM sync_meta WHERE name IN (").text(NOTE).words(",").text(RECOVERY);
        script.words(",").text(RECOVERED).words(")");
        self.write("forget_went_back", &script).await?;
        *self.history.lock() = None;
        Ok(())
    }

    /// Adds the statements after which the database has what is in `told`.
    pub(crate) async fn settle_with(&self, script: &mut Script, told: &[ToldCommit]) -> Result<(), StoreError> {
        let expected: Vec<Expected> = told.iter().map(expected_by).collect();
        for (Expected { commit, .. }, _) in self.held(&expected).await?.lack(&expected) {
            let (now, overwrite) =
                (script.dialect().now(), script.dialect().overwrite("writer, lane", &["seq", "at"], None));
            script.begin("INSERT INTO sync_writers (writer, lane, seq, at) VALUES (").uuid(commit.writer);
            script.words(",").int(i64::from(commit.lane)).words(",").int(commit.number).words(",").words(now);
            script.words(")").words(&overwrite);
        }
        Ok(())
    }

    /// What must be found: what this process committed, what it saw others have committed, and what it is told of.
    pub(crate) fn expected(&self, told: &[ToldCommit]) -> Vec<Expected> {
        let mut expected = self.writer.expected();
        let recent = self.latest_clock() - WRITERS_KEPT / 2;
        let of_others = told.iter().map(expected_by).chain(self.history.seen());
        expected.extend(of_others.filter(|one| one.at > recent));
        expected
    }

    /// Others have come as far as this.
    pub(crate) fn saw_lanes(&self, held: &Held) {
        self.history.saw(held.of_others_than(self.writer.id()));
    }

    /// What the database has of these lanes.
    async fn held(&self, expected: &[Expected]) -> Result<Held, StoreError> {
        let mut script = self.script();
        select_lanes(&mut script, expected);
        Held::of(&self.read(&script).await?)
    }

    /// Remembers, and says once, what was found.
    pub(crate) fn note_went_back(&self, evidence: WentBack) {
        self.learn(evidence, false);
    }

    /// `written`: it is what the note says.
    fn learn(&self, evidence: WentBack, written: bool) {
        let mut verdict = self.history.lock();
        let Some(known) = *verdict else {
            *verdict = Some(Verdict { evidence, written });
            tracing::error!(%evidence, "the database has gone back in time: it lacks commits that it had confirmed");
            return;
        };
        let together = known.evidence.and(evidence);
        if together != known.evidence {
            tracing::error!(%evidence, "the database has gone back further, or once more");
        }
        let written = if written { together == evidence } else { known.written && together == known.evidence };
        *verdict = Some(Verdict { evidence: together, written });
    }

    /// What one finds is written down for all, and what others found is learnt.
    async fn share(&self) -> Result<(), StoreError> {
        let noted = self.noted_went_back().await?;
        if let Some(noted) = noted {
            self.learn(noted, true);
        }
        let known = *self.history.lock();
        match known {
            Some(Verdict { evidence, written: false }) => {
                let mut script = self.script();
                write_note(&mut script, NOTE, &evidence.to_note());
                self.write("went_back", &script).await?;
                self.learn(evidence, true);
            }
            // Somebody took it away; what was found since then is not written yet.
            Some(Verdict { written: true, .. }) if noted.is_none() => {
                let mut verdict = self.history.lock();
                *verdict = verdict.filter(|verdict| !verdict.written);
            }
            _ => {}
        }
        Ok(())
    }

    /// As the database says.
    async fn noted_went_back(&self) -> Result<Option<WentBack>, StoreError> {
        self.note(NOTE).await?.map(|text| evidence_of(&text)).transpose()
    }
}

/// The last number of a lane, and when it was committed.
type Last = (i64, DateTime<Utc>);

/// Rows of lanes, by writer and lane.
pub(crate) struct Held(HashMap<(Uuid, u32), Last>);

/// Asks for them.
pub(crate) fn select_lanes(script: &mut Script, expected: &[Expected]) {
    expected.chunks(CHUNK).for_each(|chunk| select(script, chunk));
}

impl Held {
    /// Rows of statements that asked for lanes.
    pub(crate) fn of(results: &[Vec<QueryResult>]) -> Result<Self, StoreError> {
        let rows = found(results)?.into_iter();
        Ok(Self(rows.map(|(commit, at)| ((commit.writer, commit.lane), (commit.number, at))).collect()))
    }

    /// Those of which the database has less, with what it has.
    pub(crate) fn lack(&self, expected: &[Expected]) -> Vec<(Expected, Option<Last>)> {
        let of = |expected: &Expected| self.0.get(&(expected.commit.writer, expected.commit.lane)).copied();
        let less = |expected: &Expected| of(expected).is_none_or(|(found, _)| found < expected.commit.number);
        expected.iter().filter(|expected| less(expected)).map(|expected| (*expected, of(expected))).collect()
    }

    /// What a writer has not committed itself.
    fn of_others_than(&self, us: Uuid) -> Vec<Expected> {
        let others = self.0.iter().filter(|((writer, _), _)| *writer != us);
        let row = |(&(writer, lane), &(number, at))| Expected { commit: CommitNumber { writer, lane, number }, at };
        others.map(row).collect()
    }
}

pub(crate) fn evidence_of(text: &str) -> Result<WentBack, StoreError> {
    WentBack::of_note(text).ok_or_else(|| StoreError::corrupt("sync_meta", format!("{NOTE}: {text} is no evidence")))
}

fn expected_by(told: &ToldCommit) -> Expected {
    Expected { commit: told.commit, at: time_of(told.at) }
}
