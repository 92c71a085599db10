//! SplitMix64: small, and the same on every machine.

use std::time::Duration;

pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `bound`, which is at least 1; the bias of the modulo is of no concern here.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap_or_default()
    }

    pub(crate) fn duration(&mut self, least: Duration, most: Duration) -> Duration {
        let span = most.saturating_sub(least);
        least + Duration::from_millis(self.below(usize::try_from(span.as_millis()).unwrap_or(usize::MAX) + 1) as u64)
    }

    /// As often between 0.1 s and 1 s as between 1 s and 10 s.
    pub(crate) fn log_uniform(&mut self, (least, most): (Duration, Duration)) -> Duration {
        let part = self.below(1_000_001) as f64 / 1e6;
        let ratio = most.as_secs_f64() / least.as_secs_f64();
        // Whole milliseconds, as they are shown.
        let millis = least.as_millis() as f64 * ratio.powf(part);
        Duration::from_millis(millis.round() as u64).clamp(least, most)
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}
