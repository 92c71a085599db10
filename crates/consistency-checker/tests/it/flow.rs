//! Likes and unlikes as fast as a server takes them, and what must be stored afterwards.

use crate::deployment::{Asked, Checked, apply, operation};
use domain::Pair;
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use test_support::Program;
use test_support::build::video_pair;
use tokio::task::JoinSet;

const WORKERS: i64 = 4;
const BATCH: i64 = 10;

/// Workers that like and unlike; each has users of its own.
pub(crate) struct Flow {
    stop: Arc<AtomicBool>,
    pub(crate) sent: Arc<AtomicU64>,
    workers: JoinSet<HashMap<Pair, bool>>,
}

impl Flow {
    pub(crate) async fn start(server: &Program, videos: RangeInclusive<i64>) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut workers = JoinSet::new();
        let count = videos.end() - videos.start() + 1;
        let first = *videos.start();
        for worker in 0..WORKERS {
            let (mut client, stop, sent) = (server.client().await, Arc::clone(&stop), Arc::clone(&sent));
            workers.spawn(async move {
                let mut last = HashMap::new();
                let mut n = 0_i64;
                while !stop.load(Ordering::Relaxed) {
                    let mut operations = Vec::new();
                    for _ in 0..BATCH {
                        n += 1;
                        let pair = video_pair(1_000 * (1 + worker) + n % 40, first + n * 7 % count);
                        let liked = n % 5 != 0;
                        operations.push(operation(pair, liked));
                        last.insert(pair, liked);
                    }
                    apply(&mut client, operations).await;
                    sent.fetch_add(BATCH.unsigned_abs(), Ordering::Relaxed);
                }
                last
            });
        }
        Self { stop, sent, workers }
    }

    /// Stops and compares rows with the last answers.
    pub(crate) async fn end(self, deployment: &Checked, server: &Program) {
        self.stop.store(true, Ordering::Relaxed);
        let mut last = HashMap::new();
        for part in self.workers.join_all().await {
            last.extend(part);
        }
        deployment.settled(server).await;
        let rows =
            deployment.sql("SELECT user_id, video_id, deleted_at IS NULL FROM video_likes WHERE user_id >= 1000").await;
        let rows: HashMap<Pair, bool> = rows
            .lines()
            .filter_map(|line| {
                let columns: Vec<i64> = line.split('\t').map(|column| column.parse().unwrap()).collect();
                let [user, video, live] = columns[..] else { return None };
                Some((video_pair(user, video), live == 1))
            })
            .collect();
        for (pair, liked) in &last {
            assert_eq!(rows.get(pair).copied().unwrap_or(false), *liked, "{pair}");
        }
    }
}
