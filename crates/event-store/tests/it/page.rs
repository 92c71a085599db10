//! What the page of operators remembers: processes, and a day of samples.

use crate::support::{TestDb, at, on_both};
use event_store::{ClosedBy, FindingRecord, ProcessRow, Sample};
use uuid::Uuid;

on_both!(
    a_process_is_seen_until_it_leaves_and_forgotten_after_a_day,
    a_minute_is_sampled_once_and_kept_for_a_day,
    findings_of_a_resource_are_those_of_no_other,
);

const NOW: i64 = 1_700_000_000_000_000;
const HOUR: i64 = 3_600_000_000;

fn process(service: &str, instance: &str, seen: i64) -> ProcessRow {
    ProcessRow {
        service: service.to_owned(),
        instance: instance.to_owned(),
        version: "0.1.0".to_owned(),
        status: "degraded".to_owned(),
        detail: Some("redis: unreachable 'x'".to_owned()),
        started_at: at(NOW),
        seen_at: at(seen),
    }
}

async fn a_process_is_seen_until_it_leaves_and_forgotten_after_a_day(db: TestDb) {
    let store = &db.store;
    assert_eq!(store.processes().await.unwrap(), []);
    let (server, consumer) = (process("interaction-server", "s-1", NOW), process("sync-consumer", "c-1", NOW));
    for one in [&consumer, &server] {
        store.announce(one).await.unwrap();
    }
    assert_eq!(store.processes().await.unwrap(), [server.clone(), consumer.clone()]);
    let well = ProcessRow { status: "ok".to_owned(), detail: None, ..process("interaction-server", "s-1", NOW + HOUR) };
    store.announce(&well).await.unwrap();
    store.announce(&process("interaction-server", "s-2", NOW + HOUR)).await.unwrap();
    store.leave("interaction-server", "s-2").await.unwrap();
    assert_eq!(store.processes().await.unwrap(), [well, consumer]);
    // Of the consumer nobody has heard for a day. Whoever is named too long is cut, not refused.
    let long = process("interaction-server", &"n".repeat(300), NOW + 25 * HOUR - 1);
    store.announce(&long).await.unwrap();
    let left = store.processes().await.unwrap();
    assert_eq!(left.iter().map(|one| one.instance.len()).collect::<Vec<_>>(), [128, 3]);
    store.leave("interaction-server", &"n".repeat(300)).await.unwrap();
    assert_eq!(store.processes().await.unwrap().len(), 1);
}

async fn a_minute_is_sampled_once_and_kept_for_a_day(db: TestDb) {
    let store = &db.store;
    store.keep_samples(&[]).await.unwrap();
    let sample = |minute, dead| Sample { minute, dead: Some(dead), accepted: Some(i64::MAX), ..Sample::default() };
    store.keep_samples(&[sample(100, 1), sample(101, 2)]).await.unwrap();
    store.keep_samples(&[sample(101, 3), sample(102, 4)]).await.unwrap();
    assert_eq!(store.samples_since(101).await.unwrap(), [sample(101, 2), sample(102, 4)]);
    store.keep_samples(&[sample(1_602, 5)]).await.unwrap();
    assert_eq!(store.samples_since(0).await.unwrap(), [sample(102, 4), sample(1_602, 5)]);
    assert_eq!((Sample::minute_of(at(NOW)), Sample::minute_of(at(59_999_999))), (28_333_333, 0));
}

async fn findings_of_a_resource_are_those_of_no_other(db: TestDb) {
    let store = &db.store;
    let finding = |kind: &str, resource_id| FindingRecord {
        run_id: Uuid::from_u128(1),
        resource_type: "video".to_owned(),
        resource_id,
        user_id: None,
        kind: kind.to_owned(),
        verdict: "drift".to_owned(),
        cache_value: Some(1),
        stored_value: Some(2),
        details: "{}".to_owned(),
        repaired_at: None,
        created_at: at(NOW),
    };
    for one in [finding("row", 7), finding("cached_count", 7), finding("row", 8), finding("ledger", 7)] {
        store.record_finding(&one).await.unwrap();
    }
    let video = crate::support::video(7);
    let closed = store.open_findings(Some(video), 9).await.unwrap();
    let closed: Vec<_> = closed.into_iter().filter(|life| life.kind == "row").collect();
    store.close_findings(&closed, ClosedBy::Repaired, at(NOW + 1)).await.unwrap();
    let found = store.findings_of(video, &["row", "cached_count"], 9).await.unwrap();
    let seen: Vec<_> = found.iter().map(|life| (life.kind.as_str(), life.closed_at.is_some())).collect();
    assert_eq!(seen, [("cached_count", false), ("row", true)], "open ones first");
}
