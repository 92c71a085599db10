//! While likes flow: nothing that is merely late is called wrong, and repairs lose nothing.

use crate::rig::{Rig, quick, video_of};
use consistency::{Checker, ConsistencyConfig, Strategy, Verdict};
use domain::{Action, Pair};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use test_support::build::{intent, video_pair};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const VIDEOS: i64 = 12;
const WORKERS: i64 = 8;

/// Likes and unlikes on the same few videos as fast as answers come; gives each pair's last intent.
struct Flow {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    workers: JoinSet<HashMap<Pair, Action>>,
}

impl Flow {
    fn start(rig: &Rig) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut workers = JoinSet::new();
        for worker in 0..WORKERS {
            let (acceptor, stop, sent) = (rig.acceptor.clone(), Arc::clone(&stop), Arc::clone(&sent));
            workers.spawn(async move {
                let mut last = HashMap::new();
                for n in 0_i64.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let pair = video_pair(1 + worker * 1_000 + n % 40, 1 + n * 7 % VIDEOS);
                    // Each pair comes again after 120 words, now and then with another one.
                    let action = Action::from_liked((n + n / 120) % 5 != 0);
                    acceptor.accept_one(intent(pair, action)).await.unwrap();
                    last.insert(pair, action);
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                last
            });
        }
        Self { stop, sent, workers }
    }

    async fn end(self) -> HashMap<Pair, Action> {
        self.stop.store(true, Ordering::Relaxed);
        let mut last = HashMap::new();
        for part in self.workers.join_all().await {
            last.extend(part);
        }
        last
    }
}

/// Calls stuck what the product does; the other tests have no time to wait for that.
async fn patient(rig: &Rig) -> Checker {
    let stuck_after = ConsistencyConfig::default().stuck_after;
    let checker = rig.checker_with(ConsistencyConfig { stuck_after, ..quick(Strategy::DatabaseFirst) }).await;
    assert!(checker.leader().hold().await.unwrap());
    checker
}

async fn assert_nothing_lost(rig: &Rig, last: &HashMap<Pair, Action>) {
    rig.settled().await;
    let pairs: Vec<Pair> = last.keys().copied().collect();
    let states = rig.stores.database.load_states(&pairs).await.unwrap();
    for (pair, state) in pairs.iter().zip(states) {
        assert_eq!(state.liked, last[pair].liked(), "{pair}");
    }
    rig.assert_agreement(1..=VIDEOS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_called_wrong_while_likes_flow() {
    let rig = Rig::new().await;
    let checker = patient(&rig).await;
    let flow = Flow::start(&rig);
    let mut in_flight = 0;
    for round in 0.. {
        checker.check_hot().await.unwrap();
        checker.sweep(&CancellationToken::new()).await.unwrap().unwrap();
        for video in 1..=VIDEOS {
            let outcome = checker.check(video_of(video), false).await.unwrap();
            assert!(!outcome.verdict.is_wrong(), "{outcome:?}");
            in_flight += u32::from(outcome.verdict == Verdict::InFlight);
        }
        if round >= 3 && flow.sent.load(Ordering::Relaxed) > 5_000 {
            break;
        }
    }
    assert!(in_flight > 0, "likes were on their way, and nobody saw one");
    let last = flow.end().await;
    assert!(rig.found().await.is_empty(), "false alarms: {:#?}", rig.found().await);
    assert_nothing_lost(&rig, &last).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repairs_under_load_lose_nothing() {
    let rig = Rig::new().await;
    let checker = patient(&rig).await;
    let flow = Flow::start(&rig);
    let mut broken = 0;
    for round in 0.. {
        for video in 1..=VIDEOS {
            let count = rig.stores.cache.counts(&[video_of(video)]).await.unwrap()[0];
            if count.is_none() {
                continue;
            }
            match (video + round) % 4 {
                0 => rig.redis::<()>(&format!("HINCRBY {} n 5", rig.counter(video))).await,
                1 => rig.redis::<()>(&format!("HINCRBY {} n -3", rig.counter(video))).await,
                2 => drop(
                    rig.sql(&format!("UPDATE like_counts SET like_count = like_count + 4 WHERE resource_id = {video}"))
                        .await,
                ),
                _ => drop(rig.sql(&format!("DELETE FROM like_counts WHERE resource_id = {video}")).await),
            }
            broken += 1;
        }
        checker.check_hot().await.unwrap();
        checker.sweep(&CancellationToken::new()).await.unwrap().unwrap();
        if round >= 3 && flow.sent.load(Ordering::Relaxed) > 5_000 {
            break;
        }
    }
    assert!(broken > 20);
    let last = flow.end().await;
    rig.settled().await;
    // What was broken while entries were pending healed by settling, or is found now.
    checker.sweep(&CancellationToken::new()).await.unwrap().unwrap();
    assert_nothing_lost(&rig, &last).await;
    let found = rig.found().await;
    assert!(found.iter().any(|one| one.kind == "stored_count" && one.repaired_at.is_some()), "{found:#?}");
}
