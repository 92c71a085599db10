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
//! A test switches a bug on through the failpoint `bug.<name>`. In a build without failpoints (every release)
//! [`is_planted`] is the constant `false`, so the compiler drops the wrong versions.

/// Whether the bug of this name is switched on.
#[inline]
#[must_use]
pub fn is_planted(bug: &str) -> bool {
    fail::has_failpoints() && is_switched_on(bug)
}

fn is_switched_on(bug: &str) -> bool {
    fail::fail_point!(&format!("bug.{bug}"), |_| true);
    let _ = bug;
    false
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
