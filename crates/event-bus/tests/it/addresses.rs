//! Addresses as people write them, at a real broker.

use crate::support::{config, event};
use event_bus::{Headers, Publisher};
use test_support::{listen_by_ipv6, shared};

#[tokio::test]
async fn ipv6_leads_there() {
    let broker = shared::rabbitmq().await.unwrap();
    let by_ipv6 = listen_by_ipv6(&broker.addr().unwrap()).await.unwrap();
    let likes = config(&format!("amqp://guest:guest@{by_ipv6}/%2f"));
    Publisher::new(likes).publish(&[event(7)], &Headers::new()).await.unwrap();
}
