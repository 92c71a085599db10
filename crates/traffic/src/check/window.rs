//! When a word may have taken effect.
//!
//! An attempt without a key stands for itself: no server can know that two of them mean the same. Attempts of one pair with
//! the same key and the same action are one: the answer to each may be that of any other that began before this one ended,
//! and then names a version as old as that. So it may have taken effect while one of them was under way, but not in
//! between, and not after its own end.

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
        for (.., at) in members {
            find_one(words, *at, members.iter().map(|(.., member)| *member));
        }
    }
}

fn find_one(words: &mut [Word<'_>], at: usize, members: impl Iterator<Item = usize>) {
    let word = &words[at];
    let Some(answer) = word.answer else { return };
    let (mut windows, mut repeats_answer) = (Vec::<Window>::new(), false);
    for member in members.filter(|member| *member != at) {
        let other = &words[member];
        if other.record.begin > word.record.end {
            break;
        }
        // An answer that names another version is not the one that was given again.
        if other.version().is_none_or(|version| version == answer.version) {
            windows.push(Window { begin: other.record.begin, end: other.latest.min(word.record.end) });
            repeats_answer |= other.answer.is_some() && member < at;
        }
    }
    if !windows.is_empty() {
        windows.push(Window { begin: word.record.begin, end: word.record.end });
        let word = &mut words[at];
        word.begin = windows.iter().map(|window| window.begin).min().unwrap_or(word.begin);
        word.from = word.begin;
        (word.windows, word.repeats_answer) = (windows, repeats_answer);
    }
}
