//! Another login without a restart.

use crate::support::{config, event, next, versions};
use event_bus::{BusConfig, BusError, Consumer, Headers, Publisher};
use test_support::RabbitMq;

#[tokio::test]
async fn user_and_password_change_while_likes_are_carried() {
    let broker = RabbitMq::start().await.unwrap();
    let url = |login: &str| broker.url().replace("guest:guest", login);
    let add = async |user: &str, password: &str| {
        broker.ctl(&["add_user", user, password]).await.unwrap();
        broker.ctl(&["set_permissions", "-p", "/", user, ".*", ".*", ".*"]).await.unwrap();
    };
    add("one", "old").await;
    let config = config(&url("one:old"));
    let mut publisher = Publisher::new(config.clone());
    let connect = async || Publisher::new(config.clone()).connect().await;
    let sent = async |publisher: &mut Publisher, version: i64| {
        publisher.publish(&[event(version)], &Headers::new()).await.unwrap();
    };
    sent(&mut publisher, 1).await;

    // What the broker does not take changes nothing, nor does what leads elsewhere.
    let refused = config.renew_login(url("one:wrong").into()).await.unwrap_err();
    assert!(refused.to_string().contains("password"), "{refused}");
    let elsewhere = config.renew_login(format!("{}x", url("one:old")).into()).await;
    assert!(matches!(elsewhere, Err(BusError::Config { .. })), "{elsewhere:?}");
    connect().await.unwrap();

    // Another password: what is open goes on, and all that share the configuration open with the new one.
    broker.ctl(&["change_password", "one", "changed"]).await.unwrap();
    assert!(connect().await.unwrap_err().to_string().contains("password"), "the old password is as good");
    config.renew_login(url("one:changed").into()).await.unwrap();
    connect().await.unwrap();
    sent(&mut publisher, 2).await;

    // Another user: the one of before may go, and with him his connections.
    add("other", "new").await;
    config.renew_login(url("other:new").into()).await.unwrap();
    broker.ctl(&["delete_user", "one"]).await.unwrap();
    let one_by_one = BusConfig { prefetch: 10, ..config.clone() };
    let mut consumer = Consumer::connect(&one_by_one).await.unwrap();
    sent(&mut Publisher::new(config.clone()), 3).await;
    let mut seen = Vec::new();
    while !seen.contains(&3) {
        seen.extend(versions(&next(&mut consumer).await));
    }
    assert_eq!(seen, [1, 2, 3]);
}
