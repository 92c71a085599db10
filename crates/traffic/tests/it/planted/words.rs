//! Answered words: R1, R3 and R5.

use super::{breaks, is_clean};
use crate::story::{Like, Story, Unlike, changed, degraded, unchanged};
use traffic::check::{Options, Rule};
use traffic::history::{Kind, Outcome};

#[test]
fn a_key_remembers_an_answer_that_was_not_confirmed() {
    // The unlike went around the cache. The like was "unchanged", nobody confirmed it, and its retry got the same answer.
    let retried = |last| {
        Story::new()
            .word(Like, (0, 10), changed(true, 1))
            .word(Unlike, (20, 30), degraded(changed(false, 2)))
            .keyed("k", Like, (40, 60), Outcome::Unknown)
            .keyed("k", Like, (80, 90), last)
            .ledger(&[(Like, 1), (Unlike, 2)])
    };
    breaks(&retried(unchanged(true, 1)).row(false, 2), Rule::R1, "over before each of its attempts");
    let written = retried(changed(true, 3)).ledger_with(Like, 3, |entry| entry.key = Some("k".into())).row(true, 3);
    is_clean(&written);
}

#[test]
fn a_repeated_answer_is_as_old_as_the_first() {
    let repeated = |key: &str| {
        Story::new()
            .keyed("k", Like, (0, 10), changed(true, 1))
            .word(Unlike, (20, 30), changed(false, 2))
            .keyed(key, Like, (40, 50), changed(true, 1))
            .ledger_with(Like, 1, |entry| entry.key = Some("k".into()))
            .ledger(&[(Unlike, 2)])
            .row(false, 2)
    };
    is_clean(&repeated("k"));
    let report = repeated("another").check();
    assert_eq!(report.broken_rules(), [Rule::R1, Rule::R5], "{report}");
    assert_eq!(repeated("k").check().coverage.repeated_answers, 1);
}

#[test]
fn the_key_of_the_opposite_action() {
    let opposite = |outcome| {
        Story::new()
            .keyed("k", Like, (0, 10), changed(true, 1))
            .keyed("k", Unlike, (20, 30), outcome)
            .ledger_with(Like, 1, |entry| entry.key = Some("k".into()))
            .row(true, 1)
    };
    breaks(&opposite(changed(false, 1)), Rule::R3, "liked and as not liked");
    is_clean(&opposite(Outcome::Refused));
    let contrary = Story::new().word(Like, (0, 10), unchanged(false, 0));
    breaks(&contrary, Rule::R3, "opposite");
}

#[test]
fn a_lost_acknowledged_write() {
    let words =
        Story::new().word(Like, (0, 10), changed(true, 1)).word(Unlike, (20, 30), changed(false, 2)).row(false, 2);
    breaks(&words.clone().ledger(&[(Unlike, 2)]), Rule::R5, "version 1 is not in the ledger");
    is_clean(&words.ledger(&[(Like, 1), (Unlike, 2)]));
}

#[test]
fn a_doubled_write() {
    let word = Story::new().keyed("k", Like, (0, 10), changed(true, 1));
    let entry = |story: Story, version| story.ledger_with(Like, version, |entry| entry.key = Some("k".into()));
    let once = entry(word, 1);
    is_clean(&once.clone().row(true, 1));
    breaks(&entry(once.clone(), 1).row(true, 1), Rule::R5, "more than once");
    // Under one key, but with two versions.
    let twice = entry(once.clone().keyed("k", Like, (20, 30), changed(true, 2)), 2).row(true, 2);
    breaks(&twice, Rule::R5, "two changes, 1 and 2");
    is_clean(&twice.clone().options(Options { key_memory: 19, ..Options::default() }));
    // The cache forgot the key between the two, or was emptied later.
    let emptied = |moment| Options { emptied: vec![moment], ..Options::default() };
    let report = twice.clone().options(emptied((12, 15))).check();
    assert!(report.is_clean() && report.excuses().count() == 1, "{report}");
    breaks(&twice.options(emptied((31, 32))), Rule::R5, "two changes, 1 and 2");
    // One of them went around the cache, the other through it: the first one's key may be unknown there.
    let around = |earlier: bool| {
        let story = Story::new()
            .keyed("k", Like, (0, 10), changed(true, 1))
            .keyed("k", Like, (20, 30), changed(true, 2))
            .row(true, 2);
        [1, 2].into_iter().fold(story, |story, version| {
            story.ledger_with(Like, version, |entry| {
                (entry.key, entry.direct) = (Some("k".into()), earlier == (version == 1));
            })
        })
    };
    for earlier in [true, false] {
        let report = around(earlier).check();
        assert!(report.is_clean(), "{report}");
        assert_eq!(report.excuses().count(), 1, "{report}");
    }
    let late = around(true).options(Options { recovered_within: 0, ..Options::default() });
    breaks(&late, Rule::R5, "two changes, 1 and 2");
    // Two words that were told the same.
    let both = Story::new().word(Like, (0, 10), changed(true, 1)).word(Like, (5, 15), changed(true, 1));
    breaks(&both.ledger(&[(Like, 1)]).row(true, 1), Rule::R5, "two words");
}

#[test]
fn a_word_goes_back() {
    let unlike = |begin, version| {
        Story::new()
            .word(Like, (0, 10), changed(true, 5))
            .word(Unlike, (begin, 50), changed(false, version))
            .ledger(&[(Like, 5), (Unlike, version)])
    };
    breaks(&unlike(11, 4).row(true, 5), Rule::R1, "but 5 was there before it began");
    is_clean(&unlike(11, 6).row(false, 6));
    is_clean(&unlike(10, 4).row(true, 5));
    let future = |end| {
        Story::new().read((0, end), (true, 5)).word(Like, (11, 20), changed(true, 5)).ledger(&[(Like, 5)]).row(true, 5)
    };
    breaks(&future(10), Rule::R1, "as a change of its own");
    is_clean(&future(11));
}

#[test]
fn the_row_is_not_the_last_word() {
    let words = Story::new()
        .word(Like, (0, 10), changed(true, 1))
        .word(Unlike, (20, 30), changed(false, 2))
        .ledger(&[(Like, 1), (Unlike, 2)]);
    is_clean(&words.clone().row(false, 2));
    is_clean(&words.clone());
    breaks(&words.clone().row(true, 1), Rule::R1, "the row is liked at 1, but the last word is not liked at 2");
    breaks(&words.clone().row(true, 2), Rule::R1, "the row");
    breaks(&words.clone().row(false, 3), Rule::R1, "the row");
    is_clean(&words.clone().row(false, 2).cached(false, 2));
    breaks(&words.clone().row(false, 2).cached(true, 1), Rule::R1, "the cached pair");
    let liked = Story::new().word(Like, (0, 10), changed(true, 1)).ledger(&[(Like, 1)]);
    breaks(&liked, Rule::R1, "missing");
}

#[test]
fn the_twin_of_a_word_that_the_database_answered_alone() {
    let story = |outcome| Story::new().word(Like, (0, 10), outcome).ledger(&[(Like, 1)]).row(true, 90).cached(true, 90);
    let report = story(degraded(changed(true, 1))).check();
    assert!(report.is_clean(), "{report}");
    assert_eq!(
        report.excuses().map(|(rule, _, number)| (rule, number)).collect::<Vec<_>>(),
        [(Rule::R1, 2)],
        "{report}"
    );
    breaks(&story(changed(true, 1)), Rule::R1, "liked at 90");
}

#[test]
fn a_repeated_answer_is_over_with_the_first_that_was_given() {
    // Both attempts with the key were answered with version 5; the quicker one was over before the unlike began.
    let story = |unliked| {
        Story::new()
            .keyed("k", Like, (0, 90), changed(true, 5))
            .keyed("k", Like, (5, 10), changed(true, 5))
            .word(Unlike, (11, 20), changed(false, unliked))
            .ledger_with(Like, 5, |entry| entry.key = Some("k".into()))
            .ledger(&[(Unlike, unliked)])
    };
    let report = story(4).row(true, 5).check();
    assert!(report.broken_rules().contains(&Rule::R1), "{report}");
    is_clean(&story(6).row(false, 6));
}

#[test]
fn a_repeated_answer_was_true_once() {
    // The state that the retry is answered with came after the limit of the first attempt, and was over before the retry.
    let story = |limit| {
        Story::new()
            .with(Kind::Word(Like), (0, 30), Outcome::Abandoned, |record| {
                record.key = Some("k".into());
                record.limit = limit;
            })
            .word(Like, (150, 160), changed(true, 5))
            .word(Unlike, (170, 180), changed(false, 6))
            .keyed("k", Like, (200, 210), unchanged(true, 5))
            .ledger(&[(Like, 5), (Unlike, 6)])
            .row(false, 6)
    };
    breaks(&story(149), Rule::R1, "not there yet");
    is_clean(&story(150));
}

#[test]
fn a_lost_write_is_no_twin() {
    let story = Story::new().word(Like, (0, 10), degraded(changed(true, 1))).ledger(&[(Like, 1)]).row(true, 90);
    let lost = story.clone().word(Like, (20, 30), degraded(changed(true, 90)));
    breaks(&lost, Rule::R5, "version 90 is not in the ledger");
    // Somebody who found it did not make it.
    let report = story.word(Like, (20, 30), unchanged(true, 90)).check();
    assert!(report.is_clean() && report.broken(Rule::R5) == 0, "{report}");
    assert_eq!(report.excuses().map(|(rule, ..)| rule).collect::<Vec<_>>(), [Rule::R5], "{report}");
}
