//! The combiner under seeded callers, whose time stands still until everybody waits: they arrive together, give up at any
//! poll, and have deadlines of their own. A shard that is slow stands behind it and looks at what it is asked.

use super::*;
use domain::Version;
use domain::cache::Answer;
use planted_bugs::plant_here;
use std::collections::BTreeSet;
use std::pin::pin;
use std::task::Poll;
use test_support::Random;
use test_support::build::video_pair;
use test_support::cache_contract::like;
use tokio::time::{sleep, sleep_until};

const SEEDS: u64 = 500;

/// Looks at each call, takes its time, and answers every item with its user's number, or that it came too late the first time.
#[derive(Default)]
struct SlowShard {
    random: Mutex<Option<Random>>,
    /// Users whose callers have gone.
    gone: Mutex<BTreeSet<i64>>,
    /// Since when users wait.
    since: Mutex<Vec<(i64, Instant)>>,
    asked: Mutex<Vec<i64>>,
    /// Users about whom is to be asked once more.
    too_late: Mutex<BTreeSet<i64>>,
    wrong: Mutex<Vec<String>>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SlowShard {
    fn below(&self, bound: u64) -> u64 {
        held(&self.random).as_mut().map_or(0, |random| random.below(bound).unsigned_abs())
    }

    fn complain(&self, what: String) {
        held(&self.wrong).push(what);
    }

    fn look(&self, requests: &[&AcceptRequest], began: Instant) {
        let now = Instant::now();
        for request in requests {
            let user = request.intent.pair.user.get();
            if held(&self.gone).contains(&user) {
                self.complain(format!("user {user} has gone and was asked about"));
            }
            // Who is asked about once more is told if that is too late.
            if held(&self.too_late).contains(&user) {
                continue;
            }
            let until = Instant::from_std(request.until);
            if now >= until {
                self.complain(format!("user {user} was asked about {:?} after its deadline", now - until));
            }
            if held(&self.since).iter().any(|(waiting, since)| *waiting == user && *since < began) {
                self.complain(format!("user {user} has waited for longer than its call says"));
            }
            held(&self.asked).push(user);
        }
    }

    /// Too late the first time, as may be, and after its own deadline the second time.
    fn judge(&self, request: &AcceptRequest, too_late: bool) -> Reply {
        let user = request.intent.pair.user.get();
        let again = held(&self.too_late).contains(&user);
        if again && Instant::now() >= request.until.into() {
            return Reply::Outcome(AcceptOutcome::Expired);
        }
        if too_late && !again {
            held(&self.too_late).insert(user);
            return Reply::TooLate;
        }
        Reply::Outcome(AcceptOutcome::Accepted(Answer { count: None, version: Version(user) }))
    }
}

impl AskShard for SlowShard {
    async fn ask(
        &self,
        _: ShardId,
        requests: &[&AcceptRequest],
        began: Instant,
        waits: Waits<'_>,
    ) -> Vec<CacheResult<Reply>> {
        let there: Vec<usize> = (0..requests.len()).filter(|i| waits(*i)).collect();
        let asked: Vec<&AcceptRequest> = there.iter().map(|i| requests[*i]).collect();
        let too_late = self.below(4) == 0;
        self.look(&asked, began);
        sleep(Duration::from_millis(self.below(40))).await;
        let mut replies = vec![Ok(Reply::Outcome(AcceptOutcome::Expired)); requests.len()];
        for (i, request) in there.into_iter().zip(asked) {
            replies[i] = Ok(self.judge(request, too_late));
        }
        replies
    }

    async fn measure_clock(&self, _: ShardId) -> CacheResult<()> {
        sleep(Duration::from_millis(self.below(5))).await;
        Ok(())
    }
}

/// What one caller does.
struct Plan {
    user: i64,
    arrives: Instant,
    until: Instant,
    /// Polls, or a moment, after which it is gone.
    polls: u64,
    leaves: Instant,
}

async fn call(combiner: Arc<Combiner<SlowShard>>, shard: Arc<SlowShard>, plan: Plan) {
    sleep_until(plan.arrives).await;
    let request = AcceptRequest { until: plan.until.into_std(), ..like(video_pair(plan.user, 1)) };
    let mut asked = Box::pin(combiner.accept(ShardId(plan.user.unsigned_abs() as u16 % 2), request));
    let mut leaves = pin!(sleep_until(plan.leaves));
    let mut polls = plan.polls;
    held(&shard.since).push((plan.user, Instant::now()));
    let outcome = std::future::poll_fn(|context| {
        polls -= 1;
        if polls == 0 || leaves.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        asked.as_mut().poll(context).map(Some)
    });
    let outcome = outcome.await;
    drop(asked);
    let decided = held(&shard.asked).contains(&plan.user) && !held(&shard.too_late).contains(&plan.user);
    match outcome {
        None => {
            held(&shard.gone).insert(plan.user);
        }
        Some(Ok(AcceptOutcome::Accepted(answer))) if answer.version == Version(plan.user) => {}
        Some(Ok(AcceptOutcome::Expired)) if Instant::now() >= plan.until && !decided => {}
        Some(other) => shard.complain(format!("user {} was told {other:?}", plan.user)),
    }
}

/// What was wrong in the world of a seed.
fn run(seed: u64) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let Ok(runtime) = runtime else { panic!("no runtime") };
    runtime.block_on(async {
        let random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let shard = Arc::new(SlowShard { random: Mutex::new(Some(random)), ..SlowShard::default() });
        let combiner = Arc::new(Combiner::new(Arc::clone(&shard), 2));
        let start = Instant::now();
        let mut callers = Vec::new();
        for user in 1..=4 + shard.below(20).cast_signed() {
            let arrives = start + Duration::from_millis(shard.below(60));
            let until = arrives + Duration::from_millis(1 << shard.below(9));
            let polls = if shard.below(4) == 0 { 1 + shard.below(3) } else { u64::MAX };
            let leaves = arrives + Duration::from_millis(if shard.below(3) == 0 { shard.below(60) } else { 10_000 });
            let plan = Plan { user, arrives, until, polls, leaves };
            callers.push(tokio::spawn(call(Arc::clone(&combiner), Arc::clone(&shard), plan)));
        }
        for caller in callers {
            if tokio::time::timeout(Duration::from_secs(60), caller).await.is_err() {
                shard.complain("a caller never got an answer".to_owned());
            }
        }
        let mut asked = held(&shard.asked).clone();
        let calls = asked.len();
        asked.sort_unstable();
        asked.dedup();
        if asked.len() != calls {
            shard.complain("a caller was asked about twice".to_owned());
        }
        std::mem::take(&mut *held(&shard.wrong))
    })
}

#[test]
fn callers_that_are_gone_or_late_are_not_asked_about_and_all_others_get_their_own_answer() {
    for seed in 1..=SEEDS {
        let wrong = run(seed);
        assert!(wrong.is_empty(), "seed {seed}: {wrong:#?}");
    }
}

fn is_found(bug: &'static str) {
    let _planted = plant_here(bug);
    assert!((1..=20).any(|seed| !run(seed).is_empty()), "20 seeds show nothing");
}

#[test]
fn callers_that_are_gone_and_asked_about_are_found() {
    is_found("gone_callers_run");
}

#[test]
fn callers_that_are_gone_and_asked_about_once_more_are_found() {
    is_found("gone_callers_asked_again");
}

/// How many items each call had.
#[derive(Default)]
struct Sizes(Mutex<Vec<usize>>);

impl AskShard for Sizes {
    async fn ask(&self, _: ShardId, requests: &[&AcceptRequest], _: Instant, _: Waits<'_>) -> Vec<CacheResult<Reply>> {
        held(&self.0).push(requests.len());
        requests.iter().map(|_| Ok(Reply::TooLate)).collect()
    }

    async fn measure_clock(&self, _: ShardId) -> CacheResult<()> {
        Err(unavailable("nobody asks twice here"))
    }
}

/// Their tasks are there when the first of them runs, as those are of calls that were read together.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn likes_that_came_in_the_same_moment_leave_together() {
    let shard = Arc::new(Sizes::default());
    let combiner = Arc::new(Combiner::new(Arc::clone(&shard), 1));
    let read_together = tokio::spawn(async move {
        let callers = (1..=8).map(|user| {
            let combiner = Arc::clone(&combiner);
            tokio::spawn(async move { combiner.accept(ShardId(0), like(video_pair(user, 1))).await })
        });
        callers.collect::<Vec<_>>()
    });
    for caller in read_together.await.unwrap() {
        caller.await.unwrap().unwrap_err();
    }
    assert_eq!(*held(&shard.0), [8]);
}
