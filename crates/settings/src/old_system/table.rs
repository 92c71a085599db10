//! Every key of the old system's configuration, and what it means here.

/// What a key means.
pub(super) enum Means {
    /// It changes nothing, because of this.
    Nothing(&'static str),
    /// It is a part of an address, which is built of several.
    Url(&'static str, fn(&Given<'_>) -> Result<String, String>),
    /// Its value goes to these keys.
    Taken(&'static [Take]),
}

/// Values of the file, by key.
pub(super) type Given<'g> = dyn Fn(&str) -> Option<&'g str> + 'g;

/// A key of ours, and how its value is said there.
pub(super) struct Take {
    pub(super) to: &'static str,
    pub(super) value: fn(&str) -> Result<String, String>,
    /// Several old keys lead to it, and the largest counts.
    pub(super) largest: bool,
    /// What is not the same there: of the old value and ours.
    pub(super) note: fn(&str, &str) -> Option<String>,
}

const fn to(to: &'static str) -> Take {
    Take { to, value: same, largest: false, note: nothing }
}

const fn by(to: &'static str, value: fn(&str) -> Result<String, String>) -> Take {
    Take { to, value, largest: false, note: nothing }
}

const fn largest(to: &'static str) -> Take {
    Take { to, value: same, largest: true, note: nothing }
}

impl Take {
    const fn noting(self, note: fn(&str, &str) -> Option<String>) -> Self {
        Self { note, ..self }
    }
}

fn nothing(_: &str, _: &str) -> Option<String> {
    None
}

/// A rate of whole seconds is not every rate of minutes.
fn rounded(minute: &str, second: &str) -> Option<String> {
    let (wanted, minute) = (whole(minute).ok()?, whole(second).ok()?.saturating_mul(60));
    (wanted != minute).then(|| {
        format!(
            "rounded up, because limits are of whole seconds: {second} a second are {minute} a minute, not {wanted}"
        )
    })
}

fn only_here(_: &str, _: &str) -> Option<String> {
    Some("at this host alone: other hosts are let in where tokens are needed (docs/ACCESS.md)".to_owned())
}

fn same(value: &str) -> Result<String, String> {
    Ok(value.to_owned())
}

fn whole(value: &str) -> Result<u64, String> {
    value.trim().parse().map_err(|_| "must be a whole number".to_owned())
}

fn days(value: &str) -> Result<String, String> {
    whole(value).map(|days| format!("{days}d"))
}

fn minute(_: &str) -> Result<String, String> {
    Ok("1m".to_owned())
}

fn each_second(value: &str) -> Result<String, String> {
    whole(value).map(|minute| minute.div_ceil(60).to_string())
}

fn local_port(value: &str) -> Result<String, String> {
    let port: u16 = value.trim().parse().map_err(|_| "must be a port, 0 to 65535".to_owned())?;
    Ok(format!("127.0.0.1:{port}"))
}

fn log_format(value: &str) -> Result<String, String> {
    match value.trim() {
        "json" => Ok("json".to_owned()),
        "" | "human" | "text" | "console" | "plain" => Ok("human".to_owned()),
        _ => Err("must be json, or one of text, console, plain, human".to_owned()),
    }
}

/// The empty vhost of the old client is the default one.
fn broker(value: &str) -> Result<String, String> {
    let (address, query) = value.split_once('?').map_or((value, None), |(address, query)| (address, Some(query)));
    let host = address.split_once("://").map_or("", |(_, rest)| rest);
    let ends_empty = host.ends_with('/') && host.matches('/').count() == 1;
    let vhost = if ends_empty { "%2f" } else { "" };
    Ok(format!("{address}{vhost}{}", query.map(|query| format!("?{query}")).unwrap_or_default()))
}

fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn host(given: &Given<'_>, section: &str, port: &str) -> String {
    let of = |key: &str| given(&format!("{section}.{key}")).filter(|value| !value.is_empty());
    let host = of("host").unwrap_or("localhost");
    let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
    format!("{host}:{}", of("port").unwrap_or(port))
}

fn database(given: &Given<'_>) -> Result<String, String> {
    let name = given("database.database").filter(|name| !name.is_empty());
    let name = name.ok_or("database.database is needed beside it")?;
    let user = encoded(given("database.username").unwrap_or("root"));
    let password = given("database.password").map(|password| format!(":{}", encoded(password))).unwrap_or_default();
    Ok(format!("mysql://{user}{password}@{}/{}", host(given, "database", "3306"), encoded(name)))
}

fn redis(given: &Given<'_>) -> Result<String, String> {
    let password = given("redis.password").filter(|password| !password.is_empty());
    let login = password.map(|password| format!(":{}@", encoded(password))).unwrap_or_default();
    let number = given("redis.database").map(whole).transpose()?.unwrap_or_default();
    Ok(format!("redis://{login}{}/{number}", host(given, "redis", "6379")))
}

use Means::{Nothing, Taken, Url};

const NAMES: &str = "exchanges and queues are named by rabbitmq.prefix; let the old consumers empty the old queues";
const ALWAYS: &str = "always so";
const REDIS_ENDS: &str = "Redis ends them itself when their time is over";
const HOT: &str = "hot is what has most of the newest events, whatever its count";
const RANK: &str = "what has the highest counts is warmed up, without a threshold";
const PROMETHEUS: &str = "metrics are read at /metrics, and kept where they are read";
const ASKED: &str = "health is measured all the time and said at /health";
const GATHERS: &str = "a consumer takes what has piled up, at most event_driven_sync.batch_size, and waits for no more";
const POOLS: &str = "the key of the store's own section counts";
const NO_TEXT: &str = "likes have no text; requests are bounded and checked always";
const DEVELOPMENT: &str = "there is no development mode; monitoring.log_level says how much is logged";

/// Old keys in the order of their file.
pub(super) const TABLE: &[(&str, Means)] = &[
    ("database.host", Url("database.url", database)),
    ("database.port", Url("database.url", database)),
    ("database.username", Url("database.url", database)),
    ("database.password", Url("database.url", database)),
    ("database.database", Url("database.url", database)),
    ("database.max_open_conns", Taken(&[to("database.max_connections")])),
    ("database.max_idle_conns", Nothing("a connection that rests for half of database.silence_limit is closed")),
    ("database.conn_max_lifetime", Nothing("connections are renewed every 30 minutes, and at once after a failover")),
    ("redis.host", Url("redis.url", redis)),
    ("redis.port", Url("redis.url", redis)),
    ("redis.password", Url("redis.url", redis)),
    ("redis.database", Url("redis.url", redis)),
    ("redis.min_idle_conns", Nothing("likes share one connection, which is always open")),
    ("redis.dial_timeout", Taken(&[to("redis.connect_timeout")])),
    ("redis.read_timeout", Taken(&[to("redis.response_timeout")])),
    ("redis.write_timeout", Nothing("redis.response_timeout begins when a command is sent")),
    ("redis.pool_timeout", Nothing("redis.response_timeout bounds this wait, too")),
    ("redis.idle_timeout", Nothing("connections stay open")),
    ("rabbitmq.url", Taken(&[by("rabbitmq.url", broker)])),
    ("rabbitmq.exchange.like_events", Nothing(NAMES)),
    ("rabbitmq.exchange.notification_events", Nothing(NAMES)),
    ("rabbitmq.exchange.comment_events", Nothing(NAMES)),
    ("rabbitmq.queue.like_event_queue", Nothing(NAMES)),
    ("rabbitmq.queue.notification_event_queue", Nothing(NAMES)),
    ("rabbitmq.queue.comment_event_queue", Nothing(NAMES)),
    ("rabbitmq.consumer.prefetch_count", Taken(&[to("rabbitmq.prefetch")])),
    ("rabbitmq.consumer.auto_ack", Nothing("messages are acknowledged after their commit, always")),
    ("rabbitmq.producer.confirm_mode", Nothing("publishing is confirmed, always")),
    ("rabbitmq.producer.mandatory", Nothing("a message that no queue takes stays in the journal, always")),
    ("rabbitmq.producer.immediate", Nothing("RabbitMQ has no such mode any more")),
    ("event_driven_sync.event_processing.batch_size", Taken(&[to("event_driven_sync.batch_size")])),
    ("event_driven_sync.event_processing.processing_timeout", Nothing("database.query_timeout bounds every attempt")),
    (
        "event_driven_sync.event_processing.max_concurrent_processors",
        Nothing("a consumer commits one batch while it prepares the next; start more consumers"),
    ),
    ("event_driven_sync.idempotency.key_ttl", Taken(&[to("event_driven_sync.idempotency_ttl")])),
    ("event_driven_sync.idempotency.cleanup_interval", Nothing(REDIS_ENDS)),
    ("event_driven_sync.distributed_lock.default_timeout", Nothing("nothing is locked: versions decide")),
    ("event_driven_sync.distributed_lock.cleanup_interval", Nothing("nothing is locked: versions decide")),
    ("cache_management.version_control.enabled", Nothing(ALWAYS)),
    ("cache_management.version_control.cleanup_interval", Nothing("event_driven_sync.retention says what is kept")),
    ("cache_management.warmup.hot_video_threshold", Nothing(RANK)),
    ("cache_management.warmup.hot_comment_threshold", Nothing(RANK)),
    ("cache_management.warmup.warmup_video_count", Taken(&[largest("cache_management.warmup.top_resources")])),
    ("cache_management.warmup.warmup_comment_count", Taken(&[largest("cache_management.warmup.top_resources")])),
    ("cache_management.consistency.hot_data_check_interval", Taken(&[to("data_consistency.hot_data_check")])),
    ("data_consistency.hot_data_check.enabled", Nothing("hot resources are always checked")),
    ("data_consistency.hot_data_check.interval", Taken(&[to("data_consistency.hot_data_check")])),
    ("data_consistency.hot_data_check.video_like_threshold", Nothing(HOT)),
    ("data_consistency.hot_data_check.comment_like_threshold", Nothing(HOT)),
    ("data_consistency.hot_data_check.check_count", Taken(&[to("data_consistency.hot_resources")])),
    ("data_consistency.report.retention_days", Taken(&[by("data_consistency.report.retention", days)])),
    ("data_consistency.report.cleanup_interval", Nothing("old reports are deleted as new ones are written")),
    (
        "rate_limiting.user_action.like_per_minute",
        Taken(&[to("rate_limiting.user_action.max_actions"), by("rate_limiting.user_action.window", minute)]),
    ),
    ("rate_limiting.user_action.comment_per_minute", Nothing("nobody comments here; likes of comments are likes")),
    (
        "rate_limiting.global.max_qps",
        Taken(&[to("rate_limiting.global.max_per_second"), to("rate_limiting.global.burst")]),
    ),
    ("rate_limiting.global.max_connections", Taken(&[to("service.max_connections")])),
    ("monitoring.metrics.enabled", Taken(&[to("monitoring.metrics")])),
    ("monitoring.metrics.collection_interval", Nothing(PROMETHEUS)),
    ("monitoring.metrics.retention_days", Nothing(PROMETHEUS)),
    ("monitoring.health_check.enabled", Nothing(ASKED)),
    ("monitoring.health_check.interval", Nothing(ASKED)),
    ("monitoring.health_check.timeout", Nothing(ASKED)),
    ("service.name", Nothing("a program says its own name; service.instance tells processes apart")),
    ("service.port", Taken(&[by("service.http_addr", local_port).noting(only_here)])),
    ("service.graceful_shutdown.timeout", Taken(&[to("service.drain_timeout")])),
    ("service.tracing.enabled", Nothing("monitoring.tracing.endpoint switches traces on")),
    (
        "service.tracing.endpoint",
        Nothing("traces go by OTLP over gRPC, which collectors take at another port: set monitoring.tracing.endpoint"),
    ),
    ("service.tracing.service_name", Nothing("a program says its own name")),
    ("service.logging.level", Taken(&[to("monitoring.log_level")])),
    ("service.logging.format", Taken(&[by("monitoring.log_format", log_format)])),
    ("service.logging.output", Nothing("logs go to the standard error output")),
    ("performance.connection_pool.database.max_open", Nothing(POOLS)),
    ("performance.connection_pool.database.max_idle", Nothing(POOLS)),
    ("performance.connection_pool.database.max_lifetime", Nothing(POOLS)),
    ("performance.connection_pool.redis.pool_size", Nothing(POOLS)),
    ("performance.connection_pool.redis.min_idle", Nothing(POOLS)),
    ("performance.connection_pool.redis.max_retries", Nothing("a command is repeated only where that is safe")),
    ("performance.batch_processing.enabled", Nothing(ALWAYS)),
    ("performance.batch_processing.batch_size", Nothing(GATHERS)),
    ("performance.batch_processing.flush_interval", Nothing(GATHERS)),
    ("performance.batch_processing.max_wait_time", Nothing(GATHERS)),
    ("performance.async_processing.worker_count", Nothing("service.worker_threads, one for each core by default")),
    (
        "performance.async_processing.queue_size",
        Nothing("event_driven_sync.relay_capacity bounds what waits in memory"),
    ),
    ("performance.async_processing.timeout", Nothing("every wait has a bound of its own")),
    ("security.input_validation.enabled", Nothing(ALWAYS)),
    ("security.input_validation.max_content_length", Nothing(NO_TEXT)),
    ("security.input_validation.sanitize_input", Nothing(NO_TEXT)),
    ("security.replay_protection.enabled", Nothing("a repetition changes nothing, without a window: versions decide")),
    (
        "security.replay_protection.window_size",
        Nothing("a repetition changes nothing, without a window: versions decide"),
    ),
    ("security.ip_rate_limiting.enabled", Taken(&[to("rate_limiting.ip.enabled")])),
    (
        "security.ip_rate_limiting.requests_per_minute",
        Taken(&[by("rate_limiting.ip.max_per_second", each_second).noting(rounded), to("rate_limiting.ip.burst")]),
    ),
    ("development.debug_mode", Nothing(DEVELOPMENT)),
    ("development.profiling.enabled", Nothing(DEVELOPMENT)),
    ("development.profiling.port", Nothing(DEVELOPMENT)),
    ("development.testing.mock_external_services", Nothing(DEVELOPMENT)),
    ("development.testing.test_data_cleanup", Nothing(DEVELOPMENT)),
];
