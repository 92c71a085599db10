//! A broker behind TLS, with an authority of one's own.

use crate::support::{config, event, next, versions};
use event_bus::{BusConfig, BusError, Consumer, Headers, Publisher};
use test_support::{Authority, RabbitMq};

#[tokio::test]
async fn only_a_broker_of_the_authority_is_believed() {
    let (ca, other) = (Authority::new("ours").unwrap(), Authority::new("theirs").unwrap());
    let broker = RabbitMq::start_tls(&ca).await.unwrap();
    let good = BusConfig { ca_file: Some(ca.ca()), ..config(broker.url()) };
    let mut publisher = Publisher::new(good.clone());
    publisher.publish(&[event(7)], &Headers::new()).await.unwrap();
    let mut consumer = Consumer::connect(&good).await.unwrap();
    assert_eq!(versions(&next(&mut consumer).await), [7]);

    for ca_file in [Some(other.ca()), None] {
        let bad = BusConfig { ca_file: ca_file.clone(), ..good.clone() };
        match Publisher::new(bad).publish(&[event(8)], &Headers::new()).await {
            Err(BusError::Unavailable { .. }) => {}
            other => panic!("{ca_file:?}: {other:?}"),
        }
    }
}

#[test]
fn an_authority_that_is_of_no_use_is_refused() {
    let ca = Authority::new("ours").unwrap();
    for (url, file) in [("amqp://localhost", ca.ca()), ("amqps://localhost", ca.path("missing"))] {
        let error = BusConfig { ca_file: Some(file), ..config(url) }.validate().unwrap_err().to_string();
        assert!(error.starts_with("ca_file: "), "{url}: {error}");
    }
}
