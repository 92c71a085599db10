//! What this process was answered by each shard, by which a shard that went back in time is noticed.
//!
//! The accept script keeps, beside the clock of its shard, the last version that it gave to each process, and is told the
//! highest one that this process was answered. Less than that can be there for one reason only: what was answered ran before
//! it was answered, so the shard has become what it once was (a replica that was behind, a copy, an emptied server). The
//! shard's own clock would not tell: another process's like raises it first.

use domain::{ShardCount, ShardId, Version};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// A process that was answered nothing for so long begins anew; the script drops marks after twice that (`MARK_TTL`).
const LIFETIME: Duration = Duration::from_secs(1800);

/// One process's marks.
pub(crate) struct Marks {
    field: String,
    start: Instant,
    shards: Box<[Mark]>,
}

#[derive(Default)]
struct Mark {
    version: AtomicI64,
    /// When it was answered, in milliseconds of our steady clock.
    at: AtomicI64,
}

impl Marks {
    pub(crate) fn new(shards: ShardCount) -> Self {
        let id = uuid::Uuid::now_v7().simple().to_string();
        let shards = shards.all().map(|_| Mark::default()).collect();
        Self { field: format!("m:{}", &id[20..]), start: Instant::now(), shards }
    }

    /// Where the shard keeps this process's mark.
    pub(crate) fn field(&self) -> &str {
        &self.field
    }

    /// The highest version that this process was answered, 0 if there was none lately.
    pub(crate) fn floor(&self, shard: ShardId) -> Version {
        let mark = &self.shards[usize::from(shard.0)];
        let fresh = self.now() - mark.at.load(Ordering::Relaxed) < millis(LIFETIME);
        if fresh && !planted_bugs::is_planted("floor_ignored") {
            Version(mark.version.load(Ordering::Relaxed))
        } else {
            Version(0)
        }
    }

    /// The script gave this version to a call of ours.
    pub(crate) fn answered(&self, shard: ShardId, version: Version) {
        let mark = &self.shards[usize::from(shard.0)];
        if mark.version.fetch_max(version.0, Ordering::Relaxed) < version.0 {
            mark.at.store(self.now(), Ordering::Relaxed);
        }
    }

    fn now(&self) -> i64 {
        millis(self.start.elapsed())
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_mark_is_the_highest_version_for_as_long_as_the_shard_keeps_it() {
        let marks = Marks::new(ShardCount::new(2).unwrap());
        assert_eq!(marks.floor(ShardId(1)), Version(0));
        marks.answered(ShardId(1), Version(7));
        marks.answered(ShardId(1), Version(5));
        assert_eq!((marks.floor(ShardId(0)), marks.floor(ShardId(1))), (Version(0), Version(7)));
        tokio::time::advance(LIFETIME).await;
        assert_eq!(marks.floor(ShardId(1)), Version(0));
    }
}
