//! HELP lines: what each metric of the engine, and of the caches under it, means. deploy/METRICS.md says more.

use ::metrics::{describe_counter, describe_gauge, describe_histogram};

pub(super) fn describe() {
    COUNTERS.iter().for_each(|(name, help)| describe_counter!(*name, *help));
    GAUGES.iter().for_each(|(name, help)| describe_gauge!(*name, *help));
    HISTOGRAMS.iter().for_each(|(name, help)| describe_histogram!(*name, *help));
}

const COUNTERS: &[(&str, &str)] = &[
    ("interaction_likes_total", "Answers to likes and unlikes"),
    ("interaction_degraded_writes_total", "Likes written to the database because the cache was unreachable"),
    ("interaction_cache_delayed_syncs_total", "Writes of the cache that waited for its disk"),
    ("interaction_synchronous_writes_total", "Likes written to the database first because the write path says so"),
    (
        "interaction_confirm_rewrites_total",
        "Likes that the cache took for unchanged and that were written all the same",
    ),
    (
        "interaction_cache_calls_repeated_total",
        "Likes asked about again: the first question reached the cache too late",
    ),
    (
        "interaction_database_late_reads_total",
        "Statements of lists, audits, reports and rankings, which may be read from replicas",
    ),
    ("interaction_published_events_total", "Events in messages that the broker confirmed"),
    ("interaction_relay_given_up_total", "Undelivered events that memory had no room for: the journal alone has them"),
    ("interaction_changes_published_total", "States of counters and pairs that the exchange of changes took"),
    ("interaction_changes_noted_total", "Pairs whose change the exchange did not take, noted to be published later"),
    ("interaction_change_publish_failures_total", "Attempts to publish changes that failed"),
    ("interaction_redo_log_joined_total", "Events that went around the redo log and were brought to it"),
    (
        "interaction_offered_again_total",
        "Undelivered events that the journal had forgotten: the cache went back in time",
    ),
    ("interaction_cache_confirmations_total", "Answers to likes that replicas of the cache were asked about"),
    ("interaction_cache_steps_back_total", "How often a shard of the cache had forgotten what it answered"),
    (
        "interaction_cache_slot_waits_total",
        "Pauses of calls whose slot moved from one node of a Redis Cluster to another",
    ),
    ("interaction_relay_spilled_total", "Accepted events that the relay left to redelivery"),
    ("interaction_rescued_events_total", "Events found too old in the journal, published again or applied"),
    ("interaction_applied_events_total", "Events in committed transactions, repetitions included"),
    ("interaction_settled_entries_total", "Journal entries removed after their commit"),
    ("interaction_settle_corrections_total", "Served counters that a settlement found wrong and set right"),
    (
        "interaction_settle_refreshed_pairs_total",
        "Cached pairs that a settlement found older than their rows and renewed",
    ),
    ("interaction_settle_failures_total", "Settlements that failed and are left to redelivery"),
    ("interaction_settle_latched_total", "Settlements that wait until a database that went back in time is whole"),
    ("interaction_near_cache_hits_total", "Counts that the server remembered from a moment ago"),
    ("interaction_near_cache_misses_total", "Counts that the server did not remember and asked for"),
    ("interaction_parked_events_total", "Events that failed alone and wait for a retry"),
    ("interaction_retried_events_total", "Retries of events that had failed"),
    ("interaction_dead_events_total", "Events given up"),
    ("interaction_moved_events_total", "Events that the broker moved to the dead letters itself, applied from there"),
    (
        "interaction_purged_rows_total",
        "Rows deleted, or moved to their archive, for their age; rows of erased users and deleted resources",
    ),
    ("interaction_recovered_events_total", "Events that a database had lost and has again"),
];

const GAUGES: &[(&str, &str)] = &[
    ("interaction_partitions_by_rows", "Old partitions that retention does not drop"),
    ("interaction_circuit_open", "1 while a part counts as unreachable"),
    ("interaction_clock_ahead_seconds", "How far the clock of a store is ahead of this process's"),
    ("interaction_write_path_event_driven_percent", "Users of 100 whose likes are event-driven"),
    ("interaction_near_cache_bytes", "Memory in which the server remembers counts for a moment"),
    ("interaction_live_streams", "Open streams of live counts"),
    ("interaction_live_resources", "Different resources that streams of live counts watch"),
    ("interaction_relay_kept_events", "Accepted events that this server could not deliver and keeps in memory"),
    ("interaction_relay_kept_bytes", "Memory of accepted events that this server could not deliver"),
    ("interaction_changes_waiting", "Changes that are committed and noted, and not published yet"),
    ("interaction_changes_oldest_seconds", "How long the oldest noted change has waited to be published"),
    ("interaction_redo_log_waiting_events", "Events that are applied and not in the redo log yet"),
    ("interaction_redo_log_up", "1 if what is published goes into the redo log, too"),
    ("interaction_cache_replicas", "Replicas of the cache that follow, where answers wait for them"),
    ("interaction_database_replica_age_seconds", "How old, at most, that is what a replica of the database shows"),
    ("interaction_cache_shards_away", "Shards of a Redis Cluster whose primary alone is unreachable"),
    ("interaction_dead_letters", "Messages in the dead-letter queue"),
    ("interaction_database_went_back", "1 while the database lacks commits that it had confirmed"),
    ("interaction_recovery_running", "1 while a database that went back in time is told again"),
    ("interaction_journal_entries", "Unsettled entries of all journals; the same from every process"),
    ("interaction_journal_oldest_age_seconds", "Age of the oldest unsettled journal entry"),
    ("interaction_journal_fullest_shard_ratio", "Entries of the fullest shard's journal as a share of its limit"),
    ("interaction_journal_accepted_entries", "Entries ever put into the journals, by their own accounting"),
    ("interaction_journal_settled_entries", "Entries ever settled, by the journals' own accounting"),
    ("interaction_ledger_events", "Accepted events that are in no row; the same from every process"),
    ("interaction_ledger_oldest_age_seconds", "How long ago the oldest accepted event that is in no row was made"),
    (
        "interaction_commit_lag_p50_seconds",
        "From acceptance to commit, median of likes accepted within the last minute",
    ),
    ("interaction_commit_lag_p99_seconds", "From acceptance to commit, p99 of likes accepted within the last minute"),
    ("interaction_consistency_open_findings", "Pairs, resources and shards with something wrong that is open"),
    ("interaction_consistency_oldest_finding_seconds", "Since when the oldest open finding is open"),
    ("interaction_cache_memory_used_ratio", "Memory of the cache as a share of its limit; 0 without a limit"),
    (
        "interaction_queue_ready_messages",
        "Messages in the broker's queue, from the process with the lease of redelivery",
    ),
    ("interaction_queue_consumers", "Consumers of the broker's queue, from the process with the lease of redelivery"),
];

const HISTOGRAMS: &[(&str, &str)] = &[
    ("interaction_like_seconds", "From a like's arrival in the service to its answer"),
    ("interaction_publish_batch_size", "Events in one confirmed message"),
    ("interaction_change_publish_seconds", "From publishing the changes of a batch to the last confirm"),
    ("interaction_publish_seconds", "From publishing a message to the broker's confirm"),
    ("interaction_cache_confirm_seconds", "From sending likes to the cache until its replicas have them"),
    ("interaction_apply_batch_size", "Events in one transaction"),
    ("interaction_apply_seconds", "Duration of a transaction that applies events"),
    ("interaction_commit_lag_seconds", "From acceptance to commit, per event"),
];
