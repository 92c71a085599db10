//! Which primary has which slots.

use crate::connection::Connections;
use crate::slots::Slot;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::Instant;

/// Who has what. Replaced as a whole.
#[derive(Clone, Default)]
pub(super) struct Table {
    /// Grows with every change of primaries, from 1; 0 where there is one for all.
    pub(super) version: u8,
    /// In the order of their addresses.
    pub(super) primaries: Vec<Arc<Connections>>,
    pub(super) ranges: Vec<(Slot, Slot, Arc<Connections>)>,
    /// What was said since, slot by slot.
    pub(super) moved: BTreeMap<Slot, Arc<Connections>>,
    pub(super) former: Vec<(Instant, Arc<Connections>)>,
}

impl Table {
    pub(super) fn of(&self, slot: Slot) -> Option<&Arc<Connections>> {
        if let Some(moved) = self.moved.get(&slot) {
            return Some(moved);
        }
        self.ranges.iter().find(|(first, last, _)| (*first..=*last).contains(&slot)).map(|(.., has)| has)
    }

    pub(super) fn has(&self, primary: &Arc<Connections>) -> bool {
        self.primaries.iter().any(|known| Arc::ptr_eq(known, primary))
    }

    pub(super) fn include(&mut self, primary: &Arc<Connections>) {
        if let Err(at) = self.primaries.binary_search_by(|known| known.address.cmp(&primary.address)) {
            self.primaries.insert(at, Arc::clone(primary));
        }
    }

    pub(super) fn known(&self) -> impl Iterator<Item = &Arc<Connections>> {
        self.primaries.iter().chain(self.former.iter().map(|(_, former)| former))
    }
}
