//! What resources gain: likes less those taken back, by slices of time, of which windows are made that slide.
//!
//! Counted in memory, after each commit, by what rows really changed: a repetition changes none. From time to time what gained
//! most is added to `liked_slices` ([`EventStore::write_gains`](crate::EventStore::write_gains)), so that the way of a like
//! pays for no row. A word belongs to the slice in which it was accepted, however late it comes.
//!
//! Bounds: so many resources for each length of slices in memory, and so many rows of each slice and type at a time. Where
//! there are more, those that gained least are forgotten first. A process that dies takes along what it has not written.

use domain::{Resource, ResourceType, Version};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Resources in memory, for each length of slices.
const KEPT: usize = 50_000;

/// Rows of one slice and type that are written at a time.
const WRITTEN: usize = 500;

/// For how long likes are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Window {
    /// The last hour, and what has begun of the next ten minutes.
    Hour,
    /// The last 24 hours, and what has begun of the next one.
    Day,
    /// The last seven days, and what has begun of the next six hours.
    Week,
}

impl Window {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Hour, Self::Day, Self::Week];

    /// Length of its slices in seconds.
    pub(crate) const fn slice(self) -> i64 {
        match self {
            Self::Hour => 600,
            Self::Day => 3_600,
            Self::Week => 21_600,
        }
    }

    const fn slices(self) -> i64 {
        match self {
            Self::Hour => 6,
            Self::Day => 24,
            Self::Week => 28,
        }
    }

    /// Beginning of the slice that a time in microseconds is in.
    pub(crate) const fn slice_of(self, micros: i64) -> i64 {
        micros.div_euclid(1_000_000 * self.slice()) * self.slice()
    }

    /// Beginning of the oldest slice that belongs to it now.
    pub(crate) const fn begin(self, now_us: i64) -> i64 {
        self.slice_of(now_us) - self.slices() * self.slice()
    }
}

/// What is to be added to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SliceGain {
    pub(crate) window: Window,
    pub(crate) kind: ResourceType,
    pub(crate) start: i64,
    pub(crate) resource: Resource,
    pub(crate) more: i64,
}

/// A pair that was changed: its resource, the time of the word, and by how much the counter changes.
pub(crate) type Change = (Resource, Version, i64);

/// By the beginning of the slice.
type OfWindow = HashMap<(i64, Resource), Gain>;

/// Counts what is committed by one process.
#[derive(Debug, Default)]
pub(crate) struct Gains {
    wanted: AtomicBool,
    counted: Mutex<BTreeMap<Window, OfWindow>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Gain {
    gained: i64,
    /// What of it is in the table.
    written: i64,
}

impl Gains {
    /// Somebody writes them down.
    pub(crate) fn want(&self) {
        self.wanted.store(true, Ordering::Relaxed);
    }

    /// Counts what a transaction has changed.
    pub(crate) fn add(&self, changes: impl Iterator<Item = Change> + Clone, now_us: i64) {
        if !self.wanted.load(Ordering::Relaxed) {
            return;
        }
        let mut counted = self.counted();
        for window in Window::ALL {
            let of_window = counted.entry(window).or_default();
            let newest = window.slice_of(now_us) + window.slice();
            for (resource, version, delta) in changes.clone().filter(|(.., delta)| *delta != 0) {
                let start = window.slice_of(version.0);
                if (window.begin(now_us)..=newest).contains(&start) {
                    of_window.entry((start, resource)).or_default().gained += delta;
                }
            }
            forget_least(of_window);
        }
    }

    /// What gained most of what the table does not know yet.
    pub(crate) fn unwritten(&self) -> Vec<SliceGain> {
        let mut groups: BTreeMap<(Window, ResourceType, i64), Vec<(i64, SliceGain)>> = BTreeMap::new();
        for (&window, of_window) in &*self.counted() {
            for (&(start, resource), gain) in of_window {
                // One that lost what it had gained is as important as what it had.
                let most = gain.gained.max(gain.written);
                if most > 0 && gain.gained != gain.written {
                    let kind = resource.kind;
                    let more = gain.gained - gain.written;
                    let row = SliceGain { window, kind, start, resource, more };
                    groups.entry((window, kind, start)).or_default().push((-most, row));
                }
            }
        }
        let mut rows = Vec::new();
        for (_, mut group) in groups {
            group.sort_unstable();
            rows.extend(group.into_iter().take(WRITTEN).map(|(_, row)| row));
        }
        // The order of the primary key.
        rows.sort_unstable();
        rows
    }

    /// The table has these.
    pub(crate) fn written(&self, rows: &[SliceGain]) {
        let mut counted = self.counted();
        for row in rows {
            let of_window = counted.get_mut(&row.window);
            if let Some(gain) = of_window.and_then(|of_window| of_window.get_mut(&(row.start, row.resource))) {
                gain.written += row.more;
            }
        }
    }

    /// Slices that are over need not be known any more; the one before the last may still get what is on its way.
    pub(crate) fn forget_before(&self, now_us: i64) {
        for (window, of_window) in &mut *self.counted() {
            let oldest = window.slice_of(now_us) - window.slice();
            of_window.retain(|(start, _), _| *start >= oldest);
        }
    }

    fn counted(&self) -> MutexGuard<'_, BTreeMap<Window, OfWindow>> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes room for as many again, if there is none.
fn forget_least(of_window: &mut OfWindow) {
    if of_window.len() <= KEPT {
        return;
    }
    let mut least = 1;
    while of_window.len() > KEPT / 2 {
        of_window.retain(|_, gain| gain.gained > least);
        least *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_760_000_000_000_000;
    const SECOND: i64 = 1_000_000;

    fn change(id: i64, delta: i64, at: i64) -> Change {
        (Resource::new(ResourceType::Video, id).unwrap(), Version(at), delta)
    }

    fn add(gains: &Gains, changes: &[Change]) {
        gains.add(changes.iter().copied(), NOW);
    }

    fn of(gains: &Gains, window: Window) -> Vec<(i64, i64, i64)> {
        let rows = gains.unwritten().into_iter().filter(|row| row.window == window);
        rows.map(|row| (row.start, row.resource.id.get(), row.more)).collect()
    }

    #[test]
    fn windows_are_whole_slices_and_the_one_that_runs() {
        for (window, length) in [(Window::Hour, 3_600), (Window::Day, 86_400), (Window::Week, 7 * 86_400)] {
            let covered = NOW / SECOND - window.begin(NOW);
            assert!((length..length + window.slice()).contains(&covered), "{window:?}: {covered}");
            assert_eq!(window.begin(NOW) % window.slice(), 0);
        }
    }

    #[test]
    fn words_belong_to_the_slice_of_their_time_and_old_ones_to_none() {
        let gains = Gains::default();
        add(&gains, &[change(7, 1, NOW)]);
        assert_eq!(gains.unwritten(), [], "nobody wants to know");
        gains.want();
        let ago = |seconds| NOW - seconds * SECOND;
        add(&gains, &[change(7, 1, NOW), change(7, 1, NOW), change(7, -1, NOW), change(8, 0, NOW)]);
        add(&gains, &[change(7, 1, ago(1_800)), change(7, 1, ago(2 * 3_600)), change(7, 1, ago(9 * 86_400))]);
        add(&gains, &[change(7, 1, NOW + 2 * 86_400 * SECOND)]);
        let slice = |window: Window, seconds| window.slice_of(ago(seconds));
        assert_eq!(of(&gains, Window::Hour), [(slice(Window::Hour, 1_800), 7, 1), (slice(Window::Hour, 0), 7, 1)]);
        let of_day: i64 = of(&gains, Window::Day).iter().map(|(.., more)| more).sum();
        let of_week: i64 = of(&gains, Window::Week).iter().map(|(.., more)| more).sum();
        assert_eq!((of_day, of_week), (3, 3));
    }

    #[test]
    fn what_is_written_is_not_written_again_and_what_was_lost_is_taken_off() {
        let gains = Gains::default();
        gains.want();
        add(&gains, &[change(7, 1, NOW), change(7, 1, NOW)]);
        let rows = gains.unwritten();
        add(&gains, &[change(7, 1, NOW)]);
        gains.written(&rows);
        assert_eq!(of(&gains, Window::Day), [(Window::Day.slice_of(NOW), 7, 1)]);
        gains.written(&gains.unwritten());
        assert_eq!(gains.unwritten(), []);
        add(&gains, &[change(7, -1, NOW), change(7, -1, NOW), change(7, -1, NOW)]);
        assert_eq!(of(&gains, Window::Day), [(Window::Day.slice_of(NOW), 7, -3)]);

        gains.forget_before(NOW);
        assert_eq!(of(&gains, Window::Hour).len(), 1);
        gains.forget_before(NOW + 1_200 * SECOND);
        assert_eq!((of(&gains, Window::Hour).len(), of(&gains, Window::Day).len()), (0, 1));
    }

    #[test]
    fn memory_and_rows_are_bounded_by_what_gained_least() {
        let gains = Gains::default();
        gains.want();
        let all = i64::try_from(KEPT).unwrap() + 10;
        // Those from the end on gain more than once.
        let changes: Vec<_> = (1..=all)
            .flat_map(|id| {
                let times = if id > all - 1_000 { 1 + id - (all - 1_000) } else { 1 };
                (0..times).map(move |_| change(id, 1, NOW))
            })
            .collect();
        add(&gains, &changes);
        let kept = gains.counted().get(&Window::Day).unwrap().len();
        assert_eq!(kept, 1_000, "those that gained once are forgotten");
        let rows = of(&gains, Window::Day);
        assert_eq!(rows.len(), WRITTEN);
        assert!(rows.iter().all(|(_, id, _)| *id > all - 500), "those that gained most are written first");
        gains.written(&gains.unwritten());
        assert_eq!(of(&gains, Window::Day).len(), 500, "then the others");
    }
}
