//! Abandoned calls and batches: R4 and R2.

use super::{breaks, is_clean};
use crate::story::{Like, Story, Unlike, changed, unchanged};
use domain::{Action, Version};
use traffic::check::{Options, Rule};
use traffic::history::{Kind, Outcome};

/// A holds a like and is stopped; the user gives up, likes and unlikes elsewhere; A goes on.
pub(super) fn abandoned(effect: i64, last: i64) -> Story {
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
    let other_half = |like, unlike| {
        let ledger = [(Like, like), (Unlike, unlike)];
        Story::new().batch((0, 50), &[(Like, Outcome::Unknown), (Unlike, changed(false, unlike))]).ledger(&ledger)
    };
    breaks(&other_half(2, 1).row(true, 2), Rule::R2, "items");
    is_clean(&other_half(1, 2).row(false, 2));
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
    breaks(&story(100), Rule::R4, "not there yet");
    is_clean(&story(160));
}

#[test]
fn attempts_are_shared_out_so_that_all_changes_are_explained() {
    let attempt = |story: Story, action, begin, limit| {
        story.with(Kind::Word(action), (begin, begin + 1), Outcome::Cancelled, |record| record.limit = limit)
    };
    // The like that ends first began after the unlike was over.
    let unlike = attempt(attempt(Story::new(), Unlike, 0, 5), Like, 10, 2);
    let both = unlike.clone().ledger(&[(Like, 1), (Unlike, 2)]).row(false, 2);
    breaks(&both, Rule::R4, "version 2");
    is_clean(&attempt(both, Like, 0, 20));
    // The first like must leave the attempt that is still open to the second one.
    let twice = Story::new()
        .word(Unlike, (30, 40), changed(false, 2))
        .ledger(&[(Like, 1), (Unlike, 2), (Like, 3)])
        .row(true, 3);
    let open = attempt(attempt(twice.clone(), Like, 0, 60), Like, 0, 50);
    is_clean(&open);
    is_clean(&attempt(attempt(twice.clone(), Like, 0, 60), Like, 0, 20));
    breaks(&attempt(attempt(twice, Like, 0, 29), Like, 0, 20), Rule::R4, "late");
}

#[test]
fn a_change_is_late_by_the_latest_word_that_saw_an_older_state() {
    let story = |begin| {
        Story::new()
            .word(Like, (0, 30), Outcome::Abandoned)
            .word(Like, (begin, 400), changed(true, 1))
            .word(Unlike, (50, 500), changed(false, 2))
            .ledger(&[(Like, 1), (Unlike, 2), (Like, 3)])
            .row(true, 3)
    };
    breaks(&story(101), Rule::R4, "at least 1 us");
    is_clean(&story(100));
}

#[test]
fn a_retry_takes_effect_after_the_words_that_it_follows() {
    // The retry's change is its own, because a like came in between; so what came after it came after the retry began.
    let attempt = |story: Story, key: Option<&str>, begin, limit| {
        story.with(Kind::Word(Unlike), (begin, begin + 5), Outcome::Unknown, |record| {
            (record.key, record.limit) = (key.map(Into::into), limit);
        })
    };
    let story = |limit| {
        let attempts = attempt(attempt(Story::new(), Some("k"), 12, 8), None, 21, limit);
        attempts
            .word(Like, (26, 30), changed(true, 6))
            .keyed("k", Unlike, (35, 40), changed(false, 9))
            .ledger(&[(Like, 6)])
            .ledger_with(Unlike, 9, |entry| entry.key = Some("k".into()))
            .ledger(&[(Unlike, 11)])
            .row(false, 11)
    };
    breaks(&story(13), Rule::R4, "at least 1 us");
    is_clean(&story(14));
}

#[test]
fn a_repeated_answer_was_made_while_its_attempt_could_take_effect() {
    // The retry's answer can only be that of the first attempt, whose limit is over at 100: what is older is older than that.
    let story = |begin| {
        Story::new()
            .keyed("k", Like, (0, 30), Outcome::Abandoned)
            .word(Unlike, (begin, begin + 10), Outcome::Unknown)
            .word(Unlike, (150, 160), changed(false, 6))
            .keyed("k", Like, (200, 210), changed(true, 5))
            .ledger(&[(Unlike, 4), (Unlike, 6)])
            .ledger_with(Like, 5, |entry| entry.key = Some("k".into()))
            .row(false, 6)
    };
    breaks(&story(101), Rule::R4, "was there at 100, before it was asked for");
    is_clean(&story(100));
}
