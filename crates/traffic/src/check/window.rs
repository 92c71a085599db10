//! When a word may have taken effect.
//!
//! An attempt without a key stands for itself: no server can know that two of them mean the same. Attempts of one pair with
//! the same key and the same action are one: the answer to a later one may be the first one's, and names a version that is
//! as old. So it may have taken effect while any of them was under way, but not in between.

use super::case::Word;

/// An attempt's time, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) begin: u64,
    pub(super) end: u64,
}

/// Finds the windows of words that stand in the order of their begins.
pub(super) fn find(words: &mut [Word<'_>]) {
    let mut keyed: Vec<(&str, bool, usize)> = Vec::new();
    for (at, word) in words.iter().enumerate() {
        keyed.extend(word.record.key.as_deref().map(|key| (key, word.action.liked(), at)));
    }
    keyed.sort_unstable();
    for members in keyed.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        for (number, (.., at)) in members.iter().enumerate().skip(1) {
            let Some(answer) = words[*at].answer else { continue };
            let (mut windows, mut repeats_answer) = (Vec::<Window>::new(), false);
            for (.., earlier) in &members[..number] {
                let earlier = &words[*earlier];
                // An answer that names another version is not the one that was given again.
                repeats_answer |= earlier.version() == Some(answer.version);
                let may_be = earlier.answer.is_none_or(|first| first.version == answer.version);
                if may_be {
                    let end = earlier.latest.min(words[*at].record.end);
                    windows.push(Window { begin: earlier.record.begin, end });
                }
            }
            if let Some(first) = windows.first().copied() {
                let word = &mut words[*at];
                word.repeats_answer = repeats_answer;
                windows.push(Window { begin: word.record.begin, end: word.record.end });
                word.begin = first.begin;
                word.windows = windows;
            }
        }
    }
}
