//! The names that metrics had in 0.1.0, beside those that they have now: dashboards and alert rules of that release go on while
//! they are changed. This file and `monitoring.old_metric_names` go with the release after 0.2.0.

/// What every name starts with, but for those that all Prometheus clients share.
const PREFIX: &str = "interaction_";

/// Without the prefix. What 0.1.0 did not have has no old name.
const OLD: [&str; 36] = [
    "access_denied_total",
    "applied_events_total",
    "apply_batch_size",
    "apply_seconds",
    "circuit_open",
    "commit_lag_seconds",
    "consistency_checked_total",
    "consistency_coverage",
    "consistency_found_total",
    "consistency_repairs_total",
    "dead_events_total",
    "degraded_writes_total",
    "journal_accepted_entries",
    "journal_entries",
    "journal_oldest_age_seconds",
    "journal_settled_entries",
    "like_seconds",
    "likes_total",
    "live_resources",
    "live_streams",
    "parked_events_total",
    "publish_batch_size",
    "publish_seconds",
    "published_events_total",
    "purged_rows_total",
    "queue_consumers",
    "queue_ready_messages",
    "relay_spilled_total",
    "rescued_events_total",
    "retried_events_total",
    "settle_corrections_total",
    "settle_failures_total",
    "settle_refreshed_pairs_total",
    "settled_entries_total",
    "synchronous_writes_total",
    "write_path_event_driven_percent",
];

/// The text, and after it the same series by their old names.
pub(super) fn with_old_names(mut text: String) -> String {
    let old: String = text.lines().filter_map(renamed).collect();
    text.push_str(&old);
    text
}

/// A line of the text format by its old name; none if it has none.
fn renamed(line: &str) -> Option<String> {
    if let Some(rest) = line.strip_prefix("# HELP ") {
        let (name, _) = rest.split_once(' ')?;
        let old = old_name(name)?;
        return Some(format!("# HELP {old} Name of {name} in 0.1.0; gone with the release after this one\n"));
    }
    if let Some(rest) = line.strip_prefix("# TYPE ") {
        let (name, kind) = rest.split_once(' ')?;
        return Some(format!("# TYPE {} {kind}\n", old_name(name)?));
    }
    let end = line.find(['{', ' '])?;
    let (series, rest) = line.split_at(end);
    let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| series.strip_suffix(end));
    old_name(series).or_else(|| old_name(family?).and_then(|_| series.strip_prefix(PREFIX)))?;
    Some(format!("{}{rest}\n", series.strip_prefix(PREFIX)?))
}

fn old_name(name: &str) -> Option<&str> {
    let old = name.strip_prefix(PREFIX)?;
    OLD.binary_search(&old).is_ok().then_some(old)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_of_the_release_before_have_both_names() {
        assert!(OLD.is_sorted());
        let text = "# HELP interaction_likes_total Answers\n# TYPE interaction_likes_total counter\n\
                    interaction_likes_total{outcome=\"a b\"} 3\n\n\
                    # TYPE interaction_like_seconds histogram\n\
                    interaction_like_seconds_bucket{le=\"1\"} 2\ninteraction_like_seconds_sum 1.5\n\
                    # TYPE interaction_ledger_events gauge\ninteraction_ledger_events 4\n\
                    process_resident_memory_bytes 5\ninteraction_journal_entries 6\n";
        let both = with_old_names(text.to_owned());
        let old = both.strip_prefix(text).map(|old| old.lines().collect::<Vec<_>>());
        let expected = [
            "# HELP likes_total Name of interaction_likes_total in 0.1.0; gone with the release after this one",
            "# TYPE likes_total counter",
            "likes_total{outcome=\"a b\"} 3",
            "# TYPE like_seconds histogram",
            "like_seconds_bucket{le=\"1\"} 2",
            "like_seconds_sum 1.5",
            "journal_entries 6",
        ];
        assert_eq!(old.as_deref(), Some(&expected[..]));
    }
}
