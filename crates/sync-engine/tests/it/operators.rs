//! Operators beside everything else: a replay counts once, a discarded event never, and the cache agrees afterwards.

use crate::rig::{PATIENCE, Process, Rig, like, unlike, video};
use domain::{LikeEvent, Origin, Version};
use event_store::{EventFilter, EventStatus, FailedEvent, Operation};
use std::time::Duration;
use sync_engine::accept::{Acceptor, Call};
use sync_engine::operate::events::{Operator, Selection};
use sync_engine::operate::explain::{Explanation, explain};
use sync_engine::recover::catch_up;
use test_support::build::video_pair;
use test_support::{eventually, expect_eq};

/// Likes of a video that nothing can write, all of them dead.
struct Incident {
    rig: Rig,
    server: Process,
    consumer: Process,
    accept: Acceptor,
    events: Vec<LikeEvent>,
}

const VIDEO: i64 = 13;

impl Incident {
    async fn new(users: i64) -> Self {
        let mut rig = Rig::new().await;
        rig.sync.retry.max_retries = 1;
        rig.sync.retry.base_delay = Duration::from_millis(40);
        let (server, consumer) = (rig.process().await, rig.process().await);
        rig.deployment.poison(VIDEO).await.unwrap();
        let accept = server.server();
        consumer.consume();
        consumer.retry();
        let mut events = Vec::new();
        for user in 1..=users {
            let intent = like(user, VIDEO);
            let answer = accept.accept(vec![intent.clone()], Call::arriving_now()).await.remove(0).unwrap();
            assert!(answer.changed && answer.liked);
            events.push(LikeEvent { intent, version: answer.version, origin: Origin::Journal });
        }
        let incident = Self { rig, server, consumer, accept, events };
        eventually(PATIENCE, "every event dead", async || expect_eq(incident.ledger("dead").await, users)).await;
        incident.server.settled().await;
        incident
    }

    async fn ledger(&self, status: &str) -> i64 {
        self.rig.number(&format!("SELECT COUNT(*) FROM sync_events WHERE status = '{status}'")).await
    }

    fn ids(&self) -> Vec<uuid::Uuid> {
        self.events.iter().map(|event| event.intent.id).collect()
    }

    fn operator(&self) -> Operator {
        Operator::new(self.server.stores.clone())
    }

    async fn explain(&self, user: i64) -> Explanation {
        explain(&self.server.stores, video_pair(user, VIDEO)).await.unwrap()
    }

    async fn cached_pair(&self, user: i64) -> Option<bool> {
        let states = self.server.stores.cache.states(&[video_pair(user, VIDEO)]).await.unwrap();
        states[0].map(|state| state.liked)
    }

    async fn end(self) {
        self.rig.assert_counts_are_live_rows().await;
        self.server.assert_cache_agrees(&[video(VIDEO)]).await;
        drop(self.accept);
        self.consumer.stop().await;
        self.server.stop().await;
        self.rig.end().await;
    }
}

fn who() -> Operation {
    Operation { actor: "ann".to_owned(), reason: Some("fixed".to_owned()), selection: None }
}

fn words(told: &Explanation) -> Vec<&'static str> {
    told.timeline.iter().map(|step| step.step).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_events_replayed_twice_and_redelivered_beside_it_count_once() {
    let incident = Box::pin(Incident::new(12)).await;
    let told = incident.explain(1).await;
    assert_eq!(words(&told), ["accepted", "failed", "applied", "settled"], "{told:#?}");
    assert_eq!((told.events[0].status, told.row), (Some(EventStatus::Dead), None));
    assert!(told.events[0].error.as_deref().unwrap().contains("poisoned video"), "{told:#?}");

    let operator = incident.operator();
    let all = |limit| Selection::Filter { filter: EventFilter::default(), after: None, limit };
    let dry = operator.replay(all(5), who(), true).await.unwrap();
    assert_eq!((dry.events.len(), dry.dry_run, incident.ledger("dead").await), (5, true, 12));
    assert!(dry.next.is_some());
    assert!(incident.server.stores.database.operator_actions(9).await.unwrap().is_empty(), "a dry run did something");

    // Everybody at once: two operators, deliveries of the same events in the queue, and the retries.
    incident.rig.deployment.cure().await.unwrap();
    let (one, other) = (incident.operator(), incident.operator());
    let applier = &incident.consumer.applier;
    let redelivered = async {
        for chunk in incident.events.chunks(5) {
            applier.apply(chunk).await.unwrap();
        }
    };
    let (first, second, ()) = tokio::join!(
        one.replay(Selection::Ids(incident.ids()), who(), false),
        other.replay(all(1_000), who(), false),
        redelivered,
    );
    assert!(first.unwrap().events.len() + second.unwrap().events.len() <= 24);
    eventually(PATIENCE, "every event completed", async || expect_eq(incident.ledger("completed").await, 12)).await;
    let count = format!("SELECT like_count FROM like_counts WHERE resource_id = {VIDEO}");
    assert_eq!(incident.rig.number(&count).await, 12);
    assert_eq!(incident.rig.number("SELECT COUNT(*) FROM user_behaviors").await, 12);

    // And once more, when all is done: nothing is left to replay, and nothing moves.
    let revision = format!("SELECT revision FROM like_counts WHERE resource_id = {VIDEO}");
    let before = incident.rig.number(&revision).await;
    let again = operator.replay(Selection::Ids(incident.ids()), who(), false).await.unwrap();
    assert_eq!((again.events.len(), again.skipped.len()), (0, 12));
    assert_eq!(again.skipped[0].status, Some(EventStatus::Completed));
    applier.apply(&incident.events).await.unwrap();
    assert_eq!(incident.rig.number(&revision).await, before);
    eventually(PATIENCE, "the count in the cache", async || {
        expect_eq(incident.server.cached(video(VIDEO)).await.map(|count| count.served), Some(12))
    })
    .await;
    let told = incident.explain(1).await;
    assert_eq!(told.events[0].status, Some(EventStatus::Completed), "{told:#?}");
    assert!(told.events[0].in_history && told.row.is_some_and(|row| row.liked), "{told:#?}");
    assert_eq!(told.cache.unwrap().pair.map(|pair| pair.liked), Some(true));
    incident.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_of_an_older_like_does_not_undo_a_newer_unlike() {
    let incident = Box::pin(Incident::new(1)).await;
    incident.rig.deployment.cure().await.unwrap();
    let answer = incident.accept.accept(vec![unlike(1, VIDEO)], Call::arriving_now()).await.remove(0).unwrap();
    assert!(answer.changed && !answer.liked);
    incident.server.settled().await;
    incident.operator().replay(Selection::Ids(incident.ids()), who(), false).await.unwrap();
    eventually(PATIENCE, "both events completed", async || expect_eq(incident.ledger("completed").await, 2)).await;
    let told = incident.explain(1).await;
    let row = told.row.unwrap();
    assert_eq!((row.liked, row.version, told.stored_count.count), (false, answer.version, 0), "{told:#?}");
    assert_eq!(words(&told)[..4], ["accepted", "failed", "replay", "applied"], "{told:#?}");
    assert!(told.timeline[3].detail.contains("newer change"), "{told:#?}");
    incident.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_discarded_is_given_back_to_the_database_and_never_applied() {
    let incident = Box::pin(Incident::new(3)).await;
    let operator = incident.operator();
    for user in 1..=3 {
        assert_eq!(incident.cached_pair(user).await, Some(true), "it was accepted");
    }
    // The cause is gone, and user 3 changes their mind, before the operator comes.
    incident.rig.deployment.cure().await.unwrap();
    let newer = incident.accept.accept(vec![unlike(3, VIDEO)], Call::arriving_now()).await.remove(0).unwrap();
    let discarded = operator.discard(Selection::Ids(incident.ids()), who(), false).await.unwrap();
    assert_eq!((discarded.events.len(), incident.ledger("discarded").await), (3, 3));
    // The list of what the cache is told is empty, by this process or by another one's probe.
    let told = async || {
        catch_up::drain(&incident.server.stores).await.unwrap();
        expect_eq(incident.rig.number("SELECT COUNT(*) FROM cache_refreshes").await, 0)
    };
    eventually(PATIENCE, "a cache that was told", told).await;
    for user in 1..=2 {
        assert_eq!(incident.cached_pair(user).await, None, "the database answers for user {user}");
    }
    assert_eq!(incident.cached_pair(3).await, Some(false), "what was accepted since stays");
    let story = incident.explain(1).await;
    assert_eq!(words(&story), ["accepted", "failed", "discard", "discarded", "settled"], "{story:#?}");
    assert!(story.timeline[2].detail.contains("ann: fixed"), "{story:#?}");

    // Whatever brings them again: a delivery, a replay by id, a replay of everything.
    incident.consumer.applier.apply(&incident.events).await.unwrap();
    let replayed = operator.replay(Selection::Ids(incident.ids()), who(), false).await.unwrap();
    assert_eq!((replayed.events.len(), replayed.skipped.len()), (0, 3));
    for status in [EventStatus::Dead, EventStatus::Failed] {
        let filter = EventFilter { status: Some(status), ..EventFilter::default() };
        let all = Selection::Filter { filter, after: None, limit: 1_000 };
        assert!(operator.replay(all, who(), false).await.unwrap().events.is_empty());
    }
    eventually(PATIENCE, "the unlike in the database", async || {
        let version = format!("SELECT COALESCE(MAX(version), 0) FROM video_likes WHERE video_id = {VIDEO}");
        expect_eq(incident.rig.number(&version).await, newer.version.0)
    })
    .await;
    incident.server.settled().await;
    assert_eq!(incident.ledger("discarded").await, 3);
    assert_eq!(incident.rig.number("SELECT COUNT(*) FROM video_likes WHERE deleted_at IS NULL").await, 0);
    assert_eq!(incident.rig.number("SELECT COUNT(*) FROM user_behaviors WHERE behavior_type = 'like'").await, 0);

    // The next like of the same user is a like like any other.
    let again = incident.accept.accept(vec![like(1, VIDEO)], Call::arriving_now()).await.remove(0).unwrap();
    assert!(again.changed, "{again:?}");
    incident.server.settled().await;
    let count = format!("SELECT like_count FROM like_counts WHERE resource_id = {VIDEO}");
    eventually(PATIENCE, "the like in the database", async || expect_eq(incident.rig.number(&count).await, 1)).await;
    assert_eq!(incident.cached_pair(1).await, Some(true));
    incident.end().await;
}

/// The cached pair alone is no reason to say "unchanged": its event may be gone for good, and the cache not know it yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_like_after_the_discard_is_written_although_the_cache_was_not_told() {
    let incident = Box::pin(Incident::new(2)).await;
    incident.rig.deployment.cure().await.unwrap();
    // The operator's server has lost the cache, and nobody else drains the list.
    incident.rig.stores().await.database.discard(&incident.ids(), &who(), chrono::DateTime::UNIX_EPOCH).await.unwrap();
    assert_eq!(incident.cached_pair(1).await, Some(true), "the cache was told");
    let again = incident.accept.accept_one(like(1, VIDEO)).await.unwrap();
    assert!(again.changed && again.liked, "{again:?}");
    catch_up::drain(&incident.server.stores).await.unwrap();
    assert_eq!((incident.cached_pair(1).await, incident.cached_pair(2).await), (Some(true), None));
    let version = format!("SELECT COALESCE(MAX(version), 0) FROM video_likes WHERE video_id = {VIDEO}");
    eventually(PATIENCE, "the like", async || expect_eq(incident.rig.number(&version).await, again.version.0)).await;
    incident.server.settled().await;
    assert_eq!(
        incident.rig.number(&format!("SELECT like_count FROM like_counts WHERE resource_id = {VIDEO}")).await,
        1
    );
    incident.end().await;
}

/// An older row is as good as none: the event that would change it is dead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_like_whose_event_is_dead_is_written_again_over_an_older_row() {
    let mut rig = Rig::new().await;
    rig.sync.retry.max_retries = 1;
    rig.sync.retry.base_delay = Duration::from_millis(40);
    let (server, consumer) = (rig.process().await, rig.process().await);
    let accept = server.server();
    consumer.consume();
    consumer.retry();
    accept.accept_one(like(1, VIDEO)).await.unwrap();
    accept.accept_one(unlike(1, VIDEO)).await.unwrap();
    server.settled().await;
    // Of this user alone: if every row were refused, none would be given up.
    rig.sql(
        "DELIMITER //\nCREATE TRIGGER refuses BEFORE UPDATE ON video_likes FOR EACH ROW \
         IF NEW.deleted_at IS NULL AND NEW.user_id = 1 THEN \
         SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'; END IF//",
    )
    .await;
    let lost = accept.accept_one(like(1, VIDEO)).await.unwrap();
    let dead = "SELECT COUNT(*) FROM sync_events WHERE status = 'dead'";
    eventually(PATIENCE, "a dead event", async || expect_eq(rig.number(dead).await, 1)).await;
    server.settled().await;
    rig.sql("DROP TRIGGER refuses").await;

    let again = accept.accept_one(like(1, VIDEO)).await.unwrap();
    assert!(again.changed && again.version > lost.version, "{again:?} after {lost:?}");
    server.settled().await;
    let row = server.stores.database.load_states(&[video_pair(1, VIDEO)]).await.unwrap()[0];
    assert_eq!((row.liked, row.version), (true, again.version));
    let repeated = accept.accept_one(like(1, VIDEO)).await.unwrap();
    assert_eq!((repeated.changed, repeated.version), (false, again.version), "the row confirms it");

    // The dead one may be discarded now, or come back: nobody notices.
    let ids = Selection::Filter {
        filter: EventFilter { status: Some(EventStatus::Dead), ..EventFilter::default() },
        after: None,
        limit: 10,
    };
    assert_eq!(Operator::new(server.stores.clone()).discard(ids, who(), false).await.unwrap().events.len(), 1);
    let told = async || expect_eq(rig.number("SELECT COUNT(*) FROM cache_refreshes").await, 0);
    catch_up::drain(&server.stores).await.unwrap();
    eventually(PATIENCE, "a cache that was told", told).await;
    assert!(!accept.accept_one(like(1, VIDEO)).await.unwrap().changed);
    rig.assert_counts_are_live_rows().await;
    server.assert_cache_agrees(&[video(VIDEO)]).await;
    consumer.stop().await;
    drop((accept, server));
    rig.end().await;
}

/// While the event is in the journal, and nothing has failed, a repetition is none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_word_that_is_on_its_way_is_not_written_again() {
    let rig = Rig::new().await;
    let server = rig.process().await;
    let accept = server.dying_server();
    let first = accept.accept_one(like(1, VIDEO)).await.unwrap();
    for _ in 0..3 {
        let again = accept.accept_one(like(1, VIDEO)).await.unwrap();
        assert_eq!((again.changed, again.version), (false, first.version));
    }
    // The same over an older row.
    server.applier.apply(&journal(&server).await).await.unwrap();
    let unliked = accept.accept_one(unlike(1, VIDEO)).await.unwrap();
    let again = accept.accept_one(unlike(1, VIDEO)).await.unwrap();
    assert_eq!((again.changed, again.version), (false, unliked.version));
    assert_eq!(server.journal_len().await, 1);
    // It fails, and the journal has it still: discarded the next moment, it would be lost.
    let events = journal(&server).await;
    let failed = FailedEvent { event: events[0].clone(), error: "no".to_owned(), next_retry_at: None };
    server.stores.database.park(&[failed], 1, chrono::DateTime::UNIX_EPOCH).await.unwrap();
    let again = accept.accept_one(unlike(1, VIDEO)).await.unwrap();
    assert!(again.changed && again.version > unliked.version, "{again:?}");
    server.applier.apply(&journal(&server).await).await.unwrap();
    rig.assert_counts_are_live_rows().await;
    drop((accept, server));
    rig.end().await;
}

async fn journal(server: &Process) -> Vec<LikeEvent> {
    let mut events = Vec::new();
    for shard in server.stores.shards().all() {
        let page = server.stores.cache.journal_page(shard, Version::ZERO, 100).await.unwrap();
        events.extend(page.iter().map(|entry| entry.decode().unwrap()));
    }
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_like_under_way_is_explained_by_its_journal_entry_and_then_by_the_ledger() {
    let rig = Rig::new().await;
    let (server, consumer) = (rig.process().await, rig.process().await);
    let pair = video_pair(1, 5);
    let steps = async || {
        let told = explain(&server.stores, pair).await.unwrap();
        assert_eq!(told.events.len(), 1);
        (told.events[0].in_journal, told.timeline.iter().map(|step| step.step).collect::<Vec<_>>())
    };
    // Accepted by a server that dies before it publishes.
    let answer = server.dying_server().accept(vec![like(1, 5)], Call::arriving_now()).await.remove(0);
    assert!(answer.unwrap().changed);
    assert_eq!(steps().await, (Some(true), vec!["accepted", "journal", "published"]));
    consumer.consume();
    consumer.rescue();
    server.settled().await;
    assert_eq!(steps().await, (Some(false), vec!["accepted", "applied", "settled"]));
    consumer.stop().await;
    drop(server);
    rig.end().await;
}
