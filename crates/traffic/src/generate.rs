//! Generated operations: the same seed gives the same operations, on every machine and at any concurrency.

use crate::Operation;
use domain::{Action, Invalid, Pair, ResourceType};

/// What to generate. Resource 1 of each type is the most liked one.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Start of the random sequence.
    pub seed: u64,
    /// First user id.
    pub first_user: i64,
    /// Number of users; ignored with `fresh_users`.
    pub users: u64,
    /// Number of resources per type.
    pub resources: u64,
    /// Zipf exponent of the resources' popularity; 0 is uniform.
    pub zipf: f64,
    /// Share of unlikes, 0 to 1. Most of them take back a recent like.
    pub unlikes: f64,
    /// Share of operations on comments, 0 to 1.
    pub comments: f64,
    /// Each operation is the like of a user who never did anything else: counts only ever grow.
    pub fresh_users: bool,
}

/// Most likes remembered as candidates to be taken back.
const RECENT: usize = 4096;

/// Endless operations of a [`Shape`].
#[derive(Debug, Clone)]
pub struct Generator {
    shape: Shape,
    random: Random,
    ranks: Zipf,
    recent: Vec<Pair>,
    made: u64,
}

impl Generator {
    /// Checks the shape.
    pub fn new(shape: Shape) -> Result<Self, Invalid> {
        for (field, share) in [("unlikes", shape.unlikes), ("comments", shape.comments)] {
            if !(0.0..=1.0).contains(&share) {
                return Err(Invalid::new(field, format!("must be 0 to 1, got {share}")));
            }
        }
        if shape.first_user < 1 {
            return Err(Invalid::new("first_user", format!("must be greater than 0, got {}", shape.first_user)));
        }
        if shape.users == 0 || shape.users > 1 << 40 {
            return Err(Invalid::new("users", format!("must be 1 to 2^40, got {}", shape.users)));
        }
        if shape.fresh_users && shape.unlikes > 0.0 {
            return Err(Invalid::new("unlikes", "must be 0 with fresh users, who only like"));
        }
        let ranks = Zipf::new(shape.resources, shape.zipf)?;
        Ok(Self { random: Random::new(shape.seed), ranks, recent: Vec::new(), made: 0, shape })
    }

    fn next_operation(&mut self) -> Result<Operation, Invalid> {
        let unlike = self.random.unit() < self.shape.unlikes;
        let made = i64::try_from(self.made).unwrap_or(i64::MAX);
        self.made += 1;
        if unlike && !self.recent.is_empty() {
            let at = self.random.below(self.recent.len() as u64) as usize;
            return Ok(Operation { pair: self.recent.swap_remove(at), action: Action::Unlike });
        }
        let kind = if self.random.unit() < self.shape.comments { ResourceType::Comment } else { ResourceType::Video };
        let offset = if self.shape.fresh_users { made } else { self.random.below(self.shape.users).cast_signed() };
        let rank = self.ranks.sample(&mut self.random);
        let pair = Pair::new(self.shape.first_user.saturating_add(offset), kind, rank.cast_signed())?;
        if unlike {
            return Ok(Operation { pair, action: Action::Unlike });
        }
        if self.shape.unlikes > 0.0 {
            if self.recent.len() < RECENT {
                self.recent.push(pair);
            } else {
                let at = self.random.below(RECENT as u64) as usize;
                self.recent[at] = pair;
            }
        }
        Ok(Operation { pair, action: Action::Like })
    }
}

impl Iterator for Generator {
    type Item = Operation;

    fn next(&mut self) -> Option<Operation> {
        // The checks in `new` leave only valid ids.
        self.next_operation().ok()
    }
}

/// SplitMix64: small, fast, and good enough to shape load.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A sequence that depends on the seed only.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any 64 bits.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// At least 0, less than 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Less than `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

/// Ranks 1 to `n` with probability proportional to `rank^-s`, by rejection-inversion (Hörmann and Derflinger, 1996):
/// no table, the same cost for any `n`.
#[derive(Debug, Clone)]
pub struct Zipf {
    n: u64,
    exponent: f64,
    integral_first: f64,
    integral_last: f64,
    squeeze: f64,
}

impl Zipf {
    /// `n` from 1 to 2^40, exponent from 0 to 20.
    pub fn new(n: u64, exponent: f64) -> Result<Self, Invalid> {
        if n == 0 || n > 1 << 40 {
            return Err(Invalid::new("resources", format!("must be 1 to 2^40, got {n}")));
        }
        if !(0.0..=20.0).contains(&exponent) {
            return Err(Invalid::new("zipf", format!("must be 0 to 20, got {exponent}")));
        }
        Ok(Self {
            n,
            exponent,
            integral_first: integral(exponent, 1.5) - 1.0,
            integral_last: integral(exponent, n as f64 + 0.5),
            squeeze: 2.0 - integral_inverse(exponent, integral(exponent, 2.5) - 2f64.powf(-exponent)),
        })
    }

    /// A rank.
    pub fn sample(&self, random: &mut Random) -> u64 {
        loop {
            let u = self.integral_last + random.unit() * (self.integral_first - self.integral_last);
            let x = integral_inverse(self.exponent, u);
            let rank = ((x + 0.5) as u64).clamp(1, self.n);
            let k = rank as f64;
            if k - x <= self.squeeze || u >= integral(self.exponent, k + 0.5) - k.powf(-self.exponent) {
                return rank;
            }
        }
    }
}

/// Antiderivative of `x^-s`, written so that it stays exact around `s = 1`.
fn integral(s: f64, x: f64) -> f64 {
    let log = x.ln();
    let y = (1.0 - s) * log;
    let ratio = if y.abs() > 1e-8 { y.exp_m1() / y } else { 1.0 + y * 0.5 };
    ratio * log
}

fn integral_inverse(s: f64, x: f64) -> f64 {
    let t = (x * (1.0 - s)).max(-1.0);
    let ratio = if t.abs() > 1e-8 { t.ln_1p() / t } else { 1.0 - t * 0.5 };
    (ratio * x).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn shape() -> Shape {
        Shape {
            seed: 7,
            first_user: 1,
            users: 500,
            resources: 200,
            zipf: 1.0,
            unlikes: 0.3,
            comments: 0.25,
            fresh_users: false,
        }
    }

    #[test]
    fn the_seed_decides_everything() {
        let take = |seed| Generator::new(Shape { seed, ..shape() }).unwrap().take(5_000).collect::<Vec<_>>();
        assert_eq!(take(7), take(7));
        assert_ne!(take(7), take(8));
    }

    #[test]
    fn shares_and_ranges_are_as_asked() {
        let made: Vec<_> = Generator::new(shape()).unwrap().take(40_000).collect();
        let share = |of: fn(&Operation) -> bool| made.iter().filter(|o| of(o)).count() as f64 / made.len() as f64;
        assert!((share(|o| !o.action.liked()) - 0.3).abs() < 0.02);
        assert!((share(|o| o.pair.resource.kind == ResourceType::Comment) - 0.25).abs() < 0.02);
        assert!(made.iter().all(|o| (1..=500).contains(&o.pair.user.get())));
        assert!(made.iter().all(|o| (1..=200).contains(&o.pair.resource.id.get())));
    }

    #[test]
    fn fresh_users_like_once() {
        let fresh = Shape { fresh_users: true, unlikes: 0.0, first_user: 1_000, ..shape() };
        let made: Vec<_> = Generator::new(fresh).unwrap().take(10_000).collect();
        assert!(made.iter().all(|o| o.action.liked()));
        assert_eq!(made.iter().map(|o| o.pair.user.get()).collect::<HashSet<_>>().len(), made.len());
        assert_eq!(made[0].pair.user.get(), 1_000);
    }

    #[test]
    fn zipf_follows_its_law() {
        for exponent in [0.0, 0.8, 1.0, 1.2] {
            let zipf = Zipf::new(100, exponent).unwrap();
            let mut random = Random::new(42);
            let (draws, mut seen) = (200_000, [0f64; 101]);
            for _ in 0..draws {
                seen[zipf.sample(&mut random) as usize] += 1.0;
            }
            let total: f64 = (1..=100).map(|k| f64::from(k).powf(-exponent)).sum();
            for k in [1usize, 2, 3, 10, 50, 100] {
                let expected = f64::from(draws) * (k as f64).powf(-exponent) / total;
                assert!(
                    (seen[k] - expected).abs() < 5.0 * expected.sqrt() + 1.0,
                    "exponent {exponent}, rank {k}: {} instead of {expected}",
                    seen[k]
                );
            }
        }
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for (bad, field) in [
            (Shape { unlikes: 1.5, ..shape() }, "unlikes"),
            (Shape { comments: f64::NAN, ..shape() }, "comments"),
            (Shape { resources: 0, ..shape() }, "resources"),
            (Shape { users: 0, ..shape() }, "users"),
            (Shape { zipf: -1.0, ..shape() }, "zipf"),
            (Shape { first_user: 0, ..shape() }, "first_user"),
            (Shape { fresh_users: true, ..shape() }, "unlikes"),
        ] {
            assert_eq!(Generator::new(bad).unwrap_err().field, field);
        }
    }
}
