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
/// How long idle connections may take to end once they were asked to.
const GOODBYE: Duration = Duration::from_secs(2);
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

    /// One of these gives way, if any does; whether it did.
    fn makes_way(&self, taken: &mut Taken, of: Of<'_>) -> bool {
        let gives_way = taken.first_to_go(of).and_then(|number| taken.remove(number));
        self.note(of, gives_way.is_some());
        gives_way.is_some_and(|link| {
            link.cut();
            true
        })
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
            let Some(link) = taken.first_to_go(Of::Anybody).and_then(|number| taken.remove(number)) else { break };
            self.count("gave_way");
            link.cut();
        }
        self.show(&taken);
    }

    /// Nobody is let in any more: ends whoever was told so and has no call in flight, or takes no answer. Who does not read
    /// would hold up the end.
    pub(crate) async fn wind_up(&self) {
        tokio::time::sleep(GOODBYE).await;
        while self.end_all_quiet() > 0 {
            tokio::time::sleep(STEP).await;
        }
    }

    /// How many are left.
    fn end_all_quiet(&self) -> usize {
        let mut taken = self.taken();
        let stuck = |link: &Link| link.untaken().is_some_and(|(since, _)| since.elapsed() > GOODBYE);
        let idle = taken.links().filter(|(_, link)| link.is_idle() || stuck(link));
        for number in idle.map(|(number, _)| number).collect::<Vec<_>>() {
            if let Some(link) = taken.remove(number) {
                link.cut();
            }
        }
        self.show(&taken);
        taken.len()
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
mod tests;
