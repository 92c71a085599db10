//! What the cache says of the disk that its journal is on, of the room in its memory, and of its replicas.

use crate::metrics;
use domain::cache::{Durability, Replicas};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A delayed sync is told for so long.
const REMEMBERED: Duration = Duration::from_secs(60);

/// From here on its memory counts as nearly full: likes go on, and there is time to make room.
const NEARLY_FULL_PERCENT: u8 = 90;

#[derive(Debug, Default)]
struct Seen {
    last: Option<Durability>,
    delayed_at: Option<Instant>,
    /// It was logged.
    troubled: bool,
    /// Likewise.
    full: bool,
    /// Answers were last not confirmed by replicas.
    unconfirmed_at: Option<Instant>,
    /// It was logged.
    alone: bool,
}

/// What the probe saw last.
#[derive(Debug, Default)]
pub struct CacheDisk(Mutex<Seen>);

impl CacheDisk {
    /// The cache said this now.
    pub(crate) fn saw(&self, now: Instant, durability: Durability) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A restarted cache counts from zero.
        let before = seen.last.map_or(durability.delayed_syncs, |last| last.delayed_syncs);
        if durability.delayed_syncs > before {
            seen.delayed_at = Some(now);
            metrics::cache_syncs_delayed(durability.delayed_syncs - before);
        }
        let answers = |durability: Durability| durability.replicas.map_or(0, |replicas| replicas.unconfirmed);
        if answers(durability) > seen.last.map_or(0, answers) {
            seen.unconfirmed_at = Some(now);
        }
        if let Some(replicas) = durability.replicas {
            metrics::cache_replicas(replicas.attached);
        }
        metrics::cache_memory(durability.memory_percent);
        seen.last = Some(durability);
        let alone = alone(&seen, now);
        if seen.alone != alone.is_some() {
            seen.alone = alone.is_some();
            match alone {
                Some(alone) => tracing::warn!("the replicas of the cache: {alone}"),
                None => tracing::info!("the replicas of the cache confirm again"),
            }
        }
        let fullness = fullness(&seen);
        if seen.full != fullness.is_some() {
            seen.full = fullness.is_some();
            match fullness {
                Some(fullness) => tracing::warn!("the memory of the cache: {fullness}"),
                None => tracing::info!("the memory of the cache has room again"),
            }
        }
        let trouble = trouble(&seen, now);
        if seen.troubled != trouble.is_some() {
            seen.troubled = trouble.is_some();
            match trouble {
                Some(trouble) => tracing::warn!("the disk of the cache: {trouble}"),
                None => tracing::info!("the disk of the cache is well again"),
            }
        }
    }

    /// Why a kill of the cache could take accepted likes that are nowhere else; `None` while it could not.
    pub fn trouble(&self, now: Instant) -> Option<&'static str> {
        trouble(&self.0.lock().unwrap_or_else(PoisonError::into_inner), now)
    }

    /// Why answers are not confirmed by as many replicas as they should be.
    pub fn alone(&self, now: Instant) -> Option<String> {
        alone(&self.0.lock().unwrap_or_else(PoisonError::into_inner), now)
    }

    /// How full the memory of the cache is, once it is nearly full; or that it would drop what nobody else has.
    pub fn fullness(&self) -> Option<String> {
        fullness(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn fullness(seen: &Seen) -> Option<String> {
    if seen.last?.may_evict {
        let cure = "CONFIG SET maxmemory-policy noeviction, and in its file";
        return Some(format!("its maxmemory-policy may drop journals, and with them accepted likes: {cure}"));
    }
    let percent = seen.last?.memory_percent.filter(|percent| *percent >= NEARLY_FULL_PERCENT)?;
    let what = if percent < 100 { "then it refuses likes, and they" } else { "it refuses likes: they" };
    Some(format!("{percent} % of maxmemory is used; {what} are written to the database"))
}

fn alone(seen: &Seen, now: Instant) -> Option<String> {
    let Replicas { wanted, attached, refused, .. } = seen.last?.replicas?;
    let what = if refused { "likes are refused" } else { "likes are answered without their copies" };
    if attached < wanted {
        Some(format!("{attached} of {wanted} follow; {what}"))
    } else if seen.unconfirmed_at.is_some_and(|at| now.saturating_duration_since(at) < REMEMBERED) {
        Some(format!("too slow: within the last minute they did not confirm in time; then {what}"))
    } else {
        None
    }
}

fn trouble(seen: &Seen, now: Instant) -> Option<&'static str> {
    let last = seen.last?;
    if !last.persistent {
        Some("nothing is written to it (no AOF)")
    } else if !last.writable {
        Some("the last write to it failed")
    } else if seen.delayed_at.is_some_and(|at| now.saturating_duration_since(at) < REMEMBERED) {
        Some("too slow: writes waited for a sync within the last minute")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: Durability = Durability {
        persistent: true,
        writable: true,
        delayed_syncs: 3,
        memory_percent: None,
        may_evict: false,
        replicas: None,
    };

    #[test]
    fn a_memory_that_is_nearly_full_is_told_before_it_is_full() {
        let (disk, now) = (CacheDisk::default(), Instant::now());
        let full = |percent| {
            disk.saw(now, Durability { memory_percent: percent, ..WELL });
            disk.fullness()
        };
        assert_eq!((full(None), full(Some(89))), (None, None));
        assert!(full(Some(90)).is_some_and(|told| told.starts_with("90 % of maxmemory") && told.contains("then")));
        assert!(full(Some(120)).is_some_and(|told| told.contains("it refuses likes:")));
        assert_eq!(disk.trouble(now), None, "its disk is well");
        assert_eq!(full(Some(10)), None);
        disk.saw(now, Durability { may_evict: true, ..WELL });
        assert!(disk.fullness().is_some_and(|told| told.contains("maxmemory-policy noeviction")));
    }

    #[test]
    fn a_delay_is_told_for_a_minute_and_no_start_of_a_cache_is_one() {
        let (disk, start) = (CacheDisk::default(), Instant::now());
        assert_eq!(disk.trouble(start), None);
        disk.saw(start, WELL);
        assert_eq!(disk.trouble(start), None);
        disk.saw(start, Durability { delayed_syncs: 4, ..WELL });
        assert!(disk.trouble(start + REMEMBERED / 2).is_some_and(|trouble| trouble.contains("too slow")));
        assert_eq!(disk.trouble(start + REMEMBERED), None);
        disk.saw(start + REMEMBERED, Durability { delayed_syncs: 0, ..WELL });
        assert_eq!(disk.trouble(start + REMEMBERED), None);
    }

    #[test]
    fn no_file_and_a_failed_write_are_told_as_long_as_they_last() {
        let (disk, now) = (CacheDisk::default(), Instant::now());
        disk.saw(now, Durability { persistent: false, ..WELL });
        assert!(disk.trouble(now).is_some_and(|trouble| trouble.contains("no AOF")));
        disk.saw(now, Durability { writable: false, ..WELL });
        assert!(disk.trouble(now).is_some_and(|trouble| trouble.contains("failed")));
        disk.saw(now, WELL);
        assert_eq!(disk.trouble(now), None);
    }
    #[test]
    fn replicas_that_are_missing_or_late_are_told() {
        let (disk, start) = (CacheDisk::default(), Instant::now());
        let saw = |at, attached, unconfirmed, refused| {
            let replicas = Some(Replicas { wanted: 2, attached, unconfirmed, refused });
            disk.saw(at, Durability { replicas, ..WELL });
            disk.alone(at)
        };
        assert_eq!((disk.alone(start), saw(start, 2, 0, true)), (None, None));
        assert_eq!(saw(start, 1, 0, true).as_deref(), Some("1 of 2 follow; likes are refused"));
        assert!(saw(start, 0, 0, false).is_some_and(|told| told.contains("answered without")));
        assert!(saw(start, 2, 7, true).is_some_and(|told| told.starts_with("too slow")));
        assert_eq!(saw(start + REMEMBERED, 2, 7, true), None);
    }
}
