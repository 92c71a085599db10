//! A toy system that can be run: pairs with versions, keys, calls of several items, lost answers. It takes its calls at
//! random moments within their times, and keeps every promise; or it breaks one, on purpose.

use crate::story::{pair, resource};
use domain::{Action, Pair, PairState, Version};
use std::collections::HashMap;
use traffic::check::{Entry, PairRow, Stores};
use traffic::generate::Random;
use traffic::history::{Answer, History, Kind, Outcome, Record};

/// A promise that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// An unanswered call takes effect after its limit.
    Late,
    /// A call takes effect before it begins.
    Early,
    /// An answered call takes effect after its answer.
    AfterAnswer,
    /// The items of a call run backwards.
    Backwards,
    /// A like that is retried with its key gets an "unchanged" that was true once.
    Unconfirmed,
    /// A key answers the opposite action.
    OppositeKey,
    /// An answered write is in no store.
    Lost,
    /// A write is in the ledger twice.
    Doubled,
    /// A write that nobody asked for.
    Invented,
    /// A read gets what was before.
    StaleRead,
    /// A count is wrong by one.
    WrongCount,
    /// The last write is not in the row.
    StaleRow,
    /// An answer is an older one than what was answered before.
    OldVersion,
}

pub(crate) const FLAWS: [Flaw; 13] = [
    Flaw::Late,
    Flaw::Early,
    Flaw::AfterAnswer,
    Flaw::Backwards,
    Flaw::Unconfirmed,
    Flaw::OppositeKey,
    Flaw::Lost,
    Flaw::Doubled,
    Flaw::Invented,
    Flaw::StaleRead,
    Flaw::WrongCount,
    Flaw::StaleRow,
    Flaw::OldVersion,
];

/// What the toy did.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) history: History,
    pub(crate) stores: Stores,
}

/// A call's item on its way; none: it never takes effect.
struct Planned {
    record: Record,
    at: Option<u64>,
    answered: bool,
}

/// At most `most` operations.
pub(crate) fn run(random: &mut Random, most: u64, flaw: Option<Flaw>) -> Run {
    let mut planned = plan(random, most, flaw);
    // One moment for all items of a call; they run in their order.
    planned.sort_by_key(|item| {
        let place = if flaw == Some(Flaw::Backwards) { u32::MAX - item.record.item } else { item.record.item };
        (item.at, item.record.call, place)
    });
    let mut toy = Toy::default();
    let mut history = History::new();
    for Planned { mut record, at, answered } in planned {
        let outcome = if at.is_some() { toy.take(random, &record, flaw) } else { Outcome::Unknown };
        record.outcome = match (answered, random.below(3)) {
            (true, _) => outcome,
            (false, 0) => Outcome::Unknown,
            (false, 1) => Outcome::Abandoned,
            (false, _) => Outcome::Cancelled,
        };
        history.push(record);
    }
    Run { history, stores: toy.stores(flaw) }
}

fn plan(random: &mut Random, most: u64, flaw: Option<Flaw>) -> Vec<Planned> {
    let mut planned = Vec::new();
    let mut call = 0;
    while (planned.len() as u64) < most {
        call += 1;
        let begin = random.below(40);
        let end = begin + random.below(16);
        let limit = 4 + random.below(16);
        let (user, device, server) =
            (1 + random.below(2).cast_signed(), random.below(2) as u32, random.below(2) as u32);
        let answered = random.below(4) > 0;
        let is_word = random.below(5) > 0;
        let items = if is_word && random.below(4) == 0 { 2 + random.below(2) } else { 1 };
        let at = match (answered, random.below(3)) {
            (_, _) if flaw == Some(Flaw::Early) => Some(begin.saturating_sub(1 + random.below(20))),
            (true, _) if flaw == Some(Flaw::AfterAnswer) => Some(end + 1 + random.below(20)),
            (true, _) => Some(begin + random.below(end - begin + 1)),
            (false, 0) => None,
            (false, _) if flaw == Some(Flaw::Late) => Some(begin + limit + 1 + random.below(20)),
            (false, _) => Some(begin + random.below(limit + 1)),
        };
        for item in 0..items.min(most - planned.len() as u64) {
            let kind = match (is_word, random.below(3)) {
                (true, _) => Kind::Word(Action::from_liked(random.below(2) == 0)),
                (false, 0) => Kind::Count,
                (false, _) => Kind::State,
            };
            let key = (is_word && random.below(3) == 0).then(|| ["k", "l"][random.below(2) as usize].into());
            let record = Record {
                call,
                item: item as u32,
                logical: call,
                device,
                server,
                kind,
                user: (kind != Kind::Count).then(|| pair(user).user),
                resource: resource(),
                key,
                begin,
                end,
                limit,
                outcome: Outcome::Unknown,
            };
            // Who reads and gets no answer is of no interest.
            planned.push(Planned { record, at: at.filter(|_| is_word || answered), answered });
        }
    }
    planned
}

/// The answer to a key, and what asked for it.
type Remembered = (Action, Answer);

#[derive(Default)]
struct Toy {
    /// All states that each pair ever had.
    states: HashMap<Pair, Vec<PairState>>,
    keys: HashMap<(Pair, Box<str>), Remembered>,
    ledger: Vec<Entry>,
    clock: i64,
}

impl Toy {
    fn take(&mut self, random: &mut Random, record: &Record, flaw: Option<Flaw>) -> Outcome {
        let Kind::Word(action) = record.kind else { return Outcome::Answered(self.read(random, record, flaw)) };
        let Some(pair) = record.pair() else { return Outcome::Refused };
        let keyed = record.key.clone().map(|key| (pair, key));
        if let Some((first, answer)) = keyed.as_ref().and_then(|key| self.keys.get(key)) {
            return match *first == action {
                true => Outcome::Answered(*answer),
                false if flaw == Some(Flaw::OppositeKey) => {
                    Outcome::Answered(Answer { liked: action.liked(), ..*answer })
                }
                false => Outcome::Refused,
            };
        }
        if random.below(8) == 0 {
            return Outcome::Refused;
        }
        let states = self.states.entry(pair).or_default();
        let now = states.last().copied().unwrap_or_default();
        let wanted = action.liked();
        let older = states.iter().rev().skip(1).find(|state| state.liked == wanted).copied();
        let stale = match flaw {
            Some(Flaw::Unconfirmed) => keyed.is_some(),
            Some(Flaw::OldVersion) => true,
            _ => false,
        };
        let (version, changed) = match older.filter(|_| stale) {
            Some(older) => (older.version, false),
            // Even what is as wanted is written sometimes, as after a doubtful confirmation.
            None if now.liked == wanted && random.below(3) > 0 => (now.version, false),
            None => {
                self.clock += 1 + random.below(3).cast_signed();
                (Version(self.clock), true)
            }
        };
        if changed {
            states.push(PairState { liked: wanted, version });
            self.ledger.push(Entry { pair, action, version, key: record.key.clone(), direct: false, dead: false });
        }
        let count = Some(self.count());
        let answer = Answer { liked: wanted, version, changed, degraded: false, count };
        if let Some(keyed) = keyed {
            self.keys.insert(keyed, (action, answer));
        }
        Outcome::Answered(answer)
    }

    fn read(&self, random: &mut Random, record: &Record, flaw: Option<Flaw>) -> Answer {
        let Some(pair) = record.pair() else {
            let wrong = if flaw == Some(Flaw::WrongCount) { 1 - 2 * random.below(2).cast_signed() } else { 0 };
            return Answer { count: Some(self.count() + wrong), ..Answer::default() };
        };
        let states = self.states.get(&pair).map(Vec::as_slice).unwrap_or_default();
        let degraded = random.below(4) == 0;
        let back = match flaw {
            Some(Flaw::StaleRead) => 1,
            _ => usize::from(degraded && random.below(2) == 0),
        };
        let state = states.iter().rev().nth(back).copied().unwrap_or_default();
        Answer { liked: state.liked, version: state.version, changed: false, degraded, count: None }
    }

    fn count(&self) -> i64 {
        let live = self.states.values().filter(|states| states.last().is_some_and(|state| state.liked));
        i64::try_from(live.count()).unwrap()
    }

    fn stores(mut self, flaw: Option<Flaw>) -> Stores {
        match flaw {
            Some(Flaw::Lost) => {
                if let Some(lost) = self.ledger.pop() {
                    self.states.entry(lost.pair).or_default().pop();
                }
            }
            Some(Flaw::Doubled) => self.ledger.extend(self.ledger.first().cloned()),
            Some(Flaw::Invented) => {
                self.clock += 1;
                let (pair, version) = (pair(1), Version(self.clock));
                let entry = Entry { pair, action: Action::Like, version, key: None, direct: false, dead: false };
                self.ledger.push(entry);
                self.states.entry(pair).or_default().push(PairState { liked: true, version });
            }
            Some(Flaw::StaleRow) => {
                if let Some(last) = self.ledger.last() {
                    self.states.entry(last.pair).or_default().pop();
                }
            }
            _ => {}
        }
        let rows: Vec<PairRow> = self
            .states
            .iter()
            .filter_map(|(pair, states)| Some(PairRow { pair: *pair, state: *states.last()? }))
            .collect();
        let live = rows.iter().filter(|row| row.state.liked).count();
        Stores {
            cached: rows.clone(),
            rows: Some(rows),
            ledger: Some(self.ledger),
            counts: vec![(resource(), i64::try_from(live).unwrap())],
            ..Stores::default()
        }
    }
}
