//! Streams of each token, and the different resources that they watch: a server watches only so many for all tokens together.

use crate::status;
use domain::Resource;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tonic::Status;

/// How soon a stream may be free: nobody knows, so the caller asks again.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Default)]
struct OfToken {
    streams: usize,
    /// How many of its streams watch each; none of them zero.
    watched: HashMap<Resource, usize>,
}

type Running = Arc<Mutex<HashMap<Arc<str>, OfToken>>>;

/// Streams of each token.
pub(super) struct Streams {
    most: usize,
    most_watched: usize,
    running: Running,
}

impl Streams {
    pub(super) fn new(most: usize, most_watched: usize) -> Self {
        Self { most, most_watched, running: Arc::default() }
    }

    pub(super) fn begin(&self, name: &Arc<str>, resources: &[Resource]) -> Result<Watching, Status> {
        let mut all = lock(&self.running);
        let (streams, watched) = all.get(name).map_or((0, None), |token| (token.streams, Some(&token.watched)));
        if streams >= self.most {
            return Err(status::limited("streams", "token", RETRY));
        }
        let mut resources = resources.to_vec();
        resources.sort_unstable();
        resources.dedup();
        let new = resources.iter().filter(|one| watched.is_none_or(|watched| !watched.contains_key(one))).count();
        if watched.map_or(0, HashMap::len) + new > self.most_watched {
            return Err(status::limited("watched resources", "token", RETRY));
        }
        let token = all.entry(Arc::clone(name)).or_default();
        token.streams += 1;
        for resource in &resources {
            *token.watched.entry(*resource).or_default() += 1;
        }
        Ok(Watching { name: Arc::clone(name), resources, running: Arc::clone(&self.running) })
    }
}

/// A stream; it ends when this is dropped.
pub(super) struct Watching {
    name: Arc<str>,
    resources: Vec<Resource>,
    running: Running,
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut all = lock(&self.running);
        let Some(token) = all.get_mut(&self.name) else { return };
        token.streams -= 1;
        for resource in &self.resources {
            if let Some(streams) = token.watched.get_mut(resource) {
                *streams -= 1;
                if *streams == 0 {
                    token.watched.remove(resource);
                }
            }
        }
        if token.streams == 0 {
            all.remove(&self.name);
        }
    }
}

fn lock(running: &Running) -> MutexGuard<'_, HashMap<Arc<str>, OfToken>> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::ResourceType;

    fn videos(ids: std::ops::Range<i64>) -> Vec<Resource> {
        ids.map(|id| Resource::new(ResourceType::Video, id).unwrap()).collect()
    }

    #[test]
    fn a_token_watches_only_so_many_different_resources() {
        let streams = Streams::new(10, 5);
        let (one, other): (Arc<str>, Arc<str>) = ("one".into(), "other".into());
        let first = streams.begin(&one, &videos(1..5)).unwrap();
        let same = streams.begin(&one, &videos(1..5)).unwrap();
        let last = streams.begin(&one, &videos(4..6)).unwrap();
        assert!(streams.begin(&one, &videos(6..7)).err().unwrap().message().contains("watched resources"));
        assert!(streams.begin(&other, &videos(1..6)).is_ok());
        drop(first);
        assert!(streams.begin(&one, &videos(6..7)).is_err(), "another stream watches them");
        drop(same);
        assert!(streams.begin(&one, &videos(6..9)).is_ok());
        drop(last);
        assert!(lock(&streams.running).is_empty());
    }
}
