//! Nodes of a cluster are asked who has which slot.

use super::GRACE;
use super::node::Node;
use crate::config::RedisConfig;
use deadpool_redis::redis::{AsyncConnectionConfig, RedisResult, Value, cmd};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, timeout_at};

/// What nodes say of the slots of their cluster; those that say nothing in time are left out.
pub(crate) async fn ask_for_slots(
    config: &RedisConfig,
    addresses: &[String],
) -> RedisResult<Vec<(String, RedisResult<Value>)>> {
    let (client, limit) = (config.client()?, Instant::now() + config.connect_timeout);
    let timeouts = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(config.connect_timeout))
        .set_response_timeout(Some(config.connect_timeout));
    let ask = async |address: &String| {
        let node = Node::at(client.get_connection_info(), address)?;
        let mut connection = node.client.get_multiplexed_async_connection_with_config(&timeouts).await?;
        cmd("CLUSTER").arg("SLOTS").query_async::<Value>(&mut connection).await
    };
    let mut asked: FuturesUnordered<_> =
        addresses.iter().map(async |address| (address.clone(), ask(address).await)).collect();
    let (mut until, mut answers) = (limit, Vec::new());
    while let Ok(Some((address, answer))) = timeout_at(until, asked.next()).await {
        if answer.is_ok() {
            // The others have a moment to say the same.
            until = until.min(Instant::now() + GRACE);
        }
        answers.push((address, answer));
    }
    Ok(answers)
}
