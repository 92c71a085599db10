//! Reads and counts: R6 and R7.

use super::{breaks, is_clean};
use crate::story::{Like, Story, Unlike, changed, degraded, pair, unchanged};
use traffic::check::{Options, Rule};
use traffic::history::Kind;

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
    // The cache was emptied in between, or only afterwards.
    let emptied = |moment| Options { emptied: vec![moment], ..Options::default() };
    let report = read(1, 1, unchanged(false, 0)).options(emptied((12, 15))).check();
    assert!(report.is_clean() && report.excuses().count() == 1, "{report}");
    breaks(&read(1, 1, unchanged(false, 0)).options(emptied((31, 40))), Rule::R6, "read version 0 after 1");
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
fn a_pair_counts_once() {
    // Liked, taken back and liked again while somebody counted.
    let counted = |count| {
        Story::new()
            .word(Like, (0, 10), changed(true, 1))
            .word(Unlike, (100, 110), changed(false, 2))
            .word(Like, (200, 210), changed(true, 3))
            .ledger(&[(Like, 1), (Unlike, 2), (Like, 3)])
            .row(true, 3)
            .count(Kind::Count, (50, 250), count)
    };
    is_clean(&counted(0));
    is_clean(&counted(1));
    breaks(&counted(2), Rule::R7, "0 to 1 pairs");
}

#[test]
fn a_change_is_over_when_a_later_one_is() {
    let counted = |span, count| {
        Story::new()
            .word(Unlike, (0, 10), changed(false, 1))
            .word(Like, (100, 900), changed(true, 2))
            .word(Unlike, (150, 200), changed(false, 3))
            .ledger(&[(Unlike, 1), (Like, 2), (Unlike, 3)])
            .row(false, 3)
            .count(Kind::Count, span, count)
    };
    is_clean(&counted((180, 300), 1));
    is_clean(&counted((201, 300), 0));
    breaks(&counted((201, 300), 1), Rule::R7, "0 to 0 pairs");
    // Nor does it come before an earlier one.
    let first = |count| {
        Story::new()
            .word(Like, (0, 10), changed(true, 1))
            .word(Like, (100, 200), changed(true, 2))
            .word(Unlike, (20, 300), changed(false, 3))
            .ledger(&[(Like, 1), (Like, 2), (Unlike, 3)])
            .row(false, 3)
            .count(Kind::Count, (50, 99), count)
    };
    is_clean(&first(1));
    breaks(&first(0), Rule::R7, "1 to 1 pairs");
}

#[test]
fn a_cache_that_must_guess_counts_wrong_until_it_is_settled() {
    let counted = |begin, count| {
        let story = Story::new()
            .word(Like, (0, 10), changed(true, 1))
            .word(Like, (100, 110), changed(true, 2))
            .ledger(&[(Like, 1), (Like, 2)])
            .row(true, 2)
            .count(Kind::Count, (begin, begin + 5), count);
        story.options(Options { settled_within: 50, ..Options::default() })
    };
    is_clean(&counted(90, 1));
    breaks(&counted(90, 2), Rule::R7, "1 to 1 pairs");
    is_clean(&counted(160, 2));
    breaks(&counted(161, 2), Rule::R7, "1 to 1 pairs");
    breaks(&counted(160, 0), Rule::R7, "1 to 2 pairs");
}
