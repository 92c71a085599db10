use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use service_runtime::{ConfigError, LogFormat, MonitoringConfig, ServiceConfig, load, parse};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    service: ServiceConfig,
    monitoring: MonitoringConfig,
    redis: Redis,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Redis {
    url: Option<SecretString>,
    url_file: Option<PathBuf>,
    pool: u16,
    ratio: f64,
    durable: bool,
    label: String,
    nodes: Vec<String>,
    weights: Vec<u32>,
    #[serde(with = "humantime_serde")]
    timeout: Duration,
    mode: Option<Mode>,
    limits: BTreeMap<String, u64>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    Single,
    Percentage(u8),
}

const SAMPLE: &str = "
service:
  http_addr: 127.0.0.1:1234
  drain_timeout: 3s
monitoring:
  # nothing set here
redis:
  url: redis://:hunter2@localhost
  pool: 8
  ratio: 0.5
  label: '007'
  nodes: [a, b]
  mode: single
  limits: {user: 60}
";

fn with(yaml: &str, environment: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    parse("test.yml", yaml, environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

fn error(yaml: &str, environment: &[(&str, &str)]) -> String {
    let error = with(yaml, environment).map(|settings| format!("accepted: {settings:?}")).unwrap_err().to_string();
    assert!(!error.contains('\n'), "more than a line: {error}");
    error
}

#[test]
fn a_file_overrides_the_defaults() {
    let settings = with(SAMPLE, &[]).unwrap();
    assert_eq!(settings.service.http_addr.port(), 1234);
    assert_eq!(settings.service.drain_timeout, Duration::from_secs(3));
    assert_eq!(settings.service.grpc_addr, ServiceConfig::default().grpc_addr);
    assert_eq!(settings.monitoring, MonitoringConfig::default());
    assert_eq!((settings.redis.label.as_str(), settings.redis.mode), ("007", Some(Mode::Single)));
    assert_eq!(settings.redis.limits["user"], 60);
    for empty in ["", "\n# only a comment\n"] {
        assert_eq!(with(empty, &[]).unwrap().service, ServiceConfig::default());
    }
}

#[test]
fn the_environment_overrides_the_file_in_the_types_of_the_fields() {
    let settings = with(
        SAMPLE,
        &[
            ("INTERACTION__REDIS__POOL", "16"),
            ("INTERACTION__REDIS__RATIO", "1"),
            ("INTERACTION__redis__durable", "true"),
            ("INTERACTION__REDIS__LABEL", "42"),
            ("INTERACTION__REDIS__NODES", "x, y,z"),
            ("INTERACTION__REDIS__WEIGHTS", "1,2"),
            ("INTERACTION__REDIS__TIMEOUT", "1m 30s"),
            ("INTERACTION__REDIS__URL", "redis://other"),
            ("INTERACTION__REDIS__LIMITS__GLOBAL", "5"),
            ("INTERACTION__SERVICE__WORKER_THREADS", "3"),
            ("INTERACTION__SERVICE__INSTANCE", ""),
            ("INTERACTION__MONITORING__LOG_FORMAT", "json"),
            ("INTERACTION_UNRELATED", "1"),
            ("HOME", "/root"),
        ],
    )
    .unwrap();
    let redis = settings.redis;
    assert_eq!((redis.pool, redis.ratio, redis.durable, redis.label.as_str()), (16, 1.0, true, "42"));
    assert_eq!((redis.nodes, redis.weights), (vec!["x".to_owned(), "y".to_owned(), "z".to_owned()], vec![1, 2]));
    assert_eq!(redis.timeout, Duration::from_secs(90));
    assert_eq!(redis.url.unwrap().expose_secret(), "redis://other");
    assert_eq!((redis.limits["user"], redis.limits["global"]), (60, 5));
    assert_eq!((settings.service.worker_threads, settings.service.instance), (Some(3), None));
    assert_eq!(settings.monitoring.log_format, LogFormat::Json);
}

#[test]
fn unknown_keys_are_named_in_full() {
    let said = error("redis:\n  ulr: x\n", &[]);
    assert!(said.starts_with("redis: unknown key ulr, expected one of url, url_file, pool,"), "{said}");
    let said = error("radis: {}\n", &[]);
    assert!(said.contains("unknown key radis, expected one of service, monitoring, redis"), "{said}");
    let said = error(SAMPLE, &[("INTERACTION__REDIS__ULR", "x")]);
    assert!(said.starts_with("redis (from INTERACTION__REDIS__ULR): unknown key ulr"), "{said}");
    let said = error(SAMPLE, &[("INTERACTION__RADIS__URL", "x")]);
    assert!(said.contains("unknown key radis"), "{said}");
}

#[test]
fn bad_values_are_named_in_full() {
    for (yaml, start) in [
        ("redis: {pool: many}", "redis.pool: invalid value \"many\", expected a whole number, 0 or more"),
        ("redis: {pool: 70000}", "redis.pool: invalid value 70000, expected a whole number, 0 to 65535"),
        ("redis: {pool: '8'}", "redis.pool: invalid value \"8\", expected a whole number, 0 to 65535, without quotes"),
        ("redis: {weights: [1, -2]}", "redis.weights.1: invalid value \"-2\""),
        ("redis: {mode: triple}", "redis.mode: unknown value triple, expected one of single, percentage"),
        ("redis: {timeout: soon}", "redis.timeout: "),
        ("redis: {limits: {user: x}}", "redis.limits.user: invalid value"),
        ("redis: 5", "redis: expected a section with keys below it, not a value"),
        ("service: {http_addr: nowhere}", "service.http_addr: "),
        ("monitoring: {log_format: loud}", "monitoring.log_format: unknown value loud"),
        ("just text", "test.yml: "),
        ("a: [1", "test.yml: "),
    ] {
        let said = error(yaml, &[]);
        assert!(said.starts_with(start), "{yaml}: {said}");
    }
    for (variable, value, start) in [
        ("INTERACTION__REDIS__POOL", "many", "redis.pool (from INTERACTION__REDIS__POOL): invalid value \"many\""),
        ("INTERACTION__REDIS__POOL", "70000", "redis.pool (from INTERACTION__REDIS__POOL): invalid value 70000"),
        ("INTERACTION__REDIS__WEIGHTS", "1,b", "redis.weights.1 (from INTERACTION__REDIS__WEIGHTS): invalid value"),
        ("INTERACTION__REDIS__MODE", "triple", "redis.mode (from INTERACTION__REDIS__MODE): unknown value triple"),
        ("INTERACTION__REDIS__TIMEOUT", "soon", "redis.timeout (from INTERACTION__REDIS__TIMEOUT): "),
        ("INTERACTION__REDIS", "x", "redis (from INTERACTION__REDIS): expected a section with keys below it"),
        ("INTERACTION__REDIS____POOL", "1", "INTERACTION__REDIS____POOL: has an empty part"),
    ] {
        let said = error(SAMPLE, &[(variable, value)]);
        assert!(said.starts_with(start), "{variable}: {said}");
    }
    let said = error(SAMPLE, &[("INTERACTION__REDIS", "x"), ("INTERACTION__REDIS__POOL", "1")]);
    assert!(said.starts_with("INTERACTION__REDIS__POOL: lies below"), "{said}");
}

#[test]
fn a_list_of_the_environment_has_commas_and_nothing_else() {
    let nodes = |text: &str| with("{}", &[("INTERACTION__REDIS__NODES", text)]);
    assert_eq!(nodes("a:1, [::1]:2").unwrap().redis.nodes, ["a:1", "[::1]:2"]);
    assert_eq!(nodes("[::1]").unwrap().redis.nodes, ["[::1]"]);
    let refused = nodes(r#"["a:1","b:2"]"#).unwrap_err().to_string();
    assert!(refused.contains("INTERACTION__REDIS__NODES") && refused.contains("without brackets"), "{refused}");
}

#[test]
fn variants_with_a_value_can_be_given() {
    assert_eq!(with("redis: {mode: {percentage: 5}}", &[]).unwrap().redis.mode, Some(Mode::Percentage(5)));
    let over = with("", &[("INTERACTION__REDIS__MODE__PERCENTAGE", "7")]).unwrap();
    assert_eq!(over.redis.mode, Some(Mode::Percentage(7)));
    let said = error("redis: {mode: {percentage: x}}", &[]);
    assert!(said.starts_with("redis.mode.percentage: "), "{said}");
}

#[test]
fn secrets_come_from_files_and_are_never_shown() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "redis://:s3cret@host").unwrap();
    let path = file.path().to_str().unwrap();

    let settings = with(SAMPLE, &[("INTERACTION__REDIS__URL_FILE", path)]).unwrap();
    assert_eq!(settings.redis.url.as_ref().unwrap().expose_secret(), "redis://:s3cret@host");
    assert!(!format!("{settings:?}").contains("s3cret"), "{settings:?}");
    let settings = with(&format!("redis: {{url_file: '{path}'}}"), &[]).unwrap();
    assert_eq!(settings.redis.url.unwrap().expose_secret(), "redis://:s3cret@host");
    assert_eq!(settings.redis.url_file.as_deref(), Some(file.path()), "nobody could follow the file");
    let over = [("INTERACTION__REDIS__URL", "redis://x")];
    let settings = with(&format!("redis: {{url_file: '{path}'}}"), &over).unwrap();
    assert_eq!(settings.redis.url.unwrap().expose_secret(), "redis://x");
    assert_eq!(settings.redis.url_file, None, "a file that is not valid is followed");

    let said = error(SAMPLE, &[("INTERACTION__REDIS__URL_FILE", "/nowhere")]);
    assert!(said.starts_with("redis.url_file: /nowhere: "), "{said}");
    let both = [("INTERACTION__REDIS__URL_FILE", path), ("INTERACTION__REDIS__URL", "x")];
    assert!(error(SAMPLE, &both).contains("given together with url"), "{}", error(SAMPLE, &both));
    let said = error("redis: {url: [hunter2]}", &[]);
    assert!(said.starts_with("redis.url") && !said.contains("hunter2"), "{said}");
}

#[test]
fn a_missing_file_is_named() {
    let missing = load::<Settings>(Some(Path::new("/nowhere/at/all.yml")), []).unwrap_err().to_string();
    assert!(missing.starts_with("/nowhere/at/all.yml: "), "{missing}");
    assert!(load::<Settings>(None, []).is_ok());
}
