//! Who has the places of a listener, and whose turn it is to go.
//!
//! Who only holds a place gives way: a connection on which no whole call of a known caller is in flight. First those that have
//! made none or only begin some, of an address that [came too often](crate::listen::arrivals) lately: whoever comes back as often
//! as it is cut would otherwise push out all newcomers before their first call. Then those of strangers, by age. Then one of the token with most places, so that nobody loses a place to somebody who has more of them: first
//! one that begins calls and does not end them, then one of its address with most, then that whose last call was longest ago.

use crate::listen::address::Address;
use crate::listen::arrivals::Arrivals;
use crate::listen::link::{Idle, Link};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use tokio::time::Instant;

/// How many places somebody has: as many as there are clones beside the table's own.
#[derive(Debug, Default)]
struct Tally(Arc<()>);

impl Tally {
    fn one<K: Eq + Hash>(table: &mut HashMap<K, Self>, key: K) -> Self {
        Self(Arc::clone(&table.entry(key).or_default().0))
    }

    fn count(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}

/// By how many it came too often; whether it is known; places of its token; whether it only begins calls; places of its address;
/// since when it is idle.
type Rank = (Reverse<u32>, bool, Reverse<usize>, Reverse<bool>, Reverse<usize>, Instant);

/// A place that is taken.
#[derive(Debug)]
struct Entry {
    link: Link,
    address: Address,
    /// None for those on reserve.
    of_address: Option<Tally>,
    /// Whose token was shown first.
    token: Option<(Arc<str>, Tally)>,
}

impl Entry {
    /// Later ones are kept for longer.
    fn rank(&self, arrivals: &Arrivals) -> Option<Rank> {
        let Idle { known, begins, since } = self.link.idle()?;
        let of_address = self.of_address.as_ref().map_or(0, Tally::count);
        let of_token = self.token.as_ref().map_or(of_address, |(_, tally)| tally.count());
        // Of strangers nobody knows whose they are.
        let most = |count| Reverse(if known { count } else { 0 });
        let pushes = if known && !begins { 0 } else { arrivals.too_many(self.address) };
        Some((Reverse(pushes), known, most(of_token), Reverse(begins), most(of_address), since))
    }
}

/// Whose connections are meant.
#[derive(Debug, Clone, Copy)]
pub(super) enum Of<'a> {
    Anybody,
    Address(Address),
    Token(&'a str),
}

/// Connections that were told to end are not among these, though some of them may not have done so yet.
#[derive(Debug, Default)]
pub(super) struct Taken {
    next: u64,
    all: HashMap<u64, Entry>,
    by_address: HashMap<Address, Tally>,
    by_token: HashMap<Arc<str>, Tally>,
    /// How many of `all` are on reserve.
    reserve: usize,
    arrivals: Arrivals,
}

impl Taken {
    /// Somebody comes from there.
    pub(super) fn comes(&mut self, address: Address) {
        self.arrivals.count(address);
    }

    /// The number of the next one.
    pub(super) fn next(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn insert(&mut self, number: u64, address: Address, link: Link) {
        let of_address = if link.is_reserve() {
            self.reserve += 1;
            None
        } else {
            Some(Tally::one(&mut self.by_address, address))
        };
        self.all.insert(number, Entry { link, address, of_address, token: None });
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Link> {
        let mut entry = self.all.remove(&number)?;
        self.release(&mut entry);
        if entry.link.is_reserve() {
            self.reserve -= 1;
        }
        Some(entry.link)
    }

    fn release(&mut self, entry: &mut Entry) {
        if entry.of_address.take().is_some() && self.of_address(entry.address) == 0 {
            self.by_address.remove(&entry.address);
        }
        if let Some((token, tally)) = entry.token.take() {
            drop(tally);
            if self.of_token(&token) == 0 {
                self.by_token.remove(&token);
            }
        }
    }

    /// From now on it is on reserve, because this bound is full.
    pub(super) fn restrict(&mut self, number: u64, key: &'static str) {
        let Some(mut entry) = self.all.remove(&number) else { return };
        if !entry.link.is_reserve() {
            self.release(&mut entry);
            entry.link.restrict(key);
            self.reserve += 1;
        }
        self.all.insert(number, entry);
    }

    /// It is this token's; a connection stays whose it was first.
    pub(super) fn belongs_to(&mut self, number: u64, token: &Arc<str>) {
        if let Some(entry) = self.all.get_mut(&number).filter(|entry| entry.of_address.is_some()) {
            entry.token.get_or_insert_with(|| (Arc::clone(token), Tally::one(&mut self.by_token, Arc::clone(token))));
        }
    }

    #[cfg(test)]
    pub(super) fn has(&self, number: u64) -> bool {
        self.all.contains_key(&number)
    }

    /// Whether it is nobody's yet.
    pub(super) fn is_unclaimed(&self, number: u64) -> bool {
        self.all.get(&number).is_some_and(|entry| entry.token.is_none() && entry.of_address.is_some())
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Those with a place, without those on reserve.
    pub(super) fn regular(&self) -> usize {
        self.all.len() - self.reserve
    }

    #[cfg(test)]
    pub(super) const fn reserve(&self) -> usize {
        self.reserve
    }

    pub(super) fn of_address(&self, address: Address) -> usize {
        self.by_address.get(&address).map_or(0, Tally::count)
    }

    pub(super) fn of_token(&self, token: &str) -> usize {
        self.by_token.get(token).map_or(0, Tally::count)
    }

    pub(super) fn links(&self) -> impl Iterator<Item = (u64, &Link)> {
        self.all.iter().map(|(number, entry)| (*number, &entry.link))
    }

    /// Who goes first: one, and as many as this instead if nothing is lost with them, since they have made no whole call or come
    /// too often. Looks at all of them: only where there is no place, and then for several newcomers at once.
    pub(super) fn first_to_go(&self, of: Of<'_>, at_once: usize) -> Vec<u64> {
        let regular = self.all.iter().filter(|(_, entry)| !entry.link.is_reserve());
        let meant = regular.filter(|(_, entry)| match of {
            Of::Anybody => true,
            Of::Address(address) => entry.address == address,
            Of::Token(token) => entry.token.as_ref().is_some_and(|(of, _)| **of == *token),
        });
        let mut ranked: Vec<_> =
            meant.filter_map(|(number, entry)| Some((entry.rank(&self.arrivals)?, *number))).collect();
        let at_once = at_once.clamp(1, ranked.len().max(1));
        if at_once < ranked.len() {
            ranked.select_nth_unstable(at_once);
            ranked.truncate(at_once);
        }
        ranked.sort_unstable();
        let loses_nothing = |at: usize, (Reverse(pushes), known, ..): &Rank| at == 0 || *pushes > 0 || !known;
        let going = ranked.into_iter().enumerate().take_while(|(at, (rank, _))| loses_nothing(*at, rank));
        going.map(|(_, (_, number))| number).collect()
    }

    /// Before one more is on reserve: where there are as many as this, the oldest of them ends.
    pub(super) fn bound_reserve(&mut self, most: usize) {
        if self.reserve < most {
            return;
        }
        let oldest = self.links().filter(|(_, link)| link.is_reserve()).map(|(number, _)| number).min();
        if let Some(link) = oldest.and_then(|number| self.remove(number)) {
            link.cut();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::access::{Access, Role};
    use axum::http::HeaderMap;
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Weak;
    use std::time::Duration;

    async fn enter(taken: &mut Taken, from: u8) -> (u64, Link) {
        tokio::time::advance(Duration::from_millis(1)).await;
        let address = Address::of(IpAddr::V4(Ipv4Addr::new(192, 0, 2, from)));
        taken.comes(address);
        let number = taken.next();
        let link = Link::at(Weak::new(), number, None);
        taken.insert(number, address, link.clone());
        (number, link)
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_back_as_often_as_it_is_cut_goes_before_a_newcomer() {
        let mut taken = Taken::default();
        let anyone = Access::default().check(&HeaderMap::new(), Role::Read, false).unwrap();
        let (served, link) = enter(&mut taken, 1).await;
        link.call(false).stage().let_in(&anyone).unwrap();
        let (newcomer, _) = enter(&mut taken, 2).await;
        let mut begun = Vec::new();
        for _ in 0..100 {
            let (beginner, link) = enter(&mut taken, 3).await;
            let call = link.call(false);
            call.stage().let_in(&anyone).unwrap();
            begun.push((beginner, call));
        }
        let (stranger, _) = enter(&mut taken, 3).await;
        let order = std::iter::from_fn(|| {
            let first = *taken.first_to_go(Of::Anybody, 1).first()?;
            taken.remove(first);
            Some(first)
        });
        let beginners = begun.iter().map(|(number, _)| *number);
        let wanted: Vec<_> = [stranger].into_iter().chain(beginners).chain([newcomer, served]).collect();
        assert_eq!(order.collect::<Vec<_>>(), wanted);
    }

    #[tokio::test(start_paused = true)]
    async fn several_go_at_once_but_none_for_whom_it_would_be_a_loss() {
        let mut taken = Taken::default();
        let anyone = Access::default().check(&HeaderMap::new(), Role::Read, false).unwrap();
        let serve = |link: &Link| {
            let call = link.call(false);
            call.stage().let_in(&anyone).unwrap();
            call.stage().whole();
        };
        assert_eq!(taken.first_to_go(Of::Anybody, 4), [0; 0]);
        let mut served = Vec::new();
        for from in 1..4 {
            let (number, link) = enter(&mut taken, from).await;
            serve(&link);
            served.push(number);
        }
        assert_eq!(taken.first_to_go(Of::Anybody, 4), served[..1], "callers go one by one");
        let mut strangers = Vec::new();
        for from in 4..10 {
            strangers.push(enter(&mut taken, from).await.0);
        }
        assert_eq!(taken.first_to_go(Of::Anybody, 4), strangers[..4]);
        assert_eq!(taken.first_to_go(Of::Anybody, 100), strangers, "callers stay");
        let address = Address::of(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)));
        assert_eq!(taken.first_to_go(Of::Address(address), 4), strangers[3..4]);
    }
}
