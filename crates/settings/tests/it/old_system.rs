//! What teams of the old system have is answered for, key by key.

use crate::load;
use service_runtime::given;
use settings::old_system::{Checked, Meaning, convert};
use std::time::Duration;

fn check(name: &str, text: &str) -> Result<Checked, service_runtime::ConfigError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(settings::old_system::check(name, text, &[]))
}

const OLD: &str = include_str!("data/old_system.yml");

/// The part that its guide shows.
const GUIDE: &str = "
event_driven_sync: {retry: {max_retries: 3, base_delay: 1s, backoff_factor: 2.0}}
cache_management: {default_expiry: 24h, consistency: {check_interval: 5m, auto_fix: true}}
data_consistency: {check_interval: 5m, auto_fix: {enabled: true, strategy: database_first}}
";

#[test]
fn the_guides_part_is_read_as_it_is() {
    load(GUIDE).unwrap();
    let without_section = GUIDE.replace("event_driven_sync: {retry: ", "retry: ").replace("2.0}}", "2.5}");
    assert_eq!(load(&without_section).unwrap().event_driven_sync.retry.backoff_factor, 2.5);
    let moved = "cache_management: {consistency: {check_interval: 7m, auto_fix: off}}";
    let settings = load(moved).unwrap().data_consistency;
    assert_eq!((settings.check_interval.as_secs(), settings.auto_fix.enabled), (420, false));
    for (from, to, error) in [
        (
            "check_interval: 5m, a",
            "check_interval: 6m, a",
            "cache_management.consistency.check_interval: says 6m, and data_consistency.check_interval says 5m",
        ),
        (
            "auto_fix: true",
            "auto_fix: false",
            "cache_management.consistency.auto_fix: says false, and data_consistency.auto_fix.enabled says true",
        ),
    ] {
        let said = load(&GUIDE.replacen(from, to, 1)).unwrap_err();
        assert!(said.starts_with(error), "{said}");
    }
    let error = load("cache_management: {consistency: {check_interval: soon}}").unwrap_err();
    assert!(error.starts_with("data_consistency.check_interval: "), "{error}");
}

#[test]
fn what_users_know_from_there_is_the_default_here() {
    let plain = load("").unwrap();
    assert_eq!(format!("{:?}", load(GUIDE).unwrap()), format!("{plain:?}"));
    let retry = plain.event_driven_sync.retry;
    assert_eq!((retry.max_retries, retry.base_delay.as_secs(), retry.max_delay.as_secs()), (3, 1, 60));
    let limit = &plain.rate_limiting.user_action;
    assert_eq!((limit.enabled, limit.max_actions, limit.window.as_secs()), (true, 60, 60));
    assert_eq!(plain.data_consistency.report.retention, Duration::from_secs(30 * 86_400));
}

#[test]
fn every_key_of_the_old_file_is_answered_for() {
    let checked = check("old.yml", OLD).unwrap();
    let all = given("old.yml", OLD).unwrap();
    assert!(all.len() > 80, "{}", all.len());
    assert_eq!(checked.keys.len(), all.len());
    assert!(checked.is_answered(), "{:?}", checked.keys);
    let refused = checked.programs[0].refused.as_ref().expect("read as it is");
    assert!(
        refused.contains(": is a key of the old system, as ") && refused.contains("config convert old.yml"),
        "{refused}"
    );
    assert!(Checked::all_start(checked.converted.as_ref().unwrap()), "{checked:?}");
    // A program says the same, and names a key that is there.
    let said = load(OLD).unwrap_err();
    assert!(all.iter().any(|(key, _)| said.starts_with(&format!("{key}: is a key of the old system"))), "{said}");
    let meaning = |wanted: &str| checked.keys.iter().find(|(key, _)| key == wanted).unwrap().1.to_string();
    for (key, said) in [
        ("database.password", "taken over as database.url"),
        ("event_driven_sync.retry.max_retries", "is read as it is"),
        ("event_driven_sync.idempotency.key_ttl", "taken over as event_driven_sync.idempotency_ttl"),
        ("rabbitmq.consumer.auto_ack", "has no effect here: messages are acknowledged after their commit, always"),
        (
            "rate_limiting.user_action.like_per_minute",
            "taken over as rate_limiting.user_action.max_actions, rate_limiting.user_action.window",
        ),
        ("monitoring.alerts.latency_threshold", "is read as it is"),
    ] {
        assert_eq!(meaning(key), said, "{key}");
    }
}

#[test]
fn the_old_file_is_converted() {
    let converted = convert("old.yml", OLD).unwrap();
    for line in [
        "  url: mysql://root:example@localhost:3307/interaction",
        "  url: redis://localhost:6379/0",
        "  url: amqp://guest:guest@localhost:5672/%2f",
    ] {
        let plain = converted.replace('\'', "");
        assert!(plain.lines().any(|found| found == line), "{line}\n{converted}");
    }
    let settings = load(&converted).unwrap();
    assert_eq!((settings.database.max_connections, settings.redis.pool_size), (100, 100));
    assert_eq!(settings.rabbitmq.prefetch, 10);
    assert_eq!((settings.rate_limiting.ip.enabled, settings.rate_limiting.ip.max_per_second), (true, 17));
    assert_eq!(settings.cache_management.warmup.top_resources, 200);
    assert_eq!(settings.event_driven_sync.idempotency_ttl, Duration::from_secs(3_600));
    assert_eq!(settings.service.drain_timeout, Duration::from_secs(30));
    assert_eq!(settings.data_consistency.report.retention, Duration::from_secs(30 * 86_400));
    assert_eq!(settings.monitoring.log_format, service_runtime::LogFormat::Json);
    // What is ours is ours already; what was not the same is said once.
    let again = convert("new.yml", &converted).unwrap();
    let keys = |text: &str| text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(keys(&again), keys(&converted));
    let checked = check("new.yml", &converted).unwrap();
    assert!(
        Checked::all_start(&checked.programs)
            && checked
                .keys
                .iter()
                .all(|(_, meaning)| *meaning == Meaning::Ours || matches!(meaning, Meaning::TakenOver(..)))
    );
}

#[test]
fn what_is_not_the_same_here_is_said_by_check_and_in_the_converted_file() {
    let old = "
service: {port: 9000}
rate_limiting: {global: {max_qps: 10}}
security: {ip_rate_limiting: {requests_per_minute: 30}}
cache_management: {warmup: {warmup_video_count: 100, warmup_comment_count: 200}}
";
    let (checked, converted) = (check("old.yml", old).unwrap(), convert("old.yml", old).unwrap());
    let meaning = |wanted: &str| checked.keys.iter().find(|(key, _)| key == wanted).unwrap().1.to_string();
    for (key, said) in [
        ("security.ip_rate_limiting.requests_per_minute", "1 a second are 60 a minute, not 30"),
        (
            "cache_management.warmup.warmup_video_count",
            "cache_management.warmup.warmup_comment_count has the larger number, 200, which counts for both",
        ),
        ("service.port", "at this host alone"),
    ] {
        assert!(meaning(key).contains(said), "{}", meaning(key));
        let comment = converted.lines().find(|line| line.starts_with(&format!("# {key}, now ")));
        assert!(comment.is_some_and(|comment| comment.contains(said)), "{key}: {converted}");
    }
    assert!(!meaning("cache_management.warmup.warmup_comment_count").contains("larger"));
    // A limit that begins with a hundred thousand at once limits nobody.
    let global = load(&converted).unwrap().rate_limiting.global;
    assert_eq!((global.max_per_second, global.burst), (10, 10));
    // What comes out even is no remark.
    let even = check("old.yml", "security: {ip_rate_limiting: {requests_per_minute: 120}}").unwrap();
    assert!(!even.keys[0].1.to_string().contains("rounded"), "{:?}", even.keys);
}

#[test]
fn names_and_passwords_of_any_characters_are_converted() {
    let old = "database: {host: '::1', username: 'a b', password: 'p@s/s:#?%''\"', database: likes}
redis: {host: cache, password: '12345@/', database: 2}
rabbitmq: {url: 'amqp://me:p%40@h/'}
";
    let settings = load(&convert("old.yml", old).unwrap()).unwrap();
    let url = |secret: &secrecy::SecretString| secrecy::ExposeSecret::expose_secret(secret).to_owned();
    assert_eq!(url(&settings.database.url), "mysql://a%20b:p%40s%2Fs%3A%23%3F%25%27%22@[::1]:3306/likes");
    assert_eq!(url(&settings.redis.url), "redis://:12345%40%2F@cache:6379/2");
    assert_eq!(url(&settings.rabbitmq.url), "amqp://me:p%40@h/%2f");
}

#[test]
fn unknown_keys_and_values_are_named_with_what_was_meant() {
    let said = |text: &str| {
        let checked = check("x.yml", text).unwrap();
        assert!(!checked.is_answered() && checked.keys.len() == 1, "{text}");
        (checked.keys[0].1.to_string(), convert("x.yml", text).unwrap_err().to_string())
    };
    for (text, meaning) in [
        ("redis: {ulr: secret}", "unknown: did you mean redis.url?"),
        ("data_consistency: {chek_interval: 5m}", "unknown: did you mean data_consistency.check_interval?"),
        ("event_driven_sync: {max_retries: 3}", "unknown: did you mean event_driven_sync.retry.max_retries?"),
        ("nonsense: {whatsoever: 3}", "unknown"),
        ("data_consistency: {report: {retention_days: many}}", "cannot be used: must be a whole number"),
        ("service: {port: 70000}", "cannot be used: must be a port, 0 to 65535"),
        ("database: {host: h}", "cannot be used: database.database is needed beside it"),
    ] {
        let (found, refused) = said(text);
        assert_eq!(found, meaning, "{text}");
        assert!(refused.contains(meaning) && !refused.contains("secret"), "{text}: {refused}");
    }
    // What is legal in the old system and not here is named by our key.
    let error =
        convert("x.yml", "event_driven_sync: {event_processing: {batch_size: 100000}}").unwrap_err().to_string();
    assert!(error.starts_with("event_driven_sync.batch_size: must be 1 to"), "{error}");
    let both = "cache_management: {consistency: {check_interval: 5m}}\ndata_consistency: {check_interval: 6m}\n";
    let said = "says 6m, and cache_management.consistency.check_interval says 5m: leave one of them out";
    let error = convert("x.yml", both).unwrap_err().to_string();
    assert_eq!(error, format!("data_consistency.check_interval: cannot be used: {said}"));
    // It is no answer, and not the end of the check: the programs are asked, too, and say the same of both.
    let checked = check("x.yml", both).unwrap();
    assert!(!checked.is_answered() && checked.keys.iter().any(|(_, meaning)| meaning.to_string().ends_with(said)));
    let refused = checked.programs[0].refused.as_deref().unwrap_or_default();
    assert!(
        refused.contains("cache_management.consistency.check_interval: says 5m, and data_consistency"),
        "{refused}"
    );
}
