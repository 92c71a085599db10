//! A recovery that is under way, as a note in the database that is recovered: while it is there, nobody believes that database.
//!
//! Every write of it is fenced by the repair token: whoever goes on with a recovery takes a newer one, and from then on the process
//! before it can neither move the note nor take it away. A database that goes back under a recovery has an older note, or
//! none; what was read twice then changes nothing.
//!
//! When the verdict is taken away the note stays, with the evidence beside it, until what was committed meanwhile is settled.

use crate::sql::error::StoreError;
use crate::sql::pool::Tx;
use crate::sql::script::{Script, time_of};
use crate::sql::store::{EventStore, get, rows};
use crate::sql::verdict::WentBack;
use crate::tables::meta::write_note;
use crate::tables::repair_token::Fenced;
use crate::tables::went_back::{NOTE, evidence_of};
use chrono::{DateTime, Utc};
use domain::Version;
use domain::cache::ToldCommit;
use uuid::Uuid;

pub(crate) const RECOVERY: &str = "recovery";

/// The evidence for which it was, once the verdict is taken away.
pub(crate) const RECOVERED: &str = "recovered";

/// What a recovery does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecoveryStep {
    /// It reads the redo log.
    Log,
    /// It goes through the cached pairs.
    Pairs,
    /// The database is believed again; what is in the journals is settled.
    Journals,
}

/// Where a recovery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoveryNote {
    /// The token of the process that does it.
    pub token: u64,
    /// Its run in the reports.
    pub run: Uuid,
    /// When it began.
    pub began_at: DateTime<Utc>,
    /// 1, and one more for each step back that was noticed meanwhile.
    pub round: u32,
    /// When this round began.
    pub round_at: DateTime<Utc>,
    /// How far the database had gone back when this round began, as far as was known.
    pub back_to: Option<DateTime<Utc>>,
    /// Of this round.
    pub step: RecoveryStep,
    /// The log is read from there.
    pub since: DateTime<Utc>,
    /// What was in the hands of consumers, or waited, when it began: messages in the queue.
    pub queued: u64,
    /// Events that came back from the log so far.
    pub from_log: u64,
    /// Events that came back from cached pairs so far.
    pub from_pairs: u64,
}

impl RecoveryNote {
    /// It was begun for less than this.
    fn is_not_enough_for(&self, evidence: &WentBack) -> bool {
        evidence.back_to() < self.back_to || evidence.lost_until > self.round_at
    }

    fn to_note(self) -> String {
        let step = match self.step {
            RecoveryStep::Log => "log",
            RecoveryStep::Pairs => "pairs",
            RecoveryStep::Journals => "journals",
        };
        let [began, at, since] = [self.began_at, self.round_at, self.since].map(|at| at.timestamp_micros());
        let back_to = self.back_to.map_or(-1, |at| at.timestamp_micros());
        let Self { token, run, round, queued, from_log, from_pairs, .. } = self;
        let run = run.simple();
        format!("{token} {run} {began} {round} {at} {back_to} {step} {since} {queued} {from_log} {from_pairs}")
    }

    fn of_note(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let token = words.next()?.parse().ok()?;
        let run = Uuid::try_parse(words.next()?).ok()?;
        let began_at = time_of(Version(words.next()?.parse().ok()?));
        let round = words.next()?.parse().ok()?;
        let round_at = time_of(Version(words.next()?.parse().ok()?));
        let back_to = words.next()?.parse().ok().filter(|at| *at >= 0).map(|at| time_of(Version(at)));
        let step = match words.next()? {
            "log" => RecoveryStep::Log,
            "pairs" => RecoveryStep::Pairs,
            "journals" => RecoveryStep::Journals,
            _ => return None,
        };
        let since = time_of(Version(words.next()?.parse().ok()?));
        let mut number = || words.next()?.parse::<u64>().ok();
        let (queued, from_log, from_pairs) = (number()?, number()?, number()?);
        Some(Self { token, run, began_at, round, round_at, back_to, step, since, queued, from_log, from_pairs })
    }
}

impl EventStore {
    /// The recovery that is under way.
    pub async fn recovery(&self) -> Result<Option<RecoveryNote>, StoreError> {
        let note = self.note(RECOVERY).await?;
        let parsed = |text: String| {
            RecoveryNote::of_note(&text)
                .ok_or_else(|| StoreError::corrupt("sync_meta", format!("{RECOVERY}: {text} is no recovery")))
        };
        note.map(parsed).transpose()
    }

    /// Begins it, goes on with it, or says how far it is.
    pub async fn save_recovery(&self, note: &RecoveryNote) -> Result<Fenced<()>, StoreError> {
        self.transaction("save_recovery", || async {
            let mut tx = self.begin().await?;
            if self.lock_token(&mut tx).await? > note.token {
                return Ok(Fenced::Refused);
            }
            let mut script = self.script();
            write_note(&mut script, RECOVERY, &note.to_note());
            tx.run(&script).await?;
            tx.commit().await?;
            Ok(Fenced::Done(()))
        })
        .await
    }

    /// Takes the verdict away, and lets the recovery go on with the journals, unless the database has gone back further than this
    /// round knew, or once more since it began: that is the answer then. What is in `told` is expected no more.
    pub async fn conclude_recovery(
        &self,
        recovery: &RecoveryNote,
        told: &[ToldCommit],
    ) -> Result<Fenced<Option<WentBack>>, StoreError> {
        let mut concluding = self.script();
        self.settle_with(&mut concluding, told).await?;
        concluding.begin("DELETE FROM sync_meta WHERE name = ").text(NOTE);
        let settling = RecoveryNote { step: RecoveryStep::Journals, ..*recovery };
        write_note(&mut concluding, RECOVERY, &settling.to_note());
        if let Some(evidence) = self.went_back() {
            write_note(&mut concluding, RECOVERED, &evidence.to_note());
        }
        let concluded = self.unless_back_again("conclude_recovery", recovery, &concluding).await?;
        if concluded == Fenced::Done(None) {
            *self.history.lock() = None;
        }
        Ok(concluded)
    }

    /// Ends it, unless the database has gone back again meanwhile: that is the answer then.
    pub async fn end_recovery(&self, recovery: &RecoveryNote) -> Result<Fenced<Option<WentBack>>, StoreError> {
        let mut ending = self.script();
        ending.begin("DELETE FROM sync_meta WHERE name IN (").text(RECOVERY).words(",").text(RECOVERED).words(")");
        self.unless_back_again("end_recovery", recovery, &ending).await
    }

    /// Why the recovery was, of which the verdict is taken away.
    pub async fn recovered_from(&self) -> Result<Option<WentBack>, StoreError> {
        self.note(RECOVERED).await?.map(|text| evidence_of(&text)).transpose()
    }

    /// Runs a script with the token of this recovery, unless it is not enough for what is known by now.
    async fn unless_back_again(
        &self,
        name: &'static str,
        recovery: &RecoveryNote,
        script: &Script,
    ) -> Result<Fenced<Option<WentBack>>, StoreError> {
        self.transaction(name, || async {
            let mut tx = self.begin().await?;
            if self.lock_token(&mut tx).await? > recovery.token {
                return Ok(Fenced::Refused);
            }
            // What this process knows may not be written down yet.
            let known = self.went_back();
            let more = self.locked_evidence(&mut tx).await?.into_iter().chain(known).reduce(WentBack::and);
            if let Some(more) = more.filter(|more| recovery.is_not_enough_for(more)) {
                return Ok(Fenced::Done(Some(more)));
            }
            tx.run(script).await?;
            tx.commit().await?;
            Ok(Fenced::Done(None))
        })
        .await
    }

    async fn locked_evidence(&self, tx: &mut Tx) -> Result<Option<WentBack>, StoreError> {
        let mut script = self.script();
        let lock = script.dialect().for_update();
        script.begin("SELECT value FROM sync_meta WHERE name = ").text(NOTE).words(lock);
        let results = tx.run(&script).await?;
        let text: Option<String> = rows(&results, 0).first().map(|row| get(row, 0, "sync_meta")).transpose()?;
        text.map(|text| evidence_of(&text)).transpose()
    }

    /// The last commit that this database had before it went back, as far as the rows of writers tell: none of theirs has moved on.
    /// None: it knows of none, as an empty one.
    pub async fn last_commit_before(&self, at: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, StoreError> {
        let mut script: Script = self.script();
        script.begin("SELECT MAX(at) FROM sync_writers WHERE at <= ").time(at);
        let results = self.read(&script).await?;
        let row = rows(&results, 0).first();
        let last = row.map(|row| get::<Option<chrono::NaiveDateTime>>(row, 0, "sync_writers")).transpose()?.flatten();
        Ok(last.map(crate::sql::script::utc))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_is_a_note_and_back() {
        for step in [RecoveryStep::Log, RecoveryStep::Pairs, RecoveryStep::Journals] {
            let note = RecoveryNote {
                token: u64::MAX,
                run: Uuid::now_v7(),
                began_at: time_of(Version(4_000_000_000_000_000)),
                round: u32::MAX,
                round_at: time_of(Version(4_000_000_000_000_000)),
                back_to: (step == RecoveryStep::Log).then(|| time_of(Version(1_600_000_000_000_001))),
                step,
                since: time_of(Version(1_700_000_000_000_001)),
                queued: u64::MAX,
                from_log: u64::MAX,
                from_pairs: u64::MAX,
            };
            let text = note.to_note();
            assert!(text.len() <= 255, "{text}");
            assert_eq!(RecoveryNote::of_note(&text), Some(note));
        }
        assert_eq!(RecoveryNote::of_note("somebody wrote this"), None);
    }
}
