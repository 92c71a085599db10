//! Logs and metrics.

use super::{help, old_names};
use crate::config::{ConfigError, LogFormat, MonitoringConfig};
use crate::request_lines::{json_lines, lines};
use axum::body::Bytes;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::util::SubscriberInitExt;

const LOG_LEVEL: &str = "monitoring.log_level";

/// Sub-millisecond to a minute.
const SECONDS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// From acceptance to commit: tens of milliseconds under load, and it has to be told how many of them.
const LAG: [f64; 27] = [
    0.0005, 0.001, 0.0025, 0.005, 0.0075, 0.01, 0.0125, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.05, 0.06, 0.075, 0.1,
    0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];

/// Batches and queues.
const SIZES: [f64; 13] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0];

/// Between two renderings of what is scraped.
const SCRAPES: Duration = Duration::from_millis(20);

const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Installs the process's log subscriber; lines go to stderr. A second call in a process changes nothing.
///
/// `rust_log` takes the place of the configured level. The AMQP client's own messages are off: each of its failures
/// comes back to a caller, who says it once.
pub fn init_logging(config: &MonitoringConfig, rust_log: Option<&str>) -> Result<(), ConfigError> {
    let filter = filter(config, rust_log)?;
    let colours = std::io::stderr().is_terminal();
    // An error means that there is one already, as in tests.
    let _ = match config.log_format {
        LogFormat::Human => lines(filter, std::io::stderr, colours).try_init(),
        LogFormat::Json => json_lines(filter, std::io::stderr).try_init(),
    };
    Ok(())
}

/// Libraries that write a line for each thing that strangers send, or that is slow: what matters of it is said and counted here.
const LIBRARIES: &str = "lapin=off,h2=error,sqlx=error";

/// What is logged, by `rust_log` or else as configured.
pub(crate) fn filter(config: &MonitoringConfig, rust_log: Option<&str>) -> Result<EnvFilter, ConfigError> {
    known_levels(&config.log_level).map_err(|reason| ConfigError::key(LOG_LEVEL, reason))?;
    let (key, directives) = match rust_log {
        Some(directives) => ("RUST_LOG", directives),
        None => (LOG_LEVEL, config.log_level.as_str()),
    };
    let filter = EnvFilter::builder().parse(format!("{LIBRARIES},{directives}"));
    filter.map_err(|error| ConfigError::key(key, format!("{directives:?}: {error}")))
}

/// A word alone must be a level. By `RUST_LOG` it may be a part of the program, all of whose lines are wanted: then a level that
/// is none would be a part that is none, and nothing is logged at all.
fn known_levels(directives: &str) -> Result<(), String> {
    for directive in directives.split(',').map(str::trim) {
        if !directive.contains(['=', '[']) && directive.parse::<LevelFilter>().is_err() {
            return Err(format!(
                "{directive:?} is no level: off, error, warn, info, debug or trace, or of a part, part=level"
            ));
        }
    }
    Ok(())
}

/// Renders what was recorded through the `metrics` macros.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
    /// Whether what is scraped has the names of the release before, too.
    old_names: bool,
    scraped: Arc<tokio::sync::Mutex<Option<Scraped>>>,
}

/// What was scraped last.
struct Scraped {
    /// When rendering it began.
    at: Instant,
    text: Bytes,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Installs the process's recorder: histograms named `*_seconds` and `*_size` get fixed buckets.
    ///
    /// # Errors
    /// When the process has a recorder already.
    pub fn install() -> anyhow::Result<Self> {
        let recorder = with_buckets()?.build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder)
            .map_err(|_| anyhow::anyhow!("the process has a metrics recorder already"))?;
        help::describe();
        Ok(Self::of(handle))
    }

    fn of(handle: PrometheusHandle) -> Self {
        Self { handle, old_names: false, scraped: Arc::default() }
    }

    /// Shows what is scraped by the names of the release before, too.
    #[must_use]
    pub fn with_old_names(self, old_names: bool) -> Self {
        Self { old_names, ..self }
    }

    /// What is scraped: as it is after the question, made once for all who wait for it, and once every 20 ms. Whoever may
    /// ask, and asks as fast as it can, takes a small part of one processor, and no thread that answers calls.
    ///
    /// # Errors
    /// When the runtime ends.
    pub async fn expose(&self) -> Result<Bytes, tokio::task::JoinError> {
        let asked = Instant::now();
        let mut scraped = self.scraped.lock().await;
        if let Some(last) = &*scraped {
            if last.at > asked {
                return Ok(last.text.clone());
            }
            tokio::time::sleep_until(last.at + SCRAPES).await;
        }
        let (at, metrics) = (Instant::now(), self.clone());
        let text = tokio::task::spawn_blocking(move || {
            let text = metrics.render();
            Bytes::from(if metrics.old_names { old_names::with_old_names(text) } else { text })
        });
        let text = text.await?;
        *scraped = Some(Scraped { at, text: text.clone() });
        Ok(text)
    }

    /// The text format of Prometheus, each metric by its name of today.
    pub fn render(&self) -> String {
        if let Some(bytes) = resident_bytes() {
            metrics::gauge!("process_resident_memory_bytes").set(bytes);
        }
        self.handle.render()
    }

    /// Keeps the histograms' memory bounded between scrapes; never returns.
    pub(crate) async fn upkeep(self) {
        let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
        loop {
            interval.tick().await;
            self.handle.run_upkeep();
        }
    }
}

fn with_buckets() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Full("interaction_commit_lag_seconds".to_owned()), &LAG)?
        .set_buckets_for_metric(Matcher::Suffix("_size".to_owned()), &SIZES)
}

/// Linux only; elsewhere the gauge is absent.
fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::JoinSet;

    #[test]
    fn lags_of_10_20_40_and_60_ms_are_told_apart_and_no_bound_of_before_is_gone() {
        let recorder = with_buckets().unwrap().build_recorder();
        ::metrics::with_local_recorder(&recorder, || {
            for ms in [9.0, 19.0, 39.0, 59.0] {
                ::metrics::histogram!("interaction_commit_lag_seconds").record(ms / 1e3);
            }
        });
        let text = recorder.handle().render();
        for (bound, count) in [("0.01", 1), ("0.02", 2), ("0.04", 3), ("0.06", 4), ("+Inf", 4)] {
            let line = format!("interaction_commit_lag_seconds_bucket{{le=\"{bound}\"}} {count}\n");
            assert!(text.contains(&line), "{line}: {text}");
        }
        for bound in SECONDS {
            assert!(LAG.contains(&bound), "{bound}: rules and panels of others may name it");
        }
    }

    #[tokio::test]
    async fn who_scrapes_all_the_time_costs_little_and_what_is_scraped_is_new() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let metrics = Metrics::of(recorder.handle());
        let began = Instant::now();
        let mut scrapes = JoinSet::new();
        for _ in 0..1_000 {
            let metrics = metrics.clone();
            scrapes.spawn(async move { metrics.expose().await.unwrap() });
        }
        let together = scrapes.join_all().await;
        // One rendering for whoever came before it, and one for the others.
        let mut different: Vec<_> = together.iter().map(|text| text.as_ptr()).collect();
        different.sort_unstable();
        different.dedup();
        assert!(different.len() <= 3, "{} were made", different.len());
        for count in 1..=5 {
            ::metrics::with_local_recorder(&recorder, || {
                ::metrics::counter!("interaction_applied_events_total").increment(1)
            });
            let text = metrics.expose().await.unwrap();
            assert!(
                String::from_utf8_lossy(&text).contains(&format!("interaction_applied_events_total {count}")),
                "{text:?}"
            );
        }
        assert!(began.elapsed() >= 5 * SCRAPES);
    }
}
