//! Errors of the ledger that differ in their numbers only are of one group.

use crate::sql::script::Script;

/// Longest name of a group in characters.
const MAX_CHARS: usize = 300;

/// An error without what differs from one event to the next: numbers and ids are `#`.
pub(crate) fn group_of(error: &str) -> String {
    let mut group = String::new();
    for word in words(error) {
        if word.bytes().any(|byte| byte.is_ascii_digit()) {
            // An id in hexadecimal is one number.
            if word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') {
                group.push('#');
            } else {
                numbered(&mut group, word);
            }
        } else {
            group.push_str(word);
        }
    }
    group.chars().take(MAX_CHARS).collect()
}

/// Letters, digits and dashes together, and everything else.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    let mut rest = text;
    std::iter::from_fn(move || {
        let inside = is_word(rest.chars().next()?);
        let end = rest.find(|letter| is_word(letter) != inside).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        Some(word)
    })
}

fn numbered(group: &mut String, word: &str) {
    let mut in_number = false;
    for letter in word.chars() {
        if !letter.is_ascii_digit() {
            group.push(letter);
        } else if !in_number {
            group.push('#');
        }
        in_number = letter.is_ascii_digit();
    }
}

/// Keeps rows whose error may be of a group. Others may be among them: `#` stands for anything here.
pub(crate) fn of_group(script: &mut Script, group: &str) {
    let mut pattern = String::with_capacity(group.len() + 1);
    for letter in group.chars() {
        match letter {
            '#' => pattern.push('%'),
            '!' | '%' | '_' => pattern.extend(['!', letter]),
            letter => pattern.push(letter),
        }
    }
    // The name of a group may be cut off.
    pattern.push('%');
    script.words(" AND error_message LIKE ").text(&pattern).words(" ESCAPE '!'");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_in_numbers_only_is_one_group() {
        for (error, group) in [
            ("poisoned: video 7 of user 12", "poisoned: video # of user #"),
            ("Duplicate entry '5-7' for key 'PRIMARY'", "Duplicate entry '#' for key 'PRIMARY'"),
            ("event 018f0000-0000-7000-8000-00000000abcd", "event #"),
            ("error 1644 (45000)", "error # (#)"),
            ("HY000", "HY#"),
            ("no route to host", "no route to host"),
            ("dead beef", "dead beef"),
            ("größe 7", "größe #"),
            ("", ""),
        ] {
            assert_eq!(group_of(error), group);
            // A group is of itself.
            assert_eq!(group_of(group), group);
        }
        assert_eq!(group_of(&"ä".repeat(400)).chars().count(), MAX_CHARS);
    }
}
