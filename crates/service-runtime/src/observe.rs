//! What a process says about itself: health, alerts judged by itself, logs and metrics, spans.

pub(crate) mod alerts;
pub(crate) mod health;
mod help;
mod old_names;
pub(crate) mod otlp;
pub(crate) mod pulse;
pub(crate) mod telemetry;
