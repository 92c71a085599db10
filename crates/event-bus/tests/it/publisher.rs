use crate::support::{Intruder, config, event, next, publish_until_taken, shared_config, versions, without_log};
use domain::codec::MAX_BATCH;
use event_bus::{BusConfig, BusError, Consumer, Headers, NotConfirmed, Publisher, REASON_HEADER};
use test_support::RabbitMq;

#[tokio::test]
async fn what_is_published_arrives_once_with_headers_and_id() {
    let config = shared_config().await;
    let mut publisher = Publisher::new(config.clone());
    let headers = Headers::from([("traceparent".to_owned(), "00-ab-cd-01".to_owned())]);
    publisher.publish(&[event(1), event(2)], &headers).await.unwrap();
    publisher.publish(&[event(3)], &Headers::new()).await.unwrap();
    publisher.publish(&[], &Headers::new()).await.unwrap();

    let mut consumer = Consumer::connect(&config).await.unwrap();
    let (first, second) = (next(&mut consumer).await, next(&mut consumer).await);
    assert_eq!((versions(&first), versions(&second)), (vec![1, 2], vec![3]));
    assert_eq!(first.headers, headers);
    assert!(!first.redelivered);
    assert!(first.message_id.is_some() && first.message_id != second.message_id);
    assert!(consumer.try_next().unwrap().is_none(), "nothing else was published");
    consumer.ack([&first, &second]).await.unwrap();
    assert_eq!(consumer.outstanding(), 0);
    consumer.close().await;

    let mut consumer = Consumer::connect(&config).await.unwrap();
    publisher.publish(&[event(4)], &Headers::new()).await.unwrap();
    assert_eq!(versions(&next(&mut consumer).await), [4], "acknowledged messages must not come back");
    Intruder::new(&config).await.clean_up().await;
}

#[tokio::test]
async fn a_full_queue_refuses_and_takes_again_when_drained() {
    let config = BusConfig { queue_max_length: 1, ..shared_config().await };
    let mut publisher = Publisher::new(config.clone());
    // The bound is soft: a quorum queue refuses shortly after it is reached.
    let mut taken = 0;
    let refusal = loop {
        match publisher.publish(&[event(1)], &Headers::new()).await {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 200, "never refused");
    };
    assert!(matches!(refusal, BusError::NotConfirmed(NotConfirmed::Nack)), "{refusal}");
    assert!(!refusal.is_unavailable());
    assert!(taken >= 1);
    // What was refused must not be in the queue.
    assert_eq!(publisher.queue_depth().await.unwrap().ready, taken);

    let mut consumer = Consumer::connect(&config).await.unwrap();
    for _ in 0..taken {
        let delivery = next(&mut consumer).await;
        consumer.ack([&delivery]).await.unwrap();
    }
    let full = |error: &BusError| matches!(error, BusError::NotConfirmed(NotConfirmed::Nack));
    publish_until_taken(&mut publisher, 2, full).await;
    assert_eq!(versions(&next(&mut consumer).await), [2]);
    Intruder::new(&config).await.clean_up().await;
}

#[tokio::test]
async fn a_message_without_a_queue_is_an_error_and_the_queue_is_declared_again() {
    let config = without_log(shared_config().await);
    let mut publisher = Publisher::new(config.clone());
    publisher.connect().await.unwrap();
    let intruder = Intruder::new(&config).await;
    intruder.delete_queue().await;

    let error = publisher.publish(&[event(1)], &Headers::new()).await.unwrap_err();
    assert!(matches!(&error, BusError::NotConfirmed(NotConfirmed::Returned { code: 312, .. })), "{error}");

    publisher.publish(&[event(2)], &Headers::new()).await.unwrap();
    let mut consumer = Consumer::connect(&config).await.unwrap();
    assert_eq!(versions(&next(&mut consumer).await), [2], "a returned message must not have arrived");
    intruder.clean_up().await;
}

#[tokio::test]
async fn dead_letters_keep_their_bytes_and_their_reason() {
    let config = shared_config().await;
    let mut publisher = Publisher::new(config.clone());
    let reason = "ä".repeat(2000);
    publisher.publish_dead(b"\x00garbage\xff", &reason, &Headers::new()).await.unwrap();
    let depth = publisher.dead_depth().await.unwrap();
    assert_eq!((depth.ready, depth.consumers), (1, 0));
    assert_eq!(publisher.queue_depth().await.unwrap().ready, 0);

    let mut consumer = Consumer::connect_dead(&config).await.unwrap();
    let delivery = next(&mut consumer).await;
    assert_eq!(&delivery.body[..], b"\x00garbage\xff");
    assert!(reason.starts_with(&delivery.headers[REASON_HEADER]));
    assert_eq!(delivery.moved, None, "nobody moved it");
    Intruder::new(&config).await.clean_up().await;
}

/// What a policy or an older declaration moves says that it was moved, and why.
#[tokio::test]
async fn what_a_policy_moves_says_why() {
    let broker = RabbitMq::start().await.unwrap();
    for (policy, reason) in [(r#"{"max-length":1}"#, "maxlen"), (r#"{"message-ttl":10}"#, "expired")] {
        let config = config(broker.url());
        let pattern = format!("^{}\\.likes$", config.prefix);
        broker.ctl(&["set_policy", &config.prefix, &pattern, policy, "--apply-to", "queues"]).await.unwrap();
        Intruder::new(&config).await.declare_dropping_queue().await;
        let mut publisher = Publisher::new(config.clone());
        // The first one gives way to the second, or goes by itself.
        publisher.publish(&[event(1)], &Headers::new()).await.unwrap();
        publisher.publish(&[event(2)], &Headers::new()).await.unwrap();
        let mut dead = Consumer::connect_dead(&config).await.unwrap();
        let letter = next(&mut dead).await;
        assert_eq!((versions(&letter), letter.moved.as_deref()), (vec![1], Some(reason)));
    }
}

#[tokio::test]
async fn the_depth_counts_what_waits_and_who_consumes() {
    let config = shared_config().await;
    let mut publisher = Publisher::new(config.clone());
    publisher.publish(&[event(1)], &Headers::new()).await.unwrap();
    publisher.publish(&[event(2)], &Headers::new()).await.unwrap();
    assert_eq!(publisher.queue_depth().await.unwrap().ready, 2);
    let mut consumer = Consumer::connect(&config).await.unwrap();
    let first = next(&mut consumer).await;
    consumer.ack([&first]).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..100 {
        let depth = publisher.queue_depth().await.unwrap();
        seen.push(depth);
        if (depth.ready, depth.consumers) == (0, 1) {
            break;
        }
    }
    assert!(seen.last().is_some_and(|depth| (depth.ready, depth.consumers) == (0, 1)), "{seen:?}");

    // A missing queue is an error, and leaves a publisher that works.
    let intruder = Intruder::new(&config).await;
    intruder.delete_queue().await;
    let error = publisher.queue_depth().await.unwrap_err();
    assert!(matches!(&error, BusError::Topology { name, .. } if name.ends_with(".likes")), "{error}");
    publisher.publish(&[event(3)], &Headers::new()).await.unwrap();
    intruder.clean_up().await;
}

#[tokio::test]
async fn a_batch_beyond_the_bound_is_refused_before_it_is_sent() {
    let config = shared_config().await;
    let mut publisher = Publisher::new(config.clone());
    let events: Vec<_> = (1..=MAX_BATCH as i64).map(event).collect();
    publisher.publish(&events, &Headers::new()).await.unwrap();
    let too_many: Vec<_> = (1..=MAX_BATCH as i64 + 1).map(event).collect();
    let error = publisher.publish(&too_many, &Headers::new()).await.unwrap_err();
    assert!(matches!(error, BusError::BatchTooLarge { .. }), "{error}");
    let mut consumer = Consumer::connect(&config).await.unwrap();
    assert_eq!(versions(&next(&mut consumer).await).len(), MAX_BATCH);
    Intruder::new(&config).await.clean_up().await;
}

/// Somebody decided that, and likes can be carried all the same; it is said once, with both values.
#[tokio::test]
async fn other_arguments_of_an_existing_queue_are_said_and_it_is_used() {
    let config = shared_config().await;
    Publisher::new(config.clone()).connect().await.unwrap();
    let other = BusConfig { delivery_limit: 5, said: Default::default(), ..config.clone() };
    for version in 1..=2 {
        Publisher::new(other.clone()).publish(&[event(version)], &Headers::new()).await.unwrap();
    }
    let mut consumer = Consumer::connect(&other).await.unwrap();
    assert_eq!(versions(&next(&mut consumer).await), [1]);
    let said = other.said.all();
    let about = format!("{}.likes: ", config.prefix);
    assert!(said.len() == 1 && said[0].starts_with(&about), "{said:?}");
    for word in ["x-delivery-limit", "'5'", "'100'"] {
        assert!(said[0].contains(word), "{word} is not in {said:?}");
    }
    assert_eq!(config.said.all(), Vec::<String>::new());
    Intruder::new(&config).await.clean_up().await;
}
