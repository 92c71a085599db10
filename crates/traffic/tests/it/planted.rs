//! One history for each flaw, which breaks exactly its rule, and its clean twin.

mod effects;
mod excuses;
mod reads;
mod words;

use crate::story::Story;
use traffic::check::Rule;

#[track_caller]
fn breaks(story: &Story, rule: Rule, saying: &str) {
    let report = story.check();
    assert_eq!(report.broken_rules(), [rule], "{report}");
    assert!(report.violations.iter().all(|violation| violation.what.contains(saying)), "{report}");
}

#[track_caller]
fn is_clean(story: &Story) {
    let report = story.check();
    assert!(report.is_clean() && report.excused.is_empty(), "{report}");
}
