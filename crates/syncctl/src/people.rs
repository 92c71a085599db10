//! People: scripted devices that do what real ones do, and a history of it.
//!
//! [`load`](crate::load) measures: one word per pair at a time, tried until it is answered. People give up, go on elsewhere,
//! use two devices, repeat keys, put several words about one thing into one call, read in between, and stop reading. Their
//! decisions reproduce from the seed; when they come true is up to the servers.
//!
//! Everything is in the history: one record per attempt and item, by the clock of the machine, with the time in which an
//! unanswered attempt may take effect as servers promise it (3 s or the shorter `grpc-timeout` from the arrival of the
//! call), plus 50 ms for its way and for what a server may not notice, plus the time for which this program was held up
//! itself while the call was under way.
//!
//! Large batches are rarer than they are among words: one has as many words as hundreds of single calls, and a rate of
//! words would leave nothing for those.

mod knobs;
mod pace;
mod person;
mod recorder;
mod report;
mod scene;
mod script;
#[cfg(test)]
mod script_tests;
mod servers;
mod watcher;

pub use knobs::Knobs;
pub use report::PeopleReport;

use crate::credentials::Credentials;
use anyhow::Context;
use pace::Pace;
use person::Town;
use recorder::Recorder;
use script::{Script, World};
use servers::Servers;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use traffic::history::HistoryWriter;
use watcher::{WATCHERS, Watcher};

/// Time between two writes of the history.
const FLUSH: Duration = Duration::from_millis(200);

/// After the end, calls that are still open get so long.
const GRACE: Duration = Duration::from_secs(5);

/// Who does what.
#[derive(Debug, Clone)]
pub struct PeopleOptions {
    /// Servers, `host:port` or `http(s)://host:port`, at least one.
    pub addrs: Vec<String>,
    /// What they are shown.
    pub credentials: Credentials,
    /// HTTP/2 connections per server.
    pub connections: usize,
    /// How many people.
    pub people: u32,
    /// The same seed gives the same scripts.
    pub seed: u64,
    /// First user id.
    pub first_user: i64,
    /// Resources per type.
    pub resources: u64,
    /// Words per second; none: as fast as answers come.
    pub rate: Option<f64>,
    /// End of the run.
    pub duration: Option<Duration>,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// Start of idempotency keys, different in every run.
    pub key_prefix: String,
    /// How often what is done.
    pub knobs: Knobs,
    /// Where the history goes.
    pub history: Option<PathBuf>,
}

/// Lets people act until the end, or until `interrupt`: then nothing new begins, and what is open gets a moment. What is
/// open after that is unknown.
pub async fn run(options: &PeopleOptions, interrupt: CancellationToken) -> anyhow::Result<PeopleReport> {
    let PeopleOptions { addrs, credentials, connections, timeout, .. } = options;
    let servers = Servers::connect(addrs, credentials, *connections, *timeout).await?;
    let writer = match &options.history {
        Some(path) => {
            Some(HistoryWriter::create(path).with_context(|| format!("could not create {}", path.display()))?)
        }
        None => None,
    };
    let world = World {
        seed: options.seed,
        first_user: options.first_user,
        people: options.people,
        resources: options.resources,
        servers: addrs.len(),
        key_prefix: options.key_prefix.clone(),
        knobs: options.knobs.clone(),
    };
    let (pace, stop) = (Pace::new(options.rate), CancellationToken::new());
    let town = Arc::new(Town { servers, recorder: Recorder::new(writer), pace, stop });
    let tasks = spawn(&town, &world);
    let beat = tokio::spawn({
        let town = Arc::clone(&town);
        async move { town.recorder.beat(CancellationToken::new()).await }
    });
    let ended = until_the_end(&town, tasks, options.duration, &interrupt).await;
    beat.abort();
    let open = ended?;
    town.recorder.count("open_at_end", open);
    town.recorder.flush().context("could not write the history")?;
    let tally = town.recorder.tally().clone();
    Ok(PeopleReport::new(&tally, &town.recorder, interrupt.is_cancelled()))
}

fn spawn(town: &Arc<Town>, world: &World) -> JoinSet<std::io::Result<()>> {
    let mut tasks = JoinSet::new();
    for person in 0..world.people {
        let (town, script) = (Arc::clone(town), Script::new(world, person));
        tasks.spawn(async move { town.live(person, script).await });
    }
    for number in 0..WATCHERS {
        let (town, watcher) = (Arc::clone(town), Watcher::new(world, number));
        tasks.spawn(async move { watcher.run(&town).await });
    }
    tasks
}

/// Returns how many people had a call open when their time was over.
async fn until_the_end(
    town: &Town,
    mut tasks: JoinSet<std::io::Result<()>>,
    duration: Option<Duration>,
    interrupt: &CancellationToken,
) -> anyhow::Result<u64> {
    let end = async {
        match duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(end);
    let mut flush = tokio::time::interval(FLUSH);
    let mut give_up: Option<tokio::time::Instant> = None;
    loop {
        let grace = async {
            match give_up {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = flush.tick() => town.recorder.flush().context("could not write the history")?,
            done = tasks.join_next() => match done {
                Some(done) => done?.context("could not write the history")?,
                None => return Ok(0),
            },
            () = &mut end, if give_up.is_none() => {
                town.stop.cancel();
                give_up = Some(tokio::time::Instant::now() + GRACE);
            }
            () = interrupt.cancelled(), if give_up.is_none() => {
                town.stop.cancel();
                give_up = Some(tokio::time::Instant::now() + GRACE);
            }
            () = grace => {
                let open = tasks.len() as u64;
                tasks.shutdown().await;
                return Ok(open);
            }
        }
    }
}
