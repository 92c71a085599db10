//! Configuration: one YAML file plus the environment, and every mistake as one line that names the key.

mod load;
pub(crate) mod reload;
mod sections;
mod value;

pub use load::{ConfigError, ENV_PREFIX, load, parse};
pub use sections::{AccessConfig, LogFormat, MonitoringConfig, ServiceConfig, TlsConfig, TracingConfig};
