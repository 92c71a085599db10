//! Who may be connected to a listener, and who has to go.
//!
//! A listener has places, of which one client address may have a share. Where there is none, a connection gives
//! way: first those of strangers, which showed no token yet, by age, whatever they ask; then the one that has been without a
//! call for longest. Where none does, the new one is let in on reserve: it may ask for health, and soon ends. So a probe is always answered, and whoever only sits there locks out nobody.

use crate::listen::address::Address;
use crate::listen::link::Link;
use crate::listen::unsent::SEND_TIMEOUT;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// Longest time without a first byte.
pub const SILENCE: Duration = Duration::from_secs(5);
/// Longest time for all that precedes a call: TLS, and of HTTP/2 the preface and the client's settings.
pub const GREETING: Duration = Duration::from_secs(10);
const CONNECTIONS: &str = "service.max_connections";
const PER_ADDRESS: &str = "service.max_connections_per_address";

/// How long a connection on reserve may stay.
const RESERVE_AGE: Duration = Duration::from_secs(5);
/// Connections on reserve; one more, and the oldest of them ends.
const RESERVE: usize = 16;
/// How long idle connections may take to end once they were asked to.
const GOODBYE: Duration = Duration::from_secs(2);
/// Between two looks at all connections.
const STEP: Duration = Duration::from_millis(250);
/// How long the health remembers that there was no place.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Between two complaints about the same.
const QUIET: Duration = Duration::from_secs(30);

/// What a listener allows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) connections: usize,
    pub(crate) per_address: usize,
    /// After it a connection is cut, whatever it is doing.
    pub(crate) lifetime: Option<Duration>,
    /// Bytes of all answers that are not taken; for more the one ends that has waited for longest.
    pub(crate) unsent: usize,
}

/// The listeners of a process, and when one of them last had no place, for its health. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pressure(Arc<Mutex<Noted>>);

#[derive(Debug, Default)]
struct Noted {
    listeners: Vec<Weak<Places>>,
    last: Option<(Instant, String)>,
    said: Option<Instant>,
}

impl Pressure {
    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, what: impl FnOnce() -> String) {
        let mut noted = self.noted();
        let what = what();
        if noted.said.is_none_or(|said| said.elapsed() >= QUIET) {
            noted.said = Some(Instant::now());
            tracing::warn!("{what}");
        }
        noted.last = Some((Instant::now(), what));
    }

    /// What there was too much of, within the last minute.
    pub(crate) fn recent(&self) -> Option<String> {
        let noted = self.noted();
        noted.last.as_ref().filter(|(at, _)| at.elapsed() < REMEMBERED).map(|(_, what)| what.clone())
    }
}

/// The places of one listener.
#[derive(Debug)]
pub(crate) struct Places {
    surface: &'static str,
    limits: Limits,
    pressure: Pressure,
    taken: Mutex<Taken>,
}

/// Connections that were told to end are not among these, though some of them may not have done so yet.
#[derive(Debug, Default)]
struct Taken {
    next: u64,
    all: HashMap<u64, (Address, Link)>,
    by_address: HashMap<Address, usize>,
    /// How many of `all` are on reserve.
    reserve: usize,
}

impl Taken {
    fn insert(&mut self, address: Address, link: Link) -> u64 {
        self.next += 1;
        if link.is_reserve() {
            self.reserve += 1;
        } else {
            *self.by_address.entry(address).or_default() += 1;
        }
        self.all.insert(self.next, (address, link));
        self.next
    }

    fn remove(&mut self, number: u64) -> Option<Link> {
        let (address, link) = self.all.remove(&number)?;
        if link.is_reserve() {
            self.reserve -= 1;
        } else if let Some(count) = self.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
        Some(link)
    }

    fn regular(&self) -> usize {
        self.all.len() - self.reserve
    }

    /// Looks at all of them: only where there is no place.
    fn idlest(&self, of: Option<Address>) -> Option<u64> {
        let regular = self.all.iter().filter(|(_, (_, link))| !link.is_reserve());
        let asked = regular.filter(|(_, (address, _))| of.is_none_or(|of| of == *address));
        let idle = asked.filter_map(|(number, (_, link))| Some((link.gives_way()?, *number)));
        idle.min().map(|(_, number)| number)
    }

    fn oldest_reserve(&self) -> Option<u64> {
        self.all.iter().filter(|(_, (_, link))| link.is_reserve()).map(|(number, _)| *number).min()
    }
}

impl Places {
    pub(crate) fn new(surface: &'static str, limits: Limits, pressure: Pressure) -> Arc<Self> {
        let places = Arc::new(Self { surface, limits, pressure, taken: Mutex::default() });
        places.pressure.noted().listeners.push(Arc::downgrade(&places));
        places
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, reason: &'static str) {
        metrics::counter!("interaction_connections_limited_total", "surface" => self.surface, "reason" => reason)
            .increment(1);
    }

    /// A place for whoever comes from there.
    pub(crate) fn enter(self: &Arc<Self>, from: IpAddr) -> Place {
        let (address, limits) = (Address::of(from), self.limits);
        let mut taken = self.taken();
        // Where a share is everything, the listener is full.
        let share = limits.per_address < limits.connections
            && taken.by_address.get(&address).copied().unwrap_or_default() >= limits.per_address;
        let full = taken.regular() >= limits.connections;
        let mut reserve = None;
        if share || full {
            let gives_way = taken.idlest(share.then_some(address)).and_then(|number| taken.remove(number));
            self.note(if share { Some(address) } else { None }, gives_way.is_some());
            match gives_way {
                Some(link) => link.cut(),
                None => reserve = Some(if share { PER_ADDRESS } else { CONNECTIONS }),
            }
        }
        if reserve.is_some()
            && taken.reserve >= RESERVE
            && let Some(link) = taken.oldest_reserve().and_then(|number| taken.remove(number))
        {
            link.cut();
        }
        let link = Link::new(reserve);
        let number = taken.insert(address, link.clone());
        self.show(&taken);
        drop(taken);
        Place { places: Arc::clone(self), number, link }
    }

    /// The process can have no more connections, whatever it is allowed: some that are idle end, at all listeners.
    pub(crate) fn make_room(&self) {
        let listeners = self.pressure.noted().listeners.clone();
        for places in listeners.iter().filter_map(Weak::upgrade) {
            places.end_idle(RESERVE);
        }
        let surface = self.surface;
        self.pressure.note(|| format!("{surface}: no descriptors are left, idle connections give way"));
    }

    fn end_idle(&self, most: usize) {
        let mut taken = self.taken();
        for _ in 0..most {
            let Some(link) = taken.idlest(None).and_then(|number| taken.remove(number)) else { break };
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
        let idle = taken.all.iter().filter(|(_, (_, link))| link.is_idle() || stuck(link));
        for number in idle.map(|(number, _)| *number).collect::<Vec<_>>() {
            if let Some(link) = taken.remove(number) {
                link.cut();
            }
        }
        self.show(&taken);
        taken.all.len()
    }

    fn note(&self, share_of: Option<Address>, gives_way: bool) {
        let (surface, Limits { connections, per_address, .. }) = (self.surface, self.limits);
        self.count(match share_of {
            _ if gives_way => "gave_way",
            Some(_) => "address",
            None => "full",
        });
        let happens = if gives_way { "idle ones give way" } else { "none is idle: new ones may ask for health only" };
        self.pressure.note(|| match share_of {
            Some(address) => format!("{surface}: {PER_ADDRESS}: {per_address} are open from {address}, {happens}"),
            None => format!("{surface}: {CONNECTIONS}: {connections} are open, {happens}"),
        });
    }

    fn show(&self, taken: &Taken) {
        metrics::gauge!("interaction_open_connections", "surface" => self.surface).set(taken.all.len() as f64);
    }

    /// Ends whoever takes too long; never returns.
    pub(crate) async fn sweep(&self) {
        let mut steps = tokio::time::interval(STEP);
        loop {
            steps.tick().await;
            let mut taken = self.taken();
            let all = taken.all.iter();
            let over: Vec<_> = all.filter_map(|(number, (_, link))| Some((*number, self.is_over(link)?))).collect();
            self.end(&mut taken, over);
            let untaken = self.beyond_budget(&taken);
            self.end(&mut taken, untaken);
            self.show(&taken);
        }
    }

    fn end(&self, taken: &mut Taken, over: Vec<(u64, &'static str)>) {
        for (number, reason) in over {
            if let Some(link) = taken.remove(number) {
                self.count(reason);
                link.cut();
            }
        }
    }

    /// Who has not taken his answers for longest, as long as all of them together are too much.
    fn beyond_budget(&self, taken: &Taken) -> Vec<(u64, &'static str)> {
        let untaken = taken.all.iter().filter_map(|(number, (_, link))| Some((link.untaken()?, *number)));
        let mut untaken: Vec<_> = untaken.collect();
        let mut bytes: usize = untaken.iter().map(|((_, bytes), _)| bytes).sum();
        metrics::gauge!("interaction_untaken_answer_bytes", "surface" => self.surface).set(bytes as f64);
        if bytes <= self.limits.unsent {
            return Vec::new();
        }
        untaken.sort();
        let first = untaken.into_iter().take_while(|((_, freed), _)| {
            let over = bytes > self.limits.unsent;
            bytes = bytes.saturating_sub(*freed);
            over
        });
        first.map(|(_, number)| (number, "untaken")).collect()
    }

    /// Why the time of a connection is over.
    fn is_over(&self, link: &Link) -> Option<&'static str> {
        let age = link.age();
        if !link.has_spoken() && age > SILENCE {
            Some("silent")
        } else if !link.has_greeted() && age > GREETING {
            Some("greeting")
        } else if link.is_reserve() && age > RESERVE_AGE {
            Some("reserve")
        } else if link.untaken().is_some_and(|(since, _)| since.elapsed() > SEND_TIMEOUT) {
            Some("untaken")
        } else if self.limits.lifetime.is_some_and(|lifetime| age > lifetime) {
            Some("age")
        } else {
            None
        }
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

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn places(connections: usize, per_address: usize) -> Arc<Places> {
        Places::new(
            "grpc",
            Limits { connections, per_address, lifetime: None, unsent: usize::MAX },
            Pressure::default(),
        )
    }

    fn serve(place: &Place) {
        place.link().call(false).welcome();
    }

    fn is_cut(place: &Place) -> bool {
        !place.places.taken().all.contains_key(&place.number)
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_idle_one_gives_way_and_first_whoever_made_no_call() {
        let places = places(3, 3);
        let enter = async || {
            tokio::time::advance(Duration::from_millis(10)).await;
            places.enter(HERE)
        };
        let (busy, served, silent) = (enter().await, enter().await, enter().await);
        let _call = busy.link().call(false);
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
        let places = places(1, 1);
        let busy = places.enter(HERE);
        let _call = busy.link().call(false);
        let reserve: Vec<_> = (0..=RESERVE).map(|_| places.enter(HERE)).collect();
        assert!(reserve.iter().all(|place| place.link().is_reserve()));
        let cut: Vec<_> = reserve.iter().map(is_cut).collect();
        assert!(cut[0] && !cut[1..].contains(&true), "{cut:?}");
        assert!(!is_cut(&busy));
    }

    #[tokio::test(start_paused = true)]
    async fn another_address_has_its_own_share() {
        let places = places(10, 2);
        let theirs: Vec<_> = (0..2).map(|_| places.enter("192.0.2.1".parse().unwrap())).collect();
        let _calls: Vec<_> = theirs.iter().map(|place| place.link().call(false)).collect();
        assert!(places.enter("192.0.2.1".parse().unwrap()).link().is_reserve());
        assert!(!places.enter("192.0.2.2".parse().unwrap()).link().is_reserve());
    }
}
