//! One harness for every binary: configuration, telemetry, ops HTTP, shutdown.
