//! Chance that repeats itself.

/// A small deterministic generator; the number is its seed.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    /// A number from zero up to `bound`, without it.
    pub fn below(&mut self, bound: u64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % bound).cast_signed()
    }

    /// Puts `items` in another order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = self.below(i as u64 + 1) as usize;
            items.swap(i, j);
        }
    }
}
