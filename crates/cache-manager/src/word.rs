//! What the last probe of a server found, left on that server for the others: while all is well one process at a time probes it,
//! and the rest only asks for its word.
//!
//! The question is a write that takes the turn if nobody has it (`SET ... NX GET`), over the connection of likes: what can be
//! wrong of one process alone, such as its link, or that it leads to a replica, meets the question itself. All else is the same
//! for all that log in as the same user, so a word is kept by user. It holds for [`HOLDS`]; whoever finds none has the turn, and
//! whoever hears of trouble, or waits for the word of a prober for longer than [`PATIENCE`], probes by itself.

use domain::cache::{Durability, ShardStatus};
use domain::{ShardId, Version};
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// From a word to the next probe; a little less than from one question to the next, so that two do not probe in turns.
pub(crate) const HOLDS: Duration = Duration::from_millis(900);

/// A turn of which no word came is over.
pub(crate) const TURN: Duration = Duration::from_millis(2_500);

/// What was heard longer ago is not known any more.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// What a question is answered.
#[derive(Debug, PartialEq)]
pub(crate) enum Answer {
    /// Nobody had the turn, so it is ours.
    Turn,
    /// Somebody has it.
    Probing,
    Well(Word),
    /// The probe failed, or somebody else wrote there.
    Trouble,
}

/// Of a server that is well.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Word {
    /// What it says of its disk and memory.
    pub(crate) durability: Option<Durability>,
    /// Replicas that follow.
    pub(crate) attached: u32,
    /// The journals of its shards, except those that are on their way.
    pub(crate) shards: Vec<ShardWord>,
}

/// What [`ShardStatus`] says, and the last version by itself.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ShardWord {
    pub(crate) last: Version,
    pub(crate) status: ShardStatus,
}

impl Word {
    pub(crate) const TROUBLE: &'static str = "trouble";
    pub(crate) const PROBING: &'static str = "probing";

    pub(crate) fn written(&self) -> String {
        let mut text = String::from("1");
        if let Some(d) = &self.durability {
            let memory = d.memory_percent.map_or(-1, i64::from);
            let flags = [d.persistent, d.writable, d.may_evict].map(u8::from);
            let [persistent, writable, may_evict] = flags;
            // A string takes everything.
            let _ = write!(text, " {persistent} {writable} {may_evict} {} {memory} {}", d.delayed_syncs, self.attached);
        }
        for ShardWord { last, status: s } in &self.shards {
            let oldest = s.oldest.map_or(-1, |oldest| oldest.0);
            let (up_to, now) = (s.settled_up_to, s.now);
            let _ = write!(
                text,
                ";{} {last} {} {} {} {oldest} {up_to} {now}",
                s.shard, s.accepted, s.settled, s.journal_len
            );
        }
        text
    }

    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(';');
        let head = numbers(parts.next()?)?;
        let (durability, attached) = match *head.as_slice() {
            [1] => (None, 0),
            [1, persistent, writable, may_evict, delayed, memory, attached] => {
                let durability = Durability {
                    persistent: persistent == 1,
                    writable: writable == 1,
                    may_evict: may_evict == 1,
                    delayed_syncs: u64::try_from(delayed).ok()?,
                    memory_percent: u8::try_from(memory).ok(),
                    replicas: None,
                };
                (Some(durability), u32::try_from(attached).ok()?)
            }
            _ => return None,
        };
        let shards = parts.map(ShardWord::read).collect::<Option<_>>()?;
        Some(Self { durability, attached, shards })
    }
}

impl ShardWord {
    fn read(text: &str) -> Option<Self> {
        let [shard, last, accepted, settled, journal_len, oldest, up_to, now] = *numbers(text)?.as_slice() else {
            return None;
        };
        let status = ShardStatus {
            shard: ShardId(u16::try_from(shard).ok()?),
            accepted: u64::try_from(accepted).ok()?,
            settled: u64::try_from(settled).ok()?,
            journal_len: u64::try_from(journal_len).ok()?,
            oldest: (oldest >= 0).then_some(Version(oldest)),
            settled_up_to: Version(up_to),
            now: Version(now),
        };
        Some(Self { last: Version(last), status })
    }
}

fn numbers(text: &str) -> Option<Vec<i64>> {
    text.split(' ').map(|number| number.parse().ok()).collect()
}

impl Answer {
    pub(crate) fn read(text: Option<&str>) -> Self {
        match text {
            None => Self::Turn,
            Some(Word::PROBING) => Self::Probing,
            Some(text) => Word::read(text).map_or(Self::Trouble, Self::Well),
        }
    }
}

/// The last word of a server that this process heard, or said.
#[derive(Default)]
pub(crate) struct LastWord(Mutex<Option<(Instant, Word)>>);

impl LastWord {
    pub(crate) fn is(&self, word: Word) {
        *self.lock() = Some((Instant::now(), word));
    }

    pub(crate) fn forget(&self) {
        *self.lock() = None;
    }

    /// Unless it is too old.
    pub(crate) fn recent(&self) -> Option<Word> {
        self.lock().as_ref().filter(|(at, _)| at.elapsed() < PATIENCE).map(|(_, word)| word.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Instant, Word)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(memory_percent: Option<u8>) -> Word {
        let durability = Durability {
            persistent: true,
            writable: false,
            may_evict: true,
            delayed_syncs: 7,
            memory_percent,
            replicas: None,
        };
        let status = |shard, oldest| ShardStatus {
            shard: ShardId(shard),
            accepted: 9,
            settled: 4,
            journal_len: 5,
            oldest,
            settled_up_to: Version(11),
            now: Version(13),
        };
        let shards = [(0, None), (15, Some(Version(3)))];
        let shards = shards.map(|(shard, oldest)| ShardWord { last: Version(12), status: status(shard, oldest) });
        Word { durability: Some(durability), attached: 2, shards: shards.to_vec() }
    }

    #[test]
    fn a_word_is_heard_as_it_was_said() {
        for said in [word(None), word(Some(91)), Word { durability: None, attached: 0, shards: Vec::new() }] {
            assert_eq!(Answer::read(Some(&said.written())), Answer::Well(said));
        }
    }

    #[test]
    fn what_is_no_word_sends_everybody_to_look() {
        assert_eq!(Answer::read(None), Answer::Turn);
        assert_eq!(Answer::read(Some(Word::PROBING)), Answer::Probing);
        for text in [Word::TROUBLE, "", "2", "1 1", "1;", "1;1 2 3", "1 1 1 0 -7 0 0"] {
            assert_eq!(Answer::read(Some(text)), Answer::Trouble, "{text:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_heard_long_ago_is_not_known() {
        let last = LastWord::default();
        last.is(word(None));
        tokio::time::advance(PATIENCE - Duration::from_millis(1)).await;
        assert_eq!(last.recent(), Some(word(None)));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(last.recent(), None);
    }
}
