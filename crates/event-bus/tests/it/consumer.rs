use crate::support::{Intruder, PATIENCE, event, next, shared_config, versions};
use domain::codec::MAX_BODY_LEN;
use event_bus::{BusConfig, BusError, Consumer, Headers, Publisher};
use test_support::eventually;

#[tokio::test]
async fn any_bytes_pass_through_untouched() {
    let config = shared_config().await;
    let mut consumer = Consumer::connect(&config).await.unwrap();
    let intruder = Intruder::new(&config).await;
    let large = vec![0xee; 300_000];
    for body in [&b""[..], b"\xff\x00not an event", &large] {
        intruder.publish(body).await;
        let delivery = next(&mut consumer).await;
        assert!(delivery.body == body, "{} bytes instead of {}", delivery.body.len(), body.len());
        assert_eq!(delivery.message_id, None);
        consumer.ack([&delivery]).await.unwrap();
    }
    intruder.clean_up().await;
}

#[tokio::test]
async fn what_has_piled_up_is_taken_without_waiting_up_to_the_prefetch() {
    let config = BusConfig { prefetch: 4, ..shared_config().await };
    let mut publisher = Publisher::new(config.clone());
    for version in 1..=6 {
        publisher.publish(&[event(version)], &Headers::new()).await.unwrap();
    }
    let mut consumer = Consumer::connect(&config).await.unwrap();
    let mut batch = vec![next(&mut consumer).await];
    eventually(PATIENCE, "a batch of four", || {
        while let Some(delivery) = consumer.try_next().unwrap() {
            batch.push(delivery);
        }
        std::future::ready(if batch.len() >= 4 { Ok(()) } else { Err(batch.len()) })
    })
    .await;
    assert_eq!(publisher.queue_depth().await.unwrap().ready, 2, "the prefetch is the bound");
    assert!(consumer.try_next().unwrap().is_none());

    // Out of order and with a gap: 2 stays, and what was not acknowledged comes back to another consumer.
    let (one, two, three, four) = (&batch[0], &batch[1], &batch[2], &batch[3]);
    consumer.ack([four, one, three]).await.unwrap();
    consumer.ack([four]).await.unwrap();
    assert_eq!((consumer.outstanding(), versions(two)), (1, vec![2]));
    let five = next(&mut consumer).await;
    let six = next(&mut consumer).await;
    consumer.ack([&five, &six]).await.unwrap();
    consumer.close().await;

    let mut consumer = Consumer::connect(&config).await.unwrap();
    let again = next(&mut consumer).await;
    assert_eq!((versions(&again), again.redelivered), (vec![2], true));
    // Deliveries of the first consumer mean nothing to the second, whatever their numbers are.
    consumer.ack(&batch).await.unwrap();
    assert_eq!(consumer.outstanding(), 1);
    consumer.ack([&again]).await.unwrap();
    assert!(consumer.try_next().unwrap().is_none());
    Intruder::new(&config).await.clean_up().await;
}

#[tokio::test]
async fn given_back_is_delivered_again_or_dead_lettered() {
    let config = shared_config().await;
    let mut publisher = Publisher::new(config.clone());
    publisher.publish(&[event(1)], &Headers::new()).await.unwrap();
    let mut consumer = Consumer::connect(&config).await.unwrap();
    let delivery = next(&mut consumer).await;
    consumer.nack([&delivery], true).await.unwrap();
    let again = next(&mut consumer).await;
    assert_eq!((versions(&again), again.redelivered), (vec![1], true));
    // RabbitMQ 3 counts what is given back, 4 only what a lost consumer had.
    assert!(matches!(again.delivery_count, None | Some(1)), "{:?}", again.delivery_count);
    consumer.nack([&again], false).await.unwrap();

    let mut dead = Consumer::connect_dead(&config).await.unwrap();
    let letter = next(&mut dead).await;
    assert_eq!((versions(&letter), letter.moved.as_deref()), (vec![1], Some("rejected")));
    Intruder::new(&config).await.clean_up().await;
}

#[tokio::test]
async fn a_message_that_keeps_coming_back_is_dead_lettered_by_the_broker() {
    let config = BusConfig { delivery_limit: 2, ..shared_config().await };
    Publisher::new(config.clone()).publish(&[event(9)], &Headers::new()).await.unwrap();
    // Its consumer ends with it each time. What is given back in order counts for RabbitMQ 3, and not for 4.
    for count in 0..3 {
        let mut consumer = Consumer::connect(&config).await.unwrap();
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.delivery_count.unwrap_or(0), count);
        consumer.close().await;
    }
    let mut dead = Consumer::connect_dead(&config).await.unwrap();
    let letter = next(&mut dead).await;
    assert_eq!((versions(&letter), letter.moved.as_deref()), (vec![9], Some("delivery_limit")));
    Intruder::new(&config).await.clean_up().await;
}

#[tokio::test]
async fn stopping_loses_nothing() {
    let config = shared_config().await;
    let mut publisher = Publisher::new(config.clone());
    for version in 1..=10 {
        publisher.publish(&[event(version)], &Headers::new()).await.unwrap();
    }
    let mut leaving = Consumer::connect(&config).await.unwrap();
    let in_hand = next(&mut leaving).await;
    leaving.stop().await.unwrap();
    // Before the connection ends: others need not wait for the one in hand.
    let mut staying = Consumer::connect(&config).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..9 {
        let delivery = next(&mut staying).await;
        seen.extend(versions(&delivery));
        staying.ack([&delivery]).await.unwrap();
    }
    seen.sort_unstable();
    assert_eq!(seen, (2..=10).collect::<Vec<_>>());
    leaving.ack([&in_hand]).await.unwrap();
    leaving.close().await;
    publisher.publish(&[event(11)], &Headers::new()).await.unwrap();
    assert_eq!(versions(&next(&mut staying).await), [11], "what was acknowledged after the stop must not come back");
    Intruder::new(&config).await.clean_up().await;
}

#[tokio::test]
async fn a_queue_deleted_under_the_consumer_is_an_error_and_a_new_consumer_declares_it() {
    let config = shared_config().await;
    let mut consumer = Consumer::connect(&config).await.unwrap();
    let intruder = Intruder::new(&config).await;
    intruder.delete_queue().await;
    let error = tokio::time::timeout(PATIENCE, consumer.next()).await.expect("not noticed").unwrap_err();
    assert!(matches!(&error, BusError::Cancelled { queue } if queue.ends_with(".likes")), "{error}");
    assert!(error.is_unavailable());

    let mut consumer = Consumer::connect(&config).await.unwrap();
    Publisher::new(config.clone()).publish(&[event(1)], &Headers::new()).await.unwrap();
    assert_eq!(versions(&next(&mut consumer).await), [1]);
    intruder.clean_up().await;
}

/// Only the beginning of it is taken in; the broker has the whole, and moves that.
#[tokio::test]
async fn a_body_that_is_longer_than_any_of_ours_is_cut_and_stays_with_the_broker() {
    let config = shared_config().await;
    let mut consumer = Consumer::connect(&config).await.unwrap();
    let intruder = Intruder::new(&config).await;
    let long: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_be_bytes()[3]).collect();
    let longest = vec![0xee; MAX_BODY_LEN];
    for body in [&long, &longest, &long] {
        intruder.publish(body).await;
    }
    let (first, whole, last) = (next(&mut consumer).await, next(&mut consumer).await, next(&mut consumer).await);
    for cut in [&first, &last] {
        assert!(cut.cut && long.starts_with(&cut.body), "{} bytes", cut.body.len());
        assert_eq!(cut.body.len(), MAX_BODY_LEN + 1, "all that is kept of it");
    }
    assert!(!whole.cut && whole.body == longest);
    consumer.ack([&whole]).await.unwrap();
    consumer.nack([&first, &last], false).await.unwrap();

    // One in hand, and what is behind it comes all the same.
    let one = BusConfig { prefetch: 1, ..config.clone() };
    let mut dead = Consumer::connect_dead(&one).await.unwrap();
    assert!(next(&mut dead).await.cut);
    dead.go_on().await.unwrap();
    let second = next(&mut dead).await;
    assert!(second.cut && second.moved.as_deref() == Some("rejected"), "{:?}", second.moved);
    dead.ack([&second]).await.unwrap();
    dead.close().await;
    let patient = BusConfig { longest_body: usize::MAX, ..config };
    let mut dead = Consumer::connect_dead(&patient).await.unwrap();
    let letter = next(&mut dead).await;
    assert!(letter.body == long && !letter.cut, "{} bytes of {}", letter.body.len(), long.len());
    intruder.clean_up().await;
}
