//! R2: of two items of one call about one pair, the later one's version is not below the earlier one's; if it is a change
//! of its own, it is above.
//!
//! They have the same times, so R1 does not order them. An answer that repeats an earlier call's is that call's.

use super::Rule;
use super::case::Case;

pub(super) fn check(case: &mut Case<'_>) {
    let mut items: Vec<usize> = (0..case.words.len()).filter(|at| case.words[*at].answer.is_some()).collect();
    items.sort_unstable_by_key(|at| (case.words[*at].record.call, case.words[*at].record.item));
    let mut wrong = Vec::new();
    for call in items.chunk_by(|a, b| case.words[*a].record.call == case.words[*b].record.call) {
        let Some((first, rest)) = call.split_first() else { continue };
        let mut highest = &case.words[*first];
        for word in rest.iter().map(|at| &case.words[*at]) {
            let wanted = if word.is_own_change() {
                word.version() > highest.version()
            } else {
                word.version() >= highest.version()
            };
            if !wanted && !word.repeats() {
                wrong.push([highest.record, word.record]);
            }
            if word.version() > highest.version() {
                highest = word;
            }
        }
    }
    for records in wrong {
        case.find(Rule::R2, "a later item of one call took effect before an earlier one".to_owned(), records.to_vec());
    }
}
