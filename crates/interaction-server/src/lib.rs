//! The gRPC server in front of Redis, RabbitMQ and MySQL: its stores, what it says about them, and the order in which it starts
//! and ends. What it is made of stands in [`interaction_api`].

mod health;

use interaction_api::{Assembly, Sockets};
use service_runtime::Context;
use settings::Settings;

/// Serves until the soft token: then gRPC finishes what it has, the relay publishes what was accepted, and the rest ends.
pub async fn serve(context: Context, settings: Settings) -> anyhow::Result<()> {
    let sockets = Sockets::bind(&context.gate, &settings.service).await?;
    let mut stores = settings.followed_stores(&context).await?;
    settings.follow_broker(&context);
    stores.traces = settings.traces(&context);
    health::register(&context.health, &stores, &settings);
    let startup = context.health.startup();

    let assembly = Assembly::new(&context, &settings, &stores, Some(settings.rabbitmq.clone()));
    context.serve_ops(sockets.http, assembly.routes());
    stores.prepare().await?;
    let running = assembly.start();
    startup.ok();
    running.serve(sockets.grpc).await
}
