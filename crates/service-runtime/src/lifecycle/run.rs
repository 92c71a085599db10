//! From the command line to the exit code.

use crate::config::{ConfigError, MonitoringConfig, ServiceConfig, load, load_service};
use crate::lifecycle::admit::admit;
use crate::lifecycle::ask::{Question, ask};
use crate::lifecycle::context::Context;
use crate::lifecycle::failpoints;
use crate::listen::gate::Gate;
use crate::observe::alerts::{self, AlertRule};
use crate::observe::otlp::Otlp;
use crate::observe::telemetry::Metrics;
use crate::observe::telemetry::init_logging;
use anyhow::Context as _;
use serde::de::DeserializeOwned;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Exit code for a configuration or command line that cannot be used (`EX_USAGE`).
pub const EXIT_CONFIG: u8 = 64;

/// What is left to a service after the hard token, before it is abandoned.
const HARD_GRACE: Duration = Duration::from_secs(2);

/// A configuration that a binary runs with.
pub trait Configured: DeserializeOwned + Send + 'static {
    /// Section `service`.
    fn service(&self) -> &ServiceConfig;
    /// Section `monitoring`.
    fn monitoring(&self) -> &MonitoringConfig;
    /// What the process raises about itself in `/health`, by the metrics of the crates that it is made of.
    fn alert_rules(&self) -> &'static [AlertRule] {
        &[]
    }
    /// Reads it, as [`crate::load`] does. A crate whose configuration several programs share says so once more: then it is
    /// compiled there, and not with each program.
    fn load(path: Option<&Path>, environment: Vec<(String, String)>) -> Result<Self, ConfigError> {
        load(path, environment)
    }
    /// What it starts with, and somebody should look at all the same; each a line that names the key.
    fn remarks(&self, _environment: &[(String, String)]) -> Vec<String> {
        Vec::new()
    }
    /// Checks across keys, which deserializing cannot make.
    fn validate(&self) -> Result<(), ConfigError> {
        Ok(())
    }
}

/// What a process is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Name of the binary.
    pub service: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Configuration file; defaults and environment only if absent.
    pub config: Option<PathBuf>,
    /// The environment, as given to the process.
    pub environment: Vec<(String, String)>,
    /// Instead of running: what to ask the process that runs with the same configuration.
    pub health: Option<Question>,
}

impl Options {
    /// With the process's environment; the file is what `INTERACTION_CONFIG` says.
    pub fn new(service: &'static str, version: &'static str) -> Self {
        let text = |value: std::ffi::OsString| value.to_string_lossy().into_owned();
        let environment: Vec<_> = std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
        let config = environment.iter().find(|(name, value)| name == "INTERACTION_CONFIG" && !value.is_empty());
        let config = config.map(|(_, value)| PathBuf::from(value));
        Self { service, version, config, environment, health: None }
    }

    /// Understands `--config FILE`, `--help`, `--version`, and `health` with `--live` or `--ready`; the error is the exit code,
    /// everything being said.
    pub fn from_args(service: &'static str, version: &'static str) -> Result<Self, ExitCode> {
        let mut options = Self::new(service, version);
        match options.take_args(std::env::args().skip(1)) {
            Ok(None) => Ok(options),
            Ok(Some(text)) => {
                println!("{text}");
                Err(ExitCode::SUCCESS)
            }
            Err(problem) => {
                eprintln!("{service}: {problem}");
                Err(ExitCode::from(EXIT_CONFIG))
            }
        }
    }

    /// `Some` is what to print instead of running.
    fn take_args(&mut self, mut args: impl Iterator<Item = String>) -> Result<Option<String>, String> {
        while let Some(arg) = args.next() {
            match arg.split_once('=').map_or((arg.as_str(), None), |(name, value)| (name, Some(value.to_owned()))) {
                ("--config" | "-c", value) => {
                    let file = value.or_else(|| args.next()).ok_or_else(|| format!("{arg} needs a file"))?;
                    self.config = Some(PathBuf::from(file));
                }
                ("--version" | "-V", None) => return Ok(Some(format!("{} {}", self.service, self.version))),
                ("--help" | "-h", None) => {
                    return Ok(Some(format!(
                        "{0} {1}\n\nusage: {0} [--config FILE]\n       {0} health [--ready | --live] [--config FILE]\n\n\
                         FILE is YAML (or INTERACTION_CONFIG); INTERACTION__SECTION__KEY overrides a key of it.\n\
                         health asks the {0} that runs here with this configuration how it is: exit code 0, well or \
                         degraded; 1, down; 69, no answer. --live: only whether it answers.",
                        self.service, self.version
                    )));
                }
                ("health", None) if self.health.is_none() => self.health = Some(Question::Ready),
                ("--ready", None) if self.health.is_some() => self.health = Some(Question::Ready),
                ("--live", None) if self.health.is_some() => self.health = Some(Question::Live),
                _ => return Err(format!("unknown argument {arg}, try --help")),
            }
        }
        Ok(None)
    }

    fn variable(&self, name: &str) -> Option<&str> {
        let found = self.environment.iter().find(|(key, value)| key == name && !value.is_empty());
        found.map(|(_, value)| value.as_str())
    }
}

/// Runs a service until it returns or is told to stop, and gives the exit code: 0, 1 after an error or a forced end,
/// [`EXIT_CONFIG`] for a configuration that cannot be used. Or asks one that runs: 0, 1, or 69 if it does not answer.
pub fn run<C, F, R>(options: Options, service: F) -> ExitCode
where
    C: Configured,
    F: FnOnce(Context, C) -> R + 'static,
    R: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    if let Some(question) = options.health {
        return ask_with::<C>(&options, question);
    }
    let prepared = C::load(options.config.as_deref(), options.environment.clone()).and_then(|config| {
        let rust_log = options.variable("RUST_LOG");
        let gate = admit(&config, rust_log)?;
        init_logging(config.monitoring(), rust_log)?;
        for remark in config.remarks(&options.environment) {
            tracing::warn!("configuration: {remark}");
        }
        if let Some(points) = options.variable(failpoints::VARIABLE) {
            failpoints::configure(points)?;
        }
        Ok((config, gate))
    });
    let (config, gate) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            eprintln!("{}: {error}", options.service);
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    let (section, monitoring) = (config.service().clone(), config.monitoring().clone());
    let alert_rules = config.alert_rules();
    // From here on the same code for every service, compiled here once: only how it begins differs.
    let service: Service = Box::new(move |context| Box::pin(service(context, config)));
    match run_configured(&options, section, monitoring, alert_rules, gate, service) {
        Ok(()) => ExitCode::SUCCESS,
        // Found only once the service looked at what it was told.
        Err(error) if error.is::<ConfigError>() => {
            eprintln!("{}: {error}", options.service);
            ExitCode::from(EXIT_CONFIG)
        }
        Err(error) => {
            tracing::error!("{} ends: {error:#}", options.service);
            ExitCode::FAILURE
        }
    }
}

/// A file that makes no sense any more, and would keep a program from starting, is no reason to take one out of service that
/// runs: then what it says of listeners is enough.
fn ask_with<C: Configured>(options: &Options, question: Question) -> ExitCode {
    let (file, environment) = (options.config.as_deref(), &options.environment);
    let section = C::load(file, environment.clone()).map(|config| config.service().clone());
    match section.or_else(|error| load_service(file, environment.clone()).map_err(|_| error)) {
        Ok(section) => ask(options, &section, question),
        Err(error) => {
            eprintln!("{}: {error}", options.service);
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

type Service = Box<dyn FnOnce(Context) -> Running>;
type Running = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;

fn run_configured(
    options: &Options,
    section: ServiceConfig,
    monitoring: MonitoringConfig,
    alert_rules: &'static [AlertRule],
    gate: Gate,
    service: Service,
) -> anyhow::Result<()> {
    let instance = section.instance.clone().unwrap_or_else(default_instance);
    let mut context = Context::new(options.service, options.version, instance);
    context.gate = gate;
    context.metrics = monitoring.metrics.then(Metrics::install).transpose()?;
    context.metrics = context.metrics.map(|metrics| metrics.with_old_names(monitoring.old_metric_names));

    let runtime = runtime(section.worker_threads).context("starting the runtime")?;
    let result = runtime.block_on(async {
        watch_signals(&context, section.drain_timeout).context("listening for signals")?;
        context.otlp = Otlp::start(&monitoring.tracing, context.service, context.version, &context.instance)?;
        context.watch_gate();
        if let Some(metrics) = context.metrics.clone() {
            tokio::spawn(metrics.clone().upkeep());
            alerts::publish(&monitoring.alerts);
            if monitoring.alerts.enabled {
                tokio::spawn(alerts::watch(metrics, context.health.clone(), alert_rules, monitoring.alerts));
            }
        }
        tracing::info!(instance = &*context.instance, "{} {} starts", context.service, context.version);
        let ended = supervise(&context, service(context.clone())).await;
        if let Some(otlp) = context.otlp.take() {
            // It blocks; and its exporter needs this runtime.
            let _ = tokio::task::spawn_blocking(move || otlp.end()).await;
        }
        ended
    });
    // Blocking work that is still going on must not keep the process.
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

fn runtime(worker_threads: Option<usize>) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = match worker_threads {
        // Nobody has to be woken on another thread.
        Some(1) => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if let Some(threads) = worker_threads {
        builder.worker_threads(threads);
    }
    builder.enable_all().build()
}

/// First signal: soft. Second one, or the deadline after whatever cancelled the soft token: hard.
fn watch_signals(context: &Context, drain_timeout: Duration) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let context = context.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = context.soft.cancelled() => {}
        }
        if !context.soft.is_cancelled() {
            tracing::info!("stopping; a second signal, or {drain_timeout:?}, ends it at once");
            context.soft.cancel();
        }
        tokio::select! {
            _ = terminate.recv() => tracing::warn!("second signal: ending at once"),
            _ = interrupt.recv() => tracing::warn!("second signal: ending at once"),
            () = tokio::time::sleep(drain_timeout) => tracing::warn!("not drained within {drain_timeout:?}"),
        }
        context.hard.cancel();
    });
    Ok(())
}

/// Waits for the service and its tasks, but not longer than shortly after the hard token.
async fn supervise(context: &Context, service: Running) -> anyhow::Result<()> {
    // A task of its own, so that it can be abandoned and its panic is an error like any other.
    let service = tokio::spawn(service);
    let all = async {
        let result = match service.await {
            Ok(result) => result,
            Err(error) => Err(anyhow::anyhow!("the service panicked: {error}")),
        };
        context.soft.cancel();
        context.tracker.close();
        context.tracker.wait().await;
        result
    };
    let abandoned = async {
        context.hard.cancelled().await;
        tokio::time::sleep(HARD_GRACE).await;
    };
    tokio::select! {
        result = all => {
            result?;
            anyhow::ensure!(!context.has_failed(), "a part of it failed");
            anyhow::ensure!(!context.hard.is_cancelled(), "stopped before all was drained");
            tracing::info!("stopped");
            Ok(())
        }
        () = abandoned => anyhow::bail!("abandoned what did not stop"),
    }
}

fn default_instance() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "local" } else { host.trim() };
    format!("{host}-{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_worker_thread_is_the_main_one() {
        let flavor = |threads| format!("{:?}", runtime(threads).unwrap().handle().runtime_flavor());
        assert_eq!([Some(1), Some(2), None].map(flavor), ["CurrentThread", "MultiThread", "MultiThread"]);
    }

    fn take(args: &[&str]) -> Result<(Options, Option<String>), String> {
        let mut options =
            Options { service: "test", version: "1", config: None, environment: Vec::new(), health: None };
        let said = options.take_args(args.iter().map(ToString::to_string))?;
        Ok((options, said))
    }

    #[test]
    fn arguments() {
        assert_eq!(take(&["--config", "a.yml"]).unwrap().0.config, Some(PathBuf::from("a.yml")));
        assert_eq!(take(&["--config=a=b.yml"]).unwrap().0.config, Some(PathBuf::from("a=b.yml")));
        assert_eq!(take(&["--version"]).unwrap().1.as_deref(), Some("test 1"));
        assert_eq!(take(&["--config"]).unwrap_err(), "--config needs a file");
        assert_eq!(take(&["--nope"]).unwrap_err(), "unknown argument --nope, try --help");
        for (args, expected) in [
            (&["health"][..], Some(Question::Ready)),
            (&["health", "--live", "--config", "a.yml"], Some(Question::Live)),
            (&["--config=a.yml", "health", "--ready"], Some(Question::Ready)),
            (&[], None),
        ] {
            assert_eq!(take(args).unwrap().0.health, expected, "{args:?}");
        }
        assert_eq!(take(&["--live"]).unwrap_err(), "unknown argument --live, try --help");
    }
}
