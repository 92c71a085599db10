//! The legal range of every number, duration and free text, in one table.
//!
//! The parts work with both ends of each range. Durations end where adding them to a clock, or handing them to a server, could
//! fail; counts end where a server or an allocation would refuse them later, with an error that names no key.

use crate::Settings;
use humantime_serde::re::humantime;
use std::time::Duration;

/// A key, what it is set to, and what it may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// A whole number.
    Count(&'static str, u64, u64, u64),
    /// A duration.
    Time(&'static str, Duration, Duration, Duration),
    /// A factor, or percent.
    Factor(&'static str, f64, f64, f64),
    /// The length of a text, in characters.
    Text(&'static str, usize, usize, usize),
}

impl Bound {
    /// The key with its section.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Count(key, ..) | Self::Time(key, ..) | Self::Factor(key, ..) | Self::Text(key, ..) => key,
        }
    }

    /// Least and most, as they are written in the file.
    pub fn ends(self) -> (String, String) {
        match self {
            Self::Count(_, _, least, most) => (least.to_string(), most.to_string()),
            Self::Time(_, _, least, most) => (in_units(least), in_units(most)),
            Self::Factor(_, _, least, most) => (format!("{least:?}"), format!("{most:?}")),
            Self::Text(_, _, least, most) => (least.to_string(), most.to_string()),
        }
    }

    /// The error names the key.
    pub(crate) fn check(self) -> Result<(), String> {
        let (inside, value) = match self {
            Self::Count(_, value, least, most) => ((least..=most).contains(&value), value.to_string()),
            Self::Time(_, value, least, most) => ((least..=most).contains(&value), in_units(value)),
            Self::Factor(_, value, least, most) => ((least..=most).contains(&value), format!("{value:?}")),
            Self::Text(_, length, least, most) => ((least..=most).contains(&length), length.to_string()),
        };
        let (least, most) = self.ends();
        let unit = if matches!(self, Self::Text(..)) { " characters long" } else { "" };
        if inside { Ok(()) } else { Err(format!("{}: must be {least} to {most}{unit}, got {value}", self.key())) }
    }
}

/// In whole days, and what is left of them: nobody counts months.
fn in_units(time: Duration) -> String {
    const A_DAY: u64 = 86_400;
    let (days, rest) = (time.as_secs() / A_DAY, Duration::new(time.as_secs() % A_DAY, time.subsec_nanos()));
    match (days, rest.is_zero()) {
        (0, _) => humantime::format_duration(rest).to_string(),
        (days, true) => format!("{days}d"),
        (days, false) => format!("{days}d {}", humantime::format_duration(rest)),
    }
}

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// Longest time that anything is kept.
const TEN_YEARS: Duration = Duration::from_secs(3_650 * 86_400);
/// For good.
const CENTURY: Duration = Duration::from_secs(36_500 * 86_400);

/// No more of anything is held in memory.
const MANY: u64 = 1_000_000_000;

impl Settings {
    /// Every number, duration and free text of the configuration.
    pub fn bounds(&self) -> Vec<Bound> {
        let count = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        let mut bounds = Vec::new();
        let mut counts = |section: &[(&'static str, u64, u64, u64)]| {
            bounds.extend(section.iter().map(|(key, value, least, most)| Bound::Count(key, *value, *least, *most)));
        };
        let (bus, embedded, sync) = (&self.rabbitmq, &self.embedded_cache, &self.event_driven_sync);
        let (cache, check, limits) = (&self.cache_management, &self.data_consistency, &self.rate_limiting);
        let share = self.service.connections_per_address();
        let per_address = self.service.max_connections_per_address.unwrap_or(share);
        let per_token = self.service.max_connections_per_token.unwrap_or(self.service.connections_per_token());
        counts(&[
            ("service.max_connections", count(self.service.max_connections), 1, 1_000_000),
            ("service.worker_threads", count(self.service.worker_threads.unwrap_or(1)), 1, 1_024),
            ("service.max_connections_per_address", count(per_address), 1, 1_000_000),
            ("service.max_connections_per_token", count(per_token), 1, 1_000_000),
            ("service.max_calls_per_connection", self.service.max_calls_per_connection.into(), 1, 1_000_000),
            ("service.max_unfinished_bytes", count(self.service.max_unfinished_bytes), 1 << 20, 1 << 40),
            ("service.max_untaken_bytes", count(self.service.max_untaken_bytes), 1 << 20, 1 << 40),
            ("monitoring.tracing.one_in", self.monitoring.tracing.one_in.into(), 1, MANY),
            ("database.max_connections", self.database.max_connections.into(), 1, 10_000),
            ("database.min_connections", self.database.min_connections.into(), 0, 10_000),
            ("redis.confirm_replicas", self.redis.confirm_replicas.into(), 0, 100),
            ("redis.pool_size", count(self.redis.pool_size), 1, 10_000),
            ("rabbitmq.queue_max_length", bus.queue_max_length.into(), 1, MANY),
            ("rabbitmq.delivery_limit", bus.delivery_limit.into(), 1, MANY),
            ("rabbitmq.log.max_bytes", bus.log.max_bytes, 16 << 20, 1 << 50),
            ("rabbitmq.prefetch", bus.prefetch.into(), 1, u16::MAX.into()),
            ("embedded_cache.segment_bytes", embedded.segment_bytes, 256, 1 << 40),
            ("embedded_cache.max_journal_bytes", embedded.max_journal_bytes, 1 << 16, 1 << 50),
            ("embedded_cache.max_pairs", count(embedded.max_pairs), 1, MANY),
            ("embedded_cache.max_counters", count(embedded.max_counters), 1, MANY),
            ("embedded_cache.max_keys", count(embedded.max_keys), 1, MANY),
            ("embedded_cache.max_users", count(embedded.max_users), 1, MANY),
        ]);
        counts(&[
            ("event_driven_sync.shards", sync.shards.get().into(), 1, domain::ShardCount::MAX.into()),
            ("event_driven_sync.batch_size", count(sync.batch_size), 1, count(domain::codec::MAX_BATCH)),
            ("event_driven_sync.relay_capacity", count(sync.relay_capacity), 1, 10_000_000),
            ("event_driven_sync.kept_bytes", count(sync.kept_bytes), 1 << 16, 1 << 40),
            ("event_driven_sync.journal_limit", sync.journal_limit, 1, MANY),
            ("event_driven_sync.direct_writes", count(sync.direct_writes), 1, 10_000_000),
            ("event_driven_sync.event_driven_percentage", sync.event_driven_percentage.into(), 0, 100),
            ("event_driven_sync.retry.max_retries", sync.retry.max_retries.into(), 0, 1_000_000),
            ("event_driven_sync.circuit.failures", sync.circuit.failures.into(), 1, 1_000_000),
            ("event_driven_sync.recovery.max_rate", sync.recovery.max_rate.into(), 100, 1_000_000),
            ("event_driven_sync.recovery.at_once", count(sync.recovery.at_once), 1, 64),
            ("event_driven_sync.retention.batch_size", sync.retention.batch_size.into(), 1, 10_000),
            ("event_driven_sync.retention.erasure_rate", sync.retention.erasure_rate.into(), 100, 10_000_000),
            ("cache_management.warmup.top_resources", cache.warmup.top_resources.into(), 0, 20_000),
            ("cache_management.warmup.recent_events", cache.warmup.recent_events.into(), 0, 20_000),
            ("cache_management.warmup.max_rate", cache.warmup.max_rate.into(), 100, 1_000_000),
            ("cache_management.live_counts.max_streams", count(cache.live_counts.max_streams), 1, 100_000),
            ("cache_management.live_counts.max_resources", count(cache.live_counts.max_resources), 1, 100_000),
            ("cache_management.bulk_reads.at_once", count(cache.bulk_reads.at_once), 1, 1_000),
            ("cache_management.bulk_reads.waiting", count(cache.bulk_reads.waiting), 0, 1_000_000),
            ("cache_management.near_cache.max_bytes", count(cache.near_cache.max_bytes), 1 << 16, 1 << 40),
            ("data_consistency.hot_resources", check.hot_resources.into(), 1, 10_000),
            ("data_consistency.batch_size", check.batch_size.into(), 1, 5_000),
            ("data_consistency.max_rate", check.max_rate.into(), 1, u32::MAX.into()),
            ("data_consistency.report.max_findings", check.report.max_findings.into(), 1, 1_000_000),
            ("rate_limiting.user_action.max_actions", limits.user_action.max_actions.into(), 1, 1_000_000),
            ("rate_limiting.ip.max_per_second", limits.ip.max_per_second.into(), 1, MANY),
            ("rate_limiting.ip.burst", limits.ip.burst.into(), 1, MANY),
            ("rate_limiting.global.max_per_second", limits.global.max_per_second.into(), 1, MANY),
            ("rate_limiting.global.burst", limits.global.burst.into(), 1, MANY),
            ("rate_limiting.token.likes_per_second", limits.token.likes_per_second.into(), 1, MANY),
            ("rate_limiting.token.likes_burst", limits.token.likes_burst.into(), 1, MANY),
            ("rate_limiting.token.reads_per_second", limits.token.reads_per_second.into(), 1, MANY),
            ("rate_limiting.token.reads_burst", limits.token.reads_burst.into(), 1, MANY),
            ("rate_limiting.token.max_streams", count(limits.token.max_streams), 0, 100_000),
            ("rate_limiting.token.max_watched", count(limits.token.max_watched), 0, 100_000),
        ]);
        let times = [
            ("service.max_connection_age", self.service.max_connection_age, SECOND, 365 * DAY),
            ("service.drain_timeout", self.service.drain_timeout, Duration::ZERO, HOUR),
            ("database.replica_max_lag", self.database.replica_max_lag, 100 * MILLI, HOUR),
            ("database.connect_timeout", self.database.connect_timeout, 10 * MILLI, HOUR),
            ("database.acquire_timeout", self.database.acquire_timeout, 10 * MILLI, HOUR),
            ("database.query_timeout", self.database.query_timeout, 10 * MILLI, DAY),
            ("database.lock_timeout", self.database.lock_timeout, 10 * MILLI, DAY),
            ("database.silence_limit", self.database.silence_limit, SECOND, 365 * DAY),
            ("redis.connect_timeout", self.redis.connect_timeout, 10 * MILLI, HOUR),
            ("redis.response_timeout", self.redis.response_timeout, 10 * MILLI, HOUR),
            ("redis.confirm_timeout", self.redis.confirm_timeout, MILLI, HOUR / 2),
            ("rabbitmq.confirm_timeout", bus.confirm_timeout, 10 * MILLI, HOUR),
            ("rabbitmq.connect_timeout", bus.connect_timeout, 10 * MILLI, HOUR),
            ("rabbitmq.log.confirm_timeout", bus.log.confirm_timeout, 10 * MILLI, HOUR),
            ("rabbitmq.log.max_age", bus.log.max_age, 60 * SECOND, TEN_YEARS),
            ("rabbitmq.heartbeat", bus.heartbeat, SECOND, u32::from(u16::MAX) * SECOND),
            ("event_driven_sync.republish_after", sync.republish_after, 10 * MILLI, DAY),
            ("event_driven_sync.rescue_interval", sync.rescue_interval, 10 * MILLI, HOUR),
            ("event_driven_sync.idempotency_ttl", sync.idempotency_ttl, SECOND, TEN_YEARS),
            ("event_driven_sync.retry.base_delay", sync.retry.base_delay, MILLI, 30 * DAY),
            ("event_driven_sync.retry.max_delay", sync.retry.max_delay, MILLI, 365 * DAY),
            ("event_driven_sync.retry.claim_lease", sync.retry.claim_lease, 100 * MILLI, DAY),
            ("event_driven_sync.circuit.probe_interval", sync.circuit.probe_interval, 10 * MILLI, HOUR),
            ("event_driven_sync.recovery.margin", sync.recovery.margin, SECOND, DAY),
            ("event_driven_sync.retention.completed_events", sync.retention.completed_events, HOUR, TEN_YEARS),
            ("event_driven_sync.retention.behaviors", sync.retention.behaviors, HOUR, CENTURY),
            ("event_driven_sync.retention.tombstones", sync.retention.tombstones, HOUR, TEN_YEARS),
            ("event_driven_sync.retention.interval", sync.retention.interval, 10 * MILLI, 30 * DAY),
            ("cache_management.default_expiry", cache.default_expiry, SECOND, TEN_YEARS),
            ("cache_management.unknown_expiry", cache.unknown_expiry, SECOND, TEN_YEARS),
            ("cache_management.live_counts.interval", cache.live_counts.interval, 10 * MILLI, 60 * SECOND),
            ("cache_management.near_cache.ttl", cache.near_cache.ttl, MILLI, 10 * SECOND),
            ("data_consistency.check_interval", check.check_interval, 10 * MILLI, 365 * DAY),
            ("data_consistency.hot_data_check", check.hot_data_check, 10 * MILLI, 365 * DAY),
            ("data_consistency.stuck_after", check.stuck_after, 10 * MILLI, 365 * DAY),
            ("data_consistency.confirm_after", check.confirm_after, Duration::ZERO, HOUR),
            ("data_consistency.history", check.history, SECOND, TEN_YEARS - DAY),
            ("data_consistency.lease", check.lease, 300 * MILLI, HOUR),
            ("data_consistency.report.retention", check.report.retention, SECOND, TEN_YEARS),
            ("rate_limiting.user_action.window", limits.user_action.window, MILLI, 365 * DAY),
        ];
        bounds.extend(times.map(|(key, value, least, most)| Bound::Time(key, value, least, most)));
        let texts = [
            ("service.instance", self.service.instance.as_deref().unwrap_or("?"), 1, 100),
            ("monitoring.log_level", self.monitoring.log_level.as_str(), 1, 1_000),
            ("monitoring.tracing.endpoint", self.monitoring.tracing.endpoint.as_str(), 0, 1_000),
            ("redis.master", self.redis.master.as_str(), 1, 100),
            ("redis.key_prefix", self.redis.key_prefix.as_str(), 0, 100),
            ("rabbitmq.prefix", bus.prefix.as_str(), 1, 100),
        ];
        bounds.extend(texts.map(|(key, text, least, most)| Bound::Text(key, text.chars().count(), least, most)));
        let alerts = &self.monitoring.alerts;
        bounds.extend([
            Bound::Factor("event_driven_sync.retry.backoff_factor", sync.retry.backoff_factor, 1.0, 100.0),
            Bound::Factor(
                "monitoring.alerts.consistency_rate_threshold",
                alerts.consistency_rate_threshold,
                0.0,
                100.0,
            ),
            Bound::Factor("monitoring.alerts.error_rate_threshold", alerts.error_rate_threshold, 0.0, 100.0),
            Bound::Time("monitoring.alerts.latency_threshold", alerts.latency_threshold, MILLI, HOUR),
        ]);
        bounds
    }
}
