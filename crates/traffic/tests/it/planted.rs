//! One history for each flaw, which breaks exactly its rule, and its clean twin.

use crate::story::{Like, Story, Unlike, changed, degraded, pair, unchanged};
use domain::{Action, Version};
use traffic::check::{Excuse, Options, Rule};
use traffic::history::{Fault, Kind, Outcome};

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

/// A holds a like and is stopped; the user gives up, likes and unlikes elsewhere; A goes on.
fn abandoned(effect: i64, last: i64) -> Story {
    Story::new()
        .word(Like, (0, 30), Outcome::Abandoned)
        .word(Like, (200, 210), changed(true, 20))
        .word(Unlike, (220, 230), changed(false, last))
        .ledger(&[(Like, effect), (Like, 20), (Unlike, last)])
}

#[test]
fn an_abandoned_call_takes_effect_late() {
    breaks(&abandoned(50, 30).row(true, 50), Rule::R4, "late");
    is_clean(&abandoned(10, 30).row(false, 30));
    // Its limit is over at 100; the word at 200 still found the older state.
    let held = |limit| {
        Story::new()
            .with(Kind::Word(Like), (0, 30), Outcome::Cancelled, |record| record.limit = limit)
            .word(Unlike, (200, 210), unchanged(false, 0))
            .ledger(&[(Like, 10)])
            .row(true, 10)
    };
    breaks(&held(199), Rule::R4, "at least 1 us after the limit");
    is_clean(&held(200));
}

#[test]
fn a_change_that_nobody_asked_for() {
    let told = Story::new().word(Like, (0, 10), changed(true, 1));
    breaks(&told.clone().ledger(&[(Like, 1), (Unlike, 2)]).row(false, 2), Rule::R4, "invented");
    is_clean(&told.clone().word(Unlike, (20, 30), Outcome::Unknown).ledger(&[(Like, 1), (Unlike, 2)]).row(false, 2));
    // One attempt makes one change; a refused one makes none; a key must be the ledger's.
    let two = [(Like, 1), (Unlike, 2), (Unlike, 3)];
    breaks(&told.clone().word(Unlike, (20, 30), Outcome::Unknown).ledger(&two).row(false, 3), Rule::R4, "one more");
    let refused = told.clone().word(Unlike, (20, 30), Outcome::Refused).ledger(&two[..2]).row(false, 2);
    breaks(&refused, Rule::R4, "invented");
    let keyed = told.keyed("k", Unlike, (20, 30), Outcome::Unknown).ledger(&two[..2]).row(false, 2);
    breaks(&keyed, Rule::R4, "invented");
    // A pair that is in no record at all.
    let unheard = Story::new().ledger(&[(Like, 1)]).row(true, 1);
    breaks(&unheard, Rule::R4, "invented");
    is_clean(&unheard.options(Options { shared: true, ..Options::default() }));
}

#[test]
fn a_change_that_was_seen_before_it_was_asked_for() {
    let seen = |begin| {
        Story::new()
            .read((0, 10), (true, 5))
            .word(Like, (begin, begin + 10), Outcome::Unknown)
            .ledger(&[(Like, 5)])
            .row(true, 5)
    };
    breaks(&seen(11), Rule::R4, "before it was asked for");
    is_clean(&seen(10));
}

#[test]
fn a_version_is_late_by_itself() {
    let story = abandoned(150, 1_000).row(false, 1_000);
    let known = |zero| Options { version_at_zero: Some(Version(zero)), drift: 5, ..Options::default() };
    let alone = |zero| {
        Story::new()
            .word(Like, (0, 30), Outcome::Abandoned)
            .ledger(&[(Like, 1_106)])
            .row(true, 1_106)
            .options(known(zero))
    };
    breaks(&alone(1_000), Rule::R4, "at least 1 us after");
    is_clean(&alone(1_001));
    assert!(!story.check().is_clean(), "its version is between words that were answered after its limit");
}

#[test]
fn items_of_a_call_out_of_order() {
    let call = |like, unlike| {
        Story::new()
            .batch((0, 50), &[(Like, changed(true, like)), (Unlike, changed(false, unlike))])
            .ledger(&[(Like, like), (Unlike, unlike)])
    };
    breaks(&call(3, 2).row(true, 3), Rule::R2, "later item");
    is_clean(&call(2, 3).row(false, 3));
    // The like was unchanged at first, then written after the unlike.
    let rewritten = |like, unlike| {
        call(like, unlike).word(Unlike, (60, 70), changed(false, 9)).ledger(&[(Unlike, 9)]).row(false, 9)
    };
    breaks(&rewritten(5, 4), Rule::R2, "later item");
    is_clean(&rewritten(4, 5));
}

#[test]
fn items_of_an_abandoned_call_out_of_order() {
    let call = |ledger: &[(Action, i64)]| {
        let (last, version) = ledger[ledger.len() - 1];
        Story::new()
            .batch((0, 50), &[(Like, Outcome::Abandoned), (Unlike, Outcome::Abandoned)])
            .ledger(ledger)
            .row(last.liked(), version)
    };
    breaks(&call(&[(Unlike, 1), (Like, 2)]), Rule::R2, "items");
    is_clean(&call(&[(Like, 1), (Unlike, 2)]));
    is_clean(&call(&[(Unlike, 1)]));
    let half = |like, unlike| {
        let ledger = [(Like, like), (Unlike, unlike)];
        Story::new().batch((0, 50), &[(Like, changed(true, like)), (Unlike, Outcome::Unknown)]).ledger(&ledger)
    };
    breaks(&half(2, 1).row(true, 2), Rule::R2, "items");
    is_clean(&half(1, 2).row(false, 2));
}

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
fn a_repeated_answer_is_no_excuse_for_a_late_change() {
    // The first attempt's limit is over at 100, the change came while 150 to 170, and the retry began at 200.
    let story = |limit| {
        Story::new()
            .with(Kind::Word(Like), (0, 30), Outcome::Abandoned, |record| {
                record.key = Some("k".into());
                record.limit = limit;
            })
            .word(Unlike, (150, 160), unchanged(false, 0))
            .read((165, 170), (true, 5))
            .word(Unlike, (172, 180), changed(false, 6))
            .keyed("k", Like, (200, 210), changed(true, 5))
            .ledger_with(Like, 5, |entry| entry.key = Some("k".into()))
            .ledger(&[(Unlike, 6)])
            .row(false, 6)
    };
    breaks(&story(100), Rule::R4, "after the limit");
    is_clean(&story(160));
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
    is_clean(&twice.options(Options { key_memory: 19, ..Options::default() }));
    // Two words that were told the same.
    let both = Story::new().word(Like, (0, 10), changed(true, 1)).word(Like, (5, 15), changed(true, 1));
    breaks(&both.ledger(&[(Like, 1)]).row(true, 1), Rule::R5, "two words");
}

#[test]
fn a_reader_goes_back() {
    let reads = |second| {
        Story::new()
            .word(Like, (0, 10), changed(true, 1))
            .with(Kind::Word(Unlike), (5, 40), changed(false, 2), |record| record.device = 2)
            .ledger(&[(Like, 1), (Unlike, 2)])
            .row(false, 2)
            .read((15, 20), (false, 2))
            .with(Kind::State, (21, 25), second, |_| ())
    };
    breaks(&reads(unchanged(true, 1)), Rule::R6, "read version 1 after 2");
    is_clean(&reads(unchanged(false, 2)));
    is_clean(&reads(degraded(unchanged(true, 1))));
    // At the same moment nobody knows which came first.
    is_clean(&reads(unchanged(false, 2)).read((20, 21), (true, 1)));
}

#[test]
fn a_reader_does_not_see_its_own_word() {
    let read = |server, device, seen| {
        Story::new().word(Like, (0, 10), changed(true, 1)).ledger(&[(Like, 1)]).row(true, 1).with(
            Kind::State,
            (20, 30),
            seen,
            |record| (record.server, record.device) = (server, device),
        )
    };
    breaks(&read(1, 1, unchanged(false, 0)), Rule::R6, "read version 0 after 1");
    is_clean(&read(1, 1, unchanged(true, 1)));
    is_clean(&read(2, 1, unchanged(false, 0)));
    is_clean(&read(1, 2, unchanged(false, 0)));
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
fn a_count_out_of_its_bounds() {
    let counted = |kind, span, count| {
        Story::new().word(Like, (100, 200), changed(true, 1)).ledger(&[(Like, 1)]).row(true, 1).count(kind, span, count)
    };
    for (span, right, wrong) in [
        ((0, 99), &[0][..], &[-1, 1][..]),
        ((50, 100), &[0, 1], &[-1, 2]),
        ((120, 130), &[0, 1], &[2]),
        ((200, 210), &[0, 1], &[2]),
        ((201, 210), &[1], &[0, 2]),
    ] {
        right.iter().for_each(|count| is_clean(&counted(Kind::Count, span, *count)));
        wrong.iter().for_each(|count| breaks(&counted(Kind::Count, span, *count), Rule::R7, "count"));
    }
    is_clean(&counted(Kind::Stream, (250_200, 250_300), 0));
    breaks(&counted(Kind::Stream, (250_201, 250_300), 0), Rule::R7, "count 0, but 1 to 1");
    let mut rest = counted(Kind::Count, (0, 0), 0);
    rest.stores.counts.push((pair(1).resource, 1));
    is_clean(&rest);
    rest.stores.counts.push((pair(1).resource, 2));
    breaks(&rest, Rule::R7, "at rest");
}

#[test]
fn a_count_that_a_fault_excuses() {
    let mut story = Story::new().word(Like, (0, 10), changed(true, 1)).ledger(&[(Like, 1)]).row(true, 1).count(
        Kind::Count,
        (400, 410),
        5,
    );
    breaks(&story, Rule::R7, "count 5");
    story.history.push_fault(Fault { name: "redis stopped".into(), begin: 100, end: 300 });
    let report = story.clone().options(Options { recovered_within: 100, ..Options::default() }).check();
    assert!(report.is_clean(), "{report}");
    assert!(report.to_string().contains("of the fault redis stopped [100, 300]"), "{report}");
    breaks(&story.options(Options { recovered_within: 99, ..Options::default() }), Rule::R7, "count 5");
}

#[test]
fn an_excuse_is_for_its_pair_and_window() {
    let story = Story::new()
        .word(Like, (0, 10), changed(true, 1))
        .read((12, 15), (true, 1))
        .word(Like, (50, 60), changed(true, 3))
        .word(Unlike, (70, 80), changed(false, 4))
        .ledger(&[(Like, 3), (Unlike, 4)])
        .row(false, 4);
    breaks(&story, Rule::R5, "version 1");
    let excuse = |user, begin, end| {
        let excuse = Excuse { pair: pair(user), begin, end, reason: "the cache lost it".to_owned() };
        story.clone().options(Options { excuses: vec![excuse], ..Options::default() })
    };
    let report = excuse(1, 5, 20).check();
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.excuses().collect::<Vec<_>>(), [(Rule::R5, "the cache lost it", 1)]);
    breaks(&excuse(2, 5, 20), Rule::R5, "version 1");
    breaks(&excuse(1, 16, 90), Rule::R5, "version 1");
}

#[test]
fn a_dead_event_is_named_and_no_violation() {
    let story =
        |dead| Story::new().word(Like, (0, 10), changed(true, 1)).ledger_with(Like, 1, |entry| entry.dead = dead);
    breaks(&story(false), Rule::R1, "missing");
    let report = story(true).check();
    assert!(report.is_clean() && report.to_string().contains("an operator decides"), "{report}");
}

#[test]
fn a_run_without_the_hard_cases_is_vacuous() {
    let story = abandoned(10, 30).row(false, 30).word(Unlike, (300, 310), Outcome::Abandoned);
    let coverage = story.check().coverage;
    assert_eq!((coverage.unanswered_with_effect, coverage.unanswered_without_effect, coverage.orphans), (1, 1, 1));
    assert_eq!(coverage.rewrites, 1, "a like of what the abandoned call had liked");
    let missing = coverage.vacuous();
    assert!(missing.contains(&"repeated answers") && !missing.contains(&"orphans"), "{missing:?}");
}
