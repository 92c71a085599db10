//! Whose fault a refusal is: an event's own, or the database's, which refuses every row.

use crate::errors::is_open;
use crate::rig::{PATIENCE, Rig, event, like, now_version};
use domain::Action;
use std::time::Duration;
use sync_engine::apply::ApplySummary;
use test_support::{eventually, expect_eq};

const NOT_COMPLETED: &str = "SELECT COUNT(*) FROM sync_events WHERE status <> 'completed' OR retry_count > 0";

impl Rig {
    /// From now on the table takes no row, or no change of one, whoever brings it.
    async fn refuse_all(&self, when: &str, table: &str, number: u16, state: &str) {
        self.sql(&format!(
            "CREATE TRIGGER mood {when} ON {table} FOR EACH ROW \
             SIGNAL SQLSTATE '{state}' SET MYSQL_ERRNO = {number}, MESSAGE_TEXT = 'no rows today'"
        ))
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_that_hits_every_row_gives_up_no_event() {
    let mut rig = Rig::new().await;
    rig.sync.retry.base_delay = Duration::from_millis(50);
    rig.sync.retry.max_retries = 1;
    let server = rig.process().await;
    server.watch();
    server.consume();
    server.rescue();
    server.retry();
    let accept = server.server();
    let circuit = &server.stores.database_circuit;
    let mut user = 0;
    for (table, number, state) in [
        ("video_likes", 1644, "45000"),
        ("sync_events", 1062, "23000"),
        ("like_counts", 1264, "22003"),
        ("user_behaviors", 1364, "HY000"),
        ("video_likes", 1054, "42S22"),
    ] {
        rig.refuse_all("BEFORE INSERT", table, number, state).await;
        // One alone, and then others beside it.
        for _ in 0..4 {
            user += 1;
            accept.accept_one(like(user, user)).await.unwrap();
            is_open(circuit, true, "the circuit of the database to open").await;
        }
        let last = circuit.last_error().unwrap().text;
        assert!(last.contains("no rows today") && last.contains(&number.to_string()), "{table}: {last}");
        assert_eq!(rig.number(NOT_COMPLETED).await, 0, "{table}, {number}");
        rig.sql("DROP TRIGGER mood").await;
        is_open(circuit, false, "the circuit of the database to close").await;
        server.settled().await;
        let rows = "SELECT COUNT(*) FROM video_likes WHERE deleted_at IS NULL";
        eventually(PATIENCE, "every like", async || expect_eq(rig.number(rows).await, user)).await;
        assert_eq!(rig.number(NOT_COMPLETED).await, 0, "{table}, {number}");
    }
    rig.assert_counts_are_live_rows().await;
    server.stop().await;
    rig.end().await;
}

/// Most words change a row that is there. What refuses those refuses no new row, so a new row proves nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_that_hits_every_change_gives_up_no_event() {
    let mut rig = Rig::new().await;
    rig.sync.retry.base_delay = Duration::from_millis(50);
    rig.sync.retry.max_retries = 1;
    let process = rig.process().await;
    let circuit = &process.stores.database_circuit;
    let now = now_version();
    let changes = [event(1, 7, Action::Unlike, now + 10), event(2, 7, Action::Like, now + 11)];
    for (n, event) in changes.iter().enumerate() {
        let before = Action::from_liked(!event.intent.action.liked());
        process.applier.apply(&[self::event(1 + n as i64, 7, before, now)]).await.unwrap();
    }
    for (when, table) in
        [("BEFORE UPDATE", "video_likes"), ("AFTER UPDATE", "video_likes"), ("BEFORE UPDATE", "like_counts")]
    {
        rig.refuse_all(when, table, 1644, "45000").await;
        for event in &changes {
            assert!(process.applier.apply(std::slice::from_ref(event)).await.is_err(), "{when} {table}: blamed");
            assert!(circuit.is_open(), "{when} {table}");
        }
        rig.sql("DROP TRIGGER mood").await;
        assert_eq!(rig.number(NOT_COMPLETED).await, 0, "{when} {table}");
        circuit.close();
    }
    let applied = process.applier.apply(&changes).await.unwrap();
    assert_eq!(applied, ApplySummary { applied: 2, parked: 0 });
    rig.assert_counts_are_live_rows().await;
    process.stop().await;
    rig.end().await;
}

/// Parked for a reason of its own, and due while the database takes no row at all: that attempt does not count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_that_meets_a_fault_of_all_rows_does_not_count() {
    let mut rig = Rig::new().await;
    rig.sync.retry.base_delay = Duration::from_millis(50);
    rig.sync.retry.max_retries = 1;
    let process = rig.process().await;
    rig.deployment.poison(13).await.unwrap();
    let parked = process.applier.apply(&[event(1, 13, Action::Like, now_version())]).await.unwrap();
    assert_eq!(parked, ApplySummary { applied: 0, parked: 1 }, "alone, and others could be written");
    rig.refuse_all("BEFORE INSERT", "user_behaviors", 1644, "45000").await;
    process.retry();
    is_open(&process.stores.database_circuit, true, "the circuit of the database to open").await;
    assert_eq!(rig.sql("SELECT status, retry_count FROM sync_events").await, "processing\t0\n");
    process.stop().await;
    rig.end().await;
}

/// Rows of nobody are refused for what they are; rows of those who wrote before are not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_event_is_found_where_rows_of_nobody_are_refused() {
    let rig = Rig::new().await;
    let process = rig.process().await;
    rig.sql("ALTER TABLE video_likes ADD CONSTRAINT known CHECK (user_id < 1000 AND video_id < 1000)").await;
    let now = now_version();
    let bad = [event(5_000, 1, Action::Like, now)];
    assert!(process.applier.apply(&bad).await.is_err(), "blamed without a proof");
    assert!(process.stores.database_circuit.is_open());
    assert_eq!(rig.number("SELECT COUNT(*) FROM sync_events").await, 0);

    process.applier.apply(&[event(2, 7, Action::Like, now + 1)]).await.unwrap();
    assert_eq!(process.applier.apply(&bad).await.unwrap(), ApplySummary { applied: 0, parked: 1 });
    assert_eq!(rig.number("SELECT COUNT(*) FROM video_likes").await, 1);
    rig.assert_counts_are_live_rows().await;
    drop(process);
    rig.end().await;
}
