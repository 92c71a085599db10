//! Wrong versions of the protocol, for tests that must find them. Compiled in only with failpoints.

/// Whether the wrong version of this name is switched on; always false without the feature `failpoints`.
pub(crate) fn planted(bug: &str) -> bool {
    fail::fail_point!(&format!("bug.{bug}"), |_| true);
    let _ = bug;
    false
}
