//! Wrong versions of the scripts, for tests that must find them (see [`planted_bugs`]).

use planted_bugs::is_planted;
use std::borrow::Cow;

/// `(bug, line of a script, what stands there instead)`. A line stands in one script only.
const LINES: &[(&str, &str, &str)] = &[
    ("accept_without_journal", "call('XADD', journal, id, 'e', payload)", ""),
    ("repeat_counted", "local unchanged = same and held > 0", "same = false; local unchanged = false and held > 0"),
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
    (
        "unconfirmed_remembered",
        "-- Its key is not remembered: the caller has to confirm this with the database first.",
        "if idempotency then call('SET', idempotency, string.format('%d:%.0f:%.0f:%d', UNCHANGED, n or -1, \
         (held - wanted) / 2, wanted), 'EX', ARGV[5]) end",
    ),
    ("key_of_any_action", "if asked ~= '' and tonumber(asked) ~= wanted then", "if false then"),
    ("served_unbounded", "local possible = max(0, dn - p, math.min(n, dn + p))", "local possible = p == 0 and dn or n"),
    ("settle_overwrites_pending", "local possible = max(0, dn - p, math.min(n, dn + p))", "local possible = dn"),
];

/// The script, with the lines replaced whose bug is planted.
pub(crate) fn script(mut code: Cow<'static, str>) -> Cow<'static, str> {
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
