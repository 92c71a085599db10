//! Limits that each server keeps alone: likes per second from one address, and in all.

use crate::status;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use settings::RateLimiting;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use tonic::Status;

/// Addresses remembered; those that are quiet are forgotten first.
const MAX_ADDRESSES: usize = 100_000;

/// Both limits.
#[derive(Debug)]
pub struct Limits {
    by_ip: Option<DefaultKeyedRateLimiter<IpAddr>>,
    global: Option<DefaultDirectRateLimiter>,
    clock: DefaultClock,
}

impl Limits {
    /// Those that are enabled.
    pub fn new(config: &RateLimiting) -> Self {
        let quota = |per_second, burst| {
            Some(Quota::per_second(NonZeroU32::new(per_second)?).allow_burst(NonZeroU32::new(burst)?))
        };
        let (ip, global) = (&config.ip, &config.global);
        Self {
            by_ip: ip.enabled.then(|| quota(ip.max_per_second, ip.burst)).flatten().map(RateLimiter::keyed),
            global: global
                .enabled
                .then(|| quota(global.max_per_second, global.burst))
                .flatten()
                .map(RateLimiter::direct),
            clock: DefaultClock::default(),
        }
    }

    /// Takes `likes` tokens of the caller's address and of all, or says when to come back.
    pub fn check(&self, peer: Option<SocketAddr>, likes: usize) -> Result<(), Status> {
        let Some(cells) = u32::try_from(likes).ok().and_then(NonZeroU32::new) else { return Ok(()) };
        if let (Some(by_ip), Some(peer)) = (&self.by_ip, peer) {
            if by_ip.len() > MAX_ADDRESSES {
                by_ip.retain_recent();
            }
            match by_ip.check_key_n(&peer.ip(), cells) {
                Ok(Ok(())) => {}
                Ok(Err(wait)) => {
                    return Err(status::limited("from this address", wait.wait_time_from(self.clock.now())));
                }
                Err(_) => return Err(too_large("ip")),
            }
        }
        if let Some(global) = &self.global {
            match global.check_n(cells) {
                Ok(Ok(())) => {}
                Ok(Err(wait)) => return Err(status::limited("in all", wait.wait_time_from(self.clock.now()))),
                Err(_) => return Err(too_large("global")),
            }
        }
        Ok(())
    }
}

/// More operations in one call than the burst ever allows: waiting does not help.
fn too_large(limit: &str) -> Status {
    Status::invalid_argument(format!("operations: more than rate_limiting.{limit}.burst allows at once"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use settings::{GlobalLimit, IpLimit};

    #[test]
    fn each_address_has_its_own_limit() {
        let ip = IpLimit { enabled: true, max_per_second: 1, burst: 2 };
        let global = GlobalLimit { enabled: false, ..GlobalLimit::default() };
        let limits = Limits::new(&RateLimiting { ip, global, ..RateLimiting::default() });
        let peer = |n| Some(SocketAddr::from(([127, 0, 0, n], 1)));
        assert!(limits.check(peer(1), 2).is_ok());
        assert_eq!(limits.check(peer(1), 1).unwrap_err().code(), tonic::Code::ResourceExhausted);
        assert!(limits.check(peer(2), 1).is_ok());
        assert_eq!(limits.check(peer(2), 3).unwrap_err().code(), tonic::Code::InvalidArgument);
    }
}
