//! A deleted resource is nobody's to like, also for a process that has just been started.

use crate::deployment::{PATIENCE, Standalone, like, video};
use interaction_proto::v1;
use serde_json::{Value, json};
use test_support::{Program, eventually};
use tonic::Code;

async fn post(server: &Program, path: &str, body: &Value) -> (u16, Value) {
    server.post(path, &body.to_string()).await.unwrap()
}

async fn liked(server: &Program, user: i64, video: i64) -> (u16, Value) {
    let like = json!({ "user_id": user, "resource_type": "video", "resource_id": video, "action": "like" });
    let (code, body) = post(server, "/v1/likes", &like).await;
    (code, body["reason"].clone())
}

/// Its first call after the start is a like: nobody has told the cache anything since, but the process itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_forgets_neither_a_deletion_nor_that_it_is_over() {
    let standalone = Standalone::new().await;
    let server = standalone.start_ready().await;
    for user in 1..=3 {
        standalone.client().await.like(like(user, 7)).await.unwrap();
    }
    let resource = json!({ "resource_type": "video", "resource_id": "7", "actor": "ann", "reason": "a report" });
    let (code, body) = post(&server, "/resources/delete", &resource).await;
    assert!(code == 200 && body["deletion"]["up_to"].is_i64(), "{code} {body}");
    let refused = (404, Value::from("RESOURCE_DELETED"));
    assert_eq!(liked(&server, 1, 7).await, refused);
    server.kill9().unwrap();

    let server = standalone.start_ready().await;
    assert_eq!(liked(&server, 4, 7).await, refused);
    assert_eq!(liked(&server, 4, 8).await, (200, Value::Null));
    let status = standalone.client().await.like(like(1, 7)).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "not found: the resource is deleted"));
    eventually(PATIENCE, "the end of the deletion", async || {
        let (_, body) = server.get("/resources/deletion?resource_type=video&resource_id=7").await.unwrap();
        if body["deletion"]["cleaned_at"].is_string() { Ok(()) } else { Err(body) }
    })
    .await;
    let (code, body) = post(&server, "/resources/restore", &resource).await;
    assert!(code == 200 && body["deletion"]["restored_at"].is_string(), "{code} {body}");
    server.kill9().unwrap();

    let server = standalone.start_ready().await;
    let mut client = standalone.client().await;
    let answer = client.like(like(1, 7)).await.unwrap().into_inner();
    assert_eq!((answer.changed, answer.count), (true, Some(1)), "{answer:?}");
    let asked = v1::GetLikeCountsRequest { resources: vec![video(7)], ..Default::default() };
    let counts = client.get_like_counts(asked).await.unwrap();
    assert_eq!(counts.into_inner().counts[0].count, 1);
    server.end(PATIENCE).await.unwrap();
}
