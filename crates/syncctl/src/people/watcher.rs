//! Readers of live counts: they come and go, and some stop reading.

use super::person::Town;
use super::recorder::Caller;
use super::script::{CALL_LIMIT, DEVICES, World, hot_resources};
use crate::generate::Random;
use domain::{Resource, ResourceType};
use interaction_proto::v1;
use std::io;
use std::time::Duration;
use traffic::history::now_micros;

/// Streams at the same time.
pub(super) const WATCHERS: u32 = 8;

/// What a slow reader still finds when it reads on.
const LEFT_BEHIND: usize = 64;

/// A reader, told apart from people by its number.
pub(super) struct Watcher {
    number: u32,
    random: Random,
    servers: usize,
    unread: f64,
}

/// Since when a message is waited for, and how long this process had been held up by then.
#[derive(Clone, Copy)]
struct Waiting {
    since: u64,
    held_up: Duration,
}

impl Watcher {
    pub(super) fn new(world: &World, number: u32) -> Self {
        let random = Random::new(!world.seed ^ u64::from(number));
        Self { number: world.people + number, random, servers: world.servers, unread: world.knobs.get("unread") }
    }

    /// Opens one stream after the other until the end.
    pub(super) async fn run(mut self, town: &Town) -> io::Result<()> {
        while !town.stop.is_cancelled() {
            let server = self.random.below(self.servers.max(1) as u64) as usize;
            let length = Duration::from_secs_f64(0.01 * 3_000f64.powf(self.random.unit()));
            let unread = self.random.unit() < self.unread;
            let resources = self.resources();
            self.watch(town, server, length, unread, &resources).await?;
            if !town.pause(Duration::from_millis(20 + self.random.below(200))).await {
                break;
            }
        }
        Ok(())
    }

    fn resources(&mut self) -> Vec<Resource> {
        let mut resources = hot_resources();
        for _ in 0..self.random.below(6) {
            resources.extend(Resource::new(ResourceType::Video, 1 + self.random.below(100).cast_signed()));
        }
        resources.sort_unstable();
        resources.dedup();
        resources
    }

    async fn watch(
        &self,
        town: &Town,
        server: usize,
        length: Duration,
        unread: bool,
        resources: &[Resource],
    ) -> io::Result<()> {
        let opened = Waiting { since: now_micros(), held_up: town.recorder.held_up() };
        let until = tokio::time::Instant::now() + length;
        let stream = tokio::select! {
            stream = town.servers.watch(server, self.number, resources) => stream,
            () = tokio::time::sleep_until(until) => None,
            () = town.stop.cancelled() => None,
        };
        let Some(mut stream) = stream else { return Ok(()) };
        town.recorder.count("streams", 1);
        town.recorder.count("streams_unread", u64::from(unread));
        let caller = Caller {
            device: self.number * DEVICES,
            server: u32::try_from(server).unwrap_or(u32::MAX),
            limit: CALL_LIMIT,
        };
        let (mut before, mut waiting) = (opened, opened);
        loop {
            let message = tokio::select! {
                message = stream.message() => message,
                () = tokio::time::sleep_until(until) => return Ok(()),
                () = town.stop.cancelled() => return Ok(()),
            };
            let Ok(Some(message)) = message else { return Ok(()) };
            let arrived = Waiting { since: now_micros(), held_up: town.recorder.held_up() };
            // It may have lain here for as long as this process did not run.
            let lay = arrived.held_up.saturating_sub(before.held_up);
            let begin = waiting.since.saturating_sub(u64::try_from(lay.as_micros()).unwrap_or(u64::MAX));
            note(town, caller, begin, message)?;
            (before, waiting) = (waiting, arrived);
            if unread {
                break;
            }
        }
        tokio::select! {
            () = tokio::time::sleep_until(until) => {}
            () = town.stop.cancelled() => return Ok(()),
        }
        for _ in 0..LEFT_BEHIND {
            let message = tokio::time::timeout(Duration::from_millis(20), stream.message()).await;
            let Ok(Ok(Some(message))) = message else { break };
            note(town, caller, opened.since, message)?;
        }
        Ok(())
    }
}

fn note(town: &Town, caller: Caller, begin: u64, message: v1::WatchLikeCountsResponse) -> io::Result<()> {
    let resource = |resource: &v1::Resource| Resource::new(crate::client::kind_of(resource)?, resource.id).ok();
    let count = |count: &v1::LikeCount| Some((resource(count.resource.as_ref()?)?, count.count));
    let counts: Vec<(Resource, i64)> = message.counts.iter().filter_map(count).collect();
    town.recorder.message(caller, begin, &counts, message.degraded)
}
