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

#[derive(Default)]
struct All {
    tokens: HashMap<Arc<str>, OfToken>,
    /// How many tokens watch each; none of them zero.
    watched: HashMap<Resource, usize>,
    streams: usize,
}

type Running = Arc<Mutex<All>>;

/// Streams of each token.
///
/// No token has more streams than it leaves for others, nor watches more different resources. So the first takes at most half of all, the next half of
/// the rest, and whoever comes later finds something, however greedy those before are.
pub(super) struct Streams {
    most: usize,
    most_watched: usize,
    /// Of all tokens together: streams, and different resources.
    of_all: (usize, usize),
    running: Running,
}

impl Streams {
    pub(super) fn new(most: usize, most_watched: usize, of_all: (usize, usize)) -> Self {
        Self { most, most_watched, of_all, running: Arc::default() }
    }

    pub(super) fn begin(&self, name: &Arc<str>, resources: &[Resource]) -> Result<Watching, Status> {
        let mut all = lock(&self.running);
        let (streams, watched) = all.tokens.get(name).map_or((0, None), |token| (token.streams, Some(&token.watched)));
        let (most_streams, most_of_all) = self.of_all;
        let left = most_streams.saturating_sub(all.streams + 1);
        if streams >= self.most || streams + 1 > left {
            return Err(status::limited("streams", "token", RETRY));
        }
        let mut resources = resources.to_vec();
        resources.sort_unstable();
        resources.dedup();
        let mut new = resources.clone();
        new.retain(|one| watched.is_none_or(|watched| !watched.contains_key(one)));
        let of_token = watched.map_or(0, HashMap::len) + new.len();
        let of_all = all.watched.len() + new.iter().filter(|one| !all.watched.contains_key(one)).count();
        // Who adds nothing to what all watch takes nothing from anybody.
        let takes = of_all > all.watched.len();
        if of_token > self.most_watched || (takes && of_token > most_of_all.saturating_sub(of_all)) {
            return Err(status::limited("watched resources", "token", RETRY));
        }
        let All { tokens, watched, streams } = &mut *all;
        *streams += 1;
        for resource in &new {
            *watched.entry(*resource).or_default() += 1;
        }
        let token = tokens.entry(Arc::clone(name)).or_default();
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
        let All { tokens, watched, streams } = &mut *lock(&self.running);
        let Some(token) = tokens.get_mut(&self.name) else { return };
        token.streams -= 1;
        *streams -= 1;
        for resource in &self.resources {
            if is_last(&mut token.watched, resource) {
                is_last(watched, resource);
            }
        }
        if token.streams == 0 {
            tokens.remove(&self.name);
        }
    }
}

/// One less watches it; whether nobody is left.
fn is_last(watched: &mut HashMap<Resource, usize>, resource: &Resource) -> bool {
    let Some(number) = watched.get_mut(resource) else { return false };
    *number -= 1;
    let last = *number == 0;
    if last {
        watched.remove(resource);
    }
    last
}

fn lock(running: &Running) -> MutexGuard<'_, All> {
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
        let streams = Streams::new(10, 5, (1_000, 1_000));
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
        let all = lock(&streams.running);
        assert!(all.tokens.is_empty() && all.watched.is_empty() && all.streams == 0);
    }

    #[test]
    fn no_token_has_more_streams_than_are_left_for_others() {
        let streams = Streams::new(100, 100, (12, 1_000));
        let take = |name: &str| -> Vec<Watching> {
            let name = name.into();
            (0..50).map_while(|_| streams.begin(&name, &videos(1..2)).ok()).collect()
        };
        let (first, second, third) = (take("one"), take("two"), take("three"));
        assert_eq!((first.len(), second.len(), third.len()), (6, 3, 1));
        drop(first);
        assert_eq!(take("three").len(), 3, "it has one, and of eight that are free it leaves as many as it has");
        drop((second, third));
        assert_eq!(lock(&streams.running).streams, 0);
    }

    #[test]
    fn no_token_watches_more_than_is_left_for_others() {
        let streams = Streams::new(100, 100, (1_000, 12));
        let names: [Arc<str>; 3] = ["one".into(), "two".into(), "three".into()];
        // As much as it can get, one by one.
        let take = |name: &Arc<str>, from: i64| -> Vec<Watching> {
            (from..from + 50).map_while(|id| streams.begin(name, &videos(id..id + 1)).ok()).collect()
        };
        let first = take(&names[0], 100);
        assert_eq!(first.len(), 6);
        let second = take(&names[1], 200);
        assert_eq!(second.len(), 3);
        // Who shares what others watch takes nothing.
        let shared: Vec<Resource> = [videos(100..106), videos(200..203)].concat();
        let sharing = streams.begin(&names[2], &shared).unwrap();
        assert!(streams.begin(&names[2], &videos(300..301)).is_err(), "it has nine, and three are left");
        drop(sharing);
        assert_eq!(take(&names[2], 300).len(), 1, "so there is something for whoever comes next");
        drop(first);
        assert_eq!(take(&names[2], 400).len(), 4);
    }
}
