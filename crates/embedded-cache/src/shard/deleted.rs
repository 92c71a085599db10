//! Marks of deleted resources. They end with the process: whoever opens the cache has the database beside it, and tells them
//! again before it takes likes.

use super::Shard;
use domain::{DeletedMark, Resource};
use std::collections::hash_map::Entry;

impl Shard {
    /// Keeps a mark beside what is known of its resource.
    pub(crate) fn keep_deleted(&mut self, resource: Resource, mark: DeletedMark) {
        match self.deleted.entry(resource) {
            Entry::Occupied(mut held) => {
                let merged = held.get().merged(mark);
                held.insert(merged);
            }
            Entry::Vacant(free) => {
                free.insert(mark);
            }
        }
    }

    /// All marks.
    pub(crate) fn kept_deleted(&self) -> Vec<(Resource, DeletedMark)> {
        self.deleted.iter().map(|(resource, mark)| (*resource, *mark)).collect()
    }

    pub(super) fn is_deleted(&self, resource: Resource) -> bool {
        self.deleted.get(&resource).is_some_and(|mark| mark.deleted)
    }
}
