//! The gRPC server in front of Redis, RabbitMQ and MySQL; everything but its stores is [`interaction_api`].

use interaction_api::Sockets;
use service_runtime::Context;
use settings::Settings;

/// Serves until the soft token; see [`interaction_api::serve`].
pub async fn serve(context: Context, settings: Settings) -> anyhow::Result<()> {
    let sockets = Sockets::bind(&context.gate, &settings.service).await?;
    let mut stores = settings.stores().await?;
    stores.traces = settings.traces(&context);
    let broker = Some(settings.rabbitmq.clone());
    interaction_api::serve(context, settings, sockets, stores, broker).await
}
