//! Order of what the old system says happened at the same time.
//!
//! Rule: ids are divided into blocks of as many ids as the time has microseconds of doubt, a million for whole seconds. A
//! row's version is its time plus the distance of its id from the beginning of the block in which the first id with that
//! time lies. So of two actions in the same second the one that was written later is the later one, also if a block ends
//! between them: then its version spills into the next second, still below those of that second's larger ids. Every run over
//! the same table gives the same versions. Batches and interruptions do not matter, because a run that goes on first looks
//! back ([`Ticks::looks_back_to`]).
//!
//! Limit: the first id is looked for in the same block and the one before. The order is exact for every time whose rows lie
//! within as many ids as a block has.

use std::collections::HashMap;

/// Blocks of the coarsest times.
const LONGEST_BLOCK: i64 = 1_000_000;

/// So many times are remembered before those are forgotten that no later row can need.
const ROOM: usize = 100_000;

/// The first ids of times; rows must come in the order of their ids.
#[derive(Debug, Default)]
pub(super) struct Ticks {
    seen: HashMap<(i64, i64), Seen>,
    room: usize,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    block: i64,
    /// First id of the block.
    first: i64,
    /// First id of the block before it.
    before: Option<i64>,
}

impl Ticks {
    /// The version of a row with this id, whose time is `micros` give or take `resolution`.
    pub(super) fn version(&mut self, micros: i64, resolution: i64, id: i64) -> i64 {
        let block = id.div_euclid(resolution);
        let new = Seen { block, first: id, before: None };
        let seen = self.seen.entry((micros, resolution)).or_insert(new);
        if seen.block != block {
            *seen = Seen { before: (seen.block == block - 1).then_some(seen.first), ..new };
        }
        let first = seen.before.unwrap_or(seen.first);
        self.forget(id);
        micros + (id - first.div_euclid(resolution) * resolution)
    }

    fn forget(&mut self, id: i64) {
        if self.seen.len() <= self.room.max(ROOM) {
            return;
        }
        self.seen.retain(|(_, resolution), seen| seen.block >= id.div_euclid(*resolution) - 1);
        self.room = 2 * self.seen.len();
    }

    /// A run that goes on after this id must first see the rows after the one that this gives.
    pub(super) fn looks_back_to(after: i64) -> i64 {
        (after.div_euclid(LONGEST_BLOCK) - 1).saturating_mul(LONGEST_BLOCK) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    /// Random ascending ids around the borders of blocks, each with one of a few times of each resolution.
    fn rows() -> Vec<(i64, i64, i64)> {
        let mut random = test_support::Random(7);
        let mut id = 2 * SECOND - 500;
        (0..2_000)
            .map(|n| {
                id += if n == 1_000 { SECOND - 900 } else { random.below(3) + 1 };
                let resolution = [SECOND, 1_000, 10][random.below(3) as usize];
                (5 * SECOND + id / 300 * resolution, resolution, id)
            })
            .collect()
    }

    #[test]
    fn equal_times_are_in_the_order_of_ids_across_borders() {
        let mut ticks = Ticks::default();
        let mut last: HashMap<(i64, i64), (i64, i64)> = HashMap::new();
        let mut crossed = 0;
        for (micros, resolution, id) in rows() {
            let version = ticks.version(micros, resolution, id);
            assert!((micros..micros + 2 * resolution).contains(&version), "{id}: {version} is another time");
            if let Some((before, first)) = last.insert((micros, resolution), (version, id))
                && resolution > 300
            {
                assert!(version > before, "{id} after {first}: {version} is not after {before}");
                crossed += i64::from(id / resolution != first / resolution);
            }
        }
        assert!(crossed > 1, "{crossed} borders were crossed within a time");
    }

    #[test]
    fn a_run_that_goes_on_anywhere_gives_the_same_versions() {
        let rows = rows();
        let mut whole = Ticks::default();
        let expected: Vec<i64> = rows.iter().map(|(micros, by, id)| whole.version(*micros, *by, *id)).collect();
        for stop in (0..rows.len()).step_by(7) {
            let back = Ticks::looks_back_to(rows[stop].2);
            let mut resumed = Ticks::default();
            for (at, (micros, by, id)) in rows.iter().enumerate().filter(|(_, (_, _, id))| *id > back) {
                let version = resumed.version(*micros, *by, *id);
                assert!(at <= stop || version == expected[at], "stopped at {stop}, row {at}: {version}");
            }
        }
    }

    #[test]
    fn what_no_row_can_need_is_forgotten() {
        let mut ticks = Ticks::default();
        for id in 0..3 * SECOND {
            ticks.version(id * 1_000, 1_000, id);
        }
        assert!(ticks.seen.len() <= ROOM + 2_001, "{} times", ticks.seen.len());
    }
}
