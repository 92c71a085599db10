//! Reads and counts: R6 and R7.

use super::{breaks, is_clean};
use crate::story::{Like, Story, Unlike, changed, degraded, pair, unchanged};
use traffic::check::Rule;
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
