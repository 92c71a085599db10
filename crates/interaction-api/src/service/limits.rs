//! Limits that each server keeps alone: likes per second from one address, and in all; likes, reads and streams of one
//! token; turns of those who read much.

use super::caller::Who;
use super::quota::{self, Keyed};
use super::streams::{Streams, Watching};
use super::turns::{Turn, Turns};
use crate::status;
use domain::Resource;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, RateLimiter};
use settings::{CacheManagement, RateLimiting};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use tonic::Status;

/// Calls for at most so many counts or states wait for nobody's turn.
const FEW: usize = 20;

/// All limits.
pub struct Limits {
    by_ip: Option<Keyed<IpAddr>>,
    global: Option<DefaultDirectRateLimiter>,
    clock: DefaultClock,
    token_likes: Option<Keyed<Arc<str>>>,
    token_reads: Option<Keyed<Arc<str>>>,
    token_streams: Option<Streams>,
    /// Of those who read much from the cache.
    cached: Turns,
    /// Of those whom only the database can answer: a slow one must not hold up the others.
    listed: Turns,
}

impl Limits {
    /// Those that are enabled.
    pub fn new(config: &RateLimiting, cache: &CacheManagement) -> Self {
        let bulk = cache.bulk_reads;
        let (ip, global, token) = (&config.ip, &config.global, &config.token);
        let of_token = |what, setting, per_second, burst| {
            token.enabled.then(|| Keyed::new(what, "token", setting, per_second, burst)).flatten()
        };
        quota::register();
        Self {
            by_ip: ip.enabled.then(|| Keyed::new("likes", "ip", "ip.burst", ip.max_per_second, ip.burst)).flatten(),
            global: global
                .enabled
                .then(|| quota::quota(global.max_per_second, global.burst))
                .flatten()
                .map(RateLimiter::direct),
            clock: DefaultClock::default(),
            token_likes: of_token("likes", "token.likes_burst", token.likes_per_second, token.likes_burst),
            token_reads: of_token("reads", "token.reads_burst", token.reads_per_second, token.reads_burst),
            token_streams: token.enabled.then(|| {
                Streams::new(
                    token.max_streams,
                    token.max_watched,
                    (cache.live_counts.max_streams, cache.live_counts.max_resources),
                )
            }),
            cached: Turns::new("cached", bulk.at_once, bulk.waiting),
            listed: Turns::new("listed", bulk.at_once, bulk.waiting),
        }
    }

    /// Takes so many likes of the caller's token, its address and all, or says when to come back.
    pub(super) fn likes(&self, who: &Who, likes: usize) -> Result<(), Status> {
        if let (Some(limit), Some(name)) = (&self.token_likes, who.token()) {
            limit.take(name, likes)?;
        }
        if let (Some(by_ip), Some(address)) = (&self.by_ip, who.address) {
            by_ip.take(&network(address), likes)?;
        }
        let Some(cells) = u32::try_from(likes).ok().and_then(NonZeroU32::new) else { return Ok(()) };
        match self.global.as_ref().map(|global| global.check_n(cells)) {
            None | Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(wait))) => Err(status::limited("likes", "global", wait.wait_time_from(self.clock.now()))),
            Some(Err(_)) => Err(quota::too_large("global.burst")),
        }
    }

    fn read(&self, who: &Who, items: usize) -> Result<(), Status> {
        match (&self.token_reads, who.token()) {
            (Some(limit), Some(name)) => limit.take(name, items),
            _ => Ok(()),
        }
    }

    /// Takes so many counts or states of the caller's quota, and waits for its turn if they are many. What this server remembers
    /// costs a tenth of what a store is asked for.
    pub(super) async fn reads(&self, who: &Who, items: usize, work: Work) -> Result<Option<Turn>, Status> {
        self.read(who, items)?;
        if work.of_stores + work.remembered / 10 <= FEW {
            Ok(None)
        } else {
            self.cached.take(&who.key()).await.map(Some)
        }
    }

    /// The same of a list with so many lines.
    pub(super) async fn list(&self, who: &Who, lines: u32) -> Result<Turn, Status> {
        self.read(who, lines as usize)?;
        self.listed.take(&who.key()).await
    }

    /// One more stream of the caller's token, until what this gives back is dropped; its counts are read again and again,
    /// whoever watches them, so they count as read once.
    pub(super) fn watch(&self, who: &Who, resources: &[Resource]) -> Result<Option<Watching>, Status> {
        self.read(who, resources.len())?;
        match (&self.token_streams, who.token()) {
            (Some(streams), Some(name)) => streams.begin(name, resources).map(Some),
            _ => Ok(None),
        }
    }
}

/// How much a call reads, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) of_stores: usize,
    /// By this server.
    pub(super) remembered: usize,
}

impl Work {
    pub(super) const fn of_stores(of_stores: usize) -> Self {
        Self { of_stores, remembered: 0 }
    }
}

/// Who has one address of IPv6 has all of its network.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::ResourceType;
    use settings::{GlobalLimit, IpLimit, TokenLimit};
    use tonic::Code;

    fn limits(ip: IpLimit, token: TokenLimit) -> Limits {
        let global = GlobalLimit { enabled: false, ..GlobalLimit::default() };
        Limits::new(&RateLimiting { ip, global, token, ..RateLimiting::default() }, &CacheManagement::default())
    }

    #[test]
    fn each_address_has_its_own_limit() {
        let ip = IpLimit { enabled: true, max_per_second: 1, burst: 2 };
        let limits = limits(ip, TokenLimit::default());
        let from = |address: &str| Who::from_address(address.parse().unwrap());
        for [one, same, other] in
            [["127.0.0.1", "127.0.0.1", "127.0.0.2"], ["2001:db8::1", "2001:db8::2:3:4", "2001:db8:0:1::1"]]
        {
            assert!(limits.likes(&from(one), 2).is_ok());
            assert_eq!(limits.likes(&from(same), 1).unwrap_err().code(), Code::ResourceExhausted);
            assert!(limits.likes(&from(other), 1).is_ok());
            assert_eq!(limits.likes(&from(other), 3).unwrap_err().code(), Code::InvalidArgument);
        }
    }

    #[tokio::test]
    async fn each_token_has_its_own_quotas() {
        let token = TokenLimit {
            enabled: true,
            likes_per_second: 1,
            likes_burst: 2,
            reads_per_second: 1,
            reads_burst: 10,
            max_streams: 1,
            max_watched: 10,
        };
        let limits = limits(IpLimit::default(), token);
        let (one, other) = (Who::with_token("one"), Who::with_token("other"));
        assert!(limits.likes(&one, 2).is_ok());
        let refusal = limits.likes(&one, 1).unwrap_err();
        assert_eq!(refusal.code(), Code::ResourceExhausted);
        assert!(refusal.message().contains("too many likes with this token"), "{refusal}");
        assert!(limits.likes(&other, 2).is_ok());
        // Reads are counted apart from likes, by what they ask for.
        assert!(limits.reads(&one, 9, Work::of_stores(9)).await.is_ok());
        assert_eq!(
            limits.reads(&one, 9, Work::of_stores(9)).await.err().map(|status| status.code()),
            Some(Code::ResourceExhausted)
        );
        assert_eq!(
            limits.reads(&other, 12, Work::of_stores(6)).await.err().map(|status| status.code()),
            Some(Code::InvalidArgument)
        );
        assert_eq!(limits.list(&one, 9).await.err().map(|status| status.code()), Some(Code::ResourceExhausted));
        assert_eq!(
            limits.reads(&other, 11, Work::of_stores(11)).await.err().map(|status| status.code()),
            Some(Code::InvalidArgument)
        );
        let watched = [Resource::new(ResourceType::Video, 1).unwrap()];
        let first = limits.watch(&other, &watched).unwrap();
        assert_eq!(limits.watch(&other, &watched).err().map(|status| status.code()), Some(Code::ResourceExhausted));
        drop(first);
        assert!(limits.watch(&other, &watched).is_ok(), "the stream has ended");
        // Where nobody needs a token nobody has a quota.
        assert!(
            limits.likes(&Who::default(), 500).is_ok()
                && limits.reads(&Who::default(), 500, Work::of_stores(500)).await.is_ok()
        );
    }

    #[tokio::test]
    async fn what_is_remembered_waits_for_a_turn_ten_times_later() {
        let limits = limits(IpLimit::default(), TokenLimit::default());
        for (of_stores, remembered, waits) in
            [(20, 0, false), (21, 0, true), (0, 209, false), (0, 210, true), (11, 100, true)]
        {
            let work = Work { of_stores, remembered };
            let turn = limits.reads(&Who::default(), 500, work).await.unwrap();
            assert_eq!(turn.is_some(), waits, "{work:?}");
        }
    }
}
