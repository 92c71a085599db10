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

#[test]
fn a_slash_in_a_vhost_must_be_encoded() {
    for (url, refused) in [
        ("amqp://h/a/b", true),
        ("amqp://h/a%2Fb", false),
        ("amqp://me:p%2Fw@h/%2f?frame_max=8192", false),
        ("amqp://h", false),
        ("amqp://h//", false),
        ("amqp://h//a", true),
    ] {
        let error = config(url).validate().err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(error.contains("url: has a slash in its vhost: there it is written %2F"), refused, "{url}: {error}");
    }
}
