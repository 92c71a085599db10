//! What every program looks at before it starts: the same for whoever asks whether it would.

use crate::config::ConfigError;
use crate::lifecycle::run::Configured;
use crate::listen::gate::Gate;
use crate::observe::otlp;
use crate::observe::telemetry;

/// Checks a configuration as a program does that starts with it, and reads the files that it names. `rust_log` takes the place
/// of its log level. What a listener may be reached from is left: [`Gate::may_listen`].
pub fn admit<C: Configured>(config: &C, rust_log: Option<&str>) -> Result<Gate, ConfigError> {
    config.validate()?;
    if config.service().worker_threads == Some(0) {
        return Err(ConfigError::key("service.worker_threads", "must be at least 1"));
    }
    let monitoring = config.monitoring();
    telemetry::filter(monitoring, rust_log)?;
    otlp::admit(&monitoring.tracing)?;
    Gate::open(config.service())
}
