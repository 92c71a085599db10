//! The smallest service; `mode` says how it behaves when asked to stop. The tests of shutdown run it.

use serde::Deserialize;
use service_runtime::{Configured, Context, MonitoringConfig, Options, ServiceConfig, run};
use std::process::ExitCode;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    mode: String,
    service: ServiceConfig,
    monitoring: MonitoringConfig,
}

impl Default for Settings {
    fn default() -> Self {
        Self { mode: "polite".to_owned(), service: ServiceConfig::default(), monitoring: MonitoringConfig::default() }
    }
}

impl Configured for Settings {
    fn service(&self) -> &ServiceConfig {
        &self.service
    }

    fn monitoring(&self) -> &MonitoringConfig {
        &self.monitoring
    }
}

fn main() -> ExitCode {
    match Options::from_args("harness", env!("CARGO_PKG_VERSION")) {
        Ok(options) => run(options, serve),
        Err(code) => code,
    }
}

async fn serve(context: Context, settings: Settings) -> anyhow::Result<()> {
    let listener = context.gate.listen("service.http_addr", settings.service.http_addr).await?;
    println!("listening on {}", listener.local_addr()?);
    context.serve_ops(listener, axum::Router::new());
    metrics::histogram!("harness_wait_seconds").record(0.02);
    match settings.mode.as_str() {
        "fails" => anyhow::bail!("no luck"),
        "part fails" => context.spawn("part", async { anyhow::bail!("bad part") }),
        "panics" => context.spawn("part", async { std::panic::panic_any("on purpose") }),
        "slow" => {
            // Ends by itself only when the hard token says so.
            let hard = context.hard.clone();
            context.tracker.spawn(async move { hard.cancelled().await });
        }
        // It never says that it has started.
        "down" => drop(context.health.startup()),
        "stuck" => std::future::pending::<()>().await,
        _ => {}
    }
    context.soft.cancelled().await;
    println!("draining");
    Ok(())
}
