//! Configuration: one YAML file plus the environment, and every mistake as one line that names the key.

mod keys;
mod load;
mod networks;
mod origin;
pub(crate) mod reload;
mod renamed;
mod sections;
mod value;
mod words;
mod yaml;

pub use keys::{given, keys};
pub(crate) use load::load_service;
pub use load::{ConfigError, ENV_PREFIX, load, load_renamed, parse, parse_renamed};
pub use networks::TrustedProxies;
pub use origin::PublicOrigin;
pub use renamed::{Renamed, same_value};
pub use sections::{
    AccessConfig, AlertsConfig, LogFormat, MonitoringConfig, OpsTls, ServiceConfig, TlsConfig, TracingConfig,
};
