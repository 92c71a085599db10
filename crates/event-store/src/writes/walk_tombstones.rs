//! The archive of tombstones, gone through for those of deleted resources.

use crate::sql::error::StoreError;
use crate::sql::script::CHUNK;
use crate::sql::store::{EventStore, get, rows};
use crate::tables::fences::Erasure;
use crate::writes::erase::numbers_in;
use crate::writes::walk::WalkStep;
use domain::{Erased, Resource, ResourceType, Version};
use std::collections::BTreeMap;

const NAME: &str = "archived_tombstones";

impl EventStore {
    /// By the whole key, kind after kind; a place in it is `<kind>:<user>:<id>`.
    pub(crate) async fn walk_tombstones(
        &self,
        of: &[Erasure],
        after: Option<&str>,
        scan: u32,
        remove: bool,
    ) -> Result<WalkStep, StoreError> {
        let up_to: BTreeMap<Resource, Version> = of
            .iter()
            .filter_map(|erasure| match erasure.fence.of {
                Erased::Resource(resource) => Some((resource, erasure.fence.up_to)),
                Erased::User(_) => None,
            })
            .collect();
        let place = |place: &str| {
            let mut words = place.split(':');
            let kind: ResourceType = words.next()?.parse().ok()?;
            Some((kind, words.next()?.parse::<i64>().ok()?, words.next()?.parse::<i64>().ok()?))
        };
        let from = match after {
            Some(after) => place(after).ok_or_else(|| StoreError::corrupt(NAME, format!("no place in it: {after}")))?,
            None => (ResourceType::ALL[0], 0, 0),
        };
        let (kind, user, id) = from;
        let mut script = self.script();
        let index = script.dialect().by_primary_key();
        script.begin("SELECT user_id, resource_id, version FROM archived_tombstones").words(index);
        script.words(" WHERE resource_type = ").name(kind.name()).words(" AND user_id >= ").int(user);
        script.words(" AND (user_id > ").int(user).words(" OR resource_id > ").int(id);
        script.words(") ORDER BY user_id, resource_id LIMIT ").int(i64::from(scan));
        let results = self.read(&script).await?;
        let believed = self.horizon.for_writes();
        let mut last = None;
        let mut gone: BTreeMap<Resource, Vec<i64>> = BTreeMap::new();
        for row in rows(&results, 0) {
            let (user, id): (i64, i64) = (get(row, 0, NAME)?, get(row, 1, NAME)?);
            last = Some(format!("{kind}:{user}:{id}"));
            let resource = Resource::new(kind, id).map_err(|error| StoreError::corrupt(NAME, error))?;
            let version = believed.version(Version(get(row, 2, NAME)?));
            if up_to.get(&resource).is_some_and(|up_to| version <= *up_to) {
                gone.entry(resource).or_default().push(user);
            }
        }
        let found = gone.values().map(|users| users.len() as u64).sum();
        for (resource, users) in if remove { gone } else { BTreeMap::new() } {
            for chunk in users.chunks(CHUNK) {
                let mut script = self.script();
                script.begin("DELETE FROM archived_tombstones WHERE resource_type = ").name(kind.name());
                script.words(" AND resource_id = ").int(resource.id.get()).words(" AND ");
                numbers_in(&mut script, "user_id", chunk);
                // Meanwhile a newer one may have been put there.
                script.words(" AND (version <= ").int(up_to.get(&resource).map_or(0, |up_to| up_to.0));
                script.words(" OR version > ").int(believed.last().0).words(")");
                self.write("erase_walked", &script).await?;
            }
        }
        let is_full = rows(&results, 0).len() as u64 >= u64::from(scan.max(1));
        let next_kind = ResourceType::ALL.into_iter().skip_while(|other| *other != kind).nth(1);
        let next = if is_full { last } else { next_kind.map(|kind| format!("{kind}:0:0")) };
        Ok(WalkStep { found, of_resources: found, next })
    }
}
