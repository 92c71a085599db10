//! A bounded map that forgets what was not used for longest, in two generations.
//!
//! Whatever is used moves to the young generation; after `half` arrivals there the old one is dropped and the young one
//! becomes old. A key is in one generation only, or a former value would be found. So at least the last `half` used entries are held, at most twice as many, at constant cost.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// What may be forgotten.
pub(crate) trait Forgettable {
    /// Held whatever the bound says.
    fn is_pinned(&self) -> bool {
        false
    }
}

#[derive(Debug)]
pub(crate) struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    half: usize,
    /// Arrivals in the young generation since it began. Not its length: pinned entries must not make every arrival a
    /// change of generations.
    arrivals: usize,
}

impl<K: Hash + Eq, V: Forgettable> Generations<K, V> {
    /// At most `capacity` entries, not counting pinned ones.
    pub(crate) fn new(capacity: usize) -> Self {
        let half = fitting((capacity / 2).max(1));
        Self { young: HashMap::new(), old: HashMap::new(), half, arrivals: 0 }
    }

    pub(crate) fn get<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        if let Some((key, value)) = self.old.remove_entry(key) {
            return Some(self.arrive(key, value));
        }
        self.young.get_mut(key)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) -> &mut V {
        self.old.remove(&key);
        self.arrive(key, value)
    }

    /// Everything that is held.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.young.iter().chain(&self.old)
    }

    /// Forgets what is not to stay.
    pub(crate) fn retain(&mut self, mut stays: impl FnMut(&K, &V) -> bool) {
        self.young.retain(|key, value| stays(key, value));
        self.old.retain(|key, value| stays(key, value));
    }

    fn arrive(&mut self, key: K, value: V) -> &mut V {
        if self.arrivals >= self.half {
            let forgotten = std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
            self.young.extend(forgotten.into_iter().filter(|(_, value)| value.is_pinned()));
            self.arrivals = 0;
            // Its former value has just become old, and must not be found before this one.
            self.old.remove(&key);
        }
        self.arrivals += 1;
        self.young.entry(key).insert_entry(value).into_mut()
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

/// At most an eighth fewer, so that a table needs no more room than they fill: it has a power of two of slots, and doubles
/// when seven eighths of them are taken. One entry beyond that would cost as much memory as all the others.
const fn fitting(entries: usize) -> usize {
    let slots = entries.next_power_of_two();
    let full = slots / 8 * 7;
    if slots > 8 && full < entries { full } else { entries }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Value(bool);

    impl Forgettable for Value {
        fn is_pinned(&self) -> bool {
            self.0
        }
    }

    #[test]
    fn what_is_used_stays_and_the_rest_is_bounded() {
        let mut map = Generations::new(10);
        map.insert(0, Value(false));
        for key in 1..1_000 {
            map.insert(key, Value(false));
            assert!(map.get(&0).is_some(), "the used entry was forgotten at {key}");
            assert!(map.len() <= 12, "{} entries", map.len());
        }
        assert!(map.get(&500).is_none());
        assert!(map.get(&999).is_some());
    }

    /// Of any bound at least seven eighths are used, and no slot of the tables is there in vain.
    #[test]
    fn tables_are_filled_before_they_are_changed() {
        for capacity in [20, 100, 1_000, 7_168, 7_170, 7_812, 8_192, 8_194, 100_000] {
            let mut map = Generations::new(capacity);
            for key in 0..capacity * 2 {
                map.insert(key, Value(false));
            }
            let half = capacity / 2;
            assert!(map.half <= half && map.half >= half * 7 / 8, "{} of {half}", map.half);
            let room = map.young.capacity().max(map.old.capacity());
            assert!(room < map.half * 2, "room for {room} with at most {} of {half}", map.half);
        }
    }

    #[test]
    fn pinned_entries_are_never_forgotten() {
        let mut map = Generations::new(4);
        for key in 0..50 {
            map.insert(key, Value(key < 20));
        }
        assert!((0..20).all(|key| map.get(&key).is_some()));
        for key in 0..20 {
            map.insert(key, Value(false));
        }
        for key in 100..120 {
            map.insert(key, Value(false));
        }
        assert!((0..20).all(|key| map.get(&key).is_none()));
    }

    #[test]
    fn an_entry_lives_once() {
        let mut map = Generations::new(2);
        map.insert(1, Value(false));
        map.insert(2, Value(false));
        map.insert(1, Value(true));
        assert!(map.get(&1).is_some_and(|value| value.0));
        assert_eq!(map.len(), 2);
    }

    #[test]
    fn an_entry_lives_once_when_the_generations_change() {
        for capacity in 2..12 {
            let mut map = Generations::new(capacity);
            for round in 0..100 {
                // The same key, written anew each time: one of these writes meets the change.
                map.insert(1, Value(round % 2 == 0));
                assert!(map.get(&1).is_some_and(|value| value.0 == (round % 2 == 0)), "{capacity}, round {round}");
                assert!(map.len() <= 2, "{capacity}, round {round}: {} entries", map.len());
            }
        }
    }
}
