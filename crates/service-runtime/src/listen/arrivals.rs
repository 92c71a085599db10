//! How often connections came lately, by address.

use crate::listen::address::Address;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// All counts are halved as often.
const HALF: Duration = Duration::from_secs(1);
/// So many at once, or half as many in each second, are no reason to give way before others.
const ALLOWED: u32 = 32;
/// Addresses that are remembered; of more, nothing is held against the later ones.
const MOST: usize = 4_096;

/// Connections of the last seconds, whether they are still there or not.
#[derive(Debug)]
pub(super) struct Arrivals {
    by_address: HashMap<Address, u32>,
    halved: Instant,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self { by_address: HashMap::new(), halved: Instant::now() }
    }
}

impl Arrivals {
    /// One more came from there.
    pub(super) fn count(&mut self, address: Address) {
        self.fade();
        if self.by_address.len() < MOST || self.by_address.contains_key(&address) {
            let count = self.by_address.entry(address).or_default();
            *count = count.saturating_add(1);
        }
    }

    /// By how many more came from there than are allowed.
    pub(super) fn too_many(&self, address: Address) -> u32 {
        self.by_address.get(&address).map_or(0, |count| count.saturating_sub(ALLOWED))
    }

    fn fade(&mut self) {
        let halves = self.halved.elapsed().as_secs() / HALF.as_secs();
        if halves > 0 {
            self.halved = Instant::now();
            self.by_address.retain(|_, count| {
                *count = count.checked_shr(u32::try_from(halves).unwrap_or(u32::MAX)).unwrap_or(0);
                *count > 0
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn there(number: u32) -> Address {
        Address::of(IpAddr::V4(Ipv4Addr::from(number)))
    }

    fn come(arrivals: &mut Arrivals, number: u32, times: u32) -> u32 {
        for _ in 0..times {
            arrivals.count(there(number));
        }
        arrivals.too_many(there(number))
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_too_often_is_known_for_some_seconds() {
        let mut arrivals = Arrivals::default();
        assert_eq!((come(&mut arrivals, 1, ALLOWED), come(&mut arrivals, 2, ALLOWED + 100)), (0, 100));
        tokio::time::advance(HALF).await;
        assert_eq!(come(&mut arrivals, 2, 1), (ALLOWED + 100) / 2 + 1 - ALLOWED);
        for _ in 0..20 {
            tokio::time::advance(HALF).await;
            assert_eq!(come(&mut arrivals, 1, ALLOWED / 2), 0, "half as many in each second");
        }
        tokio::time::advance(HALF * 10_000).await;
        come(&mut arrivals, 3, 1);
        assert_eq!(arrivals.by_address.len(), 1, "nothing is left of the others");
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_addresses_are_remembered() {
        let mut arrivals = Arrivals::default();
        for number in 0..=u32::try_from(MOST).unwrap() {
            come(&mut arrivals, number, 1);
        }
        assert_eq!(arrivals.by_address.len(), MOST);
        assert_eq!((come(&mut arrivals, 7, 1_000) > 0, come(&mut arrivals, u32::MAX, 1_000)), (true, 0));
    }
}
