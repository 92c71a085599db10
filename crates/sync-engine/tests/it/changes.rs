//! Whoever listens to changes has what the database has, whatever way a like goes and whatever does not answer.

use crate::rig::{PATIENCE, Process, Rig, event, like, now_version, unlike};
use domain::codec::EncodedEvent;
use domain::{Action, LikeEvent, WritePath};
use event_bus::{ChangeListener, Headers};
use std::time::Duration;
use sync_engine::deliver::unpublished::UnpublishedChanges;
use test_support::{ChangeStates, ChangeView, Links, eventually, expect_eq, unique_name};

/// A listener, and what it makes of what it hears.
struct Heard {
    listener: ChangeListener,
    view: ChangeView,
}

impl Heard {
    async fn of(rig: &Rig) -> Self {
        Self { listener: ChangeListener::open(&rig.bus, "#").await.unwrap(), view: ChangeView::default() }
    }

    async fn hear(&mut self) {
        let message = self.listener.next().await.unwrap();
        self.view.hear(&message.key, &message.body).unwrap();
    }

    /// Hears until it has what the database has.
    async fn agrees(&mut self, rig: &Rig) {
        let wanted = stored(rig).await;
        let hears = async {
            while self.view.states != wanted {
                self.hear().await;
            }
        };
        let heard = tokio::time::timeout(PATIENCE, hears).await;
        assert!(heard.is_ok(), "heard {:?}, stored {wanted:?}", self.view.states);
    }
}

async fn stored(rig: &Rig) -> ChangeStates {
    rig.deployment.change_states().await.unwrap()
}

async fn publish(rig: &Rig, events: &[LikeEvent]) {
    let encoded: Vec<EncodedEvent> = events.iter().map(EncodedEvent::from_event).collect();
    rig.publisher().publish(&encoded, &Headers::new()).await.unwrap();
}

/// Publishes what was noted, all the time.
fn tell_noted(rig: &Rig, process: &Process) {
    let notes = UnpublishedChanges::new(process.stores.clone(), rig.bus.clone(), unique_name("owner"));
    tokio::spawn(notes.with_interval(Duration::from_millis(40)).run(process.soft.clone()));
}

async fn listening() -> Rig {
    let mut rig = Rig::new().await;
    rig.bus.changes.enabled = true;
    rig
}

async fn nothing_is_noted(rig: &Rig) {
    let noted = "SELECT COUNT(*) FROM unpublished_changes";
    eventually(PATIENCE, "no notes", async || expect_eq(rig.number(noted).await, 0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_batch_touches_is_heard_also_when_it_comes_again() {
    let rig = listening().await;
    let consumer = rig.process().await;
    tell_noted(&rig, &consumer);
    let exchange = format!("{}.changes", rig.deployment.prefix());
    eventually(PATIENCE, "an exchange to bind to", async || rig.wire().await.find_exchange(&exchange).await).await;
    let mut heard = Heard::of(&rig).await;
    consumer.consume();
    let now = now_version();
    let batch = [
        event(1, 1, Action::Like, now),
        event(2, 1, Action::Like, now + 1),
        event(2, 1, Action::Unlike, now + 2),
        event(1, 2, Action::Like, now + 3),
    ];
    publish(&rig, &batch).await;
    eventually(PATIENCE, "rows", async || expect_eq(stored(&rig).await.len(), 5)).await;
    heard.agrees(&rig).await;

    // As from somebody who died after the commit: nothing changes, and all of it is told again, with the same names.
    let before = stored(&rig).await;
    let first = std::mem::take(&mut heard.view.ids);
    publish(&rig, &batch).await;
    while heard.view.ids.len() < first.len() {
        tokio::time::timeout(PATIENCE, heard.hear()).await.expect("it is told again");
    }
    heard.view.ids.sort_unstable();
    assert_eq!(heard.view.ids, {
        let mut first = first;
        first.sort_unstable();
        first
    });
    assert_eq!(stored(&rig).await, before);
    assert_eq!(rig.number("SELECT COUNT(*) FROM unpublished_changes").await, 0, "nothing went around the queue");
    consumer.stop().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_around_the_queue_is_heard_from_a_process_that_had_no_part_in_it() {
    let mut rig = listening().await;
    let links = Links::to(&rig.deployment).await.unwrap();
    let near = rig.clone();
    rig.bus.url = links.rabbitmq.url_of(rig.deployment.rabbitmq().url()).into();
    rig.redis.url = links.redis.url_of(rig.deployment.redis().url()).into();
    let mut heard = Heard::of(&near).await;
    let server = rig.process().await;
    server.watch();
    let accept = server.server();
    links.rabbitmq.cut().await;
    for user in 1..=5 {
        accept.accept_one(like(user, 1)).await.unwrap();
    }
    server.settled().await;
    links.redis.cut().await;
    for user in 3..=8 {
        let answer = accept.accept_one(unlike(user, 1)).await.unwrap();
        assert!(answer.degraded);
    }
    drop((accept, server));

    let synchronous = near.process().await;
    let accept = synchronous.server_on(WritePath::Synchronous);
    accept.accept_one(like(9, 2)).await.unwrap();
    drop((accept, synchronous));
    assert!(heard.view.states.is_empty());
    let teller = near.process().await;
    tell_noted(&near, &teller);
    heard.agrees(&near).await;
    nothing_is_noted(&near).await;
    assert!(teller.stores.database.change_notes_ordered().await.unwrap(), "commands of operators know it");
    teller.stop().await;
    near.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_refused_in_part_is_heard_of() {
    let rig = listening().await;
    let mut heard = Heard::of(&rig).await;
    let consumer = rig.process().await;
    rig.deployment.poison(1).await.unwrap();
    tell_noted(&rig, &consumer);
    consumer.consume();
    consumer.retry();
    let now = now_version();
    publish(
        &rig,
        &[event(1, 1, Action::Like, now), event(2, 2, Action::Like, now + 1), event(3, 3, Action::Like, now + 2)],
    )
    .await;
    eventually(PATIENCE, "the good ones", async || {
        expect_eq(rig.number("SELECT COUNT(*) FROM video_likes WHERE video_id > 1").await, 2)
    })
    .await;
    heard.agrees(&rig).await;
    rig.deployment.cure().await.unwrap();
    eventually(PATIENCE, "the other one", async || expect_eq(rig.number("SELECT COUNT(*) FROM video_likes").await, 3))
        .await;
    heard.agrees(&rig).await;
    nothing_is_noted(&rig).await;
    consumer.stop().await;
    rig.end().await;
}

/// An exchange that takes nothing of publishers: likes go on, and what they change is told when it does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_exchange_does_not_take_is_noted_and_nobody_waits_for_it() {
    let rig = listening().await;
    let exchange = format!("{}.changes", rig.deployment.prefix());
    let mut wire = rig.wire().await;
    wire.declare_internal_exchange(&exchange).await.unwrap();
    let (server, consumer) = (rig.process().await, rig.process().await);
    consumer.consume();
    tell_noted(&rig, &consumer);
    let accept = server.server();
    for user in 1..=200 {
        accept.accept_one(like(user, user % 7 + 1)).await.unwrap();
    }
    server.settled().await;
    assert_eq!(rig.number("SELECT COUNT(*) FROM video_likes").await, 200);
    assert_eq!(rig.number("SELECT COUNT(DISTINCT user_id) FROM unpublished_changes").await, 200);
    let trouble = consumer.stores.changes.trouble().unwrap();
    assert!(trouble.contains("internal"), "{trouble}");

    wire.delete_exchange(&exchange).await.unwrap();
    let mut heard = Heard::of(&rig).await;
    heard.agrees(&rig).await;
    nothing_is_noted(&rig).await;
    eventually(PATIENCE, "no trouble", async || expect_eq(consumer.stores.changes.trouble(), None)).await;
    // And at once again.
    accept.accept_one(like(1, 99)).await.unwrap();
    server.settled().await;
    heard.agrees(&rig).await;
    drop((accept, server));
    consumer.stop().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_told_or_noted_where_nobody_wants_to_know() {
    let rig = Rig::new().await;
    let mut heard = Heard::of(&rig).await;
    let consumer = rig.process().await;
    consumer.stores.database.order_change_notes(true).await.unwrap();
    consumer.consume();
    tell_noted(&rig, &consumer);
    let accept = consumer.server_on(WritePath::Synchronous);
    accept.accept_one(like(1, 1)).await.unwrap();
    publish(&rig, &[event(2, 2, Action::Like, now_version())]).await;
    eventually(PATIENCE, "rows", async || expect_eq(stored(&rig).await.len(), 4)).await;
    eventually(PATIENCE, "the word is taken back", async || {
        expect_eq(consumer.stores.database.change_notes_ordered().await.unwrap(), false)
    })
    .await;
    consumer.soft.cancel();
    consumer.settled().await;
    assert_eq!(rig.number("SELECT COUNT(*) FROM unpublished_changes").await, 0);
    let heard = tokio::time::timeout(Duration::from_millis(200), heard.hear()).await;
    assert!(heard.is_err(), "somebody told");
    drop(accept);
    consumer.stop().await;
    rig.end().await;
}
