//! How far the clocks that this process knows are apart: its own, the cache's, the database's.
//!
//! A like's version comes from the cache's clock, retention goes by the database's, and the process's own bounds what the
//! other two may do. One that is wrong loses nothing; somebody should know of it all the same.

use crate::clock::wall_clock;
use crate::metrics;
use domain::Version;
use domain::cache::LikeCache;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

/// Clocks that are kept by NTP are nearer to each other.
const TOO_FAR_US: i64 = 5_000_000;

const UNKNOWN: i64 = i64::MIN;

/// What the probes measured last.
#[derive(Debug)]
pub struct Clocks {
    /// Microseconds ahead of our own clock, as far as that is proven; [`UNKNOWN`] before it was measured.
    cache: AtomicI64,
    database: AtomicI64,
    /// It was logged.
    wrong: AtomicBool,
}

impl Default for Clocks {
    fn default() -> Self {
        let unknown = || AtomicI64::new(UNKNOWN);
        Self { cache: unknown(), database: unknown(), wrong: AtomicBool::new(false) }
    }
}

impl Clocks {
    /// Compares the cache's clock, which was measured just now.
    pub(crate) fn compare_cache(&self, cache: &dyn LikeCache) {
        let ours = our_clock();
        if let Some((least, most)) = cache.own_clock() {
            self.learn("cache", &self.cache, ahead((least, most), (ours, ours)));
        }
    }

    /// The database told its time, between two moments of our clock.
    pub(crate) fn compare_database(&self, told: Version, asked: Version, heard: Version) {
        self.learn("database", &self.database, ahead((told, told), (asked, heard)));
    }

    fn learn(&self, clock: &'static str, slot: &AtomicI64, ahead_us: i64) {
        slot.store(ahead_us, Ordering::Relaxed);
        metrics::clock_ahead(clock, ahead_us);
        let wrong = self.wrong();
        if self.wrong.swap(wrong.is_some(), Ordering::Relaxed) != wrong.is_some() {
            match wrong {
                Some(which) => tracing::warn!("clocks differ: {which}"),
                None => tracing::info!("clocks agree again"),
            }
        }
    }

    /// Which clock is wrong, and by how much; `None` while all agree, as far as they are known.
    pub fn wrong(&self) -> Option<String> {
        describe(known(&self.cache), known(&self.database))
    }

    /// Microseconds that the stores' clocks are ahead of this process's, as far as that is certain; those that are known.
    pub fn ahead_us(&self) -> Vec<(&'static str, i64)> {
        let clocks = [("cache", known(&self.cache)), ("database", known(&self.database))];
        clocks.into_iter().filter_map(|(clock, ahead)| Some((clock, ahead?))).collect()
    }
}

fn known(slot: &AtomicI64) -> Option<i64> {
    Some(slot.load(Ordering::Relaxed)).filter(|ahead| *ahead != UNKNOWN)
}

/// Our own clock, in the unit of versions.
pub(crate) fn our_clock() -> Version {
    Version(wall_clock().timestamp_micros())
}

/// How far one clock is ahead of the other, each known between two bounds: as far as that is certain.
fn ahead((least, most): (Version, Version), (asked, heard): (Version, Version)) -> i64 {
    if least > heard {
        least.0 - heard.0
    } else if most < asked {
        most.0 - asked.0
    } else {
        0
    }
}

fn describe(cache: Option<i64>, database: Option<i64>) -> Option<String> {
    let far = |ahead: &i64| ahead.abs() > TOO_FAR_US;
    match (cache.filter(far), database.filter(far)) {
        (None, None) => None,
        (Some(cache), None) => Some(format!("that of the cache is {}", words(cache))),
        (None, Some(database)) => Some(format!("that of the database is {}", words(database))),
        (Some(cache), Some(database)) if !far(&(cache - database)) => {
            Some(format!("that of this process is {} cache and database", words(-cache).replace("ahead", "ahead of")))
        }
        (Some(cache), Some(database)) => {
            Some(format!("that of the cache is {}, that of the database {}", words(cache), words(database)))
        }
    }
}

fn words(ahead_us: i64) -> String {
    let seconds = ahead_us.unsigned_abs() / 1_000_000;
    format!("{seconds} s {}", if ahead_us < 0 { "behind" } else { "ahead" })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;

    #[test]
    fn only_what_is_certain_counts() {
        let v = Version;
        assert_eq!(ahead((v(100), v(200)), (v(150), v(150))), 0);
        assert_eq!(ahead((v(100), v(200)), (v(90), v(95))), 5);
        assert_eq!(ahead((v(100), v(200)), (v(230), v(300))), -30);
    }

    #[test]
    fn the_clock_that_is_alone_is_the_wrong_one() {
        assert_eq!(describe(None, None), None);
        assert_eq!(describe(Some(4_000_000), Some(-4_000_000)), None);
        assert_eq!(describe(Some(8 * HOUR), Some(0)).unwrap(), "that of the cache is 28800 s ahead");
        assert_eq!(describe(None, Some(-HOUR)).unwrap(), "that of the database is 3600 s behind");
        let ours = describe(Some(HOUR), Some(HOUR + 1_000)).unwrap();
        assert_eq!(ours, "that of this process is 3600 s behind cache and database");
        let ours = describe(Some(-HOUR), Some(-HOUR)).unwrap();
        assert_eq!(ours, "that of this process is 3600 s ahead of cache and database");
        let all = describe(Some(HOUR), Some(-HOUR)).unwrap();
        assert_eq!(all, "that of the cache is 3600 s ahead, that of the database 3600 s behind");
    }
}
