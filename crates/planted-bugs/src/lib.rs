//! Switches for *planted bugs*: wrong versions of the protocol, which the tests must find.
//!
//! Product code holds one call where a bug can be planted, and nothing else of it. The wrong version stands beside it, in the
//! module `planted` of the same crate, unless it is a plain value. To add a bug:
//!
//! 1. choose a name, and put the call where the wrong version differs: [`planted!`] returns early from the function; where the
//!    wrong version does more or other work, call a function of the crate's module `planted` that asks [`is_planted`];
//! 2. add a row to the table of the crate `resilience`, and a scenario of that name to its tests: it must pass without the bug
//!    and must fail with it.
//!
//! A test switches a bug on through the failpoint `bug.<name>`, for the whole process, or by [`plant_here`] for its own thread, where
//! all that it tests runs there. In a build without failpoints (every release)
//! [`is_planted`] is the constant `false`, so the compiler drops the wrong versions.

use std::cell::RefCell;
use std::marker::PhantomData;

thread_local! {
    static PLANTED_HERE: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
}

/// Whether the bug of this name is switched on.
#[inline]
#[must_use]
pub fn is_planted(bug: &str) -> bool {
    fail::has_failpoints() && is_switched_on(bug)
}

fn is_switched_on(bug: &str) -> bool {
    fail::fail_point!(&format!("bug.{bug}"), |_| true);
    PLANTED_HERE.with_borrow(|bugs| bugs.contains(&bug))
}

/// Switches a bug on for what runs on this thread, until the result is dropped.
///
/// # Panics
/// In a build without failpoints, where no bug can be planted: a test must not believe that it planted one.
pub fn plant_here(bug: &'static str) -> PlantedHere {
    assert!(fail::has_failpoints(), "the bug {bug} cannot be planted in a build without failpoints");
    PLANTED_HERE.with_borrow_mut(|bugs| bugs.push(bug));
    PlantedHere { bug, _of_this_thread: PhantomData }
}

/// A bug that is switched on for this thread.
#[derive(Debug)]
#[must_use = "the bug goes with it"]
pub struct PlantedHere {
    bug: &'static str,
    _of_this_thread: PhantomData<*const ()>,
}

impl Drop for PlantedHere {
    fn drop(&mut self) {
        PLANTED_HERE.with_borrow_mut(|bugs| {
            if let Some(at) = bugs.iter().rposition(|bug| *bug == self.bug) {
                bugs.remove(at);
            }
        });
    }
}

/// Returns from the function with the wrong value if the bug is planted: `planted!("bug" => value)`.
#[macro_export]
macro_rules! planted {
    ($bug:literal => $wrong:expr) => {
        if $crate::is_planted($bug) {
            return $wrong;
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bug_planted_here_is_on_this_thread_only_and_goes_with_its_guard() {
        let planted = plant_here("one");
        assert!(is_planted("one") && !is_planted("other"));
        assert!(std::thread::scope(|scope| scope.spawn(|| !is_planted("one")).join().is_ok_and(|off| off)));
        drop(planted);
        assert!(!is_planted("one"));
    }
}
