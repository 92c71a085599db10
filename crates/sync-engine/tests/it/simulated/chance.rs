//! What a seed decides, and the recorder's clock.

use domain::Version;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use test_support::Random;
use tokio::time::Instant;

/// Chance that repeats itself: one for each place that needs it, so that no place disturbs another one's.
pub(super) struct Chance(Mutex<Random>);

impl Chance {
    pub(super) fn new(seed: u64, place: u64) -> Self {
        // Seeds that follow each other must not resemble each other.
        let mut mixed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ place.wrapping_mul(0xD1B5_4A32_D192_ED03);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Self(Mutex::new(Random(mixed ^ (mixed >> 31))))
    }

    pub(super) fn below(&self, bound: u64) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).below(bound).unsigned_abs()
    }

    pub(super) fn percent(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(super) fn one_of<T: Copy>(&self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    pub(super) fn millis(&self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from + 1))
    }

    /// Short ones as often as long ones: each power of two is as likely.
    pub(super) fn log_millis(&self, powers: u64) -> Duration {
        let power = 1 << self.below(powers);
        Duration::from_millis(power + self.below(power))
    }
}

/// Time as the recorder and the cache tell it: it stands still until everybody waits.
pub(super) struct Clock {
    start: Instant,
    stamp: AtomicU64,
}

impl Clock {
    /// The version that stands for the beginning.
    pub(super) const ZERO: Version = Version(1_800_000_000_000_000);

    pub(super) fn new() -> Self {
        Self { start: Instant::now(), stamp: AtomicU64::new(0) }
    }

    fn micros(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }

    /// Each later than the one before: while time stands still, steps are counted.
    pub(super) fn stamp(&self) -> u64 {
        let stamp = self.micros().max(self.stamp.load(Ordering::Relaxed) + 1);
        self.stamp.store(stamp, Ordering::Relaxed);
        stamp
    }

    pub(super) fn version(&self) -> Version {
        Version(Self::ZERO.0 + self.micros().cast_signed())
    }
}
