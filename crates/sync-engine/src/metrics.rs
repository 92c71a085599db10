//! Names and meanings of the engine's metrics, in one place.

mod help;

use ::metrics::{counter, gauge, histogram};
use domain::cache::{SettleReport, ShardStatus};
use event_store::Cut;
use std::time::Duration;

/// Shows every metric from the start, at zero: a rate needs a value before the first failure.
pub(crate) fn register() {
    help::describe();
    let labelled = [
        (
            "interaction_likes_total",
            "outcome",
            &[
                "accepted",
                "unchanged",
                "degraded",
                "rate_limited",
                "key_reused",
                "deleted",
                "overloaded",
                "unavailable",
                "expired",
                "refused",
            ][..],
        ),
        ("interaction_relay_spilled_total", "reason", &["relay_full", "refused", "database_unreachable"]),
        ("interaction_rescued_events_total", "how", &["republished", "applied"]),
        ("interaction_retried_events_total", "outcome", &["completed", "failed", "dead"]),
        ("interaction_changes_published_total", "how", &["at_once", "later"]),
        ("interaction_dead_events_total", "kind", &["undecodable", "retries_exhausted"]),
        ("interaction_cache_confirmations_total", "outcome", &["confirmed", "unconfirmed"]),
        ("interaction_database_late_reads_total", "from", &["replica", "primary"]),
        ("interaction_recovered_events_total", "source", &["redo_log", "cached_pair", "journal"]),
        ("interaction_moved_events_total", "reason", &["expired", "maxlen", "delivery_limit", "rejected", "other"]),
        (
            "interaction_purged_rows_total",
            "what",
            &[
                "completed_events",
                "behaviors",
                "operator_actions",
                "idempotency_keys",
                "writers",
                "slices",
                "tombstones",
                "of_erased_users",
                "of_deleted_resources",
            ],
        ),
    ];
    for cut in Cut::ALL {
        partitions_by_rows(cut.table(), 0);
    }
    for (name, label, values) in labelled {
        for value in values {
            counter!(name, label => *value).increment(0);
            if name == "interaction_likes_total" {
                let _registered = histogram!("interaction_like_seconds", "outcome" => *value);
            }
        }
    }
    let counters = [
        "interaction_published_events_total",
        "interaction_applied_events_total",
        "interaction_settled_entries_total",
        "interaction_settle_corrections_total",
        "interaction_settle_refreshed_pairs_total",
        "interaction_settle_failures_total",
        "interaction_settle_latched_total",
        "interaction_parked_events_total",
        "interaction_degraded_writes_total",
        "interaction_cache_delayed_syncs_total",
        "interaction_synchronous_writes_total",
        "interaction_confirm_rewrites_total",
        "interaction_cache_calls_repeated_total",
        "interaction_cache_steps_back_total",
        "interaction_cache_slot_waits_total",
        "interaction_relay_given_up_total",
        "interaction_offered_again_total",
        "interaction_redo_log_joined_total",
        "interaction_changes_noted_total",
        "interaction_change_publish_failures_total",
    ];
    counters.into_iter().for_each(|name| counter!(name).increment(0));
    let histograms = [
        "interaction_publish_batch_size",
        "interaction_publish_seconds",
        "interaction_apply_batch_size",
        "interaction_apply_seconds",
        "interaction_commit_lag_seconds",
        "interaction_cache_confirm_seconds",
        "interaction_change_publish_seconds",
    ];
    for name in histograms {
        let _registered = histogram!(name);
    }
    shards_away(0);
    journals(&[], Duration::ZERO);
    live(0, 0);
    ["cache", "database"].into_iter().for_each(|clock| clock_ahead(clock, 0));
    queue(0, 0);
    kept(0, 0);
    dead_letters(0);
    redo_log_waiting(0);
    changes_waiting(0, Duration::ZERO);
    cache_replicas(0);
    cache_memory(None);
    database_went_back(false);
    recovery_running(false);
    for status in ["pending", "processing", "failed", "dead"] {
        ledger(status, 0, Duration::ZERO);
    }
    findings(0, Duration::ZERO);
    fullest_shard(0.0);
    recent_lag(0, 0);
}

/// `interaction_ledger_events{status}`, `interaction_ledger_oldest_age_seconds{status}`: accepted events that are in no row.
pub(crate) fn ledger(status: &'static str, events: u64, oldest: Duration) {
    gauge!("interaction_ledger_events", "status" => status).set(events as f64);
    gauge!("interaction_ledger_oldest_age_seconds", "status" => status).set(oldest.as_secs_f64());
}

/// `interaction_consistency_open_findings`, `interaction_consistency_oldest_finding_seconds`: subjects that the checkers found something wrong with.
pub(crate) fn findings(open: u64, oldest: Duration) {
    gauge!("interaction_consistency_open_findings").set(open as f64);
    gauge!("interaction_consistency_oldest_finding_seconds").set(oldest.as_secs_f64());
}

/// `interaction_commit_lag_p50_seconds`, `interaction_commit_lag_p99_seconds`: of likes accepted within the last minute; 0 without one.
pub(crate) fn recent_lag(p50_ms: i64, p99_ms: i64) {
    gauge!("interaction_commit_lag_p50_seconds").set(p50_ms as f64 / 1e3);
    gauge!("interaction_commit_lag_p99_seconds").set(p99_ms as f64 / 1e3);
}

/// `interaction_journal_fullest_shard_ratio`: entries of the fullest shard, as a share of its limit.
pub(crate) fn fullest_shard(fill: f64) {
    gauge!("interaction_journal_fullest_shard_ratio").set(fill);
}

/// `interaction_cache_memory_used_ratio`: memory of the cache, as a share of its limit; 0 without one.
pub(crate) fn cache_memory(percent: Option<u8>) {
    gauge!("interaction_cache_memory_used_ratio").set(f64::from(percent.unwrap_or(0)) / 100.0);
}

/// `interaction_recovery_running`: 1 while a database that went back is told again.
pub(crate) fn recovery_running(running: bool) {
    gauge!("interaction_recovery_running").set(if running { 1.0 } else { 0.0 });
}

/// `interaction_recovered_events_total{source}`: events that a database had lost and has again.
pub(crate) fn recovered(source: &'static str, events: usize) {
    counter!("interaction_recovered_events_total", "source" => source).increment(events as u64);
}

/// `interaction_settle_latched_total`: settlements that wait until a database that went back is whole.
pub(crate) fn settle_latched() {
    counter!("interaction_settle_latched_total").increment(1);
}

/// `interaction_database_went_back`: 1 while the database lacks commits that it had confirmed.
pub(crate) fn database_went_back(went_back: bool) {
    gauge!("interaction_database_went_back").set(if went_back { 1.0 } else { 0.0 });
}

/// `interaction_likes_total{outcome}`: answers to likes and unlikes; `interaction_like_seconds{outcome}`: until the answer.
pub fn like(outcome: &'static str, took: Duration) {
    counter!("interaction_likes_total", "outcome" => outcome).increment(1);
    histogram!("interaction_like_seconds", "outcome" => outcome).record(took.as_secs_f64());
}

/// `interaction_circuit_open{part}`: 1 while a part counts as unreachable.
pub fn circuit(part: &'static str, open: bool) {
    gauge!("interaction_circuit_open", "part" => part).set(if open { 1.0 } else { 0.0 });
}

/// `interaction_cache_shards_away`: shards whose server is unreachable while others are not.
pub(crate) fn shards_away(shards: usize) {
    gauge!("interaction_cache_shards_away").set(shards as f64);
}

/// `interaction_publish_batch_size`: events per confirmed message; `interaction_publish_seconds`: until the confirm.
pub(crate) fn published(events: usize, took: Duration) {
    histogram!("interaction_publish_batch_size").record(events as f64);
    histogram!("interaction_publish_seconds").record(took.as_secs_f64());
    counter!("interaction_published_events_total").increment(events as u64);
}

/// `interaction_relay_spilled_total{reason}`: accepted events left to the rescuer.
pub(crate) fn spilled(reason: &'static str, events: usize) {
    counter!("interaction_relay_spilled_total", "reason" => reason).increment(events as u64);
}

/// `interaction_relay_kept_events`, `interaction_relay_kept_bytes`: accepted events that this process could not deliver and still has.
pub(crate) fn kept(events: usize, bytes: usize) {
    gauge!("interaction_relay_kept_events").set(events as f64);
    gauge!("interaction_relay_kept_bytes").set(bytes as f64);
}

/// `interaction_relay_given_up_total`: events that the memory had no room for.
pub(crate) fn given_up(events: usize) {
    counter!("interaction_relay_given_up_total").increment(events as u64);
}

/// `interaction_offered_again_total`: events that the journal had forgotten.
pub(crate) fn offered_again(events: usize) {
    counter!("interaction_offered_again_total").increment(events as u64);
}

/// `interaction_rescued_events_total{how}`: stuck events published again or applied directly.
pub(crate) fn rescued(how: &'static str, events: usize) {
    counter!("interaction_rescued_events_total", "how" => how).increment(events as u64);
}

/// `interaction_apply_batch_size`: events per transaction; `interaction_apply_seconds`: its duration.
pub(crate) fn applied(events: usize, took: Duration) {
    histogram!("interaction_apply_batch_size").record(events as f64);
    histogram!("interaction_apply_seconds").record(took.as_secs_f64());
    counter!("interaction_applied_events_total").increment(events as u64);
}

/// `interaction_commit_lag_seconds`: from acceptance to commit, per event.
pub(crate) fn commit_lag(lag: impl Iterator<Item = Duration>) {
    let histogram = histogram!("interaction_commit_lag_seconds");
    lag.for_each(|lag| histogram.record(lag.as_secs_f64()));
}

/// `interaction_settled_entries_total`, `interaction_settle_corrections_total`, `interaction_settle_refreshed_pairs_total`.
pub(crate) fn settled(report: SettleReport) {
    counter!("interaction_settled_entries_total").increment(report.removed);
    counter!("interaction_settle_corrections_total").increment(report.corrections);
    counter!("interaction_settle_refreshed_pairs_total").increment(report.refreshed);
}

/// `interaction_settle_failures_total`: settlements left to the rescuer.
pub(crate) fn settle_failed() {
    counter!("interaction_settle_failures_total").increment(1);
}

/// `interaction_parked_events_total`, `interaction_retried_events_total{outcome}`, `interaction_dead_events_total{kind}`: events that failed alone.
pub(crate) fn parked(events: usize) {
    counter!("interaction_parked_events_total").increment(events as u64);
}

/// See [`parked`].
pub(crate) fn retried(outcome: &'static str, events: usize) {
    counter!("interaction_retried_events_total", "outcome" => outcome).increment(events as u64);
}

/// See [`parked`].
pub(crate) fn dead(kind: &'static str, events: usize) {
    counter!("interaction_dead_events_total", "kind" => kind).increment(events as u64);
}

/// `interaction_moved_events_total{reason}`: events that the broker moved to the dead letters, applied from there.
pub(crate) fn moved(reason: &'static str, events: usize) {
    counter!("interaction_moved_events_total", "reason" => reason).increment(events as u64);
}

/// `interaction_dead_letters`: letters that wait.
pub(crate) fn dead_letters(letters: u32) {
    gauge!("interaction_dead_letters").set(f64::from(letters));
}

/// `interaction_purged_rows_total`: rows deleted for their age, or with their user; `tombstones`: moved to their archive.
pub(crate) fn purged(what: &'static str, rows: u64) {
    counter!("interaction_purged_rows_total", "what" => what).increment(rows);
}

/// `interaction_partitions_by_rows{table}`: old partitions that retention does not drop.
pub(crate) fn partitions_by_rows(table: &'static str, partitions: usize) {
    gauge!("interaction_partitions_by_rows", "table" => table).set(partitions as f64);
}

/// `interaction_degraded_writes_total`: likes written to the database directly.
pub(crate) fn degraded_write() {
    counter!("interaction_degraded_writes_total").increment(1);
}

/// `interaction_clock_ahead_seconds{clock}`: how far a store's clock is ahead of this process's.
pub(crate) fn clock_ahead(clock: &'static str, ahead_us: i64) {
    gauge!("interaction_clock_ahead_seconds", "clock" => clock).set(ahead_us as f64 / 1e6);
}

/// `interaction_cache_delayed_syncs_total`: writes of the cache that waited for its disk.
pub(crate) fn cache_syncs_delayed(syncs: u64) {
    counter!("interaction_cache_delayed_syncs_total").increment(syncs);
}

/// `interaction_cache_replicas`: replicas of the cache that follow, where answers wait for them.
pub(crate) fn cache_replicas(attached: u32) {
    gauge!("interaction_cache_replicas").set(f64::from(attached));
}

/// `interaction_synchronous_writes_total`: likes written to the database first because the write path says so.
pub(crate) fn synchronous_writes(likes: usize) {
    counter!("interaction_synchronous_writes_total").increment(likes as u64);
}

/// `interaction_confirm_rewrites_total`: likes that the cache took for unchanged and that were written all the same.
pub(crate) fn confirm_rewrites(likes: usize) {
    counter!("interaction_confirm_rewrites_total").increment(likes as u64);
}

/// `interaction_write_path_event_driven_percent`: users whose likes are event-driven, of 100.
pub(crate) fn write_path(path: domain::WritePath) {
    gauge!("interaction_write_path_event_driven_percent").set(f64::from(path.event_driven_percent()));
}

/// `interaction_journal_entries`, `interaction_journal_oldest_age_seconds`, `interaction_journal_accepted_entries`,
/// `interaction_journal_settled_entries`: the journals' accounting.
pub(crate) fn journals(status: &[ShardStatus], oldest_age: Duration) {
    let sum = |field: fn(&ShardStatus) -> u64| status.iter().map(field).sum::<u64>() as f64;
    gauge!("interaction_journal_entries").set(sum(|s| s.journal_len));
    gauge!("interaction_journal_accepted_entries").set(sum(|s| s.accepted));
    gauge!("interaction_journal_settled_entries").set(sum(|s| s.settled));
    gauge!("interaction_journal_oldest_age_seconds").set(oldest_age.as_secs_f64());
}

/// `interaction_queue_ready_messages`, `interaction_queue_consumers`: the broker's queue.
pub(crate) fn queue(ready: u32, consumers: u32) {
    gauge!("interaction_queue_ready_messages").set(f64::from(ready));
    gauge!("interaction_queue_consumers").set(f64::from(consumers));
}

/// `interaction_live_streams`, `interaction_live_resources`: streams of live counts, and the different resources that they watch.
pub(crate) fn live(streams: usize, resources: usize) {
    gauge!("interaction_live_streams").set(streams as f64);
    gauge!("interaction_live_resources").set(resources as f64);
}

/// `interaction_redo_log_up`: what is published goes into the redo log, too.
pub(crate) fn redo_log_up(up: bool) {
    gauge!("interaction_redo_log_up").set(if up { 1.0 } else { 0.0 });
}

/// `interaction_redo_log_waiting_events`: applied, and not in the redo log yet.
pub(crate) fn redo_log_waiting(events: u64) {
    gauge!("interaction_redo_log_waiting_events").set(events as f64);
}

/// `interaction_redo_log_joined_total`: events that went around the broker and were brought to the redo log.
pub(crate) fn redo_log_joined(events: usize) {
    counter!("interaction_redo_log_joined_total").increment(events as u64);
}

/// `interaction_changes_published_total{how}`: states of counters and pairs that the exchange of changes took, of the queue's
/// batches `at_once`, and of notes `later`; `interaction_change_publish_seconds`: until the confirm of all of a batch.
pub(crate) fn changes_published(how: &'static str, states: usize, took: Duration) {
    counter!("interaction_changes_published_total", "how" => how).increment(states as u64);
    histogram!("interaction_change_publish_seconds").record(took.as_secs_f64());
}

/// `interaction_changes_noted_total`: pairs of the queue's batches that the exchange did not take.
pub(crate) fn changes_noted(pairs: usize) {
    counter!("interaction_changes_noted_total").increment(pairs as u64);
}

/// `interaction_change_publish_failures_total`: batches that the exchange of changes did not take.
pub(crate) fn change_publish_failed() {
    counter!("interaction_change_publish_failures_total").increment(1);
}

/// `interaction_changes_waiting`, `interaction_changes_oldest_seconds`: what is noted and not published.
pub(crate) fn changes_waiting(waiting: u64, oldest: Duration) {
    gauge!("interaction_changes_waiting").set(waiting as f64);
    gauge!("interaction_changes_oldest_seconds").set(oldest.as_secs_f64());
}
