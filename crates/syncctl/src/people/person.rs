//! One person: plays the scenes of a script against the servers.

use super::pace::Pace;
use super::recorder::{Caller, Recorder};
use super::scene::{Act, Deed, Leaves, Retry, Scene, Words};
use super::script::{CALL_LIMIT, DEVICES, Script};
use super::servers::Servers;
use futures::FutureExt;
use futures::future::{BoxFuture, try_join_all};
use std::io;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Times that a call is made in all.
const ATTEMPTS: u32 = 3;

/// What all people share.
pub(super) struct Town {
    pub(super) servers: Servers,
    pub(super) recorder: Recorder,
    pub(super) pace: Pace,
    /// Cancelled: nothing new begins.
    pub(super) stop: CancellationToken,
}

impl Town {
    /// Plays a person's scenes until the end.
    pub(super) async fn live(&self, person: u32, script: Script) -> io::Result<()> {
        for scene in script {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(()),
                () = self.pace.turn(words_of(&scene)) => {}
            }
            try_join_all(scene.acts.iter().map(|act| self.play(person, act))).await?;
        }
        Ok(())
    }

    /// Waits; false if the end came first.
    pub(super) async fn pause(&self, time: Duration) -> bool {
        if time.is_zero() {
            return !self.stop.is_cancelled();
        }
        tokio::select! {
            biased;
            () = self.stop.cancelled() => false,
            () = tokio::time::sleep(time) => true,
        }
    }

    fn play<'a>(&'a self, person: u32, act: &'a Act) -> BoxFuture<'a, io::Result<()>> {
        async move {
            if !self.pause(act.after).await {
                return Ok(());
            }
            let caller = caller(person, act.device, act.server, Leaves::Never);
            match &act.deed {
                Deed::States(pairs) => {
                    self.recorder.count("reads_of_states", 1);
                    let attempt = self.recorder.begin_states(caller, pairs);
                    let outcomes = self.servers.states(act.server, person, pairs, &self.recorder).await;
                    self.recorder.end(attempt, outcomes)
                }
                Deed::Counts(resources) => {
                    self.recorder.count("reads_of_counts", 1);
                    let attempt = self.recorder.begin_counts(caller, resources);
                    let outcomes = self.servers.counts(act.server, person, resources, &self.recorder).await;
                    self.recorder.end(attempt, outcomes)
                }
                Deed::Words(words) => self.say(person, act, words).await,
            }
        }
        .boxed()
    }

    async fn say(&self, person: u32, act: &Act, words: &Words) -> io::Result<()> {
        self.recorder.count(words.what, 1);
        let (mut said, mut server, mut leaves) = (words.words.clone(), act.server, words.leaves);
        let mut pause = words.pause;
        for attempt in 1..=ATTEMPTS {
            let caller = caller(person, act.device, server, leaves);
            let begun = self.recorder.begin_words(caller, &said)?;
            let ended = self.servers.say(server, person, &said, leaves, &self.recorder).await;
            self.recorder.end(begun, ended.outcomes)?;
            self.count_leaving(leaves, ended.left);
            let next = match (ended.left, ended.failed) {
                (true, _) => Some(&words.left),
                (false, false) => Some(&words.answered),
                (false, true) => None,
            };
            if let Some(acts) = next {
                return try_join_all(acts.iter().map(|act| self.play(person, act))).await.map(drop);
            }
            if attempt == ATTEMPTS || words.retry == Retry::Never || !self.pause(pause).await {
                return Ok(());
            }
            (leaves, pause) = (Leaves::Never, pause * 2);
            match words.retry {
                Retry::SameKey => self.recorder.count("retries_with_same_key", 1),
                Retry::WithoutKey => {
                    self.recorder.count("retries_without_key", 1);
                    said.iter_mut().for_each(|word| word.key = None);
                }
                Retry::Elsewhere | Retry::Never => {
                    self.recorder.count("retries_elsewhere", 1);
                    server = (server + 1) % self.servers.len().max(1);
                }
            }
        }
        Ok(())
    }

    fn count_leaving(&self, leaves: Leaves, left: bool) {
        let (meant, done) = match leaves {
            Leaves::Never => return,
            Leaves::Deadline(_) => ("calls_with_deadlines", "abandoned_calls"),
            Leaves::Drops(_) => ("calls_to_drop", "cancelled_calls"),
        };
        self.recorder.count(meant, 1);
        self.recorder.count(done, u64::from(left));
    }
}

fn caller(person: u32, device: u32, server: usize, leaves: Leaves) -> Caller {
    let limit = match leaves {
        Leaves::Deadline(time) => time.min(CALL_LIMIT),
        Leaves::Never | Leaves::Drops(_) => CALL_LIMIT,
    };
    let server = u32::try_from(server).unwrap_or(u32::MAX);
    Caller { device: person * DEVICES + device, server, limit }
}

fn words_of(scene: &Scene) -> usize {
    let of = |act: &Act| if let Deed::Words(words) = &act.deed { words.words.len() } else { 1 };
    scene.acts.iter().map(of).sum()
}
