//! What is excused, and what a run must contain.

use super::effects::abandoned;
use super::{breaks, is_clean};
use crate::story::{Like, Story, Unlike, changed, pair};
use domain::{PairState, Version};
use traffic::check::{EMPTIED, Excuse, Options, PairRow, Rule};
use traffic::history::{Answer, Fault, Kind, Outcome};

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

/// A cache that lacks its last moments forgets keys, and follows the database for a while. What it had answered is in the
/// memory of the servers, so no word may be lost.
#[test]
fn a_cache_that_lost_something_excuses_keys_and_reads_and_no_word() {
    let word = || Story::new().word(Like, (0, 10), changed(true, 1));
    let keyed = |begin, end, version| {
        Story::new().keyed("k", Like, (0, 10), changed(true, 1)).keyed("k", Like, (begin, end), changed(true, version))
    };
    let lost = word();
    let overwritten = word().ledger(&[(Like, 1)]);
    let goes_back = word().ledger(&[(Like, 1)]).row(true, 1).read((40, 45), (false, 0));
    let twice = keyed(40, 50, 3).ledger(&[(Like, 1), (Like, 3)]).row(true, 3);
    for name in EMPTIED.into_iter().chain(["switch_redis", "failover_database 2s"]) {
        let excuses = EMPTIED.contains(&name);
        let during = |story: &Story| {
            let mut story = story.clone();
            story.history.push_fault(Fault { name: format!("{name} 300ms").into(), begin: 20, end: 30 });
            story
        };
        assert!(during(&lost).check().broken_rules().contains(&Rule::R5), "{name}");
        breaks(&during(&overwritten), Rule::R1, "the row is missing");
        for (story, rule, saying) in
            [(&goes_back, Rule::R6, "read version 0 after 1"), (&twice, Rule::R5, "two changes")]
        {
            breaks(story, rule, saying);
            let report = during(story).check();
            assert_eq!(report.is_clean(), excuses, "{name}: {report}");
            assert_eq!(report.excuses().count(), usize::from(excuses), "{name}: {report}");
        }
        is_clean(&during(&keyed(40, 50, 1).ledger(&[(Like, 1)]).row(true, 1)));
    }
}

#[test]
fn what_was_lost_unanswered_may_have_been_counted() {
    let story = Story::new().word(Like, (0, 10), Outcome::Cancelled).count(Kind::Count, (20, 25), 1);
    breaks(&story, Rule::R7, "count 1");
    let excuse = |user| {
        let reason = "in the journal alone".to_owned();
        let excuses = vec![Excuse { pair: pair(user), begin: 0, end: 50, reason }];
        story.clone().options(Options { excuses, ..Options::default() })
    };
    assert!(excuse(1).check().is_clean());
    breaks(&excuse(2), Rule::R7, "count 1");
}

/// Its cache does not know that the pair was not liked, and counts one less until the word is settled.
#[test]
fn a_pair_that_lost_something_may_have_been_counted_once_less() {
    let told = |count| match changed(false, 2) {
        Outcome::Answered(answer) => Outcome::Answered(Answer { count: Some(count), ..answer }),
        other => other,
    };
    let story = |count| {
        let other = |user: &mut Option<_>| *user = Some(pair(2).user);
        let mut story = Story::new()
            .with(Kind::Word(Like), (0, 10), changed(true, 1), |record| other(&mut record.user))
            .ledger_with(Like, 1, |entry| entry.pair = pair(2))
            .word(Unlike, (100, 110), told(count))
            .ledger(&[(Unlike, 2)])
            .row(false, 2);
        let state = PairState { liked: true, version: Version(1) };
        story.stores.rows.as_mut().unwrap().push(PairRow { pair: pair(2), state });
        story
    };
    let excused = |story: Story| {
        let excuses = vec![Excuse { pair: pair(1), begin: 500, end: 600, reason: "in the journal alone".to_owned() }];
        story.options(Options { drift: 0, settled_within: 20, excuses, ..Options::default() })
    };
    for count in [0, 1] {
        is_clean(&story(count));
        is_clean(&excused(story(count)));
    }
    is_clean(&excused(story(1).count(Kind::Count, (125, 128), 0)));
    breaks(&excused(story(1).count(Kind::Count, (131, 135), 0)), Rule::R7, "count 0");
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

#[test]
fn an_excuse_takes_back_repeated_answers_too() {
    let story = Story::new()
        .keyed("k", Like, (0, 10), changed(true, 1))
        .keyed("k", Like, (20, 30), changed(true, 1))
        .word(Unlike, (50, 60), changed(false, 4))
        .ledger(&[(Unlike, 4)])
        .row(false, 4);
    breaks(&story, Rule::R5, "version 1");
    let excuse = Excuse { pair: pair(1), begin: 0, end: 40, reason: "the cache lost it".to_owned() };
    let report = story.options(Options { excuses: vec![excuse], ..Options::default() }).check();
    assert!(report.is_clean(), "{report}");
}
