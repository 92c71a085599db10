//! Who may be connected to a listener, and who has to go.
//!
//! A listener has places, of which one client address may have a share, and one token. Where there is none, a connection [gives
//! way](crate::listen::taken). Where none does, the new one is let in on reserve: it may ask for health, and soon ends. So a
//! probe is always answered, and whoever only sits there locks out nobody.
//!
//! Whose token it is shows with the first call. Where that token has its share, another of its connections gives way, or this one
//! is on reserve from then on.

use crate::listen::address::Address;
use crate::listen::link::Link;
use crate::listen::pressure::Pressure;
use crate::listen::strangers::Strangers;
use crate::listen::taken::{Of, Taken};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Longest time without a first byte.
pub const SILENCE: Duration = Duration::from_secs(5);
/// Longest time for all that precedes a call: TLS, and of HTTP/2 the preface and the client's settings.
pub const GREETING: Duration = Duration::from_secs(10);
const CONNECTIONS: &str = "service.max_connections";
const PER_ADDRESS: &str = "service.max_connections_per_address";
const PER_TOKEN: &str = "service.max_connections_per_token";

/// Connections on reserve; one more, and the oldest of them ends.
const RESERVE: usize = 16;
/// Strangers that give way at once where a bound is as many times as large: to find out whose turn it is takes a look at all.
const AT_ONCE: usize = 16;
const PART: usize = 64;
/// Between two looks at all connections.
pub(super) const STEP: Duration = Duration::from_millis(250);

/// What a listener allows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) connections: usize,
    pub(crate) per_address: usize,
    pub(crate) per_token: usize,
    /// After it a connection is cut, whatever it is doing.
    pub(crate) lifetime: Option<Duration>,
    /// Bytes of all answers that are not taken; for more the one ends that has waited for longest.
    pub(crate) unsent: usize,
}

/// The places of one listener.
#[derive(Debug)]
pub(crate) struct Places {
    pub(super) surface: &'static str,
    pub(super) limits: Limits,
    pressure: Pressure,
    strangers: Strangers,
    taken: Mutex<Taken>,
}

impl Places {
    pub(crate) fn new(surface: &'static str, limits: Limits, pressure: Pressure) -> Arc<Self> {
        let places =
            Arc::new(Self { surface, limits, pressure, strangers: Strangers::default(), taken: Mutex::default() });
        places.pressure.enlist(&places);
        places
    }

    pub(super) fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count(&self, reason: &'static str) {
        metrics::counter!("interaction_connections_limited_total", "surface" => self.surface, "reason" => reason)
            .increment(1);
    }

    /// A place for whoever comes from there.
    pub(crate) fn enter(self: &Arc<Self>, from: IpAddr) -> Place {
        let (address, limits) = (Address::of(from), self.limits);
        let mut taken = self.taken();
        taken.comes(address);
        // Where a share is everything, the listener is full.
        let share = limits.per_address < limits.connections && taken.of_address(address) >= limits.per_address;
        let full = taken.regular() >= limits.connections;
        let mut reserve = None;
        if share {
            reserve = (!self.makes_way(&mut taken, Of::Address(address))).then_some(PER_ADDRESS);
        } else if full {
            reserve = (!self.makes_way(&mut taken, Of::Anybody)).then_some(CONNECTIONS);
        }
        let number = taken.next();
        let link = Link::at(Arc::downgrade(self), number, reserve);
        if reserve.is_some() {
            taken.bound_reserve(RESERVE);
        }
        taken.insert(number, address, link.clone());
        self.show(&taken);
        drop(taken);
        Place { places: Arc::clone(self), number, link }
    }

    /// A call with this token was let in by a connection: from now on it counts among those of the token.
    ///
    /// # Errors
    /// The bound that is full: the connection is on reserve.
    pub(super) fn claim(&self, number: u64, token: &Arc<str>) -> Result<(), &'static str> {
        let mut taken = self.taken();
        if !taken.is_unclaimed(number) {
            return Ok(());
        }
        if taken.of_token(token) >= self.limits.per_token && !self.makes_way(&mut taken, Of::Token(token)) {
            taken.bound_reserve(RESERVE);
            taken.restrict(number, PER_TOKEN);
            return Err(PER_TOKEN);
        }
        taken.belongs_to(number, token);
        Ok(())
    }

    /// One of these gives way, if any does, or some; whether one did.
    fn makes_way(&self, taken: &mut Taken, of: Of<'_>) -> bool {
        let bound = match of {
            Of::Anybody => self.limits.connections,
            Of::Address(_) => self.limits.per_address,
            Of::Token(_) => self.limits.per_token,
        };
        let going = taken.first_to_go(of, AT_ONCE.min(bound / PART));
        if going.is_empty() {
            self.note(of, false);
        }
        for link in going.iter().filter_map(|number| taken.remove(*number)) {
            self.note(of, true);
            link.cut();
        }
        !going.is_empty()
    }

    /// The process can have no more connections, whatever it is allowed: some that are idle end, at all listeners.
    pub(crate) fn make_room(&self) {
        for places in self.pressure.listeners() {
            places.end_idle(RESERVE);
        }
        let surface = self.surface;
        self.pressure.note(|| format!("{surface}: no descriptors are left, idle connections give way"));
    }

    fn end_idle(&self, most: usize) {
        let mut taken = self.taken();
        for _ in 0..most {
            let first = taken.first_to_go(Of::Anybody, 1).first().copied();
            let Some(link) = first.and_then(|number| taken.remove(number)) else { break };
            self.count("gave_way");
            link.cut();
        }
        self.show(&taken);
    }

    fn note(&self, of: Of<'_>, gives_way: bool) {
        let (surface, Limits { connections, per_address, per_token, .. }) = (self.surface, self.limits);
        self.count(match of {
            _ if gives_way => "gave_way",
            Of::Anybody => "full",
            Of::Address(_) => "address",
            Of::Token(_) => "token",
        });
        let happens = if gives_way { "idle ones give way" } else { "none is idle: new ones may ask for health only" };
        self.pressure.note(|| match of {
            Of::Anybody => format!("{surface}: {CONNECTIONS}: {connections} are open, {happens}"),
            Of::Address(address) => {
                format!("{surface}: {PER_ADDRESS}: {per_address} are open from {address}, {happens}")
            }
            Of::Token(token) => {
                format!("{surface}: {PER_TOKEN}: {per_token} are open of the token {token}, {happens}")
            }
        });
    }

    pub(super) fn show(&self, taken: &Taken) {
        metrics::gauge!("interaction_open_connections", "surface" => self.surface).set(taken.len() as f64);
    }
}

/// A place; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    number: u64,
    link: Link,
}

impl Place {
    /// It ends for this reason.
    pub(crate) fn count(&self, reason: &'static str) {
        self.places.count(reason);
    }

    pub(crate) const fn link(&self) -> &Link {
        &self.link
    }

    /// What strangers of its listener may send.
    pub(super) fn strangers(&self) -> &Strangers {
        &self.places.strangers
    }

    #[cfg(test)]
    pub(super) const fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.remove(self.number);
        self.places.show(&taken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::access::{Access, Caller, Role};
    use crate::listen::link::Call;
    use crate::listen::sweep::RESERVE_AGE;
    use axum::http::{HeaderMap, HeaderValue, header};
    use std::net::Ipv4Addr;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn places(connections: usize, per_address: usize, per_token: usize) -> Arc<Places> {
        let limits = Limits { connections, per_address, per_token, lifetime: None, unsent: usize::MAX };
        Places::new("grpc", limits, Pressure::default())
    }

    fn there(number: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, number).into()
    }

    /// Whoever shows the token of this name.
    fn caller(name: &str) -> Caller {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{name} read token-of-somebody\n")).unwrap();
        let config = crate::config::AccessConfig { tokens_file: Some(file.path().to_owned()), insecure: false };
        let value = HeaderValue::from_static("Bearer token-of-somebody");
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value)]);
        Access::open(&config).unwrap().check(&headers, Role::Read, false).unwrap()
    }

    /// A call that has come so far.
    fn call(place: &Place, of: &str, whole: bool) -> Call {
        let call = place.link().call(false);
        call.stage().let_in(&caller(of)).unwrap();
        if whole {
            call.stage().whole();
        }
        call
    }

    fn serve(place: &Place) {
        drop(call(place, "somebody", true));
    }

    fn is_cut(place: &Place) -> bool {
        !place.places.taken().has(place.number)
    }

    async fn enter(places: &Arc<Places>, from: IpAddr) -> Place {
        tokio::time::advance(Duration::from_millis(10)).await;
        places.enter(from)
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_idle_one_gives_way_and_first_whoever_made_no_call() {
        let places = places(3, 3, 3);
        let enter = async || enter(&places, HERE).await;
        let (busy, served, silent) = (enter().await, enter().await, enter().await);
        let _call = call(&busy, "somebody", true);
        serve(&served);
        assert_eq!(places.pressure.recent(), None);
        let fourth = enter().await;
        assert!(is_cut(&silent) && !is_cut(&served) && !fourth.link().is_reserve());
        assert!(places.pressure.recent().unwrap().contains("service.max_connections: 3 are open"));
        serve(&fourth);
        let fifth = enter().await;
        assert!(is_cut(&served) && !is_cut(&fourth));
        // Places are free with their values, and once only.
        drop(fifth);
        drop(served);
        let _sixth = enter().await;
        assert!(!is_cut(&fourth) && !is_cut(&busy));
    }

    #[tokio::test(start_paused = true)]
    async fn where_nobody_is_idle_the_newest_on_reserve_are_let_in() {
        let places = places(1, 1, 1);
        let busy = places.enter(HERE);
        let _call = call(&busy, "somebody", true);
        let reserve: Vec<_> = (0..=RESERVE).map(|_| places.enter(HERE)).collect();
        assert!(reserve.iter().all(|place| place.link().is_reserve()));
        let cut: Vec<_> = reserve.iter().map(is_cut).collect();
        assert!(cut[0] && !cut[1..].contains(&true), "{cut:?}");
        assert!(!is_cut(&busy));
    }

    #[tokio::test(start_paused = true)]
    async fn another_address_has_its_own_share() {
        let places = places(10, 2, 10);
        let theirs: Vec<_> = (0..2).map(|_| places.enter(there(1))).collect();
        let _calls: Vec<_> = theirs.iter().map(|place| call(place, "somebody", true)).collect();
        assert!(places.enter(there(1)).link().is_reserve());
        assert!(!places.enter(there(2)).link().is_reserve());
    }

    #[tokio::test(start_paused = true)]
    async fn of_whoever_has_most_one_gives_way_that_only_begins_calls() {
        let places = places(5, 5, 4);
        let honest = [enter(&places, there(1)).await, enter(&places, there(1)).await];
        serve(&honest[0]);
        serve(&honest[1]);
        // They come later, from elsewhere, and begin one call after the other.
        let mut theirs = Vec::new();
        for number in 2..5 {
            let place = enter(&places, there(number)).await;
            let begun = call(&place, "greedy", false);
            theirs.push((place, begun));
        }
        let next = enter(&places, there(9)).await;
        assert!(is_cut(&theirs[0].0) && !next.link().is_reserve());
        // Two each: what does not end goes first.
        let _call = call(&next, "another", true);
        let _last = enter(&places, there(9)).await;
        assert!(is_cut(&theirs[1].0) && !is_cut(&theirs[2].0) && !honest.iter().any(is_cut));
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_fewer_places_loses_none_however_long_they_are_idle() {
        let places = places(4, 4, 4);
        let mut all = Vec::new();
        for (number, of) in [(1, "modest"), (2, "greedy"), (3, "greedy"), (4, "greedy")] {
            let place = enter(&places, there(number)).await;
            drop(call(&place, of, true));
            all.push(place);
        }
        let _next = enter(&places, there(5)).await;
        assert!(!is_cut(&all[0]) && is_cut(&all[1]));
    }

    #[tokio::test(start_paused = true)]
    async fn within_a_token_the_address_with_most_gives_way() {
        let places = places(4, 4, 4);
        let honest = enter(&places, there(1)).await;
        serve(&honest);
        let others = [enter(&places, there(2)).await, enter(&places, there(2)).await, enter(&places, there(2)).await];
        others.iter().for_each(serve);
        let _next = enter(&places, there(3)).await;
        assert!(!is_cut(&honest) && is_cut(&others[0]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_has_its_share_and_no_more() {
        let places = places(8, 8, 2);
        let busy = [enter(&places, there(1)).await, enter(&places, there(2)).await];
        let calls = busy.each_ref().map(|place| call(place, "greedy", true));
        let third = enter(&places, there(3)).await;
        assert!(!third.link().is_reserve(), "nobody knows whose it is");
        third.link().speaks();
        third.link().greets();
        let refused = third.link().call(false).stage().let_in(&caller("greedy"));
        assert_eq!((refused, third.link().lacks_place()), (Err(PER_TOKEN), Some(PER_TOKEN)));
        let said = places.pressure.recent().unwrap();
        assert!(
            said.contains("service.max_connections_per_token: 2 are open of the token greedy, none is idle"),
            "{said}"
        );
        tokio::time::advance(RESERVE_AGE + STEP).await;
        assert_eq!(places.is_over(third.link()), Some("reserve"));
        drop(third);
        assert_eq!(places.taken().reserve(), 0);
        // Another token has its own, and one that is idle gives way to the next of its own.
        let other = enter(&places, there(3)).await;
        serve(&other);
        let [first, second] = calls;
        drop(second);
        let fourth = enter(&places, there(4)).await;
        drop(call(&fourth, "greedy", true));
        assert!(is_cut(&busy[1]) && !is_cut(&busy[0]) && !is_cut(&other) && !fourth.link().is_reserve());
        // It stays whose it was first, and is counted once.
        drop(call(&fourth, "other", true));
        drop(call(&fourth, "greedy", true));
        assert_eq!(["greedy", "other", "somebody"].map(|of| places.taken().of_token(of)), [2, 0, 1]);
        drop((first, busy, fourth, other));
        let taken = places.taken();
        assert_eq!((taken.of_token("greedy"), taken.of_address(Address::of(there(4)))), (0, 0));
    }
}
