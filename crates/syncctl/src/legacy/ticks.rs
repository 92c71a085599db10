//! Order of what the old system says happened to one pair at the same time.
//!
//! Rule: a row's version is the beginning of its time, and a few microseconds for each earlier row of the same table, pair
//! and time. So of two actions in the same second the one that was written later is the later one, and a word of the new
//! system in that second, which nobody can order against them, wins: the rows stand at the beginning of the second. A
//! version never leaves the time that its row names. Every run over the same rows gives the same versions. Batches and
//! interruptions do not matter, because a run that goes on first looks back by [`WINDOW`] rows.
//!
//! Limit: the order is exact for rows of one pair and time that lie within [`WINDOW`] rows, and as far as the time has
//! microseconds. A time that names its microsecond has no room: such rows are equal.

use super::time::LegacyTime;
use domain::Pair;
use std::collections::HashMap;

/// Earlier rows that are remembered.
pub(super) const WINDOW: u64 = 100_000;

/// The last rows of each pair and time; rows must come in the order of their ids.
#[derive(Debug, Default)]
pub(super) struct Ticks {
    /// Rows so far.
    row: u64,
    last: HashMap<(Pair, LegacyTime), Last>,
    room: usize,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    row: u64,
    /// Earlier rows with the same pair and time.
    rank: i64,
}

impl Ticks {
    /// The next row is looked at.
    pub(super) fn next_row(&mut self) {
        self.row += 1;
    }

    /// The version of this row's time, if each row of its table takes up to `steps` microseconds.
    pub(super) fn version(&mut self, pair: Pair, time: LegacyTime, steps: i64) -> i64 {
        if time.resolution <= steps {
            return time.micros;
        }
        let row = self.row;
        let last = self.last.entry((pair, time)).or_insert(Last { row, rank: 0 });
        if last.row != row {
            let near = row - last.row <= WINDOW;
            *last = Last { row, rank: if near { last.rank + 1 } else { 0 } };
        }
        let rank = last.rank;
        self.forget();
        time.micros + rank.saturating_mul(steps).min(time.resolution - steps)
    }

    fn forget(&mut self) {
        if self.last.len() <= self.room {
            return;
        }
        let row = self.row;
        self.last.retain(|_, last| row - last.row <= WINDOW);
        self.room = 2 * self.last.len().max(1_000);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::ResourceType;

    const SECOND: i64 = 1_000_000;

    fn pair(user: i64) -> Pair {
        Pair::new(user, ResourceType::Video, 1).unwrap()
    }

    /// Random rows of a few pairs, each with one of a few times of each resolution.
    fn rows() -> Vec<(Pair, LegacyTime)> {
        let mut random = test_support::Random(7);
        (0..3_000_i64)
            .map(|n| {
                let resolution = [SECOND, 1_000, 100][random.below(3) as usize];
                let micros = 5 * SECOND + n / 300 * resolution;
                (pair(1 + random.below(20)), LegacyTime { micros, resolution })
            })
            .collect()
    }

    #[test]
    fn equal_times_of_a_pair_are_in_the_order_of_rows_at_the_beginning_of_the_time() {
        let mut ticks = Ticks::default();
        let mut last: HashMap<(Pair, LegacyTime), (i64, i64)> = HashMap::new();
        let mut equal = 0;
        for (pair, time) in rows() {
            ticks.next_row();
            let version = ticks.version(pair, time, 3);
            assert_eq!(ticks.version(pair, time, 3), version, "one row, one time");
            let (before, rank) = last.get(&(pair, time)).map_or((-1, 0), |(before, rank)| (*before, rank + 1));
            assert!(version > before, "{version} is not after {before}");
            assert_eq!(version, time.micros + 3 * rank);
            last.insert((pair, time), (version, rank));
            equal += i64::from(rank > 0);
        }
        assert!(equal > 1_000, "{equal} equal times");
    }

    #[test]
    fn a_version_stays_within_the_time_of_its_row() {
        let mut ticks = Ticks::default();
        for (resolution, rows) in [(1, 5), (10, 50), (1_000, 2_000), (SECOND, 2_000)] {
            let time = LegacyTime { micros: 5 * SECOND, resolution };
            for row in 0..rows {
                ticks.next_row();
                let after = ticks.version(pair(1), time, 3) - time.micros;
                assert!(after == 0 || after + 3 <= resolution, "row {row} of {resolution} us: {after}");
            }
        }
    }

    #[test]
    fn a_run_that_goes_on_anywhere_gives_the_same_versions() {
        let mut rows = rows();
        // The rows of one pair and time as far apart as they may be.
        let far = (pair(99), LegacyTime { micros: 9 * SECOND, resolution: SECOND });
        let other = LegacyTime { micros: 9 * SECOND, resolution: SECOND };
        let window = i64::try_from(WINDOW).unwrap();
        rows.push(far);
        rows.extend((1..window).map(|user| (pair(100 + user), other)));
        rows.push(far);
        let versions = |rows: &[(Pair, LegacyTime)]| -> Vec<i64> {
            let mut ticks = Ticks::default();
            let version = |(pair, time): &(Pair, LegacyTime)| {
                ticks.next_row();
                ticks.version(*pair, *time, 1)
            };
            rows.iter().map(version).collect()
        };
        let whole = versions(&rows);
        assert_eq!(whole.last(), Some(&(9 * SECOND + 1)));
        let window = usize::try_from(WINDOW).unwrap();
        for stop in (0..3_000).step_by(301).chain([rows.len() - 1]) {
            let from = stop.saturating_sub(window);
            assert_eq!(versions(&rows[from..])[stop - from..], whole[stop..], "stopped at {stop}");
        }
    }

    #[test]
    fn what_no_row_can_need_is_forgotten() {
        let mut ticks = Ticks::default();
        for user in 1..=1_000_000 {
            ticks.next_row();
            ticks.version(pair(user), LegacyTime { micros: user, resolution: 1_000 }, 1);
        }
        assert!(ticks.last.len() as u64 <= 2 * WINDOW + 1, "{} times", ticks.last.len());
    }
}
