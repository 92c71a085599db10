//! HELP lines: what each metric of the runtime means. deploy/METRICS.md says more.

use metrics::{describe_counter, describe_gauge};

pub(super) fn describe() {
    COUNTERS.iter().for_each(|(name, help)| describe_counter!(*name, *help));
    GAUGES.iter().for_each(|(name, help)| describe_gauge!(*name, *help));
}

const COUNTERS: &[(&str, &str)] = &[
    ("interaction_access_denied_total", "Requests refused for their token"),
    ("interaction_connections_limited_total", "Connections ended or restricted by a bound of their listener"),
    ("interaction_calls_refused_total", "Calls refused by a bound of their listener"),
];

const GAUGES: &[(&str, &str)] = &[
    (
        "interaction_alert_threshold",
        "What monitoring.alerts of this process says, in the unit of what is compared with it",
    ),
    ("interaction_file_refused", "1 while a changed file makes no sense, so that what it held before is valid"),
    ("interaction_certificate_expires_seconds", "Until the certificate of the listeners ends; negative afterwards"),
    ("interaction_open_connections", "Connections open at a listener"),
    ("interaction_untaken_answer_bytes", "Held by answers whose callers do not take them"),
    ("interaction_unfinished_request_bytes", "Held by requests that have not come completely"),
    ("process_resident_memory_bytes", "Resident memory of the process"),
];
