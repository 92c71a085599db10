//! Wrong versions of the scripts, for tests that must find them (see [`planted_bugs`]).

use planted_bugs::is_planted;
use std::borrow::Cow;

/// `(bug, line of a script, what stands there instead)`. A line stands in one script only.
const LINES: &[(&str, &str, &str)] = &[
    ("accept_without_journal", "call('XADD', journal, id, 'e', payload)", ""),
    ("repeat_counted", "local unchanged = same and held > 0", "same = false; local unchanged = false"),
    (
        "no_revision_guard",
        "local fresh, confirmed = revision > dr, revision >= dr",
        "local fresh, confirmed = revision >= 0, revision >= 0",
    ),
    (
        "settle_counts_absent",
        "removed = removed + call('XDEL', journal, unpack(ids))",
        "call('XDEL', journal, unpack(ids)); removed = removed + #ids",
    ),
    ("settle_overwrites_pending", "local wrong = p == 0 and n ~= dn", "local wrong = n ~= dn"),
];

/// The script, with the lines replaced whose bug is planted.
pub(crate) fn script(code: &'static str) -> Cow<'static, str> {
    let mut code = Cow::Borrowed(code);
    for (_, line, instead) in LINES.iter().filter(|(bug, ..)| is_planted(bug)) {
        code = code.replace(line, instead).into();
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line that was changed in the script must be changed here, or its bug is planted nowhere.
    #[test]
    fn every_line_stands_in_one_script() {
        let scripts = [include_str!("scripts/accept.lua"), include_str!("scripts/settle.lua")];
        for (bug, line, _) in LINES {
            let places: usize = scripts.iter().map(|script| script.matches(line).count()).sum();
            assert_eq!(places, 1, "{bug}: {line}");
        }
    }
}
