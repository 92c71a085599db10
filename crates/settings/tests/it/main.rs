//! The sample configuration is a test.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking; helpers too")]

mod bounds;
mod old_system;

use service_runtime::Configured;
use settings::Settings;
use std::path::Path;

pub(crate) const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/config/event_driven_sync.yml");

pub(crate) fn load(text: &str) -> Result<Settings, String> {
    let file = tempfile::Builder::new().suffix(".yml").tempfile().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let settings = <Settings as Configured>::load(Some(file.path()), Vec::new());
    settings.and_then(|s| s.validate().map(|()| s)).map_err(|error| error.to_string())
}

#[test]
fn the_sample_names_every_key_and_its_default() {
    let sample = service_runtime::load::<Settings>(Some(Path::new(SAMPLE)), std::iter::empty()).unwrap();
    sample.validate().unwrap();
    assert_eq!(format!("{sample:#?}"), format!("{:#?}", Settings::default()));
}

#[test]
fn mistakes_are_one_line_that_names_the_key() {
    for (text, expected) in [
        ("redis:\n  ulr: x\n", "redis: unknown key ulr"),
        ("rabbitmq:\n  prefetch: many\n", "rabbitmq.prefetch"),
        ("event_driven_sync:\n  batch_size: 0\n", "event_driven_sync.batch_size"),
        ("event_driven_sync:\n  shards: 0\n", "event_driven_sync.shards"),
        ("event_driven_sync:\n  retry:\n    backoff_factor: 0.5\n", "event_driven_sync.retry.backoff_factor"),
        ("event_driven_sync:\n  retention:\n    tombstones: 1s\n", "event_driven_sync.retention.tombstones"),
        ("event_driven_sync:\n  event_driven_percentage: 101\n", "event_driven_sync.event_driven_percentage"),
        ("event_driven_sync:\n  write_path: sometimes\n", "event_driven_sync.write_path"),
        ("rate_limiting:\n  user_action:\n    max_actions: 0\n", "rate_limiting.user_action.max_actions"),
        ("cache_management:\n  default_expiry: soon\n", "cache_management.default_expiry"),
        ("cache_management:\n  warmup:\n    max_rate: 1\n", "cache_management.warmup.max_rate"),
        ("cache_management:\n  live_counts:\n    interval: 0s\n", "cache_management.live_counts.interval"),
        ("data_consistency:\n  batch_size: 0\n", "data_consistency.batch_size"),
        ("data_consistency:\n  history: 60d\n", "data_consistency.history"),
        ("data_consistency:\n  auto_fix:\n    strategy: guess\n", "data_consistency.auto_fix.strategy"),
        (
            "rate_limiting:\n  user_action:\n    max_actions: 60000\n    window: 5ms\n",
            "rate_limiting.user_action.window",
        ),
        ("nonsense: 1\n", "nonsense"),
    ] {
        let error = load(text).unwrap_err();
        assert!(error.contains(expected), "{expected} is not named in: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn secrets_are_never_printed() {
    let text = "database:\n  url: mysql://u:geheim@h/db\nredis:\n  url: redis://:geheim@h\nrabbitmq:\n  url: amqp://u:geheim@h/%2f\n";
    assert!(!format!("{:?}", load(text).unwrap()).contains("geheim"));
}
